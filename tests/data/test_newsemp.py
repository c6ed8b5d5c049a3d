"""NewsEmp18: reading, downloading, and the real corpus when it is there."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pooch
import pytest

from invitro.data import DataFolder, Holdout, KFold, NewsEmp, Published
from invitro.data.newsemp import YEARS
from invitro.errors import InputError
from invitro.scales import Item, Scale

EMPATHY = Scale("batson_empathy", "empathy", (Item("warm", "warm"),), 1, 7)
DISTRESS = Scale("batson_distress", "distress", (Item("upset", "upset"),), 1, 7)
NOWHERE = "http://127.0.0.1:9/messages.csv"
REAL = os.environ.get("INVITRO_DATA_DIR")


def row(writer: int, essay: int, empathy: str = "2.5", distress: str = "3.125") -> dict[str, str]:
    return {
        "message_id": f"R_{writer}_{essay}",
        "response_id": f"R_{writer}",
        "article_id": str(essay),
        "empathy": empathy,
        "distress": distress,
        "essay": f'Writer {writer} said "no", in essay {essay}.',
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with six writers' essays that pass for the published file."""
    rows = [row(writer, essay) for writer in range(6) for essay in range(2)]
    return publish(rows, tmp_path, monkeypatch)


def publish(rows: list[dict[str, str]], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = folder / "newsemp18" / "messages.csv"
    path.parent.mkdir()
    pd.DataFrame(rows).to_csv(path, index=False)
    published = replace(YEARS[18], url=NOWHERE, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setitem(YEARS, 18, published)
    return folder


def test_essays_become_canonical(folder: Path) -> None:
    corpus = NewsEmp(18, Holdout(), folder).read(EMPATHY)
    first = corpus.table.iloc[0]
    assert (first["text_id"], first["group_id"], first["crowd_label"]) == ("R_0_0", "R_0", 2.5)
    assert first["text"] == 'Writer 0 said "no", in essay 0.'
    assert first["article_id"] == "0"
    assert "distress" not in corpus.table
    assert corpus.label_corpora == ("newsemp18",)
    assert set(corpus.table["split"]) == {"train", "val", "test"}


def test_the_scale_says_which_label(folder: Path) -> None:
    assert (NewsEmp(18, Holdout(), folder).read(DISTRESS).table["crowd_label"] == 3.125).all()
    with pytest.raises(InputError, match=r"not of 'anxiety' .* choose scale=batson_empathy or scale=batson_distress"):
        NewsEmp(18, Holdout(), folder).read(Scale("gad7", "anxiety", (Item("tense", "tense"),), 0, 3, "sum"))


def test_there_are_no_published_splits(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no published validation or test .* choose data/split=holdout"):
        NewsEmp(18, Published(), folder).read(EMPATHY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"empathy": "7.2"},
            r"messages.csv: data row 13 \(text_id R_9_9\), column crowd_label \(empathy in the file\): expected 1 to 7",
        ),
        ({"empathy": "much"}, "messages.csv: data row 13, column empathy: expected a number, found 'much'"),
        ({"message_id": "R_0_0"}, r"column text_id: expected an id that occurs once, found 'R_0_0'"),
    ],
)
def test_faulty_rows_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], message: str
) -> None:
    rows = [row(writer, essay) for writer in range(6) for essay in range(2)] + [row(9, 9) | change]
    with pytest.raises(InputError, match=message):
        NewsEmp(18, Holdout(), publish(rows, tmp_path, monkeypatch)).read(EMPATHY)


def test_a_missing_column_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish([{"message_id": "R_1", "essay": "x", "empathy": "1"}], tmp_path, monkeypatch)
    with pytest.raises(
        InputError, match=r"messages.csv: expected column response_id; found message_id, essay, empathy"
    ):
        NewsEmp(18, Holdout(), tmp_path).read(EMPATHY)


def test_offline_the_error_names_file_folder_and_licence(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        DataFolder(tmp_path).fetch("newsemp18", "messages.csv", NOWHERE, "0" * 64, "CC BY 4.0")
    for part in ("messages.csv", str(tmp_path / "newsemp18"), NOWHERE, "CC BY 4.0", "0" * 64, "INVITRO_DATA_DIR"):
        assert part in str(refused.value)
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_another_content_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "messages.csv"
    path.write_text("mine")
    with pytest.raises(
        InputError, match=r"expected SHA-256 0000.*, found [0-9a-f]{64}; this is not the published file"
    ):
        DataFolder(tmp_path).fetch("newsemp18", "messages.csv", NOWHERE, "0" * 64, "CC BY 4.0")
    assert path.read_text() == "mine"


def test_files_are_in_the_corpus_folder_or_above(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert folder.find("newsemp18", "a.csv") is None
    (tmp_path / "a.csv").write_text("above")
    assert folder.find("newsemp18", "a.csv") == tmp_path / "a.csv"
    (tmp_path / "newsemp18").mkdir()
    (tmp_path / "newsemp18" / "a.csv").write_text("inside")
    assert folder.need("newsemp18", "a.csv", "") == tmp_path / "newsemp18" / "a.csv"


def test_all_missing_files_are_named_with_how_to_obtain_them(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        DataFolder(tmp_path).need_all("newsemp22", ["a.tsv", "b.tsv"], "Ask for it.")
    assert len(refused.value.problems) == 2
    assert f"the file a.tsv is neither in {tmp_path / 'newsemp22'} nor in {tmp_path}. Ask for it." in str(refused.value)


@pytest.mark.parametrize("path", [None, ""])
def test_without_a_folder_the_cache_is_used(path: str | None) -> None:
    assert DataFolder(path).root == Path(pooch.os_cache("invitro"))


def test_a_home_folder_is_expanded() -> None:
    assert DataFolder("~/texts").root == Path.home() / "texts"


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="INVITRO_DATA_DIR is not set")
class TestRealCorpus:
    """The published file itself."""

    def test_size(self) -> None:
        table = NewsEmp(18, Holdout(), REAL).read(EMPATHY).table
        assert len(table) == 1860
        assert table["group_id"].nunique() == 372
        assert table["crowd_label"].between(1, 7).all()
        assert table.groupby("group_id")["split"].nunique().max() == 1
        assert table["split"].value_counts().div(1860).round(1).to_dict() == {"train": 0.7, "test": 0.2, "val": 0.1}

    def test_published_folds_cover_the_corpus_once(self) -> None:
        folds = [NewsEmp(18, KFold(fold=fold), REAL).read(EMPATHY).of_split("test")["text_id"] for fold in (0, 9)]
        assert [len(fold) for fold in folds] == [186, 186]
        assert not set(folds[0]) & set(folds[1])
