"""The course of training, as settings."""

import pytest

from invitro.errors import InputError
from invitro.training.recipe import Fit, RunOptions, Seeded


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "fit.epochs: expected a whole number of at least 1, found 0"),
        ({"batch_size": 2.5}, "fit.batch_size"),
        ({"loss": "hinge"}, "fit.loss: expected mse, huber, mae, ccc, nll, beta_nll or ldl, found 'hinge'"),
        ({"beta": 1.5}, "fit.beta: expected a number from 0 to 1, found 1.5"),
        ({"bins": 2}, "fit.bins: expected a whole number of at least 3, found 2"),
        ({"smoothing": 0}, "fit.smoothing: expected a share above 0"),
        ({"keep": 0}, "fit.keep: expected a share above 0"),
        ({"keep": 0.8, "select_from": 0}, "fit.select_from: .*losses are known after the first epoch"),
        ({"keep": 0.8, "select_from": 3, "epochs": 3}, "fit.keep=0.8 begins in epoch fit.select_from=3, but the last"),
        ({"clean": "all"}, "fit.clean: expected none or cleanlab, found 'all'"),
        ({"loss": "ccc", "batch_size": 1}, "fit.loss=ccc needs batches to correlate in"),
        ({"warmup": 1}, "fit.warmup"),
        ({"patience": 0}, "fit.patience"),
        ({"clip": -1}, "fit.clip"),
        ({"schedule_epochs": 0}, "fit.schedule_epochs"),
        ({"start_epoch": -1}, "fit.start_epoch"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Fit(**settings)


def test_all_problems_of_a_fit_are_reported_together() -> None:
    with pytest.raises(InputError) as refused:
        Fit(epochs=0, batching="size", checkpoint="first", clip=0)  # type: ignore[arg-type]
    assert len(refused.value.problems) == 4


@pytest.mark.parametrize("seed", [0, 1234, 2**32 - 1])
def test_seeds(seed: int) -> None:
    assert Seeded(seed).seed == seed


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "0", None, False])
def test_values_that_are_not_seeds_are_refused(seed: object) -> None:
    with pytest.raises(InputError, match=r"^seed: expected a whole number from 0 to 2\^32 - 1, found"):
        Seeded(seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("alpha", [0, 4, 3.5, float("inf")])
def test_alphas_from_0_to_infinity(alpha: float) -> None:
    assert RunOptions(alpha, None, 0).alpha == alpha


def test_the_settings_at_the_top_are_reported_together() -> None:
    wrong: dict = {"alpha": float("nan"), "alpha_quantile": 2.0, "seed": True, "force": "no", "save_model": 1}
    with pytest.raises(InputError) as refused:
        RunOptions(**wrong)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == list(wrong)
    assert "force: expected true or false, found 'no'" in refused.value.problems
    assert "alpha_quantile: expected null or a share of the texts from 0 to 1" in str(refused.value)


def test_a_setting_counts_in_the_fingerprint_if_it_has_an_effect() -> None:
    first = Fit().decisive
    assert not {"beta", "bins", "smoothing", "keep", "select_from", "clean"} & set(first)
    for unused in ({"beta": 0.1}, {"bins": 9}, {"smoothing": 0.2}, {"select_from": 5}):
        assert Fit(**unused).decisive == first
    assert Fit(loss="beta_nll").decisive["beta"] == 0.5
    assert {"bins", "smoothing"} <= set(Fit(loss="ldl").decisive)
    assert Fit(keep=0.8).decisive["select_from"] == 2
    assert Fit(clean="cleanlab").decisive["clean"] == "cleanlab"


def test_cleanlab_has_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invitro.training.recipe.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"fit.clean=cleanlab needs the library: pip install .invitro\[cleanlab\]."):
        Fit(clean="cleanlab")
    assert Fit(clean="none").clean == "none"
