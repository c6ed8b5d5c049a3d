"""A study in numbers: every configuration over its seeds, differences from the baseline, the choice, the plateau."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import yaml

from invitro.errors import InputError
from invitro.stats.intervals import Interval, Plateau, best, compared, contrast, holm, interval_of, plateau
from invitro.stats.moments import METRICS, RESAMPLES, Scores
from invitro.studies.runs import FINISHED, Runs, SplitScores, score_split
from invitro.studies.study import FOLD, Study, canonical, matches


def published_numbers(table: str) -> pd.DataFrame:
    """Return one table of `paper.yaml`: one row per published row and metric.

    Columns: ``label``; ``experiment`` and the other factors that rows name (missing where a row names none);
    ``metric``; ``median`` and ``peak`` over the authors' seeds. ``attrs`` has ``source``, ``test_set`` and ``seeds``.

    Raises:
        InputError: there is no such table.
    """
    tables: dict[str, Any] = yaml.safe_load(files("invitro.studies").joinpath("paper.yaml").read_text("utf-8"))
    if table not in tables:
        raise InputError(f"study.paper: expected one of {', '.join(tables)}, found {table!r}")
    published = tables[table]
    frame = pd.DataFrame(
        {"label": row["label"], "experiment": row["experiment"], **row["factors"], "metric": metric}
        | {"median": float(row[metric][0]), "peak": float(row[metric][1])}
        for row in published["rows"]
        for metric in METRICS
    )
    last = ["metric", "median", "peak"]  # after factors that the first row lacks
    frame = frame[[*frame.columns.difference(last, sort=False), *last]]
    frame.attrs = {name: published[name] for name in ("source", "test_set", "seeds")}
    return frame


LABELLED_SPLITS = ("val", "test", "truth_val", "truth_test")
COUNTS = ("size", "replaced", "augmented", "kept", "given_up", "set_aside")
DIFFERENCES = ("split", "metric", "difference", "low", "high", "p", "p_holm", "effect", "seeds", "texts", "authors")
LEFT = ("left", "left_low", "left_high")
"""Columns of `Summary.differences`: the part of a difference in CCC that is left, with its 95 % interval."""


@dataclass(frozen=True)
class Summary:
    """A study's results.

    Args:
        groups: one row per configuration, in the order of the jobs: the factors; how many ``runs`` have a result, how
            many ``seeds`` these are with all folds of a seed counted as one, and how many runs ``failed``; whether all
            models are ``exact``, fitted in closed form; the means of `COUNTS` and of ``replaced_share``, the share of
            the crowd labels in training that were replaced; and for each split (``val``, ``test``, and ``truth_val``,
            ``truth_test`` if the truth is known) and metric ``test_ccc_median``, ``_peak`` (the best run), ``_mean``,
            ``_sd`` (n - 1; NaN with one seed), ``_low``, ``_high`` (95 %, over seeds and texts; with one seed over
            texts alone). With folds, metrics on test are over all folds' predictions together; those on validation are
            means over folds.
        differences: one row per configuration, split (those of `judged`) and metric: the factors and `DIFFERENCES`, see
            `invitro.stats.intervals.Difference`; for CCC also `LEFT`, the difference once both sides' predictions are
            stretched to the labels' mean and SD. Empty without a baseline. p is NaN if nothing could be tested, as
            when the runs are those of the baseline. With folds, the row of the chosen value tests the choice: each
            fold's texts are predicted with the value that was chosen in that fold, see `by_fold`.
        baseline: the factor values of the configuration that the others are compared with; None without one.
        chosen: the value of ``study.choose`` that was chosen on validation, see `_chosen`; None if nothing was.
        plateau: by metric on `split` (and by the other factors, if any); None if no test was asked for.
        published: the paper's numbers, see `published_numbers`; None if the study names none.
        unpaired: why configurations could not be compared, one sentence each.
        by_fold: the value chosen on each fold's validation texts, by fold; empty without folds. A fold's test texts are
            another fold's validation texts, so only this choice has seen no label of the texts that it is tested on.
        nested: like `groups`, the rows of `chosen` with the runs that these choices name.
    """

    groups: pd.DataFrame
    differences: pd.DataFrame
    baseline: Mapping[str, Any] | None
    chosen: Mapping[str, Any] | None
    plateau: tuple[Plateau, ...] | None
    published: pd.DataFrame | None
    unpaired: tuple[str, ...] = ()
    by_fold: Mapping[Hashable, Any] = field(default_factory=dict)
    nested: tuple[dict[str, Any], ...] = ()

    @property
    def split(self) -> str:
        """The split that configurations are judged on: ``test``, or ``val`` if no run has test texts with labels."""
        names = {split: [f"{split}_{metric}_mean" for metric in METRICS] for split in ("test", "val")}
        scored = {split: self.groups.reindex(columns=of).notna().any(axis=None) for split, of in names.items()}
        return "val" if scored["val"] and not scored["test"] else "test"

    @property
    def judged(self) -> tuple[str, str]:
        """`split`, against crowd labels and against the truth: keys of `wording.SPLIT_NAMES`."""
        return self.split, f"truth_{self.split}"


@dataclass(frozen=True)
class Configuration:
    """The jobs of a configuration: the factors' values, all its rows of the table, those with a result by replicate.

    Of two jobs with the same replicate the later one counts.
    """

    values: Mapping[str, Any]
    rows: pd.DataFrame
    by_replicate: Mapping[Hashable, int]


def summarise(study: Study, runs: Runs, resamples: int = RESAMPLES) -> Summary:
    """Summarise the runs of a study from their records.

    Holm's correction is over one family per split: all configurations against the baseline, times all of the study's
    metrics. If a value is chosen on validation (``study.choose``), the chosen configuration's tests are a separate
    family, which is tested first; the others count only once all of these have been rejected (Westfall, Krishen 2001,
    "Optimally Weighted, Fixed Sequence and Gatekeeper Multiple Testing Procedures", J. Stat. Plan. Inference 99): their
    corrected p is at least the largest of the chosen one's. The family-wise error is 5 % for each split; metrics
    against the simulator's truth are another family.

    No test text took part in the choice, so the texts do not bias the difference on test. In a cross-validation a text
    is tested in one fold and may be a validation text of another, so each fold makes its own choice. But the choice is
    among trained models, and a model with a lucky seed is better on validation and on test. In simulations with twelve
    equal configurations and five seeds (``benchmarks/coverage.py``) the error stays below 5 % unless runs differ far
    more between seeds than is usual. Seeds that were not used for the choice avoid the problem.

    Args:
        study: the question, the baseline and the metrics.
        runs: the records.
        resamples: draws of the texts, for intervals and tests.
    """
    configurations = list(_configurations(runs))
    every = {split: score_split(runs, split, resamples) for split in LABELLED_SPLITS}
    scored = {split: scores for split, scores in every.items() if scores is not None}
    wanted = {name: value for name, value in study.baseline.items() if name in runs.factors} or None
    baselines = [
        candidate for candidate in configurations if candidate.by_replicate and matches(candidate.values, wanted)
    ]
    others = [candidate for candidate in configurations if not matches(candidate.values, wanted)]
    chosen = _chosen(study, runs, others, scored.get("val"))
    by_fold = _chosen_by_fold(study, runs, others, scored) if chosen and "test" in scored else {}
    tested = configurations
    if by_fold:
        tested = [_nested(configuration, others, runs, chosen, by_fold) for configuration in configurations]
    nested = [configuration for configuration in tested if by_fold and matches(configuration.values, chosen)]
    differences, unpaired = _differences(study, runs, tested, baselines, scored)
    return Summary(
        groups=pd.DataFrame([_group(configuration, runs, scored) for configuration in configurations]),
        differences=_corrected(differences, chosen),
        baseline={name: baselines[0].values[name] for name in wanted} if wanted and baselines else None,
        chosen=chosen,
        plateau=_plateaus(study, runs, configurations, scored.get("test", scored.get("val"))),
        published=published_numbers(study.paper) if study.paper else None,
        unpaired=tuple(unpaired),
        by_fold=by_fold,
        nested=tuple(_group(configuration, runs, scored) for configuration in nested),
    )


def _configurations(runs: Runs) -> Iterator[Configuration]:
    """Yield the configurations in the order of their first jobs."""
    factors = list(runs.factors)
    parts = runs.table.groupby(factors, sort=False, dropna=False) if factors else [((), runs.table)]
    for key, rows in parts:
        finished = rows.index[rows["outcome"].isin(FINISHED)]
        yield Configuration(dict(zip(factors, key, strict=True)), rows, runs.by_replicate(finished))


def _group(configuration: Configuration, runs: Runs, scored: Mapping[str, SplitScores]) -> dict[str, Any]:
    """Return a configuration's row of ``groups``."""
    rows = runs.table.loc[list(configuration.by_replicate.values())]
    row: dict[str, Any] = dict(configuration.values)
    row |= {"runs": len(rows), "seeds": len(set(map(runs.repetition, rows.index))) if runs.folds else len(rows)}
    row["failed"] = int((configuration.rows["outcome"] == "failed").sum())
    row["exact"] = len(rows) > 0 and all(map(runs.is_exact, rows.index))
    row |= {name: float(rows[name].mean()) for name in COUNTS}
    row["replaced_share"] = float((rows["replaced"] / (rows["size"] - rows["augmented"])).mean())
    for split in LABELLED_SPLITS:
        if split not in scored and split not in ("val", "test"):
            continue
        scores = scored[split].of(rows.index) if split in scored and scored[split].has(rows.index) else None
        for metric in METRICS:
            column = f"{split}_{metric}"
            values = rows[column] if column in rows else pd.Series(dtype="float64")
            if scores is not None and len(scores[metric].values) < len(rows):  # folds together
                values = pd.Series(scores[metric].values)
            row |= {f"{column}_median": values.median(), f"{column}_peak": best(values, metric)}
            row |= {f"{column}_mean": values.mean(), f"{column}_sd": values.std()}
            interval = Interval(np.nan, np.nan, np.nan) if scores is None else interval_of(scores[metric], metric)
            row |= {f"{column}_low": interval.low, f"{column}_high": interval.high}
    return row


def _reference(configuration: Configuration, baselines: Sequence[Configuration]) -> Configuration | None:
    """Return the baseline of a configuration: the one that shares the most factor values with it."""

    def likeness(baseline: Configuration) -> int:
        return sum(matches(baseline.values, {name: value}) for name, value in configuration.values.items())

    return max(baselines, key=likeness, default=None)


def _chosen(
    study: Study, runs: Runs, configurations: Sequence[Configuration], val: SplitScores | None
) -> dict[str, Any] | None:
    """Return the value of ``study.choose`` to prefer by validation CCC.

    Among values whose mean CCC is within one standard error of the highest, it is the one that keeps the most crowd
    labels (Breiman, Friedman, Olshen, Stone 1984, "Classification and Regression Trees", 3.4.3: the simplest within one
    standard error). The error is that of the difference, paired by run and text. Ties are broken by the highest CCC,
    then by the largest value. `configurations` are all except the baseline.
    """
    name = study.choose
    if name is None or name not in runs.factors:
        return None
    rows: dict[Any, dict[Hashable, int]] = {}
    for configuration in configurations:
        others = tuple(value for key, value in configuration.values.items() if key != name)
        jobs: dict[Hashable, int] = {(others, replicate): row for replicate, row in configuration.by_replicate.items()}
        rows.setdefault(configuration.values[name], {}).update(jobs)
    tables = {value: runs.table.loc[list(of.values())] for value, of in rows.items()}
    means = {value: float(table["val_ccc"].mean()) for value, table in tables.items() if table["val_ccc"].notna().any()}
    if not means:
        return None
    first = max(means, key=lambda value: means[value])
    near = [value for value in means if means[first] - means[value] <= max(_error(rows[first], rows[value], val), TIE)]
    kept = {value: float((of["size"] - of["augmented"] - of["replaced"]).mean()) for value, of in tables.items()}
    near = [value for value in near if kept[value] >= max(map(kept.__getitem__, near)) - TIE]
    near = [value for value in near if means[value] >= max(map(means.__getitem__, near)) - TIE]
    numeric = all(isinstance(canonical(value), (int, float)) for value in near)
    return {name: max(near, key=float) if numeric else near[0]}


TIE = 1e-9


def _chosen_by_fold(
    study: Study, runs: Runs, configurations: Sequence[Configuration], scored: Mapping[str, SplitScores]
) -> dict[Hashable, Any]:
    """Return the value that `_chosen` returns for each fold alone; {} if there are no folds or one chooses nothing."""
    if not runs.folds:
        return {}
    fold_of, values = runs.table[FOLD], {}
    for fold in fold_of.unique():
        in_fold = []
        for configuration in configurations:
            jobs = {key: job for key, job in configuration.by_replicate.items() if fold_of[job] == fold}
            if jobs:
                in_fold.append(replace(configuration, by_replicate=jobs))
        chosen = _chosen(study, runs, in_fold, scored.get("val"))
        if chosen is None:
            return {}
        (values[fold],) = chosen.values()
    return values


def _nested(
    configuration: Configuration,
    configurations: Sequence[Configuration],
    runs: Runs,
    chosen: Mapping[str, Any] | None,
    by_fold: Mapping[Hashable, Any],
) -> Configuration:
    """Return the chosen configuration with the jobs of each fold's own choice; any other unchanged."""
    if not matches(configuration.values, chosen) or configuration not in configurations:
        return configuration
    (name,), fold_of = chosen or {}, runs.table[FOLD]
    fixed = {key: value for key, value in configuration.values.items() if key != name}
    alike = {other.values[name]: other.by_replicate for other in configurations if matches(other.values, fixed)}
    jobs = {key: alike[by_fold[fold_of[job]]].get(key) for key, job in configuration.by_replicate.items()}
    return replace(configuration, by_replicate={key: job for key, job in jobs.items() if job is not None})


def _error(a: Mapping[Hashable, int], b: Mapping[Hashable, int], val: SplitScores | None) -> float:
    """Return the standard error of a difference in validation CCC, paired by run and text; 0 if it is unknown."""
    pair = None if val is None else val.pair(a, b)
    error = 0.0 if pair is None else contrast(pair[0]["ccc"] - pair[1]["ccc"]).error
    return error if error == error else 0.0


def _differences(
    study: Study,
    runs: Runs,
    configurations: Sequence[Configuration],
    baselines: Sequence[Configuration],
    scored: Mapping[str, SplitScores],
) -> tuple[pd.DataFrame, list[str]]:
    """Return the differences from the baseline before correction, and why some configurations have none."""
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    judged = ("test", "truth_test") if "test" in scored else ("val", "truth_val")
    for configuration in configurations:
        reference = None if configuration in baselines else _reference(configuration, baselines)
        if reference is None or not configuration.by_replicate:
            continue
        name = ", ".join(f"{factor}={value}" for factor, value in configuration.values.items())
        if configuration.by_replicate.keys().isdisjoint(reference.by_replicate):
            problems.append(f"{name} and the baseline have no {' and '.join(runs.replicates)} in common.")
            continue
        for split in (split for split in judged if split in scored):
            pair = scored[split].pair(configuration.by_replicate, reference.by_replicate)
            if pair is None:
                problems.append(f"{name} and the baseline have no texts in common on {split.replace('_', ' ')}.")
                continue
            rows += [{**configuration.values, "split": split} | row for row in _compared(study, *pair)]
    return pd.DataFrame(rows, columns=[*runs.factors, *DIFFERENCES, *LEFT]), problems


def _compared(study: Study, a: Mapping[str, Scores], b: Mapping[str, Scores]) -> Iterator[dict[str, Any]]:
    """Yield the difference between two configurations on one split, one row per metric."""
    matched = contrast(a["matched_ccc"] - b["matched_ccc"]).interval()
    for metric in study.metrics:
        difference = vars(compared(a[metric], b[metric], metric))
        left = (matched.value, matched.low, matched.high) if metric == "ccc" else (np.nan,) * 3
        yield {key: difference[key] for key in DIFFERENCES[1:]} | dict(zip(LEFT, left, strict=True))


def _corrected(differences: pd.DataFrame, chosen: Mapping[str, Any] | None) -> pd.DataFrame:
    """Fill in ``p_holm``; families are those of `summarise`."""
    corrected = pd.Series(np.nan, index=differences.index, dtype="float64")
    first = pd.Series([matches(dict(row), chosen) for _, row in differences.iterrows()], differences.index, "bool")
    for split in differences["split"].unique():
        on_split, gate = differences["split"] == split, 0.0
        for family in (on_split & first, on_split & ~first):
            p = holm(differences.loc[family, "p"].to_numpy(dtype="float64"))
            corrected[family] = np.maximum(p, gate)
            gate = float(np.nanmax(p)) if (~np.isnan(p)).any() else gate
    return differences.assign(p_holm=corrected)


def _plateaus(
    study: Study, runs: Runs, configurations: Sequence[Configuration], scored: SplitScores | None
) -> tuple[Plateau, ...] | None:
    """Test for no further gain from ``study.plateau`` on, for every combination of the other factors."""
    axis = study.axis
    if study.plateau is None or axis is None or axis not in runs.factors or scored is None:
        return None
    series: dict[tuple[tuple[str, Any], ...], dict[float, Configuration]] = {}
    for configuration in configurations:
        others = tuple((name, value) for name, value in configuration.values.items() if name != axis)
        if configuration.by_replicate and isinstance(canonical(configuration.values[axis]), (int, float)):
            series.setdefault(others, {})[float(configuration.values[axis])] = configuration
    plateaus = []
    for others, by_value in series.items():
        common = set.intersection(*(set(configuration.by_replicate) for configuration in by_value.values()))
        if not common or sum(value >= study.plateau - 1e-9 for value in by_value) < 2:
            continue
        order = [key for key in next(iter(by_value.values())).by_replicate if key in common]
        scores = {
            value: scored.of([configuration.by_replicate[key] for key in order])
            for value, configuration in by_value.items()
        }
        for metric in study.metrics:
            of_metric: dict[float, Scores] = {value: metrics[metric] for value, metrics in scores.items()}
            plateaus.append(plateau(of_metric, metric, study.plateau, where=dict(others)))
    return tuple(plateaus) or None
