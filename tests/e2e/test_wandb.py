"""The default logger, with the real client: its offline file is read back."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT, small_corpus, table_overrides
from wandb import wandb_agent

WANDB = str(Path(sys.executable).with_name("wandb"))


def offline_runs(root: Path) -> list[dict[str, Any]]:
    """Return config, summary, history, group, job type, tags and exit code of every offline run below `root`."""
    runs = []
    for file in sorted(root.rglob("run-*.wandb")):
        shown = subprocess.run(
            [WANDB, "leet", "inspect", "--json", str(file)], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        lines = [json.loads(line) for line in shown.stdout.splitlines()]
        assert lines, shown.stderr
        found: dict[str, Any] = {"text": shown.stdout, "raw": file.read_bytes(), "summary": {}, "history": []}
        for line in lines:
            if line["type"] == "run":
                found |= line["run"]
            elif line["type"] == "summary":
                found["summary"] |= line["summary"].get("update", {})
            elif line["type"] == "history":
                found["history"].append(line["history"]["item"])
            elif line["type"] == "exit":
                found["exit_code"] = line["exit"].get("exit_code", 0)
        runs.append(found)
    return runs


def overrides(csv: Path, plm: Path) -> list[str]:
    settings = [one for one in table_overrides(csv) if not one.startswith("logger=")]
    return ["train.py", *settings, "plm=roberta", f"plm.name={plm}", "save_model=false"]


@pytest.mark.slow
def test_offline_by_default_and_nothing_leaves(run_apart, corpus_csv: Path, tiny_roberta: Path, tmp_path: Path) -> None:
    secret = "sk-this-is-a-secret"
    done = run_apart(*overrides(corpus_csv, tiny_roberta), "alpha=1.0", env={"OPENAI_API_KEY": secret})
    assert done.returncode == 0, done.stderr
    (found,) = offline_runs(tmp_path)
    assert f"wandb sync {tmp_path}" in done.stdout
    config = found["config"]["update"]
    assert config["alpha"] == 1
    assert config["application"]["name"] == "both"
    assert found["job_type"] == "train"
    assert set(found["tags"]) == {"both", "table", "gpt", "batson_empathy"}
    assert "run_group" not in found
    assert found["exit_code"] == 0
    assert found["summary"]["test/ccc"] is not None
    assert [row["epoch"] for row in found["history"] if "val_ccc" in row] == [0, 1]
    assert any("train_loss" in row for row in found["history"])
    for essay in small_corpus()["essay"]:
        assert essay.encode() not in found["raw"]
    assert secret.encode() not in found["raw"]
    assert b"train.py" not in found["raw"]  # no command line


@pytest.mark.slow
def test_every_job_of_a_multirun_is_its_own_closed_run(
    run_apart, corpus_csv: Path, tiny_roberta: Path, tmp_path: Path
) -> None:
    settings = [one for one in overrides(corpus_csv, tiny_roberta) if not one.startswith("plm.lr")]
    done = run_apart(settings[0], "-m", *settings[1:], "plm.lr=1e-3,1e30", "fit.clip=null", "hydra.sweep.dir=sweep")
    assert done.returncode == 1
    runs = offline_runs(tmp_path)
    assert len({one["run_id"] for one in runs}) == 2
    assert {one["run_group"] for one in runs} == {"sweep"}
    by_rate = {float(one["config"]["update"]["plm"]["lr"]): one for one in runs}
    assert by_rate[1e-3]["exit_code"] == 0
    assert by_rate[1e30]["exit_code"] == 1
    assert "test/ccc" not in by_rate[1e30]["summary"]


@pytest.mark.slow
def test_a_run_that_fails_while_reading_labels_is_a_failed_run(
    run_apart, corpus_csv: Path, tiny_roberta: Path, tmp_path: Path
) -> None:
    missing = ("llm.column=null", "llm.labels=nowhere.csv", "application=correction")
    done = run_apart(*overrides(corpus_csv, tiny_roberta), *missing)
    assert done.returncode == 2
    assert "nowhere.csv: no such file" in done.stderr
    (one,) = offline_runs(tmp_path)
    assert one["exit_code"] == 1


@pytest.mark.slow
def test_all_launches_of_a_study_are_one_group(run_apart, corpus_csv: Path, tiny_roberta: Path, tmp_path: Path) -> None:
    chosen = ["application=none,both", "alpha=1", "resamples=20"]
    settings = ["study=grid", *overrides(corpus_csv, tiny_roberta)[1:], *chosen]
    for seeds in ("0", "0,1"):
        done = run_apart("sweep.py", *settings, f"seed={seeds}", "directory=a study", "fit.epochs=1")
        assert done.returncode == 0, done.stderr
    found = offline_runs(tmp_path)
    assert {one["run_group"] for one in found} == {"a study"}
    assert [one["job_type"] for one in found].count("study") == 2  # each launch sums up what there is
    runs = [one for one in found if one["job_type"] == "train"]
    assert len(runs) == 4
    assert len({(one["config"]["update"]["application"]["name"], one["config"]["update"]["seed"]) for one in runs}) == 4


@pytest.mark.slow
def test_a_server_that_does_not_answer_stops_nothing(
    run_apart, corpus_csv: Path, tiny_roberta: Path, tmp_path: Path
) -> None:
    env = {"WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = run_apart(*overrides(corpus_csv, tiny_roberta), "logger.timeout=3", env=env)
    assert done.returncode == 0, done.stderr
    assert "W&B did not answer" in done.stdout + done.stderr
    assert len(offline_runs(tmp_path)) == 1


@pytest.mark.slow
def test_the_agent_of_a_sweep_starts_a_training(
    corpus_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = yaml.safe_load((ROOT / "wandb_sweep.yaml").read_text("utf-8"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "")  # which the agent sets, and the end of this test takes back
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", "")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    chosen = {
        name: one.get("value", one.get("values", [one.get("min")])[-1]) for name, one in sweep["parameters"].items()
    }
    own = dict(one.split("=", 1) for one in table_overrides(corpus_csv) if not one.startswith("logger="))
    settings = chosen | own | {"plm": "tfidf", "save_model": False}
    settings = {name: value for name, value in settings.items() if not name.startswith("plm.")}  # tfidf has none
    agent = wandb_agent.Agent.__new__(wandb_agent.Agent)  # its start asks the server for the sweep
    agent._in_jupyter, agent._function, agent._forward_signals, agent._run_processes = False, None, False, {}
    agent._sweep_command = sweep["command"]
    arguments = {name: {"value": value} for name, value in settings.items()}
    agent._command_run({"run_id": "abc123", "program": str(ROOT / sweep["program"]), "args": arguments})
    assert agent._run_processes["abc123"].wait() == 0
    (found,) = offline_runs(tmp_path)
    assert found["run_id"] == "abc123"
    config = found["config"]["update"]  # in which W&B keeps what its sweep chose as it was written
    assert (config["application"], config["alpha"], config["seed"]) == ("both", 3.0, 100)
    assert sweep["metric"]["name"] in found["summary"]
