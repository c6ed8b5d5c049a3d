"""Noise-aware losses and baselines as a user runs them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import small_corpus, table_overrides

from invitro.models.scoring import load_scorer
from invitro.stats.moments import measure


@pytest.mark.slow
def test_two_processes_predict_uncertainty_and_select(
    run_apart, corpus_csv: Path, tiny_deberta: Path, tmp_path: Path
) -> None:
    done = run_apart(
        "train.py", "plm=deberta", f"plm.name={tiny_deberta}", "alpha=1.0", "fit.loss=nll", "fit.keep=0.7",
        "fit.select_from=1", "fit.eval_batch_size=5", "trainer=ddp", "hydra.run.dir=two",
        *[one for one in table_overrides(corpus_csv) if not one.startswith("trainer=")],
        "trainer.accelerator=cpu", "trainer.devices=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = pd.read_csv(tmp_path / "two" / "predictions.csv")
    scorer = load_scorer(tmp_path / "two" / "model")
    texts = pd.read_csv(corpus_csv).set_index("id")["essay"][found["text_id"]].tolist()
    expected = scorer.score(texts)
    assert found["prediction"].to_numpy() == pytest.approx(expected.score, abs=1e-4)
    assert found["uncertainty"].to_numpy() == pytest.approx(expected.sd, abs=1e-4)
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert metrics["train"]["kept"] == round(0.7 * metrics["train"]["size"])


@pytest.mark.slow
def test_a_multirun_of_the_tf_idf_baseline_and_a_prediction(run, tmp_path: Path) -> None:
    small_corpus(200, 50).to_csv(tmp_path / "essays.csv", index=False)
    overrides = [one for one in table_overrides(tmp_path / "essays.csv") if not one.startswith("plm.")]
    command = ["train.py", "-m", "plm=tfidf", "application=none", "hydra.sweep.dir=sweep", *overrides]
    done = run(*command, "seed=0,1", "fit.epochs=1,2")
    assert done.returncode == 0, done.stderr
    # A baseline knows no epochs and no seed: all jobs are the first one again.
    assert done.stdout.strip().splitlines()[-2] == "1 finished, 3 finished before, 0 failed"
    metrics = json.loads((tmp_path / "sweep" / "0" / "metrics.json").read_text())
    rows = pd.read_csv(tmp_path / "sweep" / "0" / "predictions.csv")
    test = rows[rows["split"] == "test"]
    assert metrics["test"] == pytest.approx(measure(test["prediction"], test["crowd_label"]))
    assert metrics["test"]["pcc"] > 0.5
    scored = run("predict.py", "model=sweep/0/model", "input=essays.csv", "output=scores.csv", "text=essay", "score=s")
    assert scored.returncode == 0, scored.stderr
    scores = pd.read_csv(tmp_path / "scores.csv").set_index("id")["s"]
    assert np.allclose(scores[rows["text_id"]], rows["prediction"])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["plm=tfidf", "fit.loss=ccc", "fit.keep=0.8", "trainer=ddp"],
            ["fit.loss=ccc: tfidf is fitted", "fit.keep=0.8: tfidf", "one process; choose trainer=auto"],
        ),
        (["plm=ridge", "plm.name=nobody/has-this"], ["PLM nobody/has-this: not found"]),
        (["plm=tfidf", "plm.ngrams=0", "fit.beta=2"], ["plm.ngrams: expected", "fit.beta: expected"]),
    ],
    ids=["meaningless", "no encoder", "out of range"],
)
def test_settings_that_cannot_be_meant_are_refused(
    run, corpus_csv: Path, overrides: list[str], expected: list[str]
) -> None:
    keys = {one.partition("=")[0] for one in overrides}
    kept = [one for one in table_overrides(corpus_csv) if one.partition("=")[0] not in keys]
    done = run("train.py", *[one for one in kept if not one.startswith("plm.")], *overrides)
    assert done.returncode == 2, done.stdout + done.stderr
    for part in expected:
        assert part in done.stderr
    assert "Traceback" not in done.stderr
