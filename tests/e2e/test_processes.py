"""Each entry point once in a process of its own, as a shell starts it; the other tests run them in theirs."""

from pathlib import Path

import pandas as pd
import pytest
from support import table_overrides


@pytest.fixture
def tfidf(corpus_csv: Path) -> list[str]:
    """Return the settings of a run without a neural network."""
    return ["plm=tfidf", *(one for one in table_overrides(corpus_csv) if not one.startswith("plm."))]


def test_a_model_is_trained_and_scores_texts(run_apart, tfidf: list[str], tmp_path: Path) -> None:
    trained = run_apart("train.py", *tfidf, "alpha=4.0", "hydra.run.dir=here")
    assert trained.returncode == 0, trained.stderr
    assert Path(trained.stdout.strip().splitlines()[-1].removeprefix("Record: ")).resolve() == tmp_path / "here"
    scored = run_apart(
        "predict.py", "model=here/model", "input=essays.csv", "output=s.csv", "text=essay", "score=score"
    )
    assert scored.returncode == 0, scored.stderr
    assert pd.read_csv(tmp_path / "s.csv")["score"].notna().all()


def test_texts_are_labelled(run_apart) -> None:
    done = run_apart("label.py", "llm=scripted", "data=simulated", "data.texts=20", "limit=5")
    assert done.returncode == 0, done.stderr
    assert "5 of 5" in done.stdout


@pytest.mark.slow
def test_a_study_starts_another_process_and_ends_in_a_report(run_apart, tfidf: list[str], tmp_path: Path) -> None:
    done = run_apart("sweep.py", "study=grid", *tfidf, "seed=0", "application=none", "directory=study", "resamples=20")
    assert done.returncode == 0, done.stderr
    assert "1 finished, 0 finished before, 0 failed" in done.stdout
    assert done.stdout.strip().splitlines()[-1] == "study/report/report.html"
    assert (tmp_path / "study" / "report" / "report.html").is_file()


def test_what_is_refused_ends_with_status_2(run_apart, tfidf: list[str]) -> None:
    done = run_apart("train.py", *tfidf, "alpha=-1")
    assert done.returncode == 2
    assert "alpha: expected a number" in done.stderr
    assert "Traceback" not in done.stderr
