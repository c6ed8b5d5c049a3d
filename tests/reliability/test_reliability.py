"""The reliability report: its figures, its files, and what it refuses to conclude."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from invitro.errors import InputError
from invitro.reliability.facets import _cells, disagreements, facets, prompt_shifts
from invitro.reliability.gathering import Gathered
from invitro.reliability.report import Rater, Report, paper_figures, reliability_report
from invitro.scales import Item, Scale
from invitro.stats.agreement import pairwise

SCALE = Scale("empathy7", "empathy", (Item("warm", "warm"),), 1, 7)
NAMES = ("sympathetic", "moved", "compassionate", "tender", "warm", "softhearted")
BATSON = Scale("batson_empathy", "empathy", tuple(Item(name, name) for name in NAMES), 1, 7)
real = pytest.mark.skipif("INVITRO_DATA_DIR" not in os.environ, reason="INVITRO_DATA_DIR names no real corpus")
RATERS = {
    "llama/aware": Rater("llama", "scale_aware", "abc", 1),
    "llama/plain": Rater("llama", "plain", "abc", 1),
    "llama/plain#2": Rater("llama", "plain", "abc", 2),
    "gpt/aware": Rater("gpt", "scale_aware", "2024", 1),
    "tiny/plain": Rater("tiny", "plain", None, 1),
    "tiny/aware": Rater("tiny", "scale_aware", None, 1),
}


def ratings(n: int = 120) -> pd.DataFrame:
    """Return a crowd, two models that see the truth, and one that guesses."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(1, 7, n)
    noise = {"crowd": 1.5, "llama/aware": 0.4, "llama/plain": 0.9, "llama/plain#2": 0.9, "gpt/aware": 0.6}
    columns = {name: truth + rng.normal(0, sd, n) for name, sd in noise.items()}
    columns |= {name: rng.uniform(1, 7, n) for name in ("tiny/plain", "tiny/aware")}
    table = pd.DataFrame(columns, index=pd.Index([f"t{i:03d}" for i in range(n)], name="id")).clip(1, 7)
    table.loc["t000":"t003", "gpt/aware"] = np.nan
    return table


def side_by_side(table: pd.DataFrame, raters: dict[str, Rater] | None = None, **more) -> Gathered:
    """Return the scores of `table`, each text by an author of its own unless `groups` are among `more`."""
    known = {name: Rater(None if name == "crowd" else name) for name in table} | (raters or {})
    alone = {"groups": table.index.to_series(), "parts": pd.Series("essays", index=table.index)}
    return Gathered(table, known, **alone | {"remarks": (), "origins": {}, "items": {}} | more)


def report(table: pd.DataFrame, folder: Path, corpus: str = "", **more) -> Report:
    raters = {name: rater for name, rater in RATERS.items() if name in table}
    groups = pd.Series([f"a{i % 40}" for i in range(len(table))], index=table.index)
    return reliability_report(side_by_side(table, raters, groups=groups, **more), folder, SCALE, corpus, resamples=200)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report(ratings(), tmp_path_factory.mktemp("reliability") / "new", corpus="essays")


def test_everything_is_written_and_nothing_else(found: Report) -> None:
    tables = [f"{name}.csv" for name in ("agreement", "krippendorff", "prompts", "prompted", "disagreements")]
    expected = [*tables, *(f"reliability.{suffix}" for suffix in ("png", "svg", "pdf", "md"))]
    assert [path.name for path in found.files] == expected
    assert sorted(path.name for path in found.folder.iterdir()) == sorted(expected)
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert all(
        found.folder.joinpath(f"reliability.{end}").read_bytes().startswith(start) for end, start in starts.items()
    )
    assert str(found).startswith("essays on empathy7 (1 to 7): 120 texts, 7 raters.")
    assert "over the texts' 40 authors (200 draws, seed 0)" in str(found)


def test_the_same_ratings_give_the_same_files(found: Report, tmp_path: Path) -> None:
    again = report(ratings(), tmp_path, corpus="essays")
    for first, second in zip(found.files, again.files, strict=True):
        if first.suffix not in (".svg", ".pdf"):  # these look the same; see `charts.save`
            assert first.read_bytes() == second.read_bytes(), first.name


def test_tables_hold_the_figures_of_the_report(found: Report) -> None:
    table = ratings()
    csv = pd.read_csv(found.folder / "agreement.csv")
    assert len(csv) == 2 * 21
    assert set(csv["texts"]) == {"pair", "common"}
    first = csv.iloc[0]
    assert (first["a"], first["b"], first["n"]) == ("crowd", "llama/aware", 120)
    assert first["pcc"] == pytest.approx(np.corrcoef(table["crowd"], table["llama/aware"])[0, 1])
    assert (first["paper_pcc"], first["paper_krippendorff"]) == (0.441, 0.27)
    assert csv.query("texts == 'common'")["n"].eq(116).all()
    for text in (str(found), (found.folder / "reliability.md").read_text("utf-8")):
        assert f"{first['pcc']:.4f} [{first['pcc_low']:.3f}, {first['pcc_high']:.3f}]" in text
        assert "Krippendorff's alpha 0.27, PCC 0.441" in text
        assert "On the 116 texts that all raters scored" in text
        assert "arXiv 2501.00691" in text


def test_a_sample_is_not_listed_against_its_own_mean(tmp_path: Path) -> None:
    table = ratings()[["crowd", "llama/plain", "llama/plain#2"]]
    table["llama"] = table[["llama/plain", "llama/plain#2"]].mean(axis=1)
    raters = {name: RATERS[name] for name in table if name in RATERS} | {"llama": Rater("llama", "plain", "abc")}
    found = reliability_report(side_by_side(table, raters), tmp_path, SCALE, resamples=50)
    assert {(pair.a, pair.b) for pair in (*found.pairs, *found.common)} == {
        ("crowd", "llama/plain"), ("crowd", "llama/plain#2"), ("crowd", "llama"), ("llama/plain", "llama/plain#2"),
    }  # fmt: skip


def test_prompts_are_compared_on_the_same_texts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.uniform(1, 7, (117, 4)), columns=["crowd", "a", "b", "c"])
    table.loc[20:, "b"] = np.nan
    table.loc[:10, "c"] = np.nan
    raters = {name: Rater("gpt", name) for name in "abc"}
    found = reliability_report(side_by_side(table, raters), tmp_path, SCALE, resamples=50)
    assert [(shift.prompts, shift.n) for shift in found.prompts] == [
        (("a", "b"), 9), (("a", "c"), 9), (("b", "c"), 9), (("a", "b", "c"), 9),
    ]  # fmt: skip
    prompted = pd.read_csv(tmp_path / "prompted.csv")
    assert prompted[["model", "a", "b", "n"]].values.tolist() == [["gpt", "crowd", name, 9] for name in "abc"]
    same = table.dropna()
    assert prompted["pcc"][0] == pytest.approx(np.corrcoef(same["crowd"], same["a"])[0, 1])


def test_parts_that_drift_are_named(tmp_path: Path) -> None:
    table = ratings()[["crowd", "llama/aware", "gpt/aware"]].copy()
    table.loc[table.index[80:], "gpt/aware"] = 1.0
    parts = pd.Series(["essays train"] * 80 + ["essays test"] * 40, index=table.index)
    days = {"llama/aware": pd.DataFrame({"day": ["2026-01-01", "2026-01-02"] * 60}, index=table.index)}
    found = report(table, tmp_path, parts=parts, origins=days)
    drift = pd.read_csv(tmp_path / "drift.csv")
    assert drift.groupby("rater", sort=False)["drifts"].agg(["size", "sum"]).values.tolist() == [[4, 0], [2, 2], [2, 2]]
    assert drift["rater"].unique().tolist() == ["llama/aware", "gpt/aware", "gpt/aware minus llama/aware"]
    assert "gpt/aware: labels drift inside this set. Split essays train (" in str(found)
    assert str(found).count("labels drift inside this set") == 1
    in_parts = [(part, pair.b) for part, pair in found.parts]
    assert in_parts[-2:] == [("day 2026-01-01", "llama/aware"), ("day 2026-01-02", "llama/aware")]


def test_one_set_of_texts_is_shown_once(tmp_path: Path) -> None:
    found = report(ratings()[["crowd", "llama/aware", "tiny/aware"]], tmp_path)
    assert "that all scored" not in str(found)
    assert found.prompts == ()
    assert not (tmp_path / "prompts.csv").exists()


def test_of_a_model_that_guesses_nothing_is_concluded(found: Report) -> None:
    assert [shift.measurable for shift in found.prompts] == [True, False]
    for text in (str(found), (found.folder / "reliability.md").read_text("utf-8")):
        assert "tiny/plain: not measurable with this model" in text
        assert "llama/plain: not measurable" not in text
        line = next(line for line in text.splitlines() if "tiny" in line and "plain / scale_aware" in line)
        assert "not measurable with this model" in line
        assert f"{found.prompts[1].sd:.4f}" not in text
    assert "n.m." in str(found)


def test_raters_are_compared_by_what_they_differ_in() -> None:
    found = {facet.what: facet.raters for facet in facets({"crowd": Rater()} | RATERS)}
    assert found == {
        "all raters": ("crowd", *RATERS),
        "between LLMs (prompt scale_aware, sample 1)": ("llama/aware", "gpt/aware", "tiny/aware"),
        "between LLMs (prompt plain, sample 1)": ("llama/plain", "tiny/plain"),
        "between prompts (llm llama, revision abc, sample 1)": ("llama/aware", "llama/plain"),
        "between prompts (llm tiny, sample 1)": ("tiny/plain", "tiny/aware"),
        "between samples (llm llama, prompt plain, revision abc)": ("llama/plain", "llama/plain#2"),
        "all LLM labels": tuple(RATERS),
    }
    revisions = {"old": Rater("llama", "plain", "abc"), "new": Rater("llama", "plain", "def")}
    assert [facet.what for facet in facets(revisions)] == ["all raters", "between revisions (llm llama, prompt plain)"]


def test_prompt_shifts_by_hand() -> None:
    table = pd.DataFrame(
        {
            "crowd": [1.0, 2, 3, 4],
            "p": [3.4, 2, 3, np.nan],
            "q1": [4.4, 5, 3, 1],
            "q2": [4.4, 3, 5, 1],
            "r": [3.4, 2, 5, 1],
        }
    )
    raters = {
        "crowd": Rater(),
        "p": Rater("m", "p"),
        "q1": Rater("m", "q", sample=1),
        "q2": Rater("m", "q", sample=2),
        "r": Rater("m", "r"),
    }
    found = {shift.prompts: shift for shift in prompt_shifts(table, raters, pairwise(table), None, 10)}
    assert list(found) == [("p", "q"), ("p", "r"), ("q", "r"), ("p", "q", "r")]
    shift = found["p", "q"]  # the samples of q average to 4.4, 4, 4: differences 1, 2, 1
    assert shift.n == 3
    assert shift.difference == pytest.approx(4 / 3)
    assert shift.sd == pytest.approx(4 / 3 / np.sqrt(2))
    assert shift.moved == pytest.approx(1 / 3)  # 4.4 - 3.4 is no more than 1, whatever floating point says
    everything = found["p", "q", "r"]
    assert (everything.pcc, everything.difference) == (None, None)
    assert everything.sd == pytest.approx(
        np.mean([np.std(row, ddof=1) for row in ([3.4, 4.4, 3.4], [2, 4, 2], [3, 4, 5])])
    )
    assert everything.moved == pytest.approx(2 / 3)
    assert everything.measurable is False  # three texts measure nothing
    alone = next(prompt_shifts(table.drop(columns="crowd"), {k: v for k, v in raters.items() if v.llm}, [], None, 10))
    assert alone.measurable is None


def test_disagreements_by_hand() -> None:
    table = pd.DataFrame(
        {"crowd": [1, 7, 2, 3], "gpt": [6, 1, np.nan, 3.5], "llama": [6.5, np.nan, np.nan, 9 / 2]},
        index=["d", "c", "b", "a"],
    )
    found = disagreements(table)
    assert found["text_id"].tolist() == ["c", "d", "a"]
    assert found["spread"].tolist() == [6, 5.5, 1.5]
    assert found["lowest"].tolist() == ["gpt", "crowd", "crowd"]
    assert found["highest"].tolist() == ["crowd", "llama", "llama"]
    assert disagreements(table.iloc[::-1]).equals(found)


def test_disagreements_are_limited_and_hold_no_text(found: Report) -> None:
    csv = pd.read_csv(found.folder / "disagreements.csv")
    assert len(csv) == 50
    assert csv.columns.tolist() == ["text_id", "spread", "lowest", "highest", *ratings().columns]
    assert csv["spread"].is_monotonic_decreasing


def test_the_papers_figures_say_where_they_hold() -> None:
    paper = paper_figures()
    assert "arXiv 2501.00691" in paper["source"]
    for figure in paper["figures"]:
        assert set(figure) == {"measure", "raters", "prompt", "value", "corpus", "split"}
    values = {(figure["measure"], figure["value"]) for figure in paper["figures"]}
    assert values == {
        ("krippendorff", 0.8),
        ("krippendorff", 0.27),
        ("krippendorff", 0.19),
        ("pcc", 0.405),
        ("pcc", 0.441),
    }


def test_other_prompts_and_models_have_no_figure_of_the_paper(tmp_path: Path) -> None:
    table = ratings()[["crowd", "llama/aware", "gpt/aware", "tiny/aware"]]
    raters = {
        "llama/aware": Rater("llama", "reasoned"),
        "gpt/aware": Rater("gpt", "plain"),
        "tiny/aware": Rater("tiny"),
    }
    reliability_report(side_by_side(table, raters), tmp_path, SCALE, resamples=20)
    assert pd.read_csv(tmp_path / "agreement.csv")[["paper_pcc", "paper_krippendorff"]].isna().all(axis=None)


def test_one_rater_alone_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    crowd = ratings()[["crowd"]]
    with pytest.raises(InputError, match="expected two or more raters, found crowd; name another label set"):
        reliability_report(side_by_side(crowd), tmp_path / "new", SCALE)
    assert not (tmp_path / "new").exists()


def test_the_heat_map_has_pcc_above_and_alpha_below_the_diagonal() -> None:
    pairs = pairwise(ratings()[["crowd", "llama/aware", "gpt/aware"]], resamples=20)
    cells = _cells(["crowd", "llama/aware", "gpt/aware"], pairs)
    assert [cells[0][0], cells[1][1], cells[2][2]] == [None, None, None]
    assert [cells[0][1], cells[0][2], cells[1][2]] == [pair.pcc for pair in pairs]
    assert [cells[1][0], cells[2][0], cells[2][1]] == [pair.krippendorff for pair in pairs]


@pytest.mark.parametrize(
    "raters", [2, 4, pytest.param(6, marks=pytest.mark.slow), pytest.param(12, marks=pytest.mark.slow)]
)
def test_the_heat_map_has_a_cell_for_every_pair(tmp_path: Path, raters: int) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({f"a_long/name_of/rater{i}": rng.uniform(1, 7, 40) for i in range(raters)})
    found = reliability_report(side_by_side(table), tmp_path, SCALE, resamples=20)
    assert not list(tmp_path.glob(".*"))
    svg = (tmp_path / "reliability.svg").read_text("utf-8")
    for pair in found.pairs:
        assert f">{pair.pcc.value:z.2f}<".replace("-", "−") in svg
    assert svg.count(">n.m.<") == sum(not pair.pcc.measurable for pair in found.pairs) + sum(
        not pair.krippendorff.measurable for pair in found.pairs
    )


def test_three_texts_make_a_report_without_intervals(tmp_path: Path) -> None:
    table = pd.DataFrame({"crowd": [1.0, 2, 3], "gpt": [1.0, 2, 4]}, index=["t0", "t1", "t2"])
    found = reliability_report(side_by_side(table), tmp_path, SCALE)
    assert found.pairs[0].krippendorff.value == pytest.approx(36 / 41)
    assert "0.8780 n.m." in str(found)
    assert "gpt: not measurable with this model" in str(found)


@real
@pytest.mark.real
def test_the_real_labels_have_the_known_agreement(tmp_path: Path) -> None:
    from invitro.data import DataFolder, Holdout, NewsEmp
    from invitro.labels import published

    folder = os.environ["INVITRO_DATA_DIR"]
    texts = NewsEmp(18, Holdout(), folder).read(BATSON).table.set_index("text_id")
    table = pd.DataFrame({"crowd": texts["crowd_label"]})
    for llm in ("llama", "gpt"):
        labels = published("newsemp18", llm, "scale_aware", "batson_empathy").read(BATSON, DataFolder(folder))
        table[llm] = labels.of(table.index.to_series())
    raters = {llm: Rater(llm, "scale_aware") for llm in ("llama", "gpt")}
    shuffled = table.sample(frac=1, random_state=0)
    found = reliability_report(side_by_side(shuffled, raters, groups=texts["group_id"]), tmp_path, BATSON, "newsemp18")
    pairs = {(pair.a, pair.b): pair for pair in found.pairs}
    expected = {
        ("crowd", "llama"): (1860, 0.436868),
        ("crowd", "gpt"): (1855, 0.381206),
        ("llama", "gpt"): (1855, 0.761277),
    }
    assert {names: pair.n for names, pair in pairs.items()} == {names: n for names, (n, _) in expected.items()}
    for names, (_, pcc) in expected.items():
        assert pairs[names].pcc.value == pytest.approx(pcc, abs=1e-6)
    assert {pair.n for pair in found.common} == {1855}
    assert [round(pair.krippendorff.value, 4) for pair in found.common] == [0.4035, 0.3012, 0.5136]
    for figure in ("0.4369 [", "0.3812 [", "0.7613 [", "0.4035 [", "0.3012 [", "0.5136 ["):
        assert figure in str(found)
    for pair in (*found.pairs, *found.common):
        assert pair.pcc.low < pair.pcc.value < pair.pcc.high
        assert pair.pcc.measurable


def test_one_short_labelling_does_not_take_the_common_texts_away(tmp_path: Path) -> None:
    table = ratings()
    table.loc["t010":, "tiny/plain"] = np.nan
    found = report(table, tmp_path)
    assert {pair.n for pair in found.common} == {116}
    assert not any("tiny/plain" in (pair.a, pair.b) for pair in found.common)
    assert "Left out because they scored fewer than half of the texts: tiny/plain." in str(found)
    assert any(pair.b == "tiny/plain" and pair.n == 10 for pair in found.pairs)


def test_raters_without_a_common_text_are_still_compared_in_pairs(tmp_path: Path) -> None:
    table = ratings()[["crowd", "llama/aware", "gpt/aware"]]
    table.loc["t060":, "llama/aware"] = np.nan
    table.loc[:"t059", "gpt/aware"] = np.nan
    found = report(table, tmp_path)
    assert found.common == ()
    assert "that all scored" not in str(found)
    assert len(found.pairs) == 3


def test_corpora_are_told_apart_with_the_paper_s_figures_where_they_belong(tmp_path: Path) -> None:
    table = ratings()[["crowd", "llama/aware", "llama/plain"]]
    names = ["newsemp24 train"] * 50 + ["newsemp24 test"] * 40 + ["newsemp22 train"] * 30
    part = pd.Series(names, index=table.index)
    found = report(table, tmp_path, parts=part, remarks=("Left out: something",))
    assert [(name, pair.b, pair.n) for name, pair in found.parts] == [
        (name, rater, n)
        for name, n in (("newsemp24 train", 50), ("newsemp24 test", 40), ("newsemp22 train", 30))
        for rater in ("llama/aware", "llama/plain")
    ]
    here = table[(part == "newsemp24 test").to_numpy()]
    assert dict(found.parts[2:3])["newsemp24 test"].pcc.value == pytest.approx(here["crowd"].corr(here["llama/aware"]))
    lines = str(found).splitlines()
    told = {tuple(line.split()[:3]): line for line in lines if line.startswith(("newsemp24 ", "newsemp22 "))}
    assert told["newsemp24", "test", "llama/aware"].endswith("PCC 0.441")
    assert told["newsemp24", "test", "llama/plain"].endswith("PCC 0.405")
    assert told["newsemp24", "train", "llama/aware"].endswith("alpha 0.27")
    assert "0.4" not in told["newsemp22", "train", "llama/aware"].split("]")[-1]
    assert lines[1] == "Left out: something"
    assert "Left out: something" in (tmp_path / "reliability.md").read_text("utf-8")
    csv = pd.read_csv(tmp_path / "parts.csv")
    assert csv["n"].tolist() == [50, 50, 40, 40, 30, 30]


def test_one_part_is_no_parts(tmp_path: Path) -> None:
    table = ratings()[["crowd", "llama/aware"]]
    found = report(table, tmp_path, parts=pd.Series("essays", index=table.index))
    assert found.parts == ()
    assert not (tmp_path / "parts.csv").exists()


def test_alpha_between_prompts_of_a_model_that_guesses_is_not_told(found: Report) -> None:
    line = next(line for line in str(found).splitlines() if line.startswith("between prompts (llm tiny"))
    assert line.endswith("not measurable with this model")
    assert next(line for line in str(found).splitlines() if line.startswith("between prompts (llm llama")).endswith("]")


def test_samples_are_not_compared_with_their_mean_and_readouts_not_as_prompts() -> None:
    raters = {
        "crowd": Rater(),
        "m/p": Rater("m", "p", variant="text"),
        "m/p #1": Rater("m", "p", sample=1, variant="text"),
        "m/p #2": Rater("m", "p", sample=2, variant="text"),
        "m/p digits": Rater("m", "p", variant="digits"),
        "m/q": Rater("m", "q", variant="text"),
    }
    found = {facet.what: facet.raters for facet in facets(raters)}
    assert found == {
        "all raters": ("crowd", "m/p", "m/p digits", "m/q"),
        "between prompts (llm m, variant text)": ("m/p", "m/q"),
        "between variants (llm m, prompt p)": ("m/p", "m/p digits"),
        "between samples (llm m, prompt p, variant text)": ("m/p #1", "m/p #2"),
        "all LLM labels": ("m/p", "m/p digits", "m/q"),
    }
    rng = np.random.default_rng(0)
    table = pd.DataFrame({name: rng.uniform(1, 7, 30) for name in raters})
    shifts = list(prompt_shifts(table, raters, [], None, 10))
    assert [(shift.model, shift.prompts) for shift in shifts] == [("m (text)", ("p", "q"))]
    assert shifts[0].difference == pytest.approx((table["m/q"] - table["m/p"]).mean())
