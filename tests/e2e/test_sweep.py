"""``sweep.py`` as a user runs it: from one command to the report, extended, interrupted, with jobs that fail."""

import json
import re
from pathlib import Path

import pytest
from support import table_overrides

from invitro.studies import read_runs


@pytest.fixture
def tiny(corpus_csv: Path, tiny_roberta: Path) -> list[str]:
    """Return the settings of jobs that take a second."""
    return ["plm=roberta", f"plm.name={tiny_roberta}", *table_overrides(corpus_csv), "fit.epochs=1", "directory=study"]


def last(stdout: str) -> str:
    return stdout.strip().splitlines()[-1]


def changed(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("metrics.json")}


@pytest.mark.slow
def test_a_study_from_one_command_to_its_report_and_on(run, tiny: list[str], tmp_path: Path) -> None:
    done = run("sweep.py", "study=alpha", "alpha=1.0,6.0,inf", "seed=0", "resamples=50", *tiny)
    assert done.returncode == 0, done.stderr
    assert last(done.stdout) == "study/report/report.html"
    page = (tmp_path / "study" / "report" / "report.html").read_text("utf-8")
    assert "python sweep.py study=alpha" in page
    assert {"table.tex", "table.md", "runs.csv"} <= {path.name for path in (tmp_path / "study" / "report").iterdir()}
    command = next(line for line in done.stdout.splitlines() if "train.py -m" in line)
    assert command in page.replace("&#39;", "'").replace("&#34;", '"')
    table = read_runs(tmp_path / "study", ("alpha",)).table
    assert table["outcome"].tolist() == ["finished", "finished", "finished before"]
    assert table.loc[table["shared"], "alpha"].tolist() == [6.0, float("inf")]  # no labels are more than 6 apart
    assert (table["val_ccc"].notna() & table["test_rmse"].notna()).all()
    before = changed(tmp_path / "study")
    assert len(before) == 2

    more = run("sweep.py", "study=alpha", "alpha=1.0,inf", "seed=0,1", "resamples=50", *tiny)
    assert more.returncode == 0, more.stderr
    assert "2 finished, 2 finished before, 0 failed" in more.stdout
    after = changed(tmp_path / "study")
    assert {path: after[path] for path in before} == before
    assert len(after) == 4
    table = read_runs(tmp_path / "study", ("alpha",)).table
    assert sorted(zip(table["alpha"], table["seed"], strict=True)) == [
        (1, 0), (1, 1), (6, 0), (float("inf"), 0), (float("inf"), 1)
    ]  # fmt: skip

    again = run("sweep.py", "report_only=true", "runs=study", "directory=elsewhere", "resamples=50")
    assert again.returncode == 0, again.stderr
    assert again.stdout == "elsewhere/report.html\n"
    assert changed(tmp_path / "study") == after
    config = json.loads((tmp_path / "study" / "study.json").read_text())
    assert (config["name"], config["factors"]) == ("alpha", ["alpha"])


@pytest.mark.slow
def test_failures_are_named_and_the_rest_completes(run, tiny: list[str], tmp_path: Path) -> None:
    ours = [one for one in tiny if not one.startswith("plm.lr")] + ["plm.lr=1e30,1e-3", "fit.clip=null", "resamples=50"]
    done = run("sweep.py", "study=grid", "application=none", *ours)
    assert done.returncode == 1
    assert last(done.stdout) == "study/report/report.html"
    assert (tmp_path / "study" / "report" / "report.html").is_file()
    error = re.search(
        r"^failed: plm\.lr=1e\+30 seed=0: TrainingError: .*diverged.* \((.*error\.txt)\)$", done.stderr, re.M
    )
    assert error is not None, done.stderr
    assert "Traceback" in (tmp_path / error[1]).read_text()
    assert read_runs(tmp_path / "study").table["outcome"].tolist() == ["failed", "finished"]

    fast = run("sweep.py", "study=grid", "application=none", "fail_fast=true", *ours, "directory=fast")
    assert fast.returncode == 1
    assert last(fast.stdout) == "fast/report/report.html"
    table = read_runs(tmp_path / "fast").table
    assert table["outcome"].tolist() == ["failed", "skipped"]
    assert "fail_fast=true" in str(table["error"][1])


@pytest.mark.slow
def test_a_multirun_of_train_is_reported(run, tiny: list[str], tmp_path: Path) -> None:
    settings = [one for one in tiny if not one.startswith("directory")]
    done = run("train.py", "-m", *settings, "application=none,both", "hydra.sweep.dir=grid", "save_model=false")
    assert done.returncode == 0, done.stderr
    report = run("sweep.py", "report_only=true", "runs=grid", "study.baseline={application: none}", "resamples=50")
    assert report.returncode == 0, report.stderr
    assert report.stdout == "grid/report/report.html\n"
    page = (tmp_path / "grid" / "report" / "report.html").read_text("utf-8")
    assert "train.py -m" in page


@pytest.mark.slow
def test_rows_of_the_paper_s_table_without_data_are_reported_as_not_run(run, tmp_path: Path) -> None:
    empty = tmp_path / "data"
    empty.mkdir()
    done = run("sweep.py", "study=table_v", "seed=0", "directory=study", env={"INVITRO_DATA_DIR": str(empty)})
    assert done.returncode == 0, done.stderr
    assert "train.py -m" not in done.stdout
    assert last(done.stdout) == "study/report/report.html"
    told = [line for line in done.stderr.splitlines() if line.startswith("skipped: ")]
    assert len(told) == 1, "one reason, one line"
    assert told[0].startswith("skipped: 10 jobs: experiment=table_v/24_roberta_crowd,table_v/24_roberta_llama,")
    assert " seed=0: newsemp24: the file trac3_EMP_train.csv is neither in" in told[0]
    table = read_runs(tmp_path / "study", ("experiment",)).table
    assert table["outcome"].tolist() == ["skipped"] * 10
    assert table["test_pcc"].isna().all()
    page = (tmp_path / "study" / "report" / "report.html").read_text("utf-8")
    assert "python sweep.py study=table_v" in page
    assert "0.558" in page  # the paper's stand there all the same


def test_what_cannot_be_meant_is_refused_and_nothing_is_left_behind(run, tiny: list[str], tmp_path: Path) -> None:
    done = run("sweep.py", "study=alpha", *tiny, "alpha=-1", "seed=0", "fit.epochs=0")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "alpha: expected a number" in done.stderr
    assert "fit.epochs: expected" in done.stderr
    assert done.stderr.strip().endswith("Nothing was started.")
    assert {path.name for path in tmp_path.iterdir()} == {"essays.csv"}


def test_help_and_the_jobs_without_starting_them(run, tiny: list[str], tmp_path: Path) -> None:
    text = run("sweep.py", "--help").stdout
    assert re.search(r"^  table_v +The paper's Table V", text, re.M)
    assert "report_only: false" in text
    done = run("sweep.py", "study=alpha", "alpha=4.0,inf", "seed=0,1", "dry_run=true", *tiny)
    assert done.returncode == 0, done.stderr
    assert last(done.stdout) == "4 jobs, in study"
    assert {path.name for path in tmp_path.iterdir()} == {"essays.csv"}
