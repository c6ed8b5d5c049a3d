"""The results of a run: predictions, metrics with their references, training labels, and costs."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from invitro.application import UNBOUNDED_POLICIES
from invitro.data import DEMOGRAPHICS
from invitro.data.facts import LlmFacts, doubts_of_tested, llm_facts
from invitro.errors import called
from invitro.labels.source import SPENT
from invitro.models.outputs import Predictions
from invitro.stats.agreement import gain, pairwise
from invitro.stats.crowd import Statistic, mean_reliability, undefined
from invitro.stats.intervals import Estimate, Interval
from invitro.stats.moments import METRICS, measure
from invitro.training.prepare import Prepared
from invitro.training.recipe import Result
from invitro.writing.tables import Cell, Column, ReportTable, cell_of, estimate_cell, number_cell, table_of
from invitro.writing.words import count, estimate

if TYPE_CHECKING:
    import torch

MANY_CHANGED = 0.2
"""The share of changed crowd labels above which a run warns."""


class TrainingError(RuntimeError):
    """Training failed in a way that shows in the numbers, such as divergence."""


def result_of(
    prepared: Prepared,
    predicted: Sequence[Predictions],
    run: str,
    seconds: float,
    cost: Mapping[str, Any],
    **train: int,
) -> Result:
    """Return the result of a run.

    Args:
        prepared: its texts and labels.
        predicted: its predictions for val and test.
        run: its fingerprint.
        seconds: how long it took.
        cost: further costs, for ``metrics.json``'s ``cost``.
        train: further numbers for ``metrics.json``'s ``train``.
    """
    predictions, labels = predictions_of(prepared, predicted), prepared.labels
    facts = {
        "train": {
            "size": len(labels.table),
            "replaced": labels.replaced,
            "augmented": labels.augmented,
            **{name: prepared.crowd_labels[name] for name in ("kept", "given_up", "set_aside")},
            "fused": labels.fused,
            "dropped": labels.dropped,
            "without_llm_label": labels.without_llm_label,
            "near_copies": len(prepared.leaks.near_copies),
            "shared_authors": prepared.leaks.authors,
            **train,
            "seconds": round(seconds, 3),
        },
        "application": prepared.applied,
        "cost": dict(cost),
        "fingerprint": run,
        "status": "finished",
    }
    references = references_of(prepared, predictions)
    return Result(metrics_of(prepared, predictions) | {"references": references} | facts, predictions)


def predictions_of(prepared: Prepared, predicted: Sequence[Predictions]) -> pd.DataFrame:
    """Return the rows of ``predictions.csv``, each score in the scale's units, not clipped.

    If the model predicts how far labels scatter, ``uncertainty`` is that standard deviation. If the run looked up LLM
    labels, ``llm_label`` is the text's; training did not see it.
    """
    tables = []
    for split, (scores, sd) in zip(("val", "test"), predicted, strict=True):
        table = prepared.corpus.of_split(split)
        finite = np.isfinite(scores) & (True if sd is None else np.isfinite(sd))
        if not finite.all():
            raise TrainingError(
                f"{int((~finite).sum())} of {len(scores)} predictions on {split} are not finite: training "
                "diverged; lower plm.lr, or set fit.clip=1.0"
            )
        truth = ("truth",) if prepared.corpus.has_truth else ()
        carried = [name for name in ("group_id", *DEMOGRAPHICS, *truth) if name in table]
        columns = {"prediction": scores} | ({} if sd is None else {"uncertainty": sd})
        if prepared.llm_label is not None:
            columns["llm_label"] = np.asarray(table["text_id"].map(prepared.llm_label), dtype=np.float64)
        tables.append(table[["text_id", "split", "crowd_label"]].assign(**columns).join(table[carried]))
    return pd.concat(tables, ignore_index=True)


def labels_of(prepared: Prepared) -> pd.DataFrame:
    """Return the rows of ``labels.csv``; if the corpus has demographics, with each text's author and demographics."""
    rows, texts = prepared.labels.record(), pd.concat([prepared.training, prepared.pool])
    carried = [name for name in DEMOGRAPHICS if name in texts and texts[name].notna().any()]
    return rows.join(texts.set_index("text_id")[["group_id", *carried]], on="text_id") if carried else rows


def metrics_of(prepared: Prepared, predictions: pd.DataFrame) -> dict[str, Any]:
    """Return PCC, CCC and RMSE by split: against crowd labels and, if it is known, against the truth."""

    def against(column: str, split: str) -> dict[str, float] | None:
        rows = predictions.loc[(predictions["split"] == split) & predictions[column].notna()]
        return measure(rows["prediction"], rows[column]) if len(rows) else None

    metrics: dict[str, Any] = {split: against("crowd_label", split) for split in ("val", "test")}
    if prepared.corpus.has_truth:
        metrics["truth"] = {split: against("truth", split) for split in ("val", "test")}
    return metrics


def references_of(prepared: Prepared, predictions: pd.DataFrame) -> dict[str, Any] | None:
    """Return the references for a run's test metrics, in plain values; None without rated test texts.

    Every metric has its 95 % interval by author as ``[value, low, high]``, None if it is undefined, see
    `invitro.stats.intervals`.

    Returns:
        ``texts`` and ``authors`` of the test; ``validation_texts``; ``model``; ``mean``: always guessing the training
        texts' mean crowd label, which is its ``score``; ``llm``: the LLM's own labels with their ``name`` and number of
        ``texts``, if test texts have any; ``ceiling``: the labels' ``reliability`` R, the ratings it is ``of``,
        and the metrics expected of a perfect predictor of the truth against such labels (PCC and CCC sqrt(R),
        RMSE ``SD sqrt(1 - R)``), or the ``reason`` why it is not known; ``doubts``, one line each.
    """
    rows = predictions.loc[(predictions["split"] == "test") & predictions["crowd_label"].notna()].set_index("text_id")
    if rows.empty:
        return None
    crowd, authors = rows["crowd_label"], rows["group_id"]
    mean = float(prepared.labels.table["crowd_label"].mean())

    def against(scores: Any) -> dict[str, Any]:
        pair = pairwise(pd.DataFrame({"crowd": crowd, "scores": scores}), authors)[0]
        measured: dict[str, Any] = {metric: _plain(getattr(pair, metric)) for metric in METRICS}
        return measured if measured["pcc"][0] is not None else measured | {"ccc": [0.0, None, None]}

    validated = int((predictions["split"].eq("val") & predictions["crowd_label"].notna()).sum())
    references: dict[str, Any] = {"texts": len(rows), "authors": int(authors.nunique()), "validation_texts": validated}
    references |= {"model": against(rows["prediction"]), "mean": {"score": mean} | against(mean)}
    doubts = [*doubts_of_tested(crowd.to_numpy(dtype=np.float64))]
    low, high = references["model"]["pcc"][1:]
    if low is not None and low <= 0 <= high:
        doubts.append("the interval of PCC includes 0: nothing shows that the model is better than guessing the mean")
    name, llm = prepared.unused or ("", pd.Series(dtype="float64"))
    if prepared.llm_label is not None:
        name, llm = prepared.label_sets[0].name, rows["llm_label"]
    llm = llm.reindex(rows.index)
    if llm.notna().any():
        references["llm"] = {"name": name, "texts": int(llm.notna().sum())} | against(llm)
        advantage = gain(pd.DataFrame({"crowd": crowd, "model": rows["prediction"], "llm": llm}), authors)
        if advantage.low > 0:
            doubts.append(
                f"the LLM's own labels follow the crowd's more closely than the model: PCC {advantage.value:+.3f} "
                f"[{advantage.low:.3f}, {advantage.high:.3f}]"
            )
    return references | {"ceiling": _ceiling(prepared, crowd), "doubts": doubts}


def _plain(interval: Interval) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in (interval.value, interval.low, interval.high)]


def _ceiling(prepared: Prepared, crowd: "pd.Series[float]") -> dict[str, Any]:
    """Return the metrics that a perfect predictor can reach given the reliability of test labels, by ``text_id``."""
    reliability, of = _reliability(prepared, crowd)
    estimated = reliability.estimate
    if estimated is None:
        return {"reason": reliability.reason}
    value, low, high = np.clip([estimated.value, estimated.low, estimated.high], 0.0, 1.0)
    spread = float(crowd.std(ddof=0))
    reached = _plain(Interval(*np.sqrt([value, low, high])))
    missed = _plain(Interval(*spread * np.sqrt([1 - value, 1 - high, 1 - low])))
    return {"reliability": _plain(estimated), "of": of, "pcc": reached, "ccc": reached, "rmse": missed}


def _reliability(prepared: Prepared, crowd: "pd.Series[float]") -> tuple[Statistic, str]:
    """Return the reliability of crowd labels, by ``text_id``, and a description of it."""
    people, table = prepared.corpus.people, prepared.corpus.table.set_index("text_id")
    if people is not None and people.single() is not None:
        number = table.loc[crowd.index, "crowd_n"].to_numpy(dtype=np.float64)
        single = people.reliability(table["group_id"]).icc1
        return mean_reliability(single, number), f"ICC(k) of the mean of k = {1 / np.mean(1 / number):.3g} ratings"
    if people is not None and people.items is not None and people.items.cronbach.estimate is not None:
        return people.items.cronbach, "Cronbach's alpha of the items"
    application, value = prepared.application, prepared.labels.facts.get("crowd_reliability")
    if value is None:
        estimates = "With an LLM's labels application=precision and application=posterior estimate it"
        return undefined(f"every text has one rating, and agreement needs two. {estimates}"), ""
    of = f"no text has two ratings: estimated by application={application.name} from the LLM's labels and the texts"
    if application.crowd_reliability is not None:
        of = "as application.crowd_reliability says"
    return Statistic(Estimate(value, np.nan, np.nan, len(crowd))), of


def processor_seconds() -> float:
    """Return the processor time, in seconds, of this process and of its children that have ended.

    A run's share is the difference between its end and its start. In a distributed run only this process counts.
    """
    return sum(os.times()[:4])


def device_name(device: "torch.device") -> str:
    """Return the name of a GPU, or the type of any other device, such as ``cpu``."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return device.type


def llm_use(prepared: Prepared) -> dict[str, int | float | None]:
    """Return how many texts' LLM labels a run used or compared with, and what these labels cost.

    Correction uses the LLM's label of every training text, replaced or not; augmentation uses those of the texts
    that it adds.

    Returns:
        ``labels``, and `SPENT`: None if unknown, as for published files and a corpus's own column, and for engines
        that count no tokens or have no price (the store has 0 then); 0 if no LLM was used.
    """
    ids = _used(prepared)
    if prepared.spent is None or ids.empty:
        return {"labels": 0, **dict.fromkeys(SPENT, 0)}
    used: dict[str, int | float | None] = {"labels": len(ids)}
    for name in SPENT:
        spent = prepared.spent[name].reindex(pd.Index(ids))
        total = float(spent.sum())
        known = spent.notna().all() and total > 0
        used[name] = None if not known else total if name == "dollars" else int(total)
    return used


def _used(prepared: Prepared) -> "pd.Series[str]":
    """Return the ids of the texts whose LLM label the application needed and found."""
    application, ids = prepared.application, [pd.Series([], dtype="str")]
    if application.compares:
        ids.append(prepared.training["text_id"])
    if application.augmentation and application.pool_labels == "llm":
        trained = prepared.labels.table["text_id"]
        ids.append(trained[trained.isin(prepared.pool["text_id"])])
    wanted = pd.concat(ids, ignore_index=True)
    return wanted if prepared.llm_label is None else wanted[wanted.map(prepared.llm_label).notna()]


def results_table(metrics: Mapping[str, Any]) -> ReportTable:
    """Return a run's metrics; those of the test have intervals and references."""
    references = metrics.get("references") or {}
    rows = [
        _row("val", metrics["val"], {"texts": references.get("validation_texts") or None}),
        _row("test", metrics["test"], references),
    ]
    if references:
        mean, llm, ceiling = references["mean"], references.get("llm"), references["ceiling"]
        others = {f"always guessing {mean['score']:.2f}, the mean": mean}
        if llm:
            others[f"the LLM itself: {llm['name']}"] = llm
        if "reliability" in ceiling:
            others["the ceiling"] = ceiling
        texts = references["texts"]
        rows += [_row(name, None, {"texts": texts, "model": scores} | scores) for name, scores in others.items()]
    rows += [_row(f"{split}, truth", scores, {}) for split, scores in metrics.get("truth", {}).items()]
    columns = [Column("scores", ""), Column("n", "n"), *(Column(name, name.upper()) for name in METRICS)]
    return table_of("results", "Results", columns, rows, *_notes(references))


def _row(name: str, scores: Mapping[str, float] | None, measured: Mapping[str, Any]) -> dict[str, Cell]:
    """Return a row: metrics, with their intervals if there are any."""
    cells = {"scores": Cell(name), "n": cell_of(measured.get("texts"))}
    for metric in METRICS:
        if "model" in measured:
            value, low, high = measured["model"][metric]
            cells[metric] = Cell("undefined") if value is None else estimate_cell(value, low, high)
        else:
            cells[metric] = number_cell(scores[metric]) if scores else Cell("no crowd labels")
    return cells


def _notes(references: Mapping[str, Any]) -> Iterator[str]:
    if not references:
        return
    authors = count(references["authors"], "author")
    yield f"All intervals are 95 % bootstrap intervals over the {authors} of the test texts."
    ceiling = references["ceiling"]
    if "reliability" in ceiling:
        value, low, high = ceiling["reliability"]
        yield (
            "The ceiling is what a perfect model can be expected to reach against labels with a reliability of "
            f"{estimate(value, low, high, 2)} ({ceiling['of']})."
        )
    else:
        yield f"The ceiling set by the labels' reliability is not known: {ceiling['reason']}."


def summary(metrics: Mapping[str, Any]) -> str:
    """Return the run's numbers as a table for the terminal, with its doubts."""
    table, references = results_table(metrics), metrics.get("references") or {}
    warnings = [f"WARNING: {doubt}" for doubt in references.get("doubts", ())]
    return "\n".join([*table.terminal(), *table.notes, *warnings])


def flattened(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested metrics as ``test/ccc``: value."""
    (flat,) = pd.json_normalize(dict(metrics), sep="/").to_dict("records")
    return {str(name): value for name, value in flat.items() if value is not None}


def doubts(prepared: Prepared) -> tuple[str, ...]:
    """Return what should be looked at, one line each."""
    llm = compared(prepared)
    of_the_llm = () if llm is None else llm.doubts()
    return (*prepared.leaks.lines(), *prepared.facts.doubts(), *of_the_llm, *_of_the_threshold(prepared))


def compared(prepared: Prepared) -> LlmFacts | None:
    """Compare the LLM's labels with the crowd's on the training texts; None if there are none, used or not."""
    if prepared.llm_label is not None:
        names, labels = ", ".join(label_set.name for label_set in prepared.label_sets), prepared.llm_label
    elif prepared.unused is not None:
        names, labels = f"{prepared.unused[0]} (not used)", prepared.unused[1]
    else:
        return None
    llm = prepared.training["text_id"].map(labels)
    return llm_facts(names, prepared.scale, prepared.training["crowd_label"], llm)


def _of_the_threshold(prepared: Prepared) -> Iterator[str]:
    application, rated = prepared.application, len(prepared.training)
    if not application.correction or application.policy in UNBOUNDED_POLICIES:
        return
    alpha, scale = prepared.labels.facts["alpha"], prepared.scale
    changed = prepared.labels.replaced + prepared.labels.dropped
    if application.policy != "weight" and changed > MANY_CHANGED * rated:
        yield (
            f"{changed} of {rated} crowd labels ({changed / rated:.0%}) are changed by alpha={alpha:g}: more "
            f"than noise explains; compare the two labels with {called('describe')}"
            + (f", and try alpha={scale.default_alpha:g}" if alpha < scale.default_alpha else "")
        )
    if scale.maximum - scale.minimum <= alpha < np.inf and not application.alpha_per_spread:
        yield (
            f"alpha={alpha:g} can never act: labels from {scale.minimum:g} to {scale.maximum:g} are at most "
            f"{scale.maximum - scale.minimum:g} apart; alpha is in the scale's units"
        )
