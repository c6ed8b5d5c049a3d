"""A study on W&B, without a server: the real client's offline file, and the workspace's specification."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from studies.reported import Reported, reported

from invitro.commands.plans import SweepRequest, SweepSettings
from invitro.commands.studies import send_report
from invitro.errors import InputError
from invitro.studies.dashboard import SPECIFICATION, publish, save_workspace, specification, workspace_of
from invitro.studies.figures import figures
from invitro.studies.report.page import write_report
from invitro.studies.runs import read_runs

WANDB = {"_target_": "invitro.training.loggers.WandB", "project": "mine", "entity": None, "mode": "offline"}


@pytest.fixture
def study(tmp_path: Path) -> Reported:
    return reported("alpha", tmp_path / "study")


def logged_to_wandb(study: Reported, **settings: Any) -> Any:
    """Make the study's records those of jobs that logged to W&B, and read them again."""
    for file in study.runs.root.rglob("config.yaml"):
        config = yaml.safe_load(file.read_text("utf-8"))
        config |= {"logger": WANDB | settings, "group": "alpha"}
        file.write_text(yaml.safe_dump(config), "utf-8")
    return read_runs(study.runs.root, study.runs.factors)


def test_nothing_is_sent_where_the_jobs_were_not_logged(study: Reported, tmp_path: Path) -> None:
    assert not publish(study.study, study.runs, study.summary, [], tmp_path / "report.html")
    assert not list(tmp_path.rglob("*.wandb"))
    with pytest.raises(InputError, match="logged to W&B"):
        save_workspace(study.study, study.runs, tmp_path)


def test_what_w_and_b_refuses_is_a_warning_with_the_line_that_repeats_it(
    study: Reported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    runs = logged_to_wandb(study, project="mine/yours")
    settings = SweepSettings(True, str(runs.root), None, False, False, False, 50, True)
    report = tmp_path / "report.html"
    report.write_text("<html></html>", "utf-8")
    asked = SweepRequest(study.study, runs.root, tmp_path / "my report", None, settings)
    send_report(asked, runs, study.summary, [], report)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    said, _, again = err.strip().partition(" To try again: python ")
    assert said.startswith("WARNING: not uploaded to W&B: summary table, figures and report (")
    assert "Invalid project name" in said
    assert shlex.split(again) == [
        "sweep.py", "report_only=true", f"runs={runs.root}", "resamples=50", f"directory='{tmp_path / 'my report'}'"
    ]  # fmt: skip


@pytest.mark.slow
def test_one_run_sums_the_study_up(study: Reported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    runs = logged_to_wandb(study)
    drawn = figures(study.study, runs, study.summary)
    report = write_report(study.study, runs, study.summary, [], drawn, tmp_path / "report")
    assert publish(study.study, runs, study.summary, drawn, report)
    (file,) = runs.root.rglob("run-*.wandb")
    shown = subprocess.run(
        [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(file)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    run = next(line["run"] for line in lines if line["type"] == "run")
    assert (run["run_group"], run["job_type"], run["display_name"]) == ("alpha", "study", "study alpha")
    logged = " ".join(shown.stdout.splitlines())
    for name in ("summary", drawn[0].name, "study-alpha"):
        assert name in logged
    tables = list(runs.root.rglob("*.table.json"))
    assert tables
    assert '"text_id"' in report.read_text("utf-8")
    staged = [path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()]
    (uploaded,) = (content.decode() for content in staged if b"</html>" in content)
    assert "crowd_label" in uploaded
    assert "text_id" not in uploaded
    values = json.loads(tables[0].read_text("utf-8"))
    assert len(values["data"]) == len(study.summary.groups)
    assert "test_ccc_mean" in values["columns"]


def test_the_workspace_shows_the_group_by_its_factor(study: Reported) -> None:
    runs = logged_to_wandb(study)
    made = specification(workspace_of(study.study, runs, "someone", "mine", "alpha"))
    text = json.dumps(made)
    assert (made["entity"], made["project"]) == ("someone", "mine")
    names = [section["name"] for section in made["spec"]["section"]["panelBankConfig"]["sections"]]
    assert names[:4] == ["Validation", "Test", "Learning curves", "Training labels"]
    for wanted in ("val/ccc", "test/rmse", "alpha", "train/replaced", "val_ccc"):
        assert wanted in text


def test_without_a_login_the_specification_is_kept(
    study: Reported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    runs = logged_to_wandb(study)
    with pytest.raises(InputError, match="wandb login"):
        save_workspace(study.study, runs, tmp_path)
    assert json.loads((tmp_path / SPECIFICATION).read_text("utf-8"))["project"] == "mine"
