"""One run in this process: the record, determinism, dropout, schedule, resuming, early stopping, the frozen encoder."""

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from short_runs import BOTH, CORRECTION, NONE, divided, material, recipe, trained
from support import small_corpus

from invitro.application import Application
from invitro.errors import InputError
from invitro.models import PLM
from invitro.models.features import LayerKernel
from invitro.models.folder import load_model
from invitro.models.scoring import load_scorer, score_texts
from invitro.models.settings import PredictedSpread
from invitro.stats.moments import ConstantPredictionsWarning, measure
from invitro.training import run as runner
from invitro.training.data import EvaluationBatches, Texts, TrainingBatches
from invitro.training.loggers import CSV
from invitro.training.module import Regressor
from invitro.training.multirun import comparison, jobs, write_job
from invitro.training.prepare import Prepared
from invitro.training.recipe import Fit, Result
from invitro.training.record import claim, failure_directory, finished_run, settle, write_failure
from invitro.training.results import TrainingError, summary
from invitro.training.run import check_resume, fingerprint_of


@pytest.fixture
def prepared(corpus_csv: Path) -> Prepared:
    return material(corpus_csv)


def test_the_record(prepared: Prepared, tiny_deberta: Path, tmp_path: Path) -> None:
    result = trained(prepared, recipe(tiny_deberta), tmp_path / "run")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "config.yaml", "metrics.json", "history.csv", "predictions.csv", "labels.csv", "model", "environment.json"
    }  # fmt: skip
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics == result.metrics
    assert metrics["status"] == "finished"
    assert metrics["fingerprint"] == fingerprint_of(prepared, recipe(tiny_deberta))
    predictions = pd.read_csv(tmp_path / "run" / "predictions.csv", dtype={"text_id": str})
    assert list(predictions.columns) == ["text_id", "split", "crowd_label", "prediction", "llm_label", "group_id"]
    for split in ("val", "test"):
        rows = predictions[predictions["split"] == split]
        assert metrics[split] == pytest.approx(measure(rows["prediction"], rows["crowd_label"]))
    labels = pd.read_csv(tmp_path / "run" / "labels.csv")
    assert len(labels) == metrics["train"]["size"]
    assert (labels["origin"] == "llm").sum() == metrics["train"]["replaced"] + metrics["train"]["augmented"]
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["epoch"].tolist() == [0, 1]
    assert history["step"].tolist() == [3, 6]
    assert history["val_loss"].to_numpy() == pytest.approx(history["val_rmse"] ** 2, rel=1e-4)  # MSE
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["seed"] == 0
    assert environment["hashes"]["corpus"] == prepared.corpus.fingerprint
    assert environment["packages"]["torch"] == torch.__version__


def test_the_saved_model_gives_the_recorded_predictions(prepared: Prepared, tiny_roberta: Path, tmp_path: Path) -> None:
    result = trained(prepared, recipe(tiny_roberta), tmp_path)
    model, tokenizer = load_model(tmp_path / "model")
    texts = prepared.corpus.table.set_index("text_id")["text"][result.predictions["text_id"]]
    assert score_texts(model, tokenizer, texts.tolist()).score == pytest.approx(
        result.predictions["prediction"], abs=1e-5
    )
    scorer, learnt = load_scorer(tmp_path / "model"), prepared.labels.table["text"].tolist()
    assert scorer.read(learnt).learnt.all()
    assert not scorer.read(texts.tolist()).learnt.any()


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_one_seed_gives_identical_predictions_and_another_does_not(
    prepared: Prepared, tiny_deberta: Path, tmp_path: Path, mode: str
) -> None:
    def predictions(seed: int, name: str) -> "pd.Series[float]":
        place = {"cache": tmp_path / "cache", "save_model": False}
        return trained(prepared, recipe(tiny_deberta, seed, mode), tmp_path / name, **place).predictions["prediction"]

    first, again, other = predictions(0, "a"), predictions(0, "b"), predictions(1, "c")
    assert (first == again).all()
    assert (first != other).any()


def test_infinite_alpha_is_none_to_the_last_digit(corpus_csv: Path, tiny_deberta: Path, tmp_path: Path) -> None:
    none = material(corpus_csv, NONE, 4.0)
    inf = material(corpus_csv, CORRECTION, float("inf"))
    how = recipe(tiny_deberta)
    assert fingerprint_of(none, how) == fingerprint_of(inf, how)
    one, other = trained(none, how, tmp_path / "none"), trained(inf, how, tmp_path / "inf")
    assert (one.predictions["prediction"] == other.predictions["prediction"]).all()


def test_training_learns(tmp_path: Path, tiny_roberta: Path) -> None:
    small_corpus(400, 100).to_csv(tmp_path / "large.csv", index=False)
    learnt = material(tmp_path / "large.csv", BOTH, 1.0)
    result = trained(learnt, recipe(tiny_roberta, lr=5e-3, epochs=12), tmp_path / "run", save_model=False)
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["train_loss"].iloc[-1] < 0.7 * history["train_loss"].iloc[0]
    assert result.metrics["test"]["pcc"] > 0.3


def test_in_bfloat16_gradients_are_clipped_and_results_stay_close(
    prepared: Prepared, tiny_roberta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    step = Regressor.optimizer_step

    def watched(self: Regressor, epoch: int, index: int, optimizer: Any, closure: Any) -> None:
        step(self, epoch, index, optimizer, closure)
        norms.append(float(torch.nn.utils.get_total_norm([parameter.grad for parameter in self.parameters()])))

    monkeypatch.setattr(Regressor, "optimizer_step", watched)
    exact = trained(prepared, recipe(tiny_roberta, clip=0.1), tmp_path / "exact", save_model=False)
    how = recipe(tiny_roberta, clip=0.1)
    mixed = trained(
        prepared, replace(how, trainer=partial(how.trainer, precision="bf16-mixed")), tmp_path / "mixed",
        save_model=False,
    )  # fmt: skip
    np.testing.assert_allclose(norms, 0.1, rtol=1e-3)
    a, b = exact.predictions["prediction"], mixed.predictions["prediction"]
    assert not np.array_equal(a, b)
    np.testing.assert_allclose(a, b, atol=0.05)


@pytest.mark.parametrize(
    ("encoder", "how", "loss", "precision"),
    [
        ("tiny_deberta", "full", "ccc", "bf16-mixed"),
        ("tiny_roberta", "lora", "beta_nll", "bf16-mixed"),
        ("tiny_roberta", "full", "ldl", "bf16-true"),
    ],
)
def test_every_loss_can_be_learned_in_bfloat16(
    request: pytest.FixtureRequest,
    prepared: Prepared,
    tmp_path: Path,
    encoder: str,
    how: str,
    loss: str,
    precision: str,
) -> None:
    settings = recipe(request.getfixturevalue(encoder), train=how, loss=loss)
    settings = replace(settings, trainer=partial(settings.trainer, precision=precision))
    result = trained(prepared, settings, tmp_path / "run")
    predictions = result.predictions
    assert np.isfinite(predictions["prediction"]).all()
    texts = prepared.corpus.table.set_index("text_id")["text"][predictions["text_id"]].tolist()
    scored = load_scorer(tmp_path / "run" / "model").score(texts).score
    # Predictions are not rounded to bfloat16, whose steps are .03 here, unless the weights are.
    assert scored == pytest.approx(predictions["prediction"], abs=1e-5 if precision == "bf16-mixed" else 0.1)


@pytest.mark.parametrize("encoder", ["tiny_deberta", "tiny_llama"])
def test_on_a_frozen_encoder_the_solution_is_exact(
    request: pytest.FixtureRequest, prepared: Prepared, tmp_path: Path, encoder: str
) -> None:
    plm = request.getfixturevalue(encoder)
    runs = [trained(prepared, recipe(plm, seed, how), tmp_path / how) for seed, how in ((0, "frozen"), (1, "head"))]
    first, second = (run.predictions for run in runs)
    pd.testing.assert_frame_equal(first, second)  # head means the same, and the seed does not count
    assert runs[0].metrics["fingerprint"] == runs[1].metrics["fingerprint"]
    assert (first["uncertainty"] > 0).all()
    assert set(runs[0].metrics["cost"]["encoder"]) == {"seconds", "processor_seconds"}
    scorer = load_scorer(tmp_path / "frozen" / "model")
    again = scorer.score(prepared.corpus.table.set_index("text_id")["text"][first["text_id"]].tolist())
    assert again.score == pytest.approx(first["prediction"], abs=1e-4)
    assert again.sd == pytest.approx(first["uncertainty"], abs=1e-4)
    assert scorer.score([]).score.shape == (0,)
    assert not list((tmp_path / "frozen" / "model").rglob("*.bin"))
    card = (tmp_path / "frozen" / "model" / "README.md").read_text("utf-8")
    assert "Gaussian process regression on layers" in card
    assert "library_name: invitro" in card


@pytest.mark.parametrize("spread", ["raw", "matched"])
def test_runs_of_a_sweep_share_what_does_not_depend_on_labels(
    corpus_csv: Path, tiny_deberta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spread: PredictedSpread
) -> None:
    computed: list[int] = []
    nested, shared = LayerKernel.nested, {}
    monkeypatch.setattr(LayerKernel, "nested", lambda *given: computed.append(1) or nested(*given))
    monkeypatch.setattr(runner, "_shared", shared)
    how = replace(recipe(tiny_deberta, train="frozen"), spread=spread)
    weighted = replace(CORRECTION, name="weight", policy="weight")
    by = [(CORRECTION, 0.0), (weighted, 1.0), (CORRECTION, 1.0), (CORRECTION, 9.0), (CORRECTION, 1.0)]

    def run(name: str, what: Application, alpha: float, **place: Any) -> Result:
        return trained(material(corpus_csv, what, alpha), how, tmp_path / name, cache=tmp_path / "cache", **place)

    alone = [run(f"alone{n}", *settings) for n, settings in enumerate(by)]
    assert (len(computed), len(shared)) == (5, 0)
    together = [run(f"together{n}", *settings, siblings=True) for n, settings in enumerate(by)]
    assert (len(computed), len(shared)) == (6, 1)
    for one, other in zip(alone, together, strict=True):
        pd.testing.assert_frame_equal(one.predictions, other.predictions)
    assert len({tuple(result.predictions["prediction"]) for result in together}) == 4  # the third is the last
    assert [result.metrics["cost"]["encoder"]["seconds"] == 0 for result in together] == [False, True, True, True, True]
    others = run("others", BOTH, 1.0, siblings=True)
    assert (len(computed), len(shared)) == (7, 1)  # those of other texts are gone
    assert not any("loaded" in texts.encoder.__dict__ for texts in shared.values())
    single = run("single", BOTH, 1.0)
    assert (len(computed), len(shared)) == (8, 0)
    pd.testing.assert_frame_equal(others.predictions, single.predictions)
    monkeypatch.setattr(runner, "MOST_SHARED", 10_000)
    run("large", BOTH, 1.0, siblings=True)
    assert len(shared) == 0


def test_stretched_predictions_are_scored_again_and_rank_as_before(
    tiny_roberta: Path, prepared: Prepared, tmp_path: Path
) -> None:
    raw, matched = (
        trained(prepared, replace(recipe(tiny_roberta, train="frozen"), spread=spread), tmp_path / spread)
        for spread in ("raw", "matched")
    )
    assert raw.metrics["fingerprint"] != matched.metrics["fingerprint"]
    assert matched.metrics["test"]["pcc"] == pytest.approx(raw.metrics["test"]["pcc"], abs=1e-6)
    assert matched.predictions["prediction"].std() > 1.2 * raw.predictions["prediction"].std()
    again = load_scorer(tmp_path / "matched" / "model").score(
        prepared.corpus.table.set_index("text_id")["text"][matched.predictions["text_id"]].tolist()
    )
    assert again.score == pytest.approx(matched.predictions["prediction"], abs=1e-4)


def test_curves_reach_the_logger_while_a_part_is_learned_from(
    prepared: Prepared, tiny_deberta: Path, tmp_path: Path
) -> None:
    how = recipe(tiny_deberta, epochs=3, keep=0.5, select_from=1)
    trained(prepared, how, tmp_path, CSV(), save_model=False)
    curves, history = pd.read_csv(tmp_path / "logs/metrics.csv"), pd.read_csv(tmp_path / "history.csv")
    for column in ("train_loss", "val_ccc", "val_pcc", "val_rmse", "val_loss"):
        np.testing.assert_allclose(curves[column].dropna(), history[column], rtol=1e-5)


def module_of(plm: Path, **fit: Any) -> Regressor:
    from invitro.models.encoder import load_regressor

    return Regressor(load_regressor(PLM(str(plm)), 3.0), Fit(**fit), partial(torch.optim.AdamW, lr=1.0))


@pytest.mark.parametrize(
    ("fit", "steps", "expected"),
    [
        ({"epochs": 10, "warmup": 0.2}, 100, {0: 1 / 21, 19: 20 / 21, 20: 1.0, 60: 0.5, 100: 0.0}),
        ({"epochs": 10, "warmup": 0.0}, 100, {0: 1.0, 50: 0.5}),
        ({"epochs": 20, "warmup": 0.06, "schedule_epochs": 10}, 200, {5: 6 / 7, 6: 1.0, 100: 0.0, 150: 0.0}),
        ({"epochs": 2, "warmup": 0.1, "schedule": "constant"}, 20, {0: 1 / 3, 2: 1.0, 19: 1.0}),
    ],
)
def test_the_schedule_is_counted_in_steps(
    tiny_roberta: Path, fit: dict[str, Any], steps: int, expected: dict[int, float]
) -> None:
    module = module_of(tiny_roberta, **fit)
    module.trainer = type("T", (), {"estimated_stepping_batches": steps})()  # type: ignore[assignment]
    configured: Any = module.configure_optimizers()
    assert configured["lr_scheduler"]["interval"] == "step"
    factor = configured["lr_scheduler"]["scheduler"].lr_lambdas[0]
    assert {step: factor(step) for step in expected} == pytest.approx(expected)


def test_dropout_is_on_in_training(
    prepared: Prepared, tiny_deberta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: set[bool] = set()
    original = Regressor.training_step

    def watched(self: Regressor, batch: Any, batch_idx: int) -> Any:
        modes.update(module.training for module in self.model.modules())
        return original(self, batch, batch_idx)

    monkeypatch.setattr(Regressor, "training_step", watched)
    trained(prepared, recipe(tiny_deberta), tmp_path, save_model=False)
    assert modes == {True}


def test_resuming_continues_the_step_count(prepared: Prepared, tiny_deberta: Path, tmp_path: Path) -> None:
    short = trained(prepared, recipe(tiny_deberta, epochs=2), tmp_path / "a", keep_checkpoints=True, save_model=False)
    last = tmp_path / "a" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 6
    longer = trained(prepared, recipe(tiny_deberta, epochs=4), tmp_path / "b", resume=last, save_model=False)
    history = pd.read_csv(tmp_path / "b" / "history.csv")
    assert history["step"].tolist() == [3, 6, 9, 12]
    assert (short.metrics["train"]["epochs"], longer.metrics["train"]["epochs"]) == (2, 4)
    assert not (tmp_path / "b" / "checkpoints").exists()


def test_the_best_or_the_last_weights_are_tested(prepared: Prepared, tiny_deberta: Path, tmp_path: Path) -> None:
    for checkpoint in ("best", "last"):
        how = recipe(tiny_deberta, lr=3e-2, epochs=5, checkpoint=checkpoint)
        result = trained(prepared, how, tmp_path / checkpoint, save_model=False)
        history = pd.read_csv(tmp_path / checkpoint / "history.csv")
        wanted = history["val_ccc"].max() if checkpoint == "best" else history["val_ccc"].iloc[-1]
        assert result.metrics["val"]["ccc"] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.slow
def test_early_stopping_waits_for_its_start_epoch(prepared: Prepared, tiny_deberta: Path, tmp_path: Path) -> None:
    def epochs(**fit: Any) -> int:
        how = recipe(tiny_deberta, lr=1e-9, epochs=9, **fit)  # nothing improves
        size = trained(prepared, how, tmp_path / str(fit), save_model=False).metrics["train"]["epochs"]
        return int(size)

    assert epochs(start_epoch=0, patience=2) == 3
    assert epochs(start_epoch=4, patience=2) == 7
    assert epochs(start_epoch=0, patience=None) == 9


def test_constant_predictions_do_not_end_training(
    prepared: Prepared, tiny_roberta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Flat(Regressor):
        def forward(self, batch: Any) -> Any:
            return super().forward(batch) * 0 + 3.0

    monkeypatch.setattr("invitro.training.run.Regressor", Flat)
    with pytest.warns(ConstantPredictionsWarning):
        result = trained(prepared, recipe(tiny_roberta, epochs=3, patience=5), tmp_path, save_model=False)
    assert result.metrics["train"]["epochs"] == 3
    assert (result.metrics["test"]["pcc"], result.metrics["test"]["ccc"]) == (0, 0)


def test_divergence_is_an_error_and_leaves_no_metrics(prepared: Prepared, tiny_roberta: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"training diverged; lower plm\.lr"):
        trained(prepared, recipe(tiny_roberta, lr=1e30, clip=None), tmp_path)
    assert not (tmp_path / "metrics.json").exists()
    assert not (tmp_path / "model").exists()


def test_other_data_settings_seed_or_labels_make_another_fingerprint(corpus_csv: Path, tiny_roberta: Path) -> None:
    base, how = material(corpus_csv, BOTH, 1.0), recipe(tiny_roberta)
    others = [
        (material(corpus_csv, BOTH, 2.0), how),
        (material(corpus_csv, replace(BOTH, portion=0.5), 1.0), how),
        (base, replace(how, seed=1)),
        (base, replace(how, fit=replace(how.fit, epochs=3))),
        (base, replace(how, plm=replace(how.plm, max_length=32))),
        (base, replace(how, settings={"lr": 1})),
    ]
    fingerprints = [fingerprint_of(*settings) for settings in [(base, how), *others]]
    assert len(set(fingerprints)) == len(fingerprints)


def texts(n: int) -> Texts:
    """Return texts of 1 to 9 tokens."""
    return Texts([np.zeros(i % 9 + 1, dtype=np.int32) for i in range(n)], pd.Series(np.zeros(n)))


@pytest.mark.parametrize(("n", "size", "processes"), [(50, 16, 1), (50, 16, 2), (33, 16, 2), (7, 4, 2), (3, 4, 4)])
def test_processes_share_the_batches(n: int, size: int, processes: int) -> None:
    data = texts(n)
    fit = Fit(batch_size=size)
    parts = [list(TrainingBatches(data, fit, 0, processes, rank)) for rank in range(processes)]
    assert len({len(part) for part in parts}) == 1
    assert {len(batch) for step in zip(*parts, strict=True) for batch in step} <= set(range(1, size + 1))
    assert {row for part in parts for batch in part for row in batch} == set(range(n))
    seen = [list(EvaluationBatches(data, size, processes, rank)) for rank in range(processes)]
    assert len({len(part) for part in seen}) == 1
    real = [row for part in seen for batch in part for row in batch if row >= 0]
    assert sorted(real) == list(range(n))
    assert data[~2][2] == -1
    assert data[~2][0] is data[2][0]


def test_batches_change_with_the_epoch_and_not_otherwise() -> None:
    data = texts(40)
    batches = TrainingBatches(data, Fit(batch_size=8), 0, 1, 0)
    first, again = list(batches), list(batches)
    batches.sampler.set_epoch(1)
    assert first == again != list(batches)


def test_finished_runs_are_found_by_fingerprint(tmp_path: Path) -> None:
    for name, status in (("a", "failed"), ("b", "finished")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps({"fingerprint": "f", "status": status}))
    assert finished_run([tmp_path], "f") == tmp_path / "b"
    assert finished_run([tmp_path / "none", tmp_path], "g") is None
    assert finished_run([tmp_path], "f", with_model=True) is None
    (tmp_path / "b" / "model").mkdir()
    assert finished_run([tmp_path], "f", with_model=True) == tmp_path / "b"
    write_failure(tmp_path / "d", RuntimeError("boom"))
    assert "RuntimeError: boom" in (tmp_path / "d" / "error.txt").read_text()
    assert failure_directory(tmp_path / "b") == tmp_path / "b-failed1"  # a finished record stays


def test_jobs_of_two_launches_are_distinguished(tmp_path: Path) -> None:
    scores = {"pcc": 0.5, "ccc": 0.4, "rmse": 1.0}
    train = {"size": 9, "replaced": 1, "augmented": 2}
    record = tmp_path / "elsewhere" / "0"
    record.mkdir(parents=True)
    (record / "metrics.json").write_text(json.dumps({"test": scores, "train": train, "status": "finished"}))
    sweep = tmp_path / "sweep"
    write_job(sweep / "10", sweep / "10", "failed", ["seed=2", "alpha=1"], "now")
    write_job(sweep / "2", record, "finished before", ["seed=1", "alpha=1"], "now")
    write_job(sweep / "7", record, "finished", ["seed=9"], "earlier")
    launched = jobs(sweep, "now")
    assert [job.outcome for job in launched] == ["finished before", "failed"]
    assert launched[0].record == record
    assert len(jobs(sweep)) == 3
    table = comparison(launched)
    assert list(table.columns) == ["seed", "PCC", "CCC", "RMSE", "texts", "kept", "given up", "added", "outcome"]
    assert table["seed"].tolist() == ["1", "2"]
    (tmp_path / "moved").mkdir()
    sweep.rename(tmp_path / "moved" / "sweep")
    record.parent.rename(tmp_path / "moved" / "elsewhere")
    assert jobs(tmp_path / "moved" / "sweep", "now")[0].record == tmp_path / "moved" / "elsewhere" / "0"


def test_a_finished_record_is_not_overwritten(tmp_path: Path) -> None:
    taken = tmp_path / "3"
    taken.mkdir()
    (taken / "metrics.json").write_text(json.dumps({"fingerprint": "f", "status": "finished"}))
    with pytest.raises(InputError, match="holds the record of a finished run"):
        claim(taken, "abcdefghij", force=False, sibling=False)
    assert claim(taken, "abcdefghij", force=False, sibling=True) == tmp_path / "3-abcdefgh"
    assert (taken / "metrics.json").exists()
    (taken / "model").mkdir()
    assert claim(taken, "abcdefghij", force=True, sibling=False) == taken
    assert not (taken / "metrics.json").exists()
    assert not (taken / "model").exists()
    settle(taken)  # the new run failed: the old record is back
    assert (taken / "metrics.json").exists()
    assert (taken / "model").is_dir()
    claim(taken, "abcdefghij", force=True, sibling=False)
    (taken / "metrics.json").write_text(json.dumps({"fingerprint": "g", "status": "finished"}))
    settle(taken)  # the new run finished: the old record goes
    assert json.loads((taken / "metrics.json").read_text())["fingerprint"] == "g"
    assert [path.name for path in taken.iterdir()] == ["metrics.json"]


def test_the_final_table() -> None:
    scores = {"pcc": 0.5, "ccc": 0.25, "rmse": 1.5}
    table = summary({"val": scores, "test": None, "truth": {"val": scores, "test": scores}})
    assert table.splitlines()[1].split() == ["val", "–", "0.500", "0.250", "1.500"]
    assert "no crowd labels" in table
    assert "test, truth" in table


@pytest.mark.parametrize("mode", ["full", "lora", "frozen"])
def test_a_corpus_without_test_texts_is_trained(
    tiny_roberta: Path, corpus_csv: Path, tmp_path: Path, mode: str
) -> None:
    frame = pd.read_csv(corpus_csv)
    frame["where"] = ["train"] * 45 + ["val"] * 15
    frame.to_csv(corpus_csv, index=False)
    only_val = material(corpus_csv, reader=divided(corpus_csv, "where"))
    result = trained(only_val, recipe(tiny_roberta, train=mode), tmp_path / "run")
    assert result.metrics["test"] is None
    assert set(result.predictions["split"]) == {"val"}


def test_a_user_s_column_called_truth_is_not_the_truth(tiny_roberta: Path, corpus_csv: Path, tmp_path: Path) -> None:
    pd.read_csv(corpus_csv).assign(truth="yes").to_csv(corpus_csv, index=False)
    result = trained(material(corpus_csv, BOTH, 1.0), recipe(tiny_roberta), tmp_path / "run", save_model=False)
    assert "truth" not in result.metrics


def test_a_checkpoint_that_has_trained_enough_is_refused(
    prepared: Prepared, tiny_roberta: Path, tmp_path: Path
) -> None:
    trained(prepared, recipe(tiny_roberta, epochs=2), tmp_path / "a", keep_checkpoints=True, save_model=False)
    last = tmp_path / "a" / "checkpoints" / "last.ckpt"
    check_resume(last, Fit(epochs=3))
    with pytest.raises(InputError, match=r"already has 2 epochs; set fit\.epochs above that"):
        check_resume(last, Fit(epochs=2))
    (tmp_path / "no.ckpt").write_text("no")
    with pytest.raises(InputError, match="expected a checkpoint of a run"):
        check_resume(tmp_path / "no.ckpt", Fit())
    with pytest.raises(
        InputError, match=rf"resume={last}: the checkpoint is from a run with another encoder or plm\.train; give"
    ):
        trained(prepared, recipe(tiny_roberta, train="lora", epochs=3), tmp_path / "b", resume=_without_head(last))


def test_each_epoch_is_logged_without_a_terminal(
    prepared: Prepared, tiny_roberta: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "invitro.training.callbacks"):
        trained(prepared, recipe(tiny_roberta, epochs=2), tmp_path / "a", save_model=False)
    lines = [record.getMessage() for record in caplog.records if record.name == "invitro.training.callbacks"]
    assert [line.partition(":")[0] for line in lines] == ["epoch 1 of at most 2", "epoch 2 of at most 2"]
    number = r"-?\d\.\d{3}"
    pattern = rf"training loss {number}, validation CCC {number}, RMSE {number}; \d+ s, at most \d+ s left"
    assert all(re.search(pattern, line) for line in lines)


def _without_head(checkpoint: Path) -> Path:
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"] = {name: value for name, value in content["state_dict"].items() if "classifier" not in name}
    torch.save(content, checkpoint)
    return checkpoint
