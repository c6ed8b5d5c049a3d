"""What a run records of its training labels: whose they are, where the corpus tells."""

from pathlib import Path

import pandas as pd
import pytest
from short_runs import SCALE, material

from invitro.data import DEMOGRAPHICS, Holdout
from invitro.data.simulator.corpus import Simulator
from invitro.labels import LabelSource
from invitro.training.results import labels_of


def test_labels_tell_of_their_authors(corpus_csv: Path) -> None:
    reader = Simulator(Holdout(), texts=120)
    rows = labels_of(material(corpus_csv, reader=reader, source=LabelSource("some", column="llm_label")))
    corpus = reader.read(SCALE).table.set_index("text_id")
    assert list(rows.columns[-6:]) == ["group_id", *DEMOGRAPHICS]
    assert {"crowd", "llm"} == set(rows["origin"])
    for name in ("group_id", *DEMOGRAPHICS):
        assert rows[name].tolist() == corpus.loc[rows["text_id"], name].tolist()


def test_a_corpus_without_demographics_has_the_columns_that_it_had(corpus_csv: Path) -> None:
    rows = labels_of(material(corpus_csv))
    assert list(rows) == ["text_id", "crowd_label", "llm_label", "label", "origin", "weight"]


@pytest.mark.parametrize("missing", ["gender", "income"])
def test_only_what_is_known_is_carried(corpus_csv: Path, missing: str) -> None:
    table = pd.read_csv(corpus_csv).assign(age=30, **{missing: None})
    table.to_csv(corpus_csv, index=False)
    rows = labels_of(material(corpus_csv))
    assert list(rows.columns[-2:]) == ["group_id", "age"]
