"""``label.py`` as a user runs it, kills it and runs it again."""

import json
import os
import pty
import random
import re
import select
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from batch_server import BatchServer
from chat_server import ChatServer
from prompting import asked, noted, store_content
from support import ROOT, small_corpus, table_overrides

TEXTS, IN_FLIGHT = 240, 4
SCRIPTED = [
    "label.py", "llm=scripted", "data=simulated", f"data.texts={TEXTS}", "readout=digits",
    f"llm.engine.concurrency={IN_FLIGHT}", "llm.engine.faults.unparseable=0.1", "llm.engine.faults.refused=0.1",

]  # fmt: skip
BAR = re.compile(
    r"(?P<n>\d+)/(?P<total>\d+) \[(?P<spent>[\d:]+)<(?P<left>[\d:?]+),\s+(?P<rate>[\d.?]+)(label/s|s/label), "
    r"(?P<speed>\d+) tokens/s, \$(?P<cost>\d+\.\d\d)"
)


def answered(store: Path) -> int:
    if not store.is_file():
        return 0
    with sqlite3.connect(store) as db:
        if not db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'answers'").fetchone()[0]:
            return 0
        return int(db.execute("SELECT count(*) FROM answers").fetchone()[0])


@pytest.mark.slow
def test_killed_at_ten_random_moments(run, tmp_path: Path) -> None:
    """Nothing stored is lost or asked again, and the end is that of a run that was left alone."""
    whole = run(*SCRIPTED, f"store={tmp_path}/whole.sqlite", "llm.engine.log=whole.jsonl")
    assert whole.returncode == 0, whole.stderr
    questions = asked(noted(tmp_path / "whole.jsonl"))
    assert set(questions.values()) == {1}

    store, log, chance = tmp_path / "killed.sqlite", tmp_path / "killed.jsonl", random.Random(7)
    command = [
        sys.executable, str(ROOT / "label.py"), *SCRIPTED[1:], f"store={store}", f"llm.engine.log={log}",
        "llm.engine.delay=0.02",
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    for kill in range(10):
        process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        # A moment is one in the course of the job, and not one of Python's start.
        goal = answered(store) + chance.randrange(1, TEXTS // 10)
        deadline = time.monotonic() + 60
        while process.poll() is None and answered(store) < goal and time.monotonic() < deadline:
            time.sleep(chance.uniform(0.001, 0.02))
        assert process.poll() is None, f"ended before kill {kill}: {process.stderr.read().decode()}"
        before = answered(store)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert answered(store) >= before
    done = run(*SCRIPTED, f"store={store}", f"llm.engine.log={log}")
    assert done.returncode == 0, done.stderr
    assert store_content(store) == store_content(tmp_path / "whole.sqlite")
    again = asked(noted(log))
    assert set(again) == set(questions)
    assert 0 < sum(again.values()) - sum(questions.values()) <= 10 * IN_FLIGHT
    last = run(*SCRIPTED, f"store={store}", f"llm.engine.log={log}")
    assert "0 labels from 0 requests" in last.stdout
    assert asked(noted(log)) == again


@pytest.mark.slow
def test_two_processes_share_one_store(run, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "label.py"), *SCRIPTED[1:], f"store={tmp_path}/both.sqlite"]
    both = [
        subprocess.Popen(
            [*command, "llm.engine.delay=0.01"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for one in both:
        out, err = one.communicate(timeout=120)
        assert one.returncode == 0, err.decode()
        assert f"of {TEXTS}" in out.decode()
    run(*SCRIPTED, f"store={tmp_path}/alone.sqlite")
    assert store_content(tmp_path / "both.sqlite") == store_content(tmp_path / "alone.sqlite")


@pytest.mark.slow
def test_dry_run_export_and_a_comparison_of_prompts(run, tmp_path: Path) -> None:
    log = tmp_path / "asked.jsonl"
    base = ["label.py", "llm=scripted", "data=simulated", "data.texts=60", f"llm.engine.log={log}"]
    dry = run(*base, "dry_run=true", "limit=7")
    assert "would ask        7 requests" in dry.stdout, dry.stderr
    assert not log.exists()
    done = run(*base, "limit=7", "export=labels.parquet")
    assert done.returncode == 0, done.stderr
    for part in ("7 of 7", "PCC", "Krippendorff", "mean bias", "exported to      labels.parquet"):
        assert part in done.stdout
    exported = pd.read_parquet(tmp_path / "labels.parquet")
    assert list(exported.columns[:2]) == ["text_id", "llm_empathy"]
    sheet = next((tmp_path / "runs" / "labels").glob("*.md")).read_text()
    assert "simulated/scripted/scale_aware/batson_empathy/text" in sheet
    both = run("label.py", "-m", "prompt=plain,scale_aware,reasoned", "readout=digits", *base[1:])
    assert both.returncode == 0, both.stderr
    for name in ("plain", "scale_aware", "reasoned"):
        assert f"simulated/scripted/{name}/batson_empathy/digits" in both.stdout
    failing = run("label.py", "-m", "prompt=plain,scale_aware", "readout=digits", "scale=phq9", *base[1:])
    assert failing.returncode == 1
    assert "0 to 27; choose readout=text, or a prompt that asks for each item" in failing.stderr
    assert "simulated/scripted/scale_aware/phq9/digits" in failing.stdout


def test_texts_to_rate_next(run, tmp_path: Path) -> None:
    texts = [f"story {n} of {'joy' if n % 2 else 'grief and loss'}" for n in range(40)]
    table = pd.DataFrame({"text_id": [f"t{n:02d}" for n in range(40)], "text": texts})
    table["crowd_label"] = [2.0 + 3 * (n % 2) + n % 3 / 2 if n < 20 else None for n in range(40)]
    table.to_csv(tmp_path / "pool.csv", index=False)
    done = run("label.py", "next=5", "data=table", "data.path=pool.csv")
    assert done.returncode == 0, done.stderr
    assert "5 of 20 unrated texts to have people rate next (20 texts rated)" in done.stdout
    found = pd.read_csv(done.stdout.strip().splitlines()[-1].partition(": ")[2])
    assert found["rank"].tolist() == [1, 2, 3, 4, 5]
    assert set(found["text_id"]) <= set(table["text_id"][20:])
    refused = run("label.py", "next=5", "dry_run=true", "data=table", "data.path=pool.csv")
    assert "next: ranks unrated texts and asks no LLM; leave report, dry_run, show and the check out" in refused.stderr


@pytest.mark.slow
def test_train_finds_the_labels(run, corpus_csv: Path, tiny_roberta: Path, tmp_path: Path) -> None:
    columns = "data.columns={text_id: id, text: essay, group_id: author, crowd_label: empathy}"
    data = ["data=table", f"data.path={corpus_csv}", columns, "data.name=essays", "llm=scripted"]
    usual = table_overrides(corpus_csv, f"plm.name={tiny_roberta}", "data.name=essays", "llm=scripted", "fit.epochs=1")
    train = [word for word in usual if not word.startswith("llm.column")]
    missing = run("train.py", *train)
    assert missing.returncode == 2
    line = "python label.py llm=scripted llm.model=scripted prompt=scale_aware scale=batson_empathy data=essays"
    assert line in missing.stderr
    assert run("label.py", *data, "readout=digits").returncode == 0
    done = run("train.py", *train)
    assert done.returncode == 0, done.stderr
    record = Path(done.stdout.partition("Record: ")[2].strip())
    labels = pd.read_csv(tmp_path / record / "labels.csv")
    assert labels["llm_label"].notna().all()
    assert run("label.py", *data, "readout=expected").returncode == 0
    several = run("train.py", *train)
    assert several.returncode == 2
    assert "2 label sets by llm=scripted" in several.stderr
    chosen = several.stderr.partition("llm.set_id=")[2].split()[0]
    table = small_corpus()
    table.assign(essay=table["essay"] + " changed").to_csv(corpus_csv, index=False)
    changed = run("train.py", *train, f"llm.set_id={chosen}")
    assert "changed since labels were made under the same ids" in changed.stderr


@pytest.mark.slow
def test_a_server_and_its_key(run, tmp_path: Path) -> None:
    secret = "sk-nobody-may-see-this"
    with ChatServer({"1": ["500"]}) as server:
        base = [
            "label.py", "llm=gpt", f"llm.engine.base_url={server.url}", "llm.engine.key_env=LAB_KEY",
            "llm.engine.tokenizer=server", "llm.engine.patience=0.01", "data=table", "data.path=in.csv",
            "export=out.csv",
        ]  # fmt: skip
        pd.DataFrame({"text_id": list("abc"), "text": ["one", "two", "three"], "crowd_label": [1, 4, 7]}).to_csv(
            tmp_path / "in.csv", index=False
        )
        refused = run(*base)
        assert refused.returncode == 2
        assert "the environment variable LAB_KEY is not set" in refused.stderr
        dry = run(*base, "dry_run=true")
        assert "would ask        3 requests" in dry.stdout, dry.stderr
        assert not server.calls
        gone = run(*base, "llm.engine.base_url=http://127.0.0.1:9/v1", "llm.engine.tries=1", env={"LAB_KEY": secret})
        assert gone.returncode == 2
        assert "http://127.0.0.1:9/v1: no server answers there (ConnectError" in gone.stderr
        done = run(*base, env={"LAB_KEY": secret})
        assert done.returncode == 0, done.stderr
        assert len(server.calls) == 3
    assert pd.read_csv(tmp_path / "out.csv")["llm_empathy"].tolist() == [4.5, 4.5, 4.5]
    assert not any(secret.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert secret not in done.stdout + done.stderr


@pytest.mark.slow
def test_batch_files_at_half_the_price(run, tmp_path: Path) -> None:
    table = pd.DataFrame({"text_id": list("abc"), "text": ["one", "two", "three"], "crowd_label": [1, 4, 7]})
    table.to_csv(tmp_path / "in.csv", index=False)
    base = ["label.py", "llm=gpt", "engine=batch", "llm.engine.key_env=LAB_KEY", "engine.poll=0.05", "data=table",
            "data.path=in.csv"]  # fmt: skip
    written = run(*base)
    assert written.returncode == 1
    told = re.search(
        r"3 questions are written to (\S+\.jsonl)\. .* run the same command with import=RESULTS", written.stderr
    )
    assert told is not None, written.stderr
    with BatchServer() as server:
        lines = server._answered((tmp_path / told[1]).read_bytes())[0].splitlines(keepends=True)
        (tmp_path / "results.jsonl").write_bytes(b"".join(lines[:2]))
        some = run(*base, "import=results.jsonl")
        assert some.returncode == 0, some.stderr
        assert "texts labelled   2 of 3; without: 1 pending" in some.stdout
        assert "imported         2 results, from results.jsonl" in some.stdout
        assert "cost             $0.0003 (whole set $0.0003)" in some.stdout  # 100 and 10 tokens at half of 2.5 and 10
        done = run(*base, f"llm.engine.base_url={server.url}", "export=out.csv", env={"LAB_KEY": "sk-nobody-may-see"})
        assert done.returncode == 0, done.stderr
        assert len(server.asked) == 3 + 1
    assert pd.read_csv(tmp_path / "out.csv")["llm_empathy"].tolist() == [4.5, 4.5, 4.5]
    assert not any(b"sk-nobody" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    other = run(*base, "prompt=plain", "import=results.jsonl")
    assert (other.returncode, "none of its results answers a question of this label set" in other.stderr) == (2, True)
    gone = run(*base, "import=nowhere.jsonl")
    assert (gone.returncode, "nowhere.jsonl: cannot be read" in gone.stderr) == (2, True)


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["llm=scripted", "engine=batch"], ["engine=batch writes requests to an OpenAI-compatible server"]),
        (["llm=gpt", "engine=batch", "cluster=ray"], ["choose cluster= or engine="]),
        (["llm=simulated"], ["llm=simulated cannot be asked"]),
        (
            ["llm=scripted", "readout=guess", "llm.engine.concurrency=0"],
            ["readout: expected text, digits or expected", "concurrency"],
        ),
        (["llm=scripted", "samples=0", "limit=0", "export=a.xlsx"], ["samples: expected", "limit", "export"]),
        (["llm=scripted", "samples=3"], ["samples=3 at sampling.temperature=0"]),
        (["llm=scripted", "data=table"], ["data.path: expected a value"]),
        (["llm=scripted", "~scale.items"], ["scale: expected a value for 'items'"]),
        (
            ["llm=scripted", "scale.items=[{_target_: invitro.scales.Item, name: x}]"],
            ["value for 'statement'"],
        ),
        (["llm=scripted", "+scale.lowest=1"], ["scale: there is no setting 'lowest'"]),
        (
            ["llm=scripted", "limit=ten", "sampling.seed=abc"],
            ["limit: expected null or a whole number", "sampling.seed"],
        ),
        (["llm=scripted", "dry_run=maybe", "reparse=yep"], ["dry_run: expected true or false", "reparse"]),
        (["llm=scripted", "experiment=prompt_check", "prompt=reasoned"], ["use prompt@check.items=reasoned"]),
        (["llm=scripted", "experiment=prompt_check", "export=a.csv"], ["export: the check makes several label sets"]),
    ],
)
def test_what_is_wrong_is_said_together(run, tmp_path: Path, overrides: list[str], parts: list[str]) -> None:
    done = run("label.py", "data=simulated", *overrides)
    assert done.returncode == 2
    assert all(part in done.stderr for part in parts)
    assert "Nothing was labelled." in done.stderr
    assert not list(tmp_path.glob("runs/**/*.log"))
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_prompt_check_and_what_the_whole_job_takes_from_it(run, tmp_path: Path) -> None:
    log = tmp_path / "asked.jsonl"
    base = ["label.py", "llm=scripted", "data=simulated", "data.texts=150", "data.seed=1", f"llm.engine.log={log}"]
    priced = "+llm.engine.price={_target_: invitro.engines.base.Price, prompt: 100, completion: 100}"
    dry = run(*base, "experiment=prompt_check", "dry_run=true", priced)
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.count("would ask        100 requests") == 3
    assert not log.exists()
    done = run(*base, "experiment=prompt_check", "llm.engine.faults.unparseable=0.1", priced)
    assert done.returncode == 0, done.stderr
    for part in (
        "Prompt check: scripted on 100 of the 150 texts of simulated", "usable on the first try",
        "usable after the retry", "plain and scale_aware agree with each other", "cost of 150 texts",
        "Within one reply that gives both", "Not measurable with this model", "This says nothing about the prompts",
    ):  # fmt: skip
        assert part in done.stdout
    report = Path(done.stdout.rpartition("Report: ")[2].strip())
    assert report.read_text().strip() in done.stdout
    figures = json.loads((tmp_path / report).with_suffix(".json").read_text())
    for one in figures["prompts"].values():
        assert one["texts"] == 100
        assert one["first"] < 1
        assert f"about ${one['cost'] * 1.5:.2f}" in done.stdout
    assert figures["advice"][0].startswith("Not measurable")
    asked_before = noted(log)
    whole = run(*base, "llm.engine.faults.unparseable=0.1", priced)
    assert whole.returncode == 0, whole.stderr
    texts = {json.loads(line)["text_id"] for line in log.read_text().splitlines()[len(asked_before) :]}
    assert len(texts) == 50  # the hundred of the check are stored
    again = run(*base, "experiment=prompt_check", "llm.engine.faults.unparseable=0.1", priced)
    assert "unknown: all answers were stored already" in again.stdout


@pytest.mark.slow
def test_the_report_compares_whatever_label_sets_there_are(run, tmp_path: Path) -> None:
    base = ["label.py", "data=simulated", "data.texts=80"]
    nothing = run(
        "label.py", "data=table", "data.path=in.csv", "data.columns.crowd_label=score", "report=true", "llm=qwen"
    )  # fmt: skip
    assert "in.csv: no such file" in nothing.stderr
    pd.DataFrame({"text_id": list("abc"), "text": ["x", "y", "z"], "score": [1, 2, 3]}).to_csv(
        tmp_path / "in.csv", index=False
    )
    nothing = run(
        "label.py", "data=table", "data.path=in.csv", "data.columns.crowd_label=score", "report=true", "llm=qwen"
    )  # fmt: skip
    assert nothing.returncode == 2
    assert "there are no LLM labels on scale=batson_empathy to compare" in nothing.stderr
    line = "python label.py data=table data.path=in.csv data.columns.crowd_label=score llm=qwen"
    assert f"To make some: {line}" in nothing.stderr
    assert not list((tmp_path / "runs").rglob("*.*"))
    for more in (["prompt=plain"], ["prompt=scale_aware", "samples=2", "sampling.temperature=0.7"]):
        assert run(*base, "llm=scripted", *more).returncode == 0
    # No key, no engine, no GPU: an LLM that could not be started does no harm here.
    done = run(*base, "report=true", "llm=llama", "llm.engine.tensor_parallel_size=-1")
    assert done.returncode == 0, done.stderr
    for part in (
        "simulated on batson_empathy (1 to 7): 80 texts, 6 raters", "crowd / scripted/plain", "crowd / simulated",
        "scripted/scale_aware #1 / scripted/scale_aware #2", "between samples", "llm=llama does not limit the report",
    ):  # fmt: skip
        assert part in done.stdout
    path = Path(done.stdout.strip().splitlines()[-1].removeprefix("Report: "))
    assert path.is_file()
    assert path.is_relative_to(tmp_path / "runs" / "label")
    assert {found.name for found in tmp_path.iterdir()} == {"in.csv", "runs"}
    some = run(*base, "report=true", "raters=[scripted/plain]")
    assert "80 texts, 2 raters" in some.stdout
    wrong = run(*base, "report=true", "raters=[gpt]")
    assert wrong.returncode == 2
    assert "raters: expected names or beginnings of" in wrong.stderr
    both = run(*base, "report=true", "dry_run=true")
    assert "report=true compares existing labels" in both.stderr


@pytest.mark.real
@pytest.mark.skipif("INVITRO_DATA_DIR" not in os.environ, reason="INVITRO_DATA_DIR names no real corpus")
def test_the_published_labels_have_the_known_agreement(run, tmp_path: Path) -> None:
    data = {"INVITRO_DATA_DIR": str(Path(os.environ["INVITRO_DATA_DIR"]).resolve())}
    done = run("label.py", "report=true", "data=newsemp18", env=data)
    assert done.returncode == 0, done.stderr
    rows = [line.split("  ") for line in done.stdout.splitlines() if "/ " in line]
    cells = {(row[0], row[1]): row for row in ([cell.strip() for cell in row if cell.strip()] for row in rows)}
    llama, gpt = "llama/scale_aware", "gpt/scale_aware"
    for raters, n, pcc in (
        (f"crowd / {llama}", "1860", "0.4369"), (f"crowd / {gpt}", "1855", "0.3812"),
        (f"{llama} / {gpt}", "1855", "0.7613"),
    ):  # fmt: skip
        assert cells[raters, n][2].startswith(f"{pcc} [")
    for raters, alpha in ((f"crowd / {llama}", "0.4035"), (f"crowd / {gpt}", "0.3012"), (f"{llama} / {gpt}", "0.5136")):
        assert cells[raters, "1855"][4].startswith(f"{alpha} [")
    assert "Krippendorff's alpha 0.27, PCC 0.441" in done.stdout
    refused = run("label.py", "report=true", "data=newsemp18", "scale=batson_distress", env=data)
    assert refused.returncode == 2
    assert "There are labels on scale=batson_empathy: llama/scale_aware (published), gpt" in refused.stderr
    missing = run("label.py", "report=true", "data=newsemp22", env=data)
    assert missing.returncode == 2
    assert "messages_train_ready_for_WS.tsv is neither in" in missing.stderr


class Terminal:
    """A process on a pseudo terminal, which does not say how wide it is."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.seen = ""
        self._master, slave = pty.openpty()
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)

    def read(self, until: int | None = None, seconds: float = 60) -> list[re.Match[str]]:
        """Read until the bar shows at least `until` labels, or to the end; return every state of the bar so far."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            shown = list(BAR.finditer(self.seen))
            if until is not None and shown and int(shown[-1]["n"]) >= until:
                return shown
            if select.select([self._master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self._master, 65536).decode("utf-8", "replace")
                except OSError:  # the other side is closed: the process has ended
                    break
        return list(BAR.finditer(self.seen))

    def kill(self) -> None:
        """Kill the process as a machine does that runs out of memory."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self._master)


@pytest.mark.slow
def test_the_bar_on_a_terminal_killed_and_begun_again(tmp_path: Path) -> None:
    texts = 200
    command = [
        sys.executable, str(ROOT / "label.py"), "llm=scripted", "data=simulated", f"data.texts={texts}",
        "readout=digits", "llm.engine.concurrency=4", "llm.engine.delay=0.03",
        "+llm.engine.price={_target_: invitro.engines.base.Price, prompt: 1000, completion: 1000}",
    ]  # fmt: skip
    first = Terminal(command, tmp_path)
    shown = first.read(until=60)
    assert shown, first.seen
    assert {int(one["total"]) for one in shown} == {texts}
    counts = [int(one["n"]) for one in shown]
    assert counts == sorted(counts)
    costs = [float(one["cost"]) for one in shown]
    assert costs == sorted(costs)
    assert costs[-1] > 1
    assert any(one["left"] != "?" and int(one["speed"]) > 0 for one in shown)
    first.kill()

    again = Terminal(command, tmp_path)
    shown = again.read()
    assert again.process.wait(timeout=60) == 0, again.seen
    assert int(shown[0]["n"]) >= 60  # what is stored is there from the start
    assert float(shown[0]["cost"]) < costs[-1]  # and the cost is this run's
    assert int(shown[-1]["n"]) == texts
    assert "texts labelled   200 of 200" in again.seen
