"""The weight of each training text."""

import pandas as pd
import pytest

from invitro.training.data import mean_one


def table(*weights: float) -> pd.DataFrame:
    return pd.DataFrame({"text_id": [f"t{i}" for i in range(len(weights))], "weight": weights})


def test_weights_have_the_mean_1_and_keep_their_ratios() -> None:
    assert mean_one(table(0.25, 0.5, 0.75)).tolist() == [0.5, 1.0, 1.5]
    assert mean_one(table(0.5, 0.1)).tolist() == pytest.approx([5 / 3, 1 / 3])


@pytest.mark.parametrize("weight", [1.0, 0.3, 7.0])
def test_equal_weights_are_exactly_1(weight: float) -> None:
    assert (mean_one(table(*[weight] * 49)) == 1).all()
