"""Items of a scale: alpha and omega against known values, and items that run the wrong way."""

import numpy as np
import pytest

from invitro.stats.items import analysed, cronbach_alpha, mcdonald_omega

LOADINGS = np.array([0.8, 0.7, 0.6, 0.5])
NAMES = ["a", "b", "c", "d"]


def answers(n: int = 4000, seed: int = 0) -> np.ndarray:
    """Return answers of one factor, (n, 4)."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 1)) * LOADINGS + rng.normal(size=(n, 4)) * np.sqrt(1 - LOADINGS**2)


def test_omega_is_that_of_the_factor_and_at_least_alpha() -> None:
    given = answers()
    common = LOADINGS.sum() ** 2
    assert mcdonald_omega(given).value == pytest.approx(common / (common + (1 - LOADINGS**2).sum()), abs=0.01)
    assert cronbach_alpha(given).value < mcdonald_omega(given).value
    stretched = 3 - 2 * given[::-1]
    assert cronbach_alpha(stretched).value == pytest.approx(cronbach_alpha(given).value)
    assert mcdonald_omega(stretched).value == pytest.approx(mcdonald_omega(given).value, abs=1e-6)


@pytest.mark.parametrize(
    ("says", "is_so", "runs"),
    [
        ("----", "----", ["", "", "", ""]),
        ("---r", "---r", ["", "", "", ""]),
        ("--rr", "--rr", ["", "", "", ""]),
        ("---r", "----", ["", "", "", "reversed already"]),
        ("----", "---r", ["", "", "", "not reversed"]),
        ("--rr", "----", ["", "", "reversed already", "reversed already"]),
    ],
)
def test_items_that_run_against_their_scale(says: str, is_so: str, runs: list[str]) -> None:
    likert = np.clip(np.rint(4 + 1.5 * answers(300)), 1, 7)
    given = np.where([one == "r" for one in is_so], 8 - likert, likert)
    reversed_items = np.array([one == "r" for one in says])
    found = analysed(given, NAMES, reversed_items, 1, 7)
    assert [item.runs for item in found.items] == runs
    assert found.sheets == 300
    for item, turned in zip(found.items, reversed_items, strict=True):
        if says == is_so and turned:
            assert item.before.value < 0 < item.after.value


def test_noise_is_not_called_reversed() -> None:
    rng = np.random.default_rng(3)
    flagged = [
        any(item.runs for item in analysed(rng.normal(size=(50, 1)) * [1, 1, 1, 0] + rng.normal(size=(50, 4)), NAMES,
                                           np.zeros(4, dtype=bool), 1, 7).items)
        for _ in range(100)
    ]  # fmt: skip
    assert np.mean(flagged) < 0.1


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (np.ones((20, 1)), "the scale has one item"),
        (answers(9), "9 complete answer sheets; at least 10 are needed"),
        (np.full((20, 4), 3.0), "the sum of the items does not vary"),
    ],
)
def test_what_is_not_defined_has_its_reason(given: np.ndarray, reason: str) -> None:
    found = analysed(given, NAMES[: given.shape[1]], np.zeros(given.shape[1], dtype=bool), 1, 7)
    assert (found.cronbach.value, found.cronbach.reason) == (None, reason)


def test_an_item_that_nobody_varies_has_no_correlation() -> None:
    given = answers(50)
    given[:, 2] = 4
    found = analysed(given, NAMES, np.zeros(4, dtype=bool), 1, 7)
    assert found.items[2].after.reason == "all answers are the same"
    assert found.omega.reason == "an item has the same answer on all sheets"
    assert found.cronbach.value is not None
