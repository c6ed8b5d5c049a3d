"""The paper's numbers: as published, checked when read, each with the configuration that repeats it."""

import copy
from typing import Any

import pytest
from support import ROOT

from invitro.errors import InputError
from invitro.studies.summary import published_numbers, read_published

TABLE: dict[str, Any] = {
    "source": "somewhere",
    "test_set": "a corpus, test",
    "seeds": [0, 1],
    "rows": [
        {"label": "one", "experiment": "e", "factors": {"alpha": 3.5},
         "pcc": [0.4, 0.5], "ccc": [0.3, 0.3], "rmse": [1.5, 1.4]},
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("experiment", "metric", "median", "peak"),
    [
        ("table_v/24_roberta_crowd", "pcc", 0.331, 0.378),
        ("table_v/24_deberta_gpt", "ccc", 0.533, 0.571),
        ("table_v/24_22_roberta_llama_only", "rmse", 1.655, 1.628),
        ("table_v/24_22_roberta_llama", "pcc", 0.589, 0.627),
        ("table_v/24_23_22_roberta_llama", "rmse", 1.346, 1.209),
    ],
)
def test_the_papers_numbers(experiment: str, metric: str, median: float, peak: float) -> None:
    table = published_numbers("table_v")
    row = table.loc[(table["experiment"] == experiment) & (table["metric"] == metric)]
    assert row[["median", "peak"]].to_numpy().tolist() == [[median, peak]]


def test_table_v_is_whole_and_names_its_source() -> None:
    table = published_numbers("table_v")
    assert len(table) == 10 * 3
    assert not table.duplicated(["experiment", "metric"]).any()
    assert "2501.00691" in table.attrs["source"]
    assert table.attrs["seeds"] == [0, 42, 100, 999, 1234]
    assert table.loc[table["application"] == "none", ["llm", "alpha"]].isna().all(axis=None)
    assert sorted(table["alpha"].dropna().unique()) == [0.0, 3.5, 4.0, 4.5]


def test_every_row_has_its_configuration() -> None:
    for experiment in published_numbers("table_v")["experiment"].unique():
        assert (ROOT / "conf" / "experiment" / f"{experiment}.yaml").is_file(), experiment


def test_rows_become_one_line_a_metric() -> None:
    found = read_published("own", TABLE)
    assert found.columns.tolist() == ["label", "experiment", "alpha", "metric", "median", "peak"]
    assert found["median"].tolist() == [0.4, 0.3, 1.5]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("ccc", [1.3, 0.2], r"row 1, one: ccc: expected \[median, peak\] from -1 to 1, found \[1.3, 0.2\]"),
        ("pcc", [0.4], r"pcc: expected \[median, peak\]"),
        ("pcc", [0.5, 0.4], "pcc: the peak 0.4 is worse than the median 0.5"),
        ("rmse", [1.4, 1.5], "rmse: the peak 1.5 is worse than the median 1.4"),
        ("rmse", "1.4 (1.3)", "rmse: expected"),
        ("mae", [1, 1], "expected the keys label, experiment"),
    ],
)
def test_numbers_that_cannot_be_right_are_refused(key: str, value: Any, told: str) -> None:
    table = copy.deepcopy(TABLE)
    table["rows"][0][key] = value
    with pytest.raises(InputError, match=told):
        read_published("own", table)


def test_a_table_without_a_source_or_one_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="own: expected source, found none"):
        read_published("own", TABLE | {"source": ""})
    with pytest.raises(InputError, match=r"study\.paper: expected one of table_v, found 'table_vi'"):
        published_numbers("table_vi")
