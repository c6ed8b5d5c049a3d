"""Distances between distributions of labels, by hand and on records."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from studies.records import Arm, write_records

from invitro.studies.distributions import after, alignment, before, bounds, distance, histogram, labels_of
from invitro.studies.runs import read_runs


@pytest.mark.parametrize(
    ("labels", "reference", "wasserstein", "ks"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 0.0, 0.0),
        ([1, 2, 3, 4], [2, 3, 4, 5], 1.0, 0.25),  # a shift by one moves every label by one
        ([1, 7], [4, 4], 3.0, 0.5),
        ([1, 1, 1, 1], [1, 7], 3.0, 0.5),  # samples of different sizes
        ([1.0], [7.0], 6.0, 1.0),
    ],
)
def test_distances_by_hand(labels, reference, wasserstein, ks) -> None:
    apart = distance(labels, reference)
    assert (apart.wasserstein, apart.ks) == (pytest.approx(wasserstein), pytest.approx(ks))
    assert distance(reference, labels).wasserstein == pytest.approx(wasserstein)


def test_nothing_has_no_distance() -> None:
    assert np.isnan([distance([], [1.0]).wasserstein, distance([1.0], []).ks]).all()


def test_what_is_compared() -> None:
    labels = pd.DataFrame({"crowd_label": [1.0, 2.0, np.nan], "label": [1.0, 5.0, 6.0]})
    assert before(labels).tolist() == [1, 2]  # a text from the pool has no crowd label
    assert after(labels).tolist() == [1, 5, 6]
    predictions = pd.DataFrame({"split": ["val", "val", "test"], "crowd_label": [3.0, np.nan, 7.0]})
    assert labels_of(predictions, "val").tolist() == [3]
    assert labels_of(predictions, "truth_val").tolist() == []


def test_histograms_hold_both_ends_of_the_scale() -> None:
    assert histogram([1, 1.4, 4, 7], 1, 7, 6).tolist() == [0.5, 0, 0, 0.25, 0, 0.25]
    assert histogram([], 1, 7, 2).tolist() == [0, 0]
    assert histogram([0, 4], 1, 7, 2).sum() == pytest.approx(0.5)  # a label outside is in no bin, and counted


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ({"low": 1, "high": 7, "aggregation": "mean", "items": [{}, {}]}, (1, 7)),
        ({"low": 0, "high": 3, "aggregation": "sum", "items": [{}, {}, {}]}, (0, 9)),
        ({"name": "?"}, None),
        (None, None),
    ],
)
def test_bounds_of_the_scale(scale, expected) -> None:
    assert bounds({"scale": scale}) == expected


def test_correction_brings_shifted_labels_back(tmp_path: Path) -> None:
    """Training labels are a point too high; the LLM's are not: the more are replaced, the nearer validation's."""
    arms = [Arm({"application": "correction", "alpha": alpha}, train_shift=1.0) for alpha in ("0.5", "2.0", "6.0")]
    write_records(tmp_path, arms, seeds=(0, 1))
    runs = read_runs(tmp_path)
    table = alignment(runs, SimpleNamespace(groups=runs.table.drop_duplicates("alpha")[["alpha"]]))
    assert table["alpha"].tolist() == [0.5, 2.0, 6.0]
    assert table["before_wasserstein"].nunique() == 1  # the crowd's labels are the same whatever alpha is
    assert table["after_wasserstein"].is_monotonic_increasing
    assert table["after_wasserstein"].iloc[-1] == table["before_wasserstein"].iloc[-1] > 0.5
    assert table["after_ks"].iloc[0] < table["before_ks"].iloc[0]
    own = distance(after(runs.labels(0)), labels_of(runs.predictions(0), "val"))
    assert table["after_ks"].iloc[0] == own.ks
