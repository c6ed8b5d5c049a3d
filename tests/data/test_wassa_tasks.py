"""Test sets of the shared tasks, row by row, in files with invented essays."""

from pathlib import Path

import pytest

from invitro.data.newsemp import TASKS, YEARS, task_texts
from invitro.errors import InputError

HEADERS = {
    "newsemp22": "message_id\tresponse_id\tessay\n{}",
    "newsemp23": "conversation_id\tspeaker_id\tessay\n{}",
    "newsemp24": "conversation_id,person_id,person_essay\n{}",
}


def write(folder: Path, corpus: str, texts: list[str]) -> Path:
    """Write the test file of `corpus` with ids that fall while rows rise."""
    separator = "," if corpus == "newsemp24" else "\t"
    rows = [separator.join([f"R_{99 - n}", f"{n}", text]) for n, text in enumerate(texts)]
    path = folder / corpus / YEARS[TASKS[corpus]].files["test"]
    path.parent.mkdir(parents=True)
    path.write_text(HEADERS[corpus].format("\n".join(rows) + "\n"))
    return path


@pytest.mark.parametrize("corpus", TASKS)
def test_texts_are_in_the_file_s_order(tmp_path: Path, corpus: str) -> None:
    path = write(tmp_path, corpus, ["zebra", "ape", " mole "])
    assert task_texts(corpus, tmp_path).texts == ("zebra", "ape", "mole")
    assert task_texts(corpus, tmp_path).path == path


def test_a_blank_text_keeps_its_row(tmp_path: Path) -> None:
    write(tmp_path, "newsemp22", ["one", "", "  ", "four"])
    assert task_texts("newsemp22", tmp_path).texts == ("one", "", "", "four")


def test_the_dialect_of_24_is_read(tmp_path: Path) -> None:
    write(tmp_path, "newsemp24", ['"I am a \\"good\\" person, mostly,\nand more."', "Short."])
    assert task_texts("newsemp24", tmp_path).texts == ('I am a "good" person, mostly,\nand more.', "Short.")


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data=newsemp18: is no corpus of a WASSA shared task; .* newsemp22"):
        task_texts("newsemp18", tmp_path)
    with pytest.raises(InputError, match=r"messages_test_features_ready_for_WS_2022.tsv is neither in .* register"):
        task_texts("newsemp22", tmp_path)
    path = write(tmp_path, "newsemp22", [])
    path.write_text("message_id\tessay\n")
    with pytest.raises(InputError, match="expected texts, found a header only"):
        task_texts("newsemp22", tmp_path)
    path.write_text("message_id\ttext\n1\tx\n")
    with pytest.raises(InputError, match="expected column essay; found message_id, text"):
        task_texts("newsemp22", tmp_path)
