"""What a run records of its training labels: whose they are, where the corpus tells."""

from pathlib import Path

import pandas as pd
import pytest

from invitro.application import Application
from invitro.data import DEMOGRAPHICS, DataFolder, Holdout, Reader, TableFile
from invitro.data.simulator.corpus import Simulator
from invitro.labels import LabelSource
from invitro.scales import Item, Scale
from invitro.training import prepare
from invitro.training.results import labels_of

SCALE = Scale("batson_empathy", "empathy", (Item("warm", "warm"),), 1, 7)
COLUMNS = {"text_id": "id", "text": "essay", "group_id": "author", "crowd_label": "empathy"}


def labels(reader: Reader, column: str) -> pd.DataFrame:
    source = LabelSource("some", column=column)
    application = Application("both", True, True)
    return labels_of(prepare(reader, SCALE, application, 1.0, source, "scale_aware", DataFolder()))


def test_labels_tell_of_their_authors() -> None:
    reader = Simulator(Holdout(), texts=120)
    rows = labels(reader, "llm_label")
    corpus = reader.read(SCALE).table.set_index("text_id")
    assert list(rows.columns[-6:]) == ["group_id", *DEMOGRAPHICS]
    assert {"crowd", "llm"} == set(rows["origin"])
    for name in ("group_id", *DEMOGRAPHICS):
        assert rows[name].tolist() == corpus.loc[rows["text_id"], name].tolist()


def test_a_corpus_without_demographics_has_the_columns_that_it_had(corpus_csv: Path) -> None:
    rows = labels(TableFile(path=str(corpus_csv), columns=COLUMNS, split=Holdout(val=0.2, test=0.2)), "gpt")
    assert list(rows) == ["text_id", "crowd_label", "llm_label", "label", "origin", "weight"]


@pytest.mark.parametrize("missing", ["gender", "income"])
def test_only_what_is_known_is_carried(corpus_csv: Path, missing: str) -> None:
    table = pd.read_csv(corpus_csv).assign(age=30, **{missing: None})
    table.to_csv(corpus_csv, index=False)
    rows = labels(TableFile(path=str(corpus_csv), columns=COLUMNS, split=Holdout(val=0.2, test=0.2)), "gpt")
    assert list(rows.columns[-2:]) == ["group_id", "age"]
