"""The report: one file that fetches nothing and runs no code but its own, with every number of the study."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pandas as pd
import pytest
from studies.records import Arm
from studies.reported import Reported, reported

from invitro.errors import InputError
from invitro.studies.health import findings
from invitro.studies.report.page import UNMEASURED, write_report
from invitro.studies.report.page import page as whole_page
from invitro.studies.report.sentences import conclusion, data_facts, environment_facts, failed_jobs
from invitro.studies.report.verdict import Judgement
from invitro.writing import charts
from invitro.writing.tables import Column, cell_of, number_cell, table_of


class Page(HTMLParser):
    """What a page refers to, its scripts, styles and the text between tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.blocks: dict[str, list[str]] = {"script": [], "style": [], "application/json": []}
        self.meta: dict[str, str] = {}
        self.texts: list[str] = []
        self.inside: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attributes}
        self.links += [known[name] for name in ("src", "href", "data", "srcset", "action") if name in known]
        self.ids += [known["id"]] if "id" in known else []
        if tag == "meta" and "http-equiv" in known:
            self.meta[known["http-equiv"]] = known["content"]
        if tag in ("script", "style"):
            self.inside = known.get("type", tag)
            self.blocks[self.inside].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self.inside = None

    def handle_data(self, data: str) -> None:
        if self.inside is None:
            self.texts.append(data)
        else:
            self.blocks[self.inside][-1] += data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def write(study: Reported, directory: Path) -> Path:
    made = findings(study.study, study.runs, study.summary)
    return write_report(study.study, study.runs, study.summary, made, study.figures, directory)


@pytest.fixture(scope="module")
def alpha(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    return reported("alpha", tmp_path_factory.mktemp("alpha") / "runs")


@pytest.fixture(scope="module")
def folder(alpha: Reported) -> Path:
    return write(alpha, alpha.runs.root.parent / "report").parent


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text("utf-8"))


def test_a_report_without_ids(alpha: Reported, folder: Path, tmp_path: Path) -> None:
    drawn = [one for one in alpha.figures if one.name == "predicted_against_labelled"]
    write_report(alpha.study, alpha.runs, alpha.summary, [], drawn, tmp_path, show_ids=False)
    ids = set(alpha.runs.predictions(0)["text_id"])
    with_ids, without = ((place / "report.html").read_text("utf-8") for place in (folder, tmp_path))
    drawing = (tmp_path / "figures" / "predicted_against_labelled.svg").read_text("utf-8")
    assert any(f'"{one}"' in with_ids for one in ids)
    assert not any(f'"{one}"' in without or f": {one}" in drawing for one in ids)
    assert "text_id" not in without + drawing


def test_all_files_and_no_other(folder: Path, alpha: Reported) -> None:
    figures = {f"figures/{one.name}.{suffix}" for one in alpha.figures for suffix in charts.FORMATS}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == figures | {"report.html", "table.tex", "table.md", "runs.csv"}


def test_nothing_is_fetched_and_links_lead_somewhere(folder: Path, page: Page) -> None:
    for link in page.links:
        assert not re.match(r"[a-z]+:|//", link), link
        if link.startswith("#"):
            assert link[1:] in page.ids, link
        else:
            assert (folder / unquote(link)).is_file(), link


def test_only_the_pages_own_code_runs(page: Page) -> None:
    policy = dict(part.strip().split(" ", 1) for part in page.meta["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in page.meta["Content-Security-Policy"]
    assert len(page.blocks["script"]) == 2
    for kind in ("script", "style"):
        hashes = [base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in page.blocks[kind]]
        assert policy[f"{kind}-src"].split() == [f"'sha256-{digest}'" for digest in hashes]


def test_charts_are_those_of_the_figures(page: Page, alpha: Reported) -> None:
    found = [json.loads(block) for block in page.blocks["application/json"]]
    assert found == [charts.specification(one.chart) for one in alpha.figures]
    for one in alpha.figures:
        assert f"figure-{one.name}" in page.ids
        assert re.sub(r"\s+", " ", one.caption) in page.text


def test_what_a_reader_looks_for_is_there(page: Page, alpha: Reported) -> None:
    study, runs = alpha.study, alpha.runs
    assert study.question in page.text
    assert re.sub(r"\s+", " ", conclusion(study, runs, alpha.summary)) in page.text
    for finding in findings(study, runs, alpha.summary):
        assert re.sub(r"\s+", " ", finding.what) in page.text
        assert re.sub(r"\s+", " ", finding.do) in page.text
    failed = runs.table.query("outcome == 'failed'")
    assert len(failed) == 1
    assert failed["error"].item() in page.text
    assert f"1 job (failed): job {failed.index[0]}, alpha 1.5, seed 42" in page.text
    assert "have the same training labels, settings and seed as another job, and were trained once" in page.text
    assert "terms of simulated" in page.text
    assert "no rights are reserved" in page.text
    assert runs.environment(0)["hashes"]["corpus"] in page.text
    assert runs.environment(0)["packages"]["torch"] in page.text
    assert "0" * 40 in page.text  # the commit
    assert "Obuchowski and Rockette" in page.text
    assert "No group differs from the rest" in page.text or "Different from the rest" in page.text
    assert (
        "Not shown, since groups this small say little and might reveal a person: race Black or African American "
        "(fewer than 30 texts)." in page.text
    )
    assert {"groups", "table-groups_labels", "table-groups_crowd", "table-groups_truth"} <= set(page.ids)
    for table in ("metrics_test", "metrics_val", "differences", "runs"):
        assert f"table-{table}" in page.ids


@pytest.mark.slow
def test_a_new_report_replaces_the_old(tmp_path: Path) -> None:
    study = reported("applications", tmp_path / "runs", [Arm({"application": "none"}), Arm({"application": "both"})])
    first = write(study, tmp_path / "report").read_bytes()
    assert (tmp_path / "report" / "figures" / "label_distributions.svg").is_file()
    assert write(study, tmp_path / "report").read_bytes() == first
    alone = Reported(study.study, study.runs)
    alone.__dict__["figures"] = [one for one in study.figures if one.name == "learning_curves"]
    (tmp_path / "report" / "figures" / "notes.txt").write_text("mine")
    write(alone, tmp_path / "report")
    assert sorted(path.name for path in (tmp_path / "report" / "figures").iterdir()) == [
        "learning_curves.pdf",
        "learning_curves.png",
        "learning_curves.svg",
        "notes.txt",  # not a figure's file: not ours
    ]


def test_what_failed_is_a_report_too(tmp_path: Path) -> None:
    study = reported("applications", tmp_path / "runs", [Arm({"application": "none"}, failed=(0, 42, 100))])
    page = Page(write(study, tmp_path / "report").read_text("utf-8"))
    assert "0 of 3 jobs finished (3 failed)" in page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Nothing was run: none of 3 jobs has a result." in page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "3 jobs (failed): job 0, none, seed 0; job 1, none, seed 42; job 2, none, seed 100" in page.text
    assert page.text.count("TrainingError: 3 of 340 predictions") == 2  # in the verdict, and once with its jobs
    assert not {"figures", "groups"} & set(page.ids)
    assert len(page.blocks["script"]) == 1  # no chart, no chart library
    assert not (tmp_path / "report" / "figures").exists()


@pytest.mark.slow
def test_published_numbers_and_their_source(tmp_path: Path) -> None:
    study = reported("table_v", tmp_path / "runs")
    page = Page(write(study, tmp_path / "report").read_text("utf-8"))
    assert "arXiv 2501.00691" in page.text
    assert "0.453 (0.462)" in page.text
    assert "no result" in page.text
    assert "24+23+22, RoBERTa-base, crowd" in page.text  # also those rows that have no counterpart here


def test_nothing_of_a_record_becomes_code(tmp_path: Path) -> None:
    study = reported("applications", tmp_path / "runs", [Arm({"application": "none"}, failed=(42,))])
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    study.runs.table.loc[1, "error"] = evil
    study.runs.table["application"] = evil
    found = Reported(study.study, study.runs)
    text = write(found, tmp_path / "report").read_text("utf-8")
    assert "<script>alert" not in text
    page = Page(text)
    assert "x" not in page.links  # the image's source
    assert len(page.blocks["script"]) == 2
    assert evil.replace(" ", "") in page.text.replace(" ", "")
    assert any(evil in json.dumps(json.loads(block)) for block in page.blocks["application/json"])


def test_missing_libraries_are_named(alpha: Reported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "problem", lambda: "Charts need altair; install it")
    with pytest.raises(InputError, match="Charts need altair"):
        write_report(alpha.study, alpha.runs, alpha.summary, [], [], tmp_path / "report")
    assert not (tmp_path / "report").exists()


def environment(torch: str, seconds: float, cores: int | None = 2) -> dict[str, object]:
    hardware = {"platform": "Linux", "processor": "A CPU", "cores": cores, "threads": 1, "gpus": ["A100"]}
    hashes = {"corpus": "c1", "newsemp24/llama/scale_aware/batson_empathy": "l1"}
    return {
        "invitro": "0.1.0", "python": "3.11", "packages": {"torch": torch}, "commit": None, "seed": 0,
        "hardware": hardware, "seconds": seconds, "hashes": hashes,
    }  # fmt: skip


def fake_runs(environments: list[dict[str, object]], data: dict[str, object], shared: bool = False) -> SimpleNamespace:
    records = ["r0"] * len(environments) if shared else [f"r{number}" for number in range(len(environments))]
    table = pd.DataFrame({"record": records})
    return SimpleNamespace(
        finished=lambda: table, environment=lambda row: environments[row], config=lambda row: {"data": data}
    )


@pytest.mark.parametrize(
    ("llm", "says"),
    [
        ([0.3], "The LLM's own labels reach PCC 0.300, the best model here 0.400."),
        ([0.3, 0.5], "The LLM's own labels reach PCC 0.500, more than any model here (0.400): to rank texts, it may be "
         "better to ask the LLM about each new one."),
        ([], None),
    ],
)  # fmt: skip
def test_the_llm_s_own_labels_beside_the_best_model(llm: list[float], says: str | None) -> None:
    scores = [("crowd labels alone", 0.4), ("both", 0.35), *(("the LLM itself: gpt", one) for one in llm)]
    rows = [{"scores": cell_of(name), "pcc": number_cell(value)} for name, value in scores]
    rows.append({"scores": cell_of("guessing the mean")} | {"pcc": UNMEASURED["pcc"]})
    rows.append({"scores": cell_of("a perfect model"), "pcc": number_cell(0.7)})
    overview = table_of("overview", "", [Column("scores", ""), Column("pcc", "PCC")], rows, "")
    verdict = Judgement("use", "Use them.", ["For a reason."])
    study = SimpleNamespace(name="own", title="Own", question="Does it help?")
    read = Page(whole_page([], study=study, judgement=verdict, overview=overview, environment=[], method=[]))
    told = [text.replace("\N{NO-BREAK SPACE}", " ") for text in read.texts if "The LLM's own labels" in text]
    assert told == ([says] if says else [])


def test_where_runs_differ_every_value_is_told() -> None:
    runs = fake_runs([environment("2.13", 60), environment("2.13", 30), environment("2.12", 10)], {"name": "x"})
    facts = dict(environment_facts(runs))
    assert facts["torch"] == "2.13 (2 runs); 2.12 (1 run)"
    assert facts["commit"] == "none: not run from a checkout"
    assert facts["GPU"] == "A100"
    assert facts["wall time"] == "1 min 40 s over 3 runs; the longest took 1 min 0 s"
    shared = fake_runs([environment("2.13", 60)] * 2, {"name": "x"}, shared=True)
    assert dict(environment_facts(shared))["wall time"] == "1 min 0 s over 1 run; the longest took 1 min 0 s"


def test_terms_of_corpora_and_labels() -> None:
    members = [{"_target_": "invitro.data.NewsEmp", "year": 24}, {"_target_": "invitro.data.NewsEmp", "year": 22}]
    data = {"_target_": "invitro.data.Combination", "name": "newsemp24_22", "members": members}
    facts = dict(data_facts(fake_runs([environment("2.13", 60)], data)))
    assert "redistribution is not allowed. Cite: " in facts["terms of newsemp22"]
    assert "redistribution is not allowed. Cite: " in facts["terms of newsemp24"]
    assert facts["corpus newsemp24_22"] == "hash c1"
    assert facts["LLM labels newsemp24/llama/scale_aware/batson_empathy"] == "Apache-2.0; hash l1"
    own = {"_target_": "invitro.data.TableFile", "name": "mine", "licence": "CC0", "citation": ""}
    assert dict(data_facts(fake_runs([environment("2.13", 60)], own)))["terms of mine"] == "CC0"


def test_links_to_tracebacks_lead_from_the_report(tmp_path: Path) -> None:
    study = reported("applications", tmp_path / "runs 1", [Arm({"application": "none"}, failed=(42,))])
    (failure,) = failed_jobs(study.runs, tmp_path / "elsewhere" / "report")
    assert failure.link == "../../runs%201/1/error.txt"
    assert Path(failure.path) == tmp_path / "runs 1" / "1" / "error.txt"
    assert failure.jobs == ["job 1, none, seed 42"]
