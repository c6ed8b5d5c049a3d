"""A study's records in numbers: groups, differences and their families, the choice, the plateau."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from studies.records import SEEDS, Arm, Texts, alpha_arms, write_records

from invitro.stats.intervals import compared, holm
from invitro.stats.moments import METRICS, measured, resampled
from invitro.studies.runs import Runs, read_runs
from invitro.studies.study import Study
from invitro.studies.summary import Summary, summarise
from invitro.studies.wording import mark
from invitro.training.multirun import write_job

RESAMPLES = 300


def study(**settings: Any) -> Study:
    return Study("study", "A study", "What?", **settings)


APPLICATION = study(factors=("application",), baseline={"application": "none"})
ALPHA = study(factors=("alpha",), baseline={"alpha": "inf"}, choose="alpha", axis="alpha")


def summarised(folder: Path, study: Study, arms: Sequence[Arm] | None = None, **records: Any) -> tuple[Runs, Summary]:
    """Write records and return them with their summary."""
    write_records(folder, arms, **records)
    runs = read_runs(folder, study.factors or None, study.replicates)
    return runs, summarise(study, runs, RESAMPLES)


@pytest.fixture(scope="module")
def applications(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, Summary]:
    return summarised(tmp_path_factory.mktemp("applications"), APPLICATION)


def row_of(frame: pd.DataFrame, **values: Any) -> pd.Series:
    rows = frame
    for name, value in values.items():
        rows = rows.loc[rows[name] == value]
    assert len(rows) == 1
    return rows.iloc[0]


def test_groups_are_what_the_records_say(applications: tuple[Runs, Summary]) -> None:
    runs, summary = applications
    assert summary.groups["application"].tolist() == ["none", "correction", "augmentation", "both"]
    for name, row in summary.groups.set_index("application").iterrows():
        jobs = runs.table.loc[runs.table["application"] == name]
        metrics = [json.loads(Path(record, "metrics.json").read_text("utf-8")) for record in jobs["record"]]
        assert (row["seeds"], row["failed"]) == (5, 0)
        for metric in METRICS:
            values = [record["test"][metric] for record in metrics]
            assert row[f"test_{metric}_median"] == pytest.approx(np.median(values))
            assert row[f"test_{metric}_peak"] == pytest.approx(min(values) if metric == "rmse" else max(values))
            assert row[f"test_{metric}_mean"] == pytest.approx(np.mean(values))
            assert row[f"test_{metric}_sd"] == pytest.approx(np.std(values, ddof=1))
            assert row[f"test_{metric}_low"] < np.mean(values) < row[f"test_{metric}_high"]
            truths = [record["truth"]["val"][metric] for record in metrics]
            assert row[f"truth_val_{metric}_mean"] == pytest.approx(np.mean(truths))
        train = [record["train"] for record in metrics]
        assert row["size"] == np.mean([counts["size"] for counts in train])
        shares = [counts["replaced"] / (counts["size"] - counts["augmented"]) for counts in train]
        assert row["replaced_share"] == pytest.approx(np.mean(shares))


def test_planted_differences_are_found_and_others_are_not(applications: tuple[Runs, Summary]) -> None:
    _, summary = applications
    differences = summary.differences
    assert set(differences["application"]) == {"correction", "augmentation", "both"}
    assert set(differences["split"]) == {"test", "truth_test"}
    assert len(differences) == 3 * 2 * 3
    both = row_of(differences, application="both", split="test", metric="ccc")
    assert both["difference"] > 0.1
    assert both["low"] > 0
    assert both["p_holm"] < 0.05
    assert row_of(differences, application="both", split="test", metric="rmse")["difference"] < 0
    assert row_of(differences, application="augmentation", split="test", metric="ccc")["p_holm"] > 0.05
    assert (differences["seeds"] == 5).all()
    assert (differences["texts"] == 240).all()
    assert summary.baseline == {"application": "none"}
    assert (summary.chosen, summary.plateau, summary.published, summary.unpaired) == (None, None, None, ())


def test_differences_are_those_of_the_arrays(applications: tuple[Runs, Summary]) -> None:
    runs, summary = applications
    jobs = {name: rows.index for name, rows in runs.table.groupby("application")}
    tables = {name: [runs.predictions(job) for job in rows] for name, rows in jobs.items()}
    test = {name: [table.loc[table["split"] == "test"] for table in parts] for name, parts in tables.items()}
    arms = [np.stack([table["prediction"] for table in test[name]]) for name in ("both", "none")]
    first = test["both"][0]
    scores = [resampled(first["crowd_label"], arm, first["group_id"], RESAMPLES)["pcc"] for arm in arms]
    expected = compared(*scores, "pcc")
    difference = row_of(summary.differences, application="both", split="test", metric="pcc")
    for name in ("difference", "low", "high", "p", "effect"):
        assert difference[name] == pytest.approx(getattr(expected, name), rel=1e-6), name


def test_a_family_is_all_comparisons_and_metrics_of_a_split(applications: tuple[Runs, Summary]) -> None:
    _, summary = applications
    for split in ("test", "truth_test"):
        rows = summary.differences.loc[summary.differences["split"] == split]
        assert len(rows) == 9
        assert rows["p_holm"].to_numpy() == pytest.approx(holm(rows["p"]))


def test_the_same_records_give_the_same_summary(applications: tuple[Runs, Summary]) -> None:
    runs, summary = applications
    again = summarise(APPLICATION, runs, RESAMPLES)
    pd.testing.assert_frame_equal(again.groups, summary.groups)
    pd.testing.assert_frame_equal(again.differences, summary.differences)


def test_what_the_jobs_order_is_does_not_matter(applications: tuple[Runs, Summary]) -> None:
    runs, summary = applications
    turned = Runs(runs.root, runs.factors, runs.replicates, runs.table.iloc[::-1], runs.commands)
    again = summarise(APPLICATION, turned, RESAMPLES)
    keys = ["application", "split", "metric"]
    pd.testing.assert_frame_equal(
        again.differences.sort_values(keys, ignore_index=True),
        summary.differences.sort_values(keys, ignore_index=True),
        rtol=1e-6,
    )


def test_alpha_is_chosen_on_validation_and_its_tests_come_first(tmp_path: Path) -> None:
    arms = [Arm({"application": "correction", "alpha": "inf"}, skill=0.45), *alpha_arms()]
    runs, summary = summarised(tmp_path / "runs", ALPHA, arms)
    means = runs.table.loc[runs.table["alpha"] != np.inf].groupby("alpha")["val_ccc"].mean()
    assert summary.chosen is not None
    chosen = summary.chosen["alpha"]
    assert chosen >= means.idxmax()
    rows = summary.differences.loc[summary.differences["split"] == "test"]
    own, others = rows.loc[rows["alpha"] == chosen], rows.loc[rows["alpha"] != chosen]
    assert own["p_holm"].to_numpy() == pytest.approx(holm(own["p"]))
    assert others["p_holm"].to_numpy() == pytest.approx(np.maximum(holm(others["p"]), own["p_holm"].max()))


def test_others_count_only_once_all_tests_of_the_chosen_one_have_been_rejected(tmp_path: Path) -> None:
    arms = [
        Arm({"application": "correction", "alpha": "inf"}, skill=0.4),
        Arm({"application": "correction", "alpha": "5.0"}, skill=0.4),
        Arm({"application": "correction", "alpha": "4.0"}, skill=0.8, seed_sd=0.0),
    ]
    write_records(tmp_path, arms)
    runs = read_runs(tmp_path, ("alpha",))
    runs.table.loc[runs.table["alpha"] == 5, "val_ccc"] = 0.99  # validation was misleading
    summary = summarise(ALPHA, runs, RESAMPLES)
    assert summary.chosen == {"alpha": 5}
    rows = summary.differences.loc[summary.differences["split"] == "test"].set_index("alpha")
    assert (rows.loc[4.0, "p"] < 0.001).all()
    assert rows.loc[5.0, "p_holm"].min() > 0.05
    assert (rows.loc[4.0, "p_holm"] == rows.loc[5.0, "p_holm"].max()).all()


@pytest.mark.parametrize(("skill", "chosen"), [(0.7, 5.0), (0.45, 4.0)])
def test_within_one_standard_error_most_crowd_labels_are_kept(tmp_path: Path, skill: float, chosen: float) -> None:
    """alpha=5 is a little worse on validation than alpha=4, by chance; or clearly."""
    arms = [
        Arm({"application": "correction", "alpha": "inf"}, skill=0.3),
        Arm({"application": "correction", "alpha": "4.0"}, skill=0.71, seed_sd=0.005),
        Arm({"application": "correction", "alpha": "5.0"}, skill=skill, seed_sd=0.005),
    ]
    runs, summary = summarised(tmp_path / "runs", ALPHA, arms)
    table = runs.table.set_index("alpha")
    assert table.loc[4.0, "val_ccc"].mean() > table.loc[5.0, "val_ccc"].mean()
    assert table.loc[4.0, "replaced"].mean() > table.loc[5.0, "replaced"].mean()
    assert summary.chosen == {"alpha": chosen}


def test_test_labels_do_not_decide_the_choice(tmp_path: Path) -> None:
    runs, summary = summarised(tmp_path / "runs", ALPHA, alpha_arms())
    for column in [name for name in runs.table if "test_" in name]:
        runs.table[column] = -runs.table[column]
    assert summarise(ALPHA, runs, RESAMPLES).chosen == summary.chosen


def test_of_equal_alphas_the_larger_is_chosen(tmp_path: Path) -> None:
    # 4.5 and 5.0 replace the same labels: the same results.
    arms = [
        Arm({"application": "correction", "alpha": "inf"}, skill=0.4),
        Arm({"application": "correction", "alpha": "4.5"}, skill=0.7),
        Arm({"application": "correction", "alpha": "5.0"}, shared_with=1),
        Arm({"application": "correction", "alpha": "1.0"}, skill=0.3),
    ]
    assert summarised(tmp_path / "runs", ALPHA, arms)[1].chosen == {"alpha": 5.0}


def test_the_baseline_is_never_chosen(tmp_path: Path) -> None:
    arms = [
        Arm({"application": "correction", "alpha": "inf"}, skill=0.9),
        Arm({"application": "correction", "alpha": "4.0"}, skill=0.5),
    ]
    assert summarised(tmp_path / "runs", ALPHA, arms)[1].chosen == {"alpha": 4.0}


def test_shared_results_differ_by_0_and_are_not_tested(tmp_path: Path) -> None:
    arms = [
        Arm({"application": "correction", "alpha": "inf"}, skill=0.4),
        Arm({"application": "correction", "alpha": "6.0"}, shared_with=0),
        Arm({"application": "correction", "alpha": "4.0"}, skill=0.7),
    ]
    plain = study(factors=("alpha",), baseline={"alpha": "inf"})
    _, summary = summarised(tmp_path / "runs", plain, arms)
    rows = summary.differences.loc[summary.differences["split"] == "test"].set_index("alpha")
    assert (rows.loc[6.0, ["difference", "low", "high"]] == 0).all(axis=None)
    assert rows.loc[6.0, ["p", "p_holm"]].isna().all(axis=None)
    assert rows.loc[4.0, "p_holm"].to_numpy() == pytest.approx(holm(rows.loc[4.0, "p"]))  # a family of three


def test_seeds_are_paired_and_failures_counted(tmp_path: Path) -> None:
    arms = [
        Arm({"application": "none"}, skill=0.4, failed=(42,)),
        Arm({"application": "both"}, skill=0.7, seeds=(0, 42, 100, 7)),
    ]
    runs, summary = summarised(tmp_path / "runs", APPLICATION, arms)
    assert summary.groups[["seeds", "failed"]].to_numpy().tolist() == [[4, 1], [4, 0]]
    assert (summary.differences["seeds"] == 2).all()  # 0 and 100
    table = runs.table.set_index(["application", "seed"])
    paired = [table.loc[("both", seed), "test_ccc"] - table.loc[("none", seed), "test_ccc"] for seed in (0, 100)]
    difference = row_of(summary.differences, split="test", metric="ccc")
    assert difference["difference"] == pytest.approx(np.mean(paired))


def test_without_common_seeds_nothing_is_compared(tmp_path: Path) -> None:
    arms = [Arm({"application": "none"}, seeds=(0, 1)), Arm({"application": "both"}, seeds=(2, 3))]
    _, summary = summarised(tmp_path / "runs", APPLICATION, arms)
    assert summary.differences.empty
    assert summary.unpaired == ("application=both and the baseline have no seed in common.",)


def test_other_texts_are_not_compared(tmp_path: Path) -> None:
    write_records(tmp_path / "one", [Arm({"application": "none"})])
    write_records(tmp_path / "two", [Arm({"application": "both"})], texts=Texts(seed=1))
    runs = read_runs(tmp_path, ("application",))
    summary = summarise(APPLICATION, runs, RESAMPLES)
    assert summary.differences.empty
    assert summary.unpaired[0] == "application=both and the baseline have no texts in common on test."


def test_one_seed_has_no_spread_but_an_interval_over_texts(tmp_path: Path) -> None:
    _, summary = summarised(tmp_path / "runs", APPLICATION, seeds=(0,))
    row = summary.groups.iloc[0]
    assert row["seeds"] == 1
    assert np.isnan(row["test_ccc_sd"])
    assert row["test_ccc_low"] < row["test_ccc_mean"] < row["test_ccc_high"]
    assert (summary.differences["seeds"] == 1).all()
    assert summary.differences["p"].notna().all()


def test_a_configuration_without_a_result_stays_a_row(tmp_path: Path) -> None:
    arms = [Arm({"application": "none"}), Arm({"application": "both"}, failed=SEEDS)]
    _, summary = summarised(tmp_path / "runs", APPLICATION, arms)
    row = row_of(summary.groups, application="both")
    assert (row["seeds"], row["failed"]) == (0, 5)
    assert np.isnan(row["test_ccc_mean"])
    assert summary.differences.empty


def test_all_failed(tmp_path: Path) -> None:
    arms = [Arm({"application": name}, failed=SEEDS) for name in ("none", "both")]
    _, summary = summarised(tmp_path / "runs", APPLICATION, arms)
    assert summary.groups["seeds"].tolist() == [0, 0]
    assert (summary.baseline, len(summary.differences)) == (None, 0)


def test_a_study_without_factors_has_one_row(tmp_path: Path) -> None:
    runs, summary = summarised(tmp_path / "runs", study(), [Arm({"application": "none"})])
    assert runs.factors == ()
    assert summary.groups["seeds"].tolist() == [5]
    assert summary.differences.empty


def test_a_corpus_without_truth_has_no_truth_columns(tmp_path: Path) -> None:
    _, summary = summarised(tmp_path / "runs", APPLICATION, texts=Texts(truth=False, groups=False))
    assert not [name for name in summary.groups if name.startswith("truth")]
    assert set(summary.differences["split"]) == {"test"}


def test_only_the_studys_metrics_are_tested(tmp_path: Path) -> None:
    asked = study(factors=("application",), baseline={"application": "none"}, metrics=("ccc",))
    _, summary = summarised(tmp_path / "runs", asked)
    assert set(summary.differences["metric"]) == {"ccc"}
    rows = summary.differences.loc[summary.differences["split"] == "test"]
    assert rows["p_holm"].to_numpy() == pytest.approx(holm(rows["p"]))


@pytest.mark.slow
def test_a_baseline_that_picks_several_is_the_one_alike_in_the_rest(tmp_path: Path) -> None:
    arms = [
        Arm({"plm": plm, "application": application}, skill=skill)
        for plm, application, skill in (
            ("minilm", "none", 0.3), ("roberta", "none", 0.6), ("minilm", "both", 0.5), ("roberta", "both", 0.6),
        )
    ]  # fmt: skip
    wanted = study(factors=("plm", "application"), baseline={"application": "none"})
    _, summary = summarised(tmp_path / "runs", wanted, arms)
    assert len(summary.differences) == 2 * 2 * 3
    means = summary.groups.set_index(["plm", "application"])["test_ccc_mean"]
    for plm in ("minilm", "roberta"):
        difference = row_of(summary.differences, plm=plm, application="both", split="test", metric="ccc")
        assert difference["difference"] == pytest.approx(means[plm, "both"] - means[plm, "none"])


@pytest.mark.parametrize("written", [False, "false", "False"])
def test_a_baseline_of_false_is_found(tmp_path: Path, written: Any) -> None:
    arms = [Arm({"fit.clean": value}, skill=skill) for value, skill in (("False", 0.3), ("True", 0.7))]
    wanted = study(factors=("fit.clean",), baseline={"fit.clean": written})
    _, summary = summarised(tmp_path / "runs", wanted, arms)
    assert summary.baseline == {"fit.clean": "false"}
    assert set(summary.differences["fit.clean"]) == {"true"}
    assert mark(summary, summary.groups.iloc[0].to_dict()) == "baseline"


@pytest.mark.slow
def test_the_plateau_of_a_portion(tmp_path: Path) -> None:
    skill = {0.0: 0.4, 0.1: 0.5, 0.3: 0.7, 0.6: 0.7, 0.8: 0.7, 1.0: 0.7}
    arms = [
        Arm({"application": "augmentation", "application.portion": f"{portion}"}, skill=value, seed_sd=0.005)
        for portion, value in skill.items()
    ]
    wanted = study(
        factors=("application.portion",), baseline={"application.portion": "0.0"}, axis="application.portion",
        plateau=0.3,
    )  # fmt: skip
    _, summary = summarised(tmp_path / "runs", wanted, arms, texts=Texts(test=900))
    assert summary.plateau is not None
    plateaus = {plateau.metric: plateau for plateau in summary.plateau}
    assert set(plateaus) == set(METRICS)
    assert plateaus["ccc"].before.low > 0
    assert plateaus["ccc"].p > 0.05
    assert plateaus["ccc"].verdict in ("plateau", "undecided")
    assert (plateaus["ccc"].start, plateaus["ccc"].end, plateaus["ccc"].seeds) == (0.3, 1.0, 5)


def test_published_numbers_stand_beside(tmp_path: Path) -> None:
    arms = [Arm({"experiment": "table_v/24_roberta_crowd"})]
    wanted = study(factors=("experiment",), paper="table_v")
    _, summary = summarised(tmp_path / "runs", wanted, arms)
    assert summary.published is not None
    assert set(summary.groups["experiment"]) < set(summary.published["experiment"])


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Runs, dict[str, pd.DataFrame]]:
    """Return six runs, two configurations on three folds of 120 texts by 60 authors, and their test predictions."""
    folder, rng = tmp_path_factory.mktemp("folds"), np.random.default_rng(5)
    authors = np.repeat([f"a{number:02d}" for number in range(60)], 2)
    labels = rng.normal(4, 1.5, 120)
    every = {}
    for name, slope in (("none", 0.3), ("both", 0.7)):
        scores = 4 + slope * (labels - 4) + rng.normal(0, 0.8, 120)
        every[name] = pd.DataFrame({"group_id": authors, "crowd_label": labels, "prediction": scores})
        for fold in range(3):
            here = every[name].iloc[fold * 40 : (fold + 1) * 40].assign(split="test")
            val = every[name].iloc[(fold * 40 + 40) % 120 :][:20].assign(split="val")
            rows = pd.concat([here, val]).rename_axis("text_id").reset_index()
            directory = folder / f"{name}{fold}"
            directory.mkdir()
            rows.to_csv(directory / "predictions.csv", index=False)
            scored = {split: measured(of["prediction"], of["crowd_label"]) for split, of in rows.groupby("split")}
            train = {"size": 60, "replaced": 0, "augmented": 0}
            metrics = scored | {"train": train, "fingerprint": f"{name}{fold}", "status": "finished"}
            (directory / "metrics.json").write_text(json.dumps(metrics), "utf-8")
            (directory / "config.yaml").write_text("plm: {train: frozen}\n", "utf-8")
            write_job(
                directory, directory, "finished", [f"application={name}", f"data.split.fold={fold}", "seed=0"], "a"
            )
    return read_runs(folder, ("application",)), every


def test_folds_are_one_test_of_every_text(folds: tuple[Runs, dict[str, pd.DataFrame]]) -> None:
    runs, every = folds
    assert (runs.folds, runs.replicates) == (3, ("data.split.fold", "seed"))
    summary = summarise(APPLICATION, runs, RESAMPLES)
    both = row_of(summary.groups, application="both")
    assert (both["runs"], both["seeds"]) == (3, 1)
    pooled = {name: measured(table["prediction"], table["crowd_label"]) for name, table in every.items()}
    by_fold = runs.table.loc[runs.table["application"] == "both"]
    for metric in METRICS:
        assert both[f"test_{metric}_mean"] == pytest.approx(pooled["both"][metric])
        assert both[f"val_{metric}_mean"] == pytest.approx(by_fold[f"val_{metric}"].mean())
    assert both["test_pcc_mean"] != pytest.approx(by_fold["test_pcc"].mean(), abs=1e-3)


def test_a_difference_over_folds_is_resampled_by_author_over_all_of_them(
    folds: tuple[Runs, dict[str, pd.DataFrame]],
) -> None:
    runs, every = folds
    order = np.argsort([str(number) for number in range(120)])  # ids are text
    own, base = (
        resampled(table["crowd_label"], [table["prediction"]], table["group_id"], RESAMPLES)
        for table in (every[name].iloc[order] for name in ("both", "none"))
    )
    summary = summarise(APPLICATION, runs, RESAMPLES)
    for metric in METRICS:
        wanted = compared(own[metric], base[metric], metric)
        difference = row_of(summary.differences, metric=metric)
        assert (difference["texts"], difference["authors"], difference["seeds"]) == (120, 60, 1)
        assert difference[["difference", "low", "high"]].tolist() == pytest.approx(
            [wanted.difference, wanted.low, wanted.high]
        )


def test_what_is_left_of_a_difference_in_ccc_is_that_of_stretched_predictions(
    folds: tuple[Runs, dict[str, pd.DataFrame]],
) -> None:
    runs, every = folds
    stretched = {}
    for name, table in every.items():
        labels, scores = table["crowd_label"], table["prediction"]
        moved = labels.mean() + (scores - scores.mean()) * labels.std() / scores.std()
        stretched[name] = measured(moved, labels)["ccc"]
    differences = summarise(APPLICATION, runs, RESAMPLES).differences
    ccc = row_of(differences, metric="ccc")
    assert ccc["left"] == pytest.approx(stretched["both"] - stretched["none"])
    assert ccc["left_low"] < ccc["left"] < ccc["left_high"]
    assert ccc["left"] < ccc["difference"]
    assert np.isnan(row_of(differences, metric="rmse")["left"])


def test_over_folds_each_fold_tests_what_its_own_validation_chose(tmp_path: Path) -> None:
    arms = [Arm({"alpha": alpha}, skill=skill) for alpha, skill in (("2.0", 0.6), ("4.0", 0.7), ("inf", 0.5))]
    for number, folder in enumerate(write_records(tmp_path, arms, seeds=range(3))):
        fold = number % 3
        job = json.loads((folder / "job.json").read_text("utf-8"))
        job["overrides"] |= {"data.split.fold": str(fold), "seed": "0"}
        (folder / "job.json").write_text(json.dumps(job), "utf-8")
        table = pd.read_csv(folder / "predictions.csv", dtype={"text_id": str})
        test = table["split"] == "test"
        table = table.loc[~test | (table["text_id"].astype(int) % 3 == fold)]
        if fold == 1 and number < 3:  # by this fold's validation, alpha 2 is best
            table.loc[table["split"] == "val", "prediction"] = table["crowd_label"]
            metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
            metrics["val"] |= {"ccc": 1.0}
            (folder / "metrics.json").write_text(json.dumps(metrics), "utf-8")
        table.to_csv(folder / "predictions.csv", index=False)
    asked = study(factors=("alpha",), baseline={"alpha": "inf"}, choose="alpha", replicates=("data.split.fold", "seed"))
    runs = read_runs(tmp_path, asked.factors, asked.replicates)
    summary = summarise(asked, runs, RESAMPLES)
    assert {str(fold): str(value) for fold, value in summary.by_fold.items()} == {"0": "4.0", "1": "2.0", "2": "4.0"}
    assert summary.chosen is not None

    def tested(alphas: Sequence[str]) -> pd.DataFrame:
        of = runs.table["alpha"].astype(str)
        tables = [runs.predictions(int(of.index[of == alpha][fold])) for fold, alpha in enumerate(alphas)]
        return pd.concat([table.loc[table["split"] == "test"] for table in tables])

    both = tested(["4.0", "2.0", "4.0"]), tested(["inf"] * 3)
    own, base = (measured(table["prediction"], table["crowd_label"]) for table in both)
    chosen = [dict(row) for _, row in summary.differences.iterrows() if mark(summary, dict(row)) == "chosen"]
    for row in chosen:
        if row["split"] == "test":
            assert row["difference"] == pytest.approx(own[row["metric"]] - base[row["metric"]])
            assert summary.nested[0][f"test_{row['metric']}_mean"] == pytest.approx(own[row["metric"]])
    assert len(chosen) >= 3
