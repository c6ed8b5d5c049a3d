"""A run's records about its training labels, and the references for its test metrics."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from short_runs import COLUMNS, CORRECTION, NONE, SCALE, divided, material

from invitro.application import Application
from invitro.data import DEMOGRAPHICS, Holdout, TableFile
from invitro.data.simulator.corpus import Simulator
from invitro.labels import LabelSource
from invitro.models.outputs import Predictions
from invitro.stats.crowd import mean_reliability
from invitro.training.prepare import Prepared
from invitro.training.results import compared, doubts, labels_of, predictions_of, references_of, summary


def test_labels_have_their_authors_demographics(corpus_csv: Path) -> None:
    reader = Simulator(Holdout(), texts=120)
    rows = labels_of(material(corpus_csv, reader=reader, source=LabelSource("some", column="llm_label")))
    corpus = reader.read(SCALE).table.set_index("text_id")
    assert list(rows.columns[-6:]) == ["group_id", *DEMOGRAPHICS]
    assert {"crowd", "llm"} == set(rows["origin"])
    for name in ("group_id", *DEMOGRAPHICS):
        assert rows[name].tolist() == corpus.loc[rows["text_id"], name].tolist()


def test_a_corpus_without_demographics_adds_no_columns(corpus_csv: Path) -> None:
    rows = labels_of(material(corpus_csv))
    assert list(rows) == ["text_id", "crowd_label", "llm_label", "label", "origin", "weight"]


@pytest.mark.parametrize("missing", ["gender", "income"])
def test_only_known_demographics_are_recorded(corpus_csv: Path, missing: str) -> None:
    table = pd.read_csv(corpus_csv).assign(age=30, **{missing: None})
    table.to_csv(corpus_csv, index=False)
    rows = labels_of(material(corpus_csv))
    assert list(rows.columns[-2:]) == ["group_id", "age"]


def held_against(prepared: Prepared, scores: Any = None) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return the references of predictions, which are the crowd labels plus one point, and the test's rows."""
    parts = [prepared.corpus.of_split(split)["crowd_label"].to_numpy() + 1 for split in ("val", "test")]
    if scores is not None:
        parts[1] = np.broadcast_to(scores, parts[1].shape)
    table = predictions_of(prepared, [Predictions(part) for part in parts])
    references = references_of(prepared, table)
    assert references is not None
    return references, table[table["split"] == "test"]


def test_references_of_test_metrics_are_the_mean_and_the_llm(corpus_csv: Path) -> None:
    prepared = material(corpus_csv, CORRECTION)
    references, test = held_against(prepared)
    crowd, llm = test["crowd_label"], test["llm_label"]
    mean = prepared.training["crowd_label"].mean()
    assert (references["texts"], references["authors"]) == (len(test), test["group_id"].nunique()) == (12, 4)
    assert references["model"]["pcc"] == [pytest.approx(1), None, None]  # four authors make no interval
    assert references["model"]["rmse"][0] == pytest.approx(1)
    assert references["mean"]["score"] == pytest.approx(mean)
    assert [references["mean"][name][0] for name in ("pcc", "ccc")] == [None, 0.0]
    assert references["mean"]["rmse"][0] == pytest.approx(np.sqrt(np.mean((crowd - mean) ** 2)))
    assert (references["llm"]["name"], references["llm"]["texts"]) == ("essays/gpt", 12)
    assert references["llm"]["pcc"][0] == pytest.approx(np.corrcoef(crowd, llm)[0, 1])
    assert references["llm"]["rmse"][0] == pytest.approx(np.sqrt(np.mean((crowd - llm) ** 2)))
    assert references["ceiling"]["reason"].startswith(
        "every text has one rating, and agreement needs two. With an LLM's"
    )
    assert references["doubts"] == ["test metrics rest on only 12 texts: too few to tell models apart"]


@pytest.mark.parametrize(
    ("given", "of"),
    [
        (None, "no text has two ratings: estimated by application=precision from the LLM's labels and the texts"),
        (0.9, "as application.crowd_reliability says"),
    ],
)
def test_a_ceiling_that_an_application_estimates_says_so(corpus_csv: Path, given: float | None, of: str) -> None:
    precision = Application("precision", True, False, policy="precision", crowd_reliability=given)
    prepared = material(corpus_csv, precision)
    ceiling = held_against(prepared)[0]["ceiling"]
    reliability = prepared.labels.facts["crowd_reliability"]
    assert (ceiling["of"], ceiling["reliability"]) == (of, [reliability, None, None])
    assert ceiling["pcc"] == [pytest.approx(np.sqrt(reliability)), None, None]


def test_several_ratings_per_text_set_a_ceiling(corpus_csv: Path) -> None:
    table, rng = pd.read_csv(corpus_csv), np.random.default_rng(1)
    for rater in ("anna", "ben", "cem"):
        table[rater] = np.clip(table["empathy"] + rng.normal(size=len(table)), 1, 7)
    table.loc[::2, "cem"] = np.nan
    table.assign(author=table.index // 2).to_csv(corpus_csv, index=False)
    columns = {key: column for key, column in COLUMNS.items() if key != "crowd_label"}
    raters = columns | {"raters": ["anna", "ben", "cem"]}
    reader = TableFile(path=str(corpus_csv), columns=raters, split=Holdout(0.1, 0.6), name="essays")  # type: ignore[arg-type]
    prepared = material(corpus_csv, NONE, reader=reader)
    references, test = held_against(prepared)
    people, whole = prepared.corpus.people, prepared.corpus.table.set_index("text_id")
    assert people is not None
    expected = mean_reliability(people.reliability(whole["group_id"]).icc1, whole.loc[test["text_id"], "crowd_n"])
    assert expected.estimate is not None
    ceiling, share = references["ceiling"], expected.estimate
    assert ceiling["reliability"] == [share.value, share.low, share.high]
    k = 1 / (1 / whole.loc[test["text_id"], "crowd_n"]).mean()
    assert ceiling["of"] == f"ICC(k) of the mean of k = {k:.3g} ratings"
    assert ceiling["pcc"] == ceiling["ccc"] == pytest.approx(np.sqrt([share.value, share.low, share.high]))
    sd = test["crowd_label"].std(ddof=0)
    assert ceiling["rmse"] == pytest.approx(sd * np.sqrt(1 - np.array([share.value, share.high, share.low])))
    assert references["model"]["pcc"] == pytest.approx([1.0, 1.0, 1.0])
    assert references["doubts"] == []


def test_constant_labels_and_a_useless_model_raise_doubts(corpus_csv: Path) -> None:
    table = pd.read_csv(corpus_csv).assign(author=range(60), where=["train"] * 20 + ["val"] * 8 + ["test"] * 32)
    table.to_csv(corpus_csv, index=False)
    reader = divided(corpus_csv, "where")
    guess = np.random.default_rng(0).normal(size=32)
    references, _ = held_against(material(corpus_csv, CORRECTION, reader=reader), guess)
    nothing, llm = references["doubts"]
    assert nothing.startswith("the interval of PCC includes 0: nothing shows that the model is better")
    assert llm.startswith("the LLM's own labels follow the crowd's more closely than the model: PCC +")
    table.loc[28:, "empathy"] = 4.0
    table.to_csv(corpus_csv, index=False)
    references, _ = held_against(material(corpus_csv, NONE, reader=reader), guess)
    assert references["doubts"] == ["all test texts have the same crowd label, so PCC and CCC are undefined"]
    scores = {"pcc": 0.0, "ccc": 0.0, "rmse": 1.0}
    lines = summary({"val": scores, "test": scores, "references": references}).splitlines()
    assert lines[2].split()[:4] == ["test", "32", "undefined", "0.000"]
    assert lines[-1] == f"WARNING: {references['doubts'][0]}"


def test_an_unused_column_of_llm_labels_is_still_a_reference(corpus_csv: Path) -> None:
    table = pd.read_csv(corpus_csv)
    table.assign(gpt=8 - table["gpt"]).to_csv(corpus_csv, index=False)
    prepared = material(corpus_csv, NONE)
    references, test = held_against(prepared)
    facts = compared(prepared)
    assert facts is not None
    assert facts.name == "essays/gpt (not used)"
    assert any("Are they reversed" in doubt for doubt in doubts(prepared))
    llm = table.set_index("id")["gpt"].rsub(8)[test["text_id"]].to_numpy()
    assert references["llm"]["rmse"][0] == pytest.approx(np.sqrt(np.mean((test["crowd_label"] - llm) ** 2)))
    assert "llm_label" not in test
