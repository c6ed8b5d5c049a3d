"""``sweep.py study=inference`` and ``study=cost_benefit`` as a user runs them."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from support import table_overrides

from invitro.stats.powered import problem

needs_ppi = pytest.mark.skipif(problem() is not None, reason="ppi-python is not installed")
SMALL = ["data=simulated", "llm=simulated", "data.texts=400"]


@pytest.mark.slow
@needs_ppi
def test_estimates_from_one_command_to_their_report(run, tmp_path: Path) -> None:
    done = run("sweep.py", "study=inference", *SMALL, "inference.gold=60,120", "directory=out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "out/report/report.html"
    report = tmp_path / "out" / "report"
    assert {path.name for path in report.iterdir()} == {
        "report.html", "table.md", "table.tex", "estimates.csv", "figures"
    }  # fmt: skip
    rows = pd.read_csv(report / "estimates.csv")
    assert len(rows) == 2 * 2 * 5  # settings, estimands, methods
    powered = rows[rows["method"] == "prediction-powered"]
    assert powered["inference.gold"].tolist() == [60, 60, 120, 120]
    assert powered["crowd_labels"].tolist() == [60, 60, 120, 120]
    page = (report / "report.html").read_text("utf-8")
    assert "python sweep.py study=inference data=simulated" in page
    assert "<h3>Estimates</h3>" in page
    assert not re.search(r"(?:src|href)=\"https?:", page)
    assert json.loads((tmp_path / "out" / "study.json").read_text())["job"] == "inference"


@needs_ppi
@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["inference.gold=10"], "inference.gold: expected null or a whole number of at least 30"),
        (["inference.gold=5000"], "all 400 texts with both labels are used"),
        (["inference.covariate=mood"], "inference.covariate=mood: expected words or a numeric column"),
        (["inference.golden=1"], "golden"),
        (["hydra/launcher=joblib"], "estimates are made in this process"),
    ],
)
def test_what_cannot_be_estimated_is_refused(run, tmp_path: Path, overrides: list[str], says: str) -> None:
    done = run("sweep.py", "study=inference", *SMALL, *overrides)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("report.html"))


def test_estimates_leave_no_runs_to_report(run) -> None:
    done = run("sweep.py", "study=inference", "report_only=true", "runs=.")
    assert done.returncode == 2
    assert "makes its report in seconds" in done.stderr


@pytest.mark.slow
def test_the_jobs_of_cost_benefit(run, corpus_csv: Path) -> None:
    ours = [one for one in table_overrides(corpus_csv) if not one.startswith("plm.")]
    done = run("sweep.py", "study=cost_benefit", "dry_run=true", "plm=minilm", "seed=0", *ours, "fit.epochs=3")
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"row=noise_robust/(\w+)", done.stdout)
    assert rows == ["mse", "huber", "small_loss", "cleanlab", "tfidf", "correction", "both"]
    assert "7 jobs" in done.stdout


@pytest.mark.slow
def test_gains_stand_beside_costs(run, corpus_csv: Path, tmp_path: Path) -> None:
    ours = [one for one in table_overrides(corpus_csv) if not one.startswith("plm.")]
    settings = [
        "baseline=tfidf",
        "row=noise_robust/mse,noise_robust/correction",
        "alpha=0.5",
        "seed=0",
        "resamples=50",
    ]
    done = run("sweep.py", "study=cost_benefit", "directory=study", *settings, *ours)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "study" / "report" / "report.html").read_text("utf-8")
    assert "<h3>Gains and costs</h3>" in page
    assert "## Gains and costs" in (tmp_path / "study" / "report" / "table.md").read_text("utf-8")
    costs = [
        json.loads(path.read_text())["cost"] for path in sorted((tmp_path / "study" / "jobs").rglob("metrics.json"))
    ]
    assert [one["device"] for one in costs] == ["cpu", "cpu"]
    used = sorted(one["llm"]["labels"] for one in costs)
    assert used[0] == 0 < used[1]
    assert {one["llm"]["dollars"] for one in costs} == {0, None}  # none used, and unknown for a column
    assert all(one["processor_seconds"] > 0 for one in costs)
