"""The table of distances between labels, on records with known labels."""

from pathlib import Path

import pytest
from studies.records import Arm
from studies.reported import reported

from invitro.studies.distributions import after, distance, labels_of
from invitro.studies.report.tables import distances_table


def test_distances_stand_beside_the_metrics(tmp_path: Path) -> None:
    arms = [Arm({"application": "correction", "alpha": alpha}, train_shift=1.0) for alpha in ("inf", "0.5", "2.0")]
    one = reported("alpha", tmp_path, arms)
    table = distances_table(one.study, one.runs, one.summary)
    assert table is not None
    keys = [column.key for column in table.columns]
    assert keys == [
        "alpha", "replaced", "val_wasserstein", "val_ks", "test_wasserstein", "test_ks",
        "truth_test_wasserstein", "truth_test_ks", "pcc", "ccc", "rmse",
    ]  # fmt: skip
    rows = {row[0].value: dict(zip(keys, row, strict=True)) for row in table.rows}
    for number, alpha in enumerate((float("inf"), 0.5, 2.0)):
        job = one.runs.table.index[one.runs.table["alpha"] == alpha][0]
        expected = distance(after(one.runs.labels(job)), labels_of(one.runs.predictions(job), "test"))
        assert rows[alpha]["test_wasserstein"].value == pytest.approx(expected.wasserstein)
        assert rows[alpha]["test_ks"].value == pytest.approx(expected.ks)
        assert rows[alpha]["ccc"].value == one.summary.groups["truth_test_ccc_mean"][number]
    # A point too high, all of it the crowd's: the more labels are replaced the nearer they come.
    moved = [rows[alpha]["test_wasserstein"].value for alpha in (0.5, 2.0, float("inf"))]
    assert moved == sorted(moved)
    assert f"W {moved[-1]:.3f} and D {rows[float('inf')]['test_ks'].value:.3f} from test and" in table.caption


def test_there_is_none_without_an_axis_or_changed_labels(tmp_path: Path) -> None:
    alphas = [Arm({"application": "correction", "alpha": alpha}) for alpha in ("6.0", "inf")]
    applications = [Arm({"application": name, "alpha": "1.0"}) for name in ("none", "correction")]
    for name, arms in {"alpha": alphas, "applications": applications}.items():
        one = reported(name, tmp_path / name, arms)
        assert distances_table(one.study, one.runs, one.summary) is None
