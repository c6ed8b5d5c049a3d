"""What each training text counts."""

import numpy as np
import pandas as pd
import pytest

from invitro.errors import InputError
from invitro.training.data import mean_one


def table(*weights: float) -> pd.DataFrame:
    return pd.DataFrame({"text_id": [f"t{i}" for i in range(len(weights))], "weight": weights})


def test_weights_have_the_mean_1_and_keep_their_ratios() -> None:
    assert mean_one(table(1.0, 2.0, 0.0)).tolist() == [1.0, 2.0, 0.0]
    assert mean_one(table(0.5, 0.1)).tolist() == pytest.approx([5 / 3, 1 / 3])


@pytest.mark.parametrize("weight", [1.0, 0.3, 7.0])
def test_equal_weights_are_exactly_1(weight: float) -> None:
    assert (mean_one(table(*[weight] * 49)) == 1).all()


def test_without_a_column_all_count_the_same() -> None:
    assert (mean_one(table(2.0, 3.0).drop(columns="weight")) == np.ones(2)).all()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1.0, -0.5), "training text t1: expected a weight of at least 0, found -0.5"),
        ((np.nan, 1.0), "training text t0: expected a weight of at least 0, found nan"),
        ((0.0, 0.0), "all 2 training texts have the weight 0"),
    ],
)
def test_what_is_no_weight(weights: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mean_one(table(*weights))
