"""The shipped configurations of corpora and splits."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from invitro.data import Combination, DevAsTest, Holdout, KFold, NewsEmp, Published, TableFile

CONF = Path(__file__).parents[2] / "conf"
CHOICES = sorted(path.stem for path in (CONF / "data").glob("*.yaml") if path.stem != "simulated")


def made(*overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return instantiate(compose(overrides=list(overrides)).data)


@pytest.mark.parametrize(
    ("choice", "kind", "split"),
    [
        ("newsemp18", NewsEmp, Holdout()),
        ("newsemp22", NewsEmp, DevAsTest()),
        ("newsemp23", NewsEmp, DevAsTest()),
        ("newsemp24", NewsEmp, Published()),
        ("newsemp24_22", Combination, Published()),
        ("newsemp24_23_22", Combination, Published()),
        ("table", TableFile, Holdout()),
    ],
)
def test_every_corpus_is_made_by_its_name(choice: str, kind: type[Any], split: Any) -> None:
    reader = made(f"+data={choice}", *(["data.path=mine.csv"] if choice == "table" else []))
    assert type(reader) is kind
    assert (reader.name, reader.split) == (choice, split)


def test_no_corpus_is_forgotten_here() -> None:
    assert CHOICES == ["newsemp18", "newsemp22", "newsemp23", "newsemp24", "newsemp24_22", "newsemp24_23_22", "table"]


def test_members_of_the_paper_s_combinations() -> None:
    reader = made("+data=newsemp24_23_22", "data.folder=/data")
    assert [member.name for member in reader.members] == ["newsemp24", "newsemp23", "newsemp22"]
    assert reader.folder == "/data"


@pytest.mark.parametrize("choice", ["newsemp18", "newsemp24", "newsemp24_22"])
def test_any_fold_can_be_chosen(choice: str) -> None:
    reader = made(f"+data={choice}", "data/split=kfold", "data.split.fold=3")
    assert reader.split == KFold(fold=3)


def test_columns_of_a_table_are_named_on_the_command_line() -> None:
    reader = made("+data=table", "data.path=mine.csv", "data.columns.text=essay", "data.columns.text_id=null")
    assert type(reader.columns) is dict
    assert (reader.columns["text"], reader.columns["text_id"]) == ("essay", None)


@pytest.mark.parametrize("file", sorted((CONF / "data").rglob("*.yaml")), ids=lambda path: path.stem)
def test_the_first_line_says_what_it_is(file: Path) -> None:
    assert file.read_text().splitlines()[0].startswith("# ")
