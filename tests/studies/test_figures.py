"""Figures: those whose data exist, with the same data as the tables, no wider than a column, the same every time."""

import importlib.util
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from studies.records import Arm, Texts
from studies.reported import Reported, reported

from invitro.data.corpus import banded
from invitro.errors import InputError
from invitro.studies.figures import figures
from invitro.studies.figures.runs import LEAST_IN_GROUP, MOST_TEXTS, mean_predictions, mean_with_interval
from invitro.studies.report.page import write_report
from invitro.studies.runs import Runs, read_runs
from invitro.writing import charts
from invitro.writing.charts import Figure, thinned, wrapped

METRICS = ("pcc", "ccc", "rmse")


@pytest.fixture(scope="module")
def study_named(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Reported]:
    """Return a function that returns a study by name; each is made only once."""
    return cache(lambda name: reported(name, tmp_path_factory.mktemp(name)))


@pytest.fixture
def alpha(study_named: Callable[[str], Reported]) -> Reported:
    return study_named("alpha")


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("portion", "table_v")]


@pytest.fixture(params=["alpha", "applications", *SLOW])
def study(request: pytest.FixtureRequest, study_named: Callable[[str], Reported]) -> Reported:
    return study_named(request.param)


def figure_of(result: Reported, name: str) -> Figure:
    return next(figure for figure in result.figures if figure.name == name)


def specification(result: Reported, name: str) -> dict[str, Any]:
    return charts.specification(figure_of(result, name).chart)


def rows(specification: dict[str, Any], *having: str) -> list[dict[str, Any]]:
    """Return the data rows of a specification that have these fields."""
    data = [row for values in specification["datasets"].values() for row in values]
    return [row for row in data if set(having) <= set(row)]


@pytest.mark.slow
def test_only_figures_whose_data_exist(study: Reported) -> None:
    expected = {
        "alpha": ["metrics_over_alpha_val", "metrics_over_alpha_test", "metrics_over_alpha_truth_test"],
        "portion": ["metrics_over_portion_test", "metrics_over_portion_truth_test"],
    }.get(study.study.name, ["metrics_test", "metrics_truth_test"])
    expected += ["label_distributions", *(["alignment_over_alpha"] if study.study.name == "alpha" else [])]
    expected += ["predicted_against_labelled", "residuals_by_group", "learning_curves"]
    expected = ["differences", *expected] if study.study.baseline else expected
    assert [figure.name for figure in study.figures] == expected


@pytest.mark.slow
def test_without_a_labelled_test_validation_takes_its_place(tmp_path: Path) -> None:
    result = reported("applications", tmp_path / "runs", texts=Texts(val=240, test=0))
    assert result.summary.split == "val"
    assert set(result.summary.differences["split"]) == {"val", "truth_val"}
    assert (result.summary.differences["p"] < 0.05).any()
    names = ["differences", "metrics_val", "metrics_truth_val", "label_distributions", "predicted_against_labelled"]
    assert [figure.name for figure in result.figures] == [*names, "residuals_by_group", "learning_curves"]
    assert "on the validation texts" in result.figures[4].caption
    write_report(result.study, result.runs, result.summary, [], result.figures[:1], tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "No run has a test set with crowd labels" in page
    assert "table-metrics_val" in page
    assert "table-groups_crowd" in page
    assert "table-metrics_test" not in page


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alpha", "table_v"])
def test_files_fit_a_column_and_are_the_same_every_time(
    study_named: Callable[[str], Reported], name: str, tmp_path: Path
) -> None:
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    for figure in study_named(name).figures:
        paths = charts.save(figure.chart, tmp_path / figure.name)
        content = {path.suffix: path.read_bytes() for path in paths}
        assert {suffix: data[: len(starts[suffix])] for suffix, data in content.items()} == starts
        width = float(re.search(rb'<svg[^>]* width="([\d.]+)pt"', content[".svg"])[1])  # type: ignore[index]
        assert 150 < width <= charts.COLUMN, figure.name
        box = re.search(rb"/MediaBox \[0 0 ([\d.]+) ", content[".pdf"])
        assert box is not None
        assert float(box[1]) == pytest.approx(width, abs=1)
        pixels = int.from_bytes(content[".png"][16:20], "big")
        assert pixels == pytest.approx(width / 72 * 300, abs=2)
        assert b"aria-roledescription" in content[".svg"]
        again = charts.save(figure.chart, tmp_path / "again")
        assert again[0].read_bytes() == content[".png"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_every_figure_says_what_it_is(study: Reported) -> None:
    for figure in study.figures:
        assert figure.title
        assert figure.caption.endswith(".")
        drawn = charts.specification(figure.chart)
        assert drawn["description"]
        assert "essay" not in json.dumps(drawn)  # ids, never texts


def test_points_over_alpha_are_those_of_the_table(alpha: Reported) -> None:
    groups = alpha.summary.groups
    finite = groups.loc[np.isfinite(groups["alpha"])]
    for split in ("val", "test", "truth_test"):
        spec = specification(alpha, f"metrics_over_alpha_{split}")
        drawn = rows(spec, "x", "value", "low", "seeds")
        for metric in METRICS:
            columns = [f"{split}_{metric}_{part}" for part in ("mean", "low", "high")]
            expected = {tuple(row) for row in finite[["alpha", *columns, "seeds"]].itertuples(index=False)}
            points = {(row["x"], row["value"], row["low"], row["high"], row["seeds"]) for row in drawn}
            assert expected <= points, (split, metric)
        baseline = groups.loc[np.isinf(groups["alpha"]), f"{split}_ccc_mean"].item()
        assert baseline in [row["at"] for row in rows(spec, "at")]  # a line: infinity has no place on the axis
        assert alpha.summary.chosen == {"alpha": 4.0}
        assert {"at": 4.0, "text": "chosen"} in rows(spec, "text", "at")
    shares = [row["value"] for row in rows(specification(alpha, "metrics_over_alpha_val"), "x", "value")]
    assert set(100 * finite["replaced_share"]) <= set(shares)


def test_the_choice_is_drawn_on_validation_first(alpha: Reported) -> None:
    captions = {figure.name: figure.caption for figure in alpha.figures}
    assert "alpha = 4 was chosen by mean validation CCC." in captions["metrics_over_alpha_val"]
    assert "before these numbers were seen" in captions["metrics_over_alpha_test"]
    assert "Dashed: the baseline (alpha ∞)." in captions["metrics_over_alpha_val"]


@pytest.mark.slow
def test_several_series_differ_in_colour_shape_and_dash(tmp_path: Path) -> None:
    arms = [
        Arm({"application": name, "alpha": alpha}) for name in ("correction", "both") for alpha in ("2.0", "4.0", "6.0")
    ]
    result = reported("alpha", tmp_path, arms)
    spec = json.dumps(specification(result, "metrics_over_alpha_test"))
    for channel, values in (("color", charts.COLOURS), ("shape", charts.SHAPES), ("strokeDash", charts.DASHES)):
        scale = json.dumps({"domain": ["both", "correction"], "range": [*values[:2]]})
        assert f'"{channel}": ' in spec
        assert scale in spec, channel


@pytest.mark.slow
def test_the_papers_numbers_are_diamonds(study_named: Callable[[str], Reported]) -> None:
    result = study_named("table_v")
    spec = specification(result, "metrics_test")
    paper = [row for row in rows(spec, "name", "value") if set(row) == {"name", "metric", "value"}]
    assert {(row["name"], row["value"]) for row in paper if row["metric"] == "ccc"} == {
        ("24_roberta_crowd", 0.307),
        ("24_roberta_llama", 0.435),
        ("24_roberta_gpt", 0.431),  # its runs failed: the paper's number stands alone
    }
    means = {row["name"] for row in rows(spec, "name", "mean")}
    assert means == {"24_roberta_crowd", "24_roberta_llama"}
    assert "diamond" in json.dumps(spec)
    assert "Open diamonds" in figure_of(result, "metrics_test").caption
    assert [row for row in rows(specification(result, "metrics_truth_test"), "name", "value") if len(row) == 3] == []


def test_scatter_has_the_mean_over_runs_of_every_text(alpha: Reported) -> None:
    drawn = rows(specification(alpha, "predicted_against_labelled"), "text_id")
    chosen = alpha.runs.table.query("alpha == 4").index
    tables = [alpha.runs.predictions(row).query("split == 'test'").set_index("text_id") for row in chosen]
    mean = sum(table["prediction"] for table in tables) / len(tables)
    means = {row["text_id"]: row for row in drawn if row["prediction"] == pytest.approx(mean[row["text_id"]])}
    assert set(means) == set(mean.index)
    assert all(text_id.startswith("0") and len(text_id) == 4 for text_id in means)
    first = tables[0].index[0]
    assert means[first]["crowd_label"] == tables[0].loc[first, "crowd_label"]
    assert means[first]["truth"] == tables[0].loc[first, "truth"]
    assert "drawn, spread evenly" not in figure_of(alpha, "predicted_against_labelled").caption


def test_many_texts_are_thinned_and_the_caption_says_so(tmp_path: Path) -> None:
    result = reported("applications", tmp_path, [Arm({"application": "none"})], Texts(test=MOST_TEXTS + 100, each=1))
    figure = figure_of(result, "predicted_against_labelled")
    assert f"{MOST_TEXTS} of {MOST_TEXTS + 100:,} texts are drawn" in figure.caption
    assert len(rows(charts.specification(figure.chart), "text_id")) == MOST_TEXTS
    assert len(mean_predictions(result.runs, [0, 1, 2], "test")) == MOST_TEXTS + 100


def test_thinning_keeps_the_ends_and_the_shape() -> None:
    table = pd.DataFrame({"text_id": [str(i) for i in range(1000)], "y": np.arange(1000) ** 2})
    kept = thinned(table.sample(frac=1, random_state=0), 100, "y")
    assert len(kept) == 100
    assert (kept["y"].min(), kept["y"].max()) == (0, 999**2)
    assert kept["y"].median() == pytest.approx(table["y"].median(), rel=0.02)
    assert thinned(table, 1000, "y") is table


def test_mean_residuals_count_authors_whole() -> None:
    values = pd.Series(np.random.default_rng(0).normal(0.3, 1, 40))
    mean, low, high = mean_with_interval(values, None)
    expected = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert (mean, low, high) == pytest.approx((values.mean(), *expected))
    twice = pd.concat([values, values], ignore_index=True)
    authors = pd.Series([*range(40), *range(40)])
    assert mean_with_interval(twice, authors) == pytest.approx((mean, low, high))  # repeating oneself is no evidence
    assert np.isnan(mean_with_interval(values[:2], pd.Series(["a", "a"]))[1:]).all()


def test_groups_of_people() -> None:
    ages = pd.Series(["18", "29", "30", "59", "60", "85", None])
    assert banded(ages, "age").tolist()[:6] == ["under 30", "under 30", "30–39", "50–59", "60 and over", "60 and over"]
    assert banded(ages, "age").isna().tolist() == [False] * 6 + [True]
    incomes = pd.Series([str(1000 * i) for i in range(12)] + ["0"] * 6)
    assert banded(incomes, "income").value_counts().to_dict() == {"low": 7, "middle": 5, "high": 6}
    assert banded(pd.Series(["1", "2.0", None]), "gender").tolist()[:2] == ["1", "2"]


def test_small_groups_are_not_drawn(alpha: Reported) -> None:
    drawn = rows(specification(alpha, "residuals_by_group"), "group")
    assert {row["attribute"] for row in drawn} == {"gender", "education", "race", "age", "income"}
    assert min(row["n"] for row in drawn) >= LEAST_IN_GROUP
    counts = alpha.runs.predictions(0).query("split == 'test'")["race"].value_counts()
    assert counts.min() < LEAST_IN_GROUP  # there was a group to leave out
    assert {row["group"] for row in drawn if row["attribute"] == "race"} == {
        f"race {code} ({count})" for code, count in counts.items() if count >= LEAST_IN_GROUP
    }
    caption = figure_of(alpha, "residuals_by_group").caption
    assert "are left out (" in caption


def test_learning_curves_are_means_of_the_runs_that_continued(alpha: Reported) -> None:
    drawn = rows(specification(alpha, "learning_curves"), "epoch")
    chosen = alpha.runs.table.query("alpha == 4").index
    histories = [alpha.runs.history(row) for row in chosen]
    for epoch in (0, 9):
        values = [table.loc[table["epoch"] == epoch, "val_ccc"].item() for table in histories if epoch < len(table)]
        at_epoch = [row for row in drawn if row["epoch"] == epoch + 1 and row["curve"] == "validation CCC"]
        (row,) = [row for row in at_epoch if row["series"] == "alpha 4"]
        assert (row["value"], row["runs"]) == (pytest.approx(np.mean(values)), len(values))
        assert (row["low"], row["high"]) == (min(values), max(values))
    others = alpha.summary.groups.query("alpha not in [4, inf]")
    best = others.loc[others["val_ccc_mean"].idxmax(), "alpha"]
    assert {row["series"] for row in drawn} == {"alpha ∞", "alpha 4", f"alpha {best:g}"}


@pytest.mark.slow
def test_each_kind_of_loss_has_its_own_panel(alpha: Reported, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Runs.config

    def by_alpha(runs: Runs, row: int) -> dict[str, Any]:
        return config(runs, row) | {"fit": {"loss": "ccc" if runs.table.loc[row, "alpha"] == 4 else "mse"}}

    monkeypatch.setattr(Runs, "config", by_alpha)
    drawn = next(
        figure for figure in figures(alpha.study, alpha.runs, alpha.summary) if figure.name == "learning_curves"
    )
    written = drawn.chart.to_dict()
    panels = []
    for panel in written["vconcat"]:
        used = set(re.findall(r'"data": {"name": "(.*?)"}', json.dumps(panel)))
        panels.append({row["curve"] for name in used for row in written["datasets"][name]})
    assert panels[0] == {"validation CCC"}
    assert sorted(map(sorted, panels[1:])) == [["training loss (ccc)"], ["training loss (mse)"]]


def test_label_distributions_are_shares(alpha: Reported) -> None:
    bars = rows(specification(alpha, "label_distributions"), "validation")
    for name in ("validation", "before correction", "after correction"):
        total = sum(row[name] for row in bars)
        assert total % 100 == pytest.approx(0, abs=1e-6) or total % 100 == pytest.approx(100, abs=1e-6)
    titles = json.dumps(specification(alpha, "label_distributions"), ensure_ascii=False)
    assert "alpha 4" in titles  # what was chosen is drawn
    assert "alpha 6" not in titles  # nothing was replaced there
    assert re.search(r"W 0\.\d\d → 0\.\d\d, D 0\.\d\d → 0\.\d\d", titles)


def test_the_leading_label_distributions_are_drawn_with_a_single_seed_too(tmp_path: Path) -> None:
    """A single seed has no SD: a row of the summary is then not equal to itself."""
    skill = {"0.5": 0.2, "1.0": 0.3, "1.5": 0.6, "2.0": 0.7, "2.5": 0.65, "3.0": 0.55}
    arms = [
        Arm({"application": "correction", "alpha": alpha}, skill=value, seeds=(0,)) for alpha, value in skill.items()
    ]
    titles = json.dumps(specification(reported("applications", tmp_path, arms), "label_distributions"))
    assert {alpha for alpha in skill if f'alpha {float(alpha):g}"' in titles} == {"1.5", "2.0", "2.5", "3.0"}


def test_without_results_there_is_no_figure(tmp_path: Path) -> None:
    arm = Arm({"application": "none"}, failed=(0, 42, 100))
    assert reported("applications", tmp_path, [arm]).figures == []


def test_without_demographics_or_truth_the_rest_is_drawn(tmp_path: Path) -> None:
    result = reported("applications", tmp_path, [Arm({"application": "none"})], Texts(truth=False))
    for path in tmp_path.glob("*/predictions.csv"):
        table = pd.read_csv(path, dtype=str)
        table.drop(columns=["gender", "education", "race", "age", "income"]).to_csv(path, index=False)
    again = Reported(result.study, read_runs(tmp_path, ("application",)))
    assert [figure.name for figure in figures(again.study, again.runs, again.summary)] == [
        "metrics_test",
        "predicted_against_labelled",
        "learning_curves",
    ]


def test_missing_libraries_are_named(alpha: Reported, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "vl_convert" else find(name, *a))
    with pytest.raises(InputError, match=r"Charts need vl_convert.*invitro\[report\]"):
        figures(alpha.study, alpha.runs, alpha.summary)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("both, alpha 4", ["both, alpha 4"]),
        ("roberta, correction, alpha 4", ["roberta,", "correction, alpha 4"]),
        ("24_23_22_roberta_crowd", ["24_23_22_", "roberta_crowd"]),
        ("averyveryverylongnameindeed", ["averyveryverylongnameindeed"]),
    ],
)
def test_long_names_take_two_lines(name: str, lines: list[str]) -> None:
    assert wrapped(name, 18) == lines
