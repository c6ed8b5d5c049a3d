"""``label.py`` as a user runs it, kills it and runs it again."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from chat_server import ChatServer
from support import ROOT, small_corpus, table_overrides

TEXTS, IN_FLIGHT = 240, 4
SCRIPTED = [
    "label.py", "llm=scripted", "data=simulated", f"data.texts={TEXTS}", "readout=digits",
    f"llm.engine.concurrency={IN_FLIGHT}", "llm.engine.faults.unparseable=0.1", "llm.engine.faults.refused=0.1",
]  # fmt: skip


def content(store: Path) -> dict[str, list[tuple]]:
    """Return everything in a store but times and the order of arrival."""
    with sqlite3.connect(store) as db:
        db.row_factory = sqlite3.Row
        tables = {}
        for name in ("sets", "answers", "uses"):
            rows = [dict(row) for row in db.execute(f"SELECT * FROM {name}")]
            tables[name] = sorted(
                repr(
                    sorted(
                        (k, v)
                        for k, v in row.items()
                        if k not in ("created", "answered") and (k, name) != ("id", "answers")
                    )
                )
                for row in rows
            )
    return tables


def answered(store: Path) -> int:
    if not store.is_file():
        return 0
    with sqlite3.connect(store) as db:
        if not db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'answers'").fetchone()[0]:
            return 0
        return int(db.execute("SELECT count(*) FROM answers").fetchone()[0])


def asked(log: Path) -> list[tuple[str, float]]:
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return [(row["key"], row["temperature"]) for row in rows]


@pytest.mark.slow
def test_killed_at_ten_random_moments(run, tmp_path: Path) -> None:
    """Nothing stored is lost or asked again, and the end is that of a run that was left alone."""
    whole = run(*SCRIPTED, f"store={tmp_path}/whole.sqlite", "llm.engine.log=whole.jsonl")
    assert whole.returncode == 0, whole.stderr
    questions = Counter(asked(tmp_path / "whole.jsonl"))
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
    assert content(store) == content(tmp_path / "whole.sqlite")
    again = Counter(asked(log))
    assert set(again) == set(questions)
    assert 0 < sum(again.values()) - sum(questions.values()) <= 10 * IN_FLIGHT
    last = run(*SCRIPTED, f"store={store}", f"llm.engine.log={log}")
    assert "0 labels from 0 requests" in last.stdout
    assert Counter(asked(log)) == again


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
    assert content(tmp_path / "both.sqlite") == content(tmp_path / "alone.sqlite")


def test_dry_run_export_and_a_comparison_of_prompts(run, tmp_path: Path) -> None:
    log = tmp_path / "asked.jsonl"
    base = ["label.py", "llm=scripted", "data=simulated", "data.texts=60", f"llm.engine.log={log}"]
    dry = run(*base, "dry_run=true", "limit=7")
    assert "would ask        7 requests" in dry.stdout, dry.stderr
    assert not log.exists()
    done = run(*base, "limit=7", "export=labels.parquet")
    assert done.returncode == 0, done.stderr
    for part in ("7 of 7", "PCC", "alpha", "mean bias", "exported to      labels.parquet"):
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
    assert "texts are not the ones that were labelled" in changed.stderr


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
        done = run(*base, env={"LAB_KEY": secret})
        assert done.returncode == 0, done.stderr
        assert len(server.calls) == 3
    assert pd.read_csv(tmp_path / "out.csv")["llm_empathy"].tolist() == [4.5, 4.5, 4.5]
    assert not any(secret.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert secret not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["llm=simulated"], ["llm=simulated cannot be asked"]),
        (["llm=scripted", "readout=guess", "llm.engine.concurrency=0"], ["readout: expected one of", "concurrency"]),
        (["llm=scripted", "samples=3", "limit=0", "export=a.xlsx"], ["samples=3", "limit", "export"]),
    ],
)
def test_what_is_wrong_is_said_together(run, tmp_path: Path, overrides: list[str], parts: list[str]) -> None:
    done = run("label.py", "data=simulated", *overrides)
    assert done.returncode == 2
    assert all(part in done.stderr for part in parts)
    assert "Nothing was asked." in done.stderr
    assert not list(tmp_path.glob("runs/**/*.log"))
    assert "Traceback" not in done.stderr
