"""The paper's numbers: as published, each possible, each with the configuration that repeats it."""

import pytest
import yaml
from support import ROOT

from invitro.errors import InputError
from invitro.stats.intervals import best
from invitro.stats.moments import METRICS
from invitro.studies.summary import published_numbers

TABLES = yaml.safe_load((ROOT / "src/invitro/studies/paper.yaml").read_text("utf-8"))


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
    assert table.columns.tolist()[:2] == ["label", "experiment"]
    assert table.columns.tolist()[-3:] == ["metric", "median", "peak"]
    assert len(table) == 10 * 3
    assert not table.duplicated(["experiment", "metric"]).any()
    assert "2501.00691" in table.attrs["source"]
    assert table.attrs["seeds"] == [0, 42, 100, 999, 1234]
    assert table.loc[table["application"] == "none", ["llm", "alpha"]].isna().all(axis=None)
    assert sorted(table["alpha"].dropna().unique()) == [0.0, 3.5, 4.0, 4.5]


def test_every_row_has_its_configuration() -> None:
    for experiment in published_numbers("table_v")["experiment"].unique():
        assert (ROOT / "conf" / "experiment" / f"{experiment}.yaml").is_file(), experiment


@pytest.mark.parametrize("name", TABLES)
def test_every_number_is_possible(name: str) -> None:
    assert all(TABLES[name][key] for key in ("source", "test_set", "seeds", "rows"))
    for row in TABLES[name]["rows"]:
        assert set(row) == {"label", "experiment", "factors", *METRICS}, row
        for metric in METRICS:
            median, peak = row[metric]
            assert (min(row[metric]) >= 0) if metric == "rmse" else (max(map(abs, row[metric])) <= 1), row
            assert best([median, peak], metric) == peak, row


def test_a_table_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"study\.paper: expected one of table_v, found 'table_vi'"):
        published_numbers("table_vi")
