"""NewsEmp22, NewsEmp23 and NewsEmp24 in the shared tasks' file formats, and their test sets row by row."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from invitro.data import Combination, DevAsTest, Holdout, NewsEmp, Published, Reader, SplitRule, refuse_shared_texts
from invitro.data.newsemp import TASKS, YEARS, task_texts
from invitro.errors import InputError
from invitro.scales import Item, Scale

EMPATHY = Scale("batson_empathy", "empathy", (Item("warm", "warm"),), 1, 7)
DISTRESS = Scale("batson_distress", "distress", (Item("upset", "upset"),), 1, 7)
ABOUT_22 = {"gender": "1", "education": "6", "race": "1", "age": "33", "income": "50000", "iri_fantasy": "3.2"}
Rows = list[dict[str, str]]


def rows_22(part: str, count: int, labels: bool) -> Rows:
    return [
        {"message_id": f"R_{part}{n}_1", "response_id": f"R_{part}{n}", "article_id": str(n)}
        | ({"empathy": f"{2 + n / 2}", "distress": f"{1 + n / 2}"} if labels else {})
        | {"essay": f"An essay of {part} number {n}, with a comma."}
        | ABOUT_22
        for n in range(count)
    ]


def write_22(folder: Path, **changes: Any) -> Path:
    """Write NewsEmp22's files; `changes` replace train, dev, test (rows) or gold (lines)."""
    parts = {"train": rows_22("a", 4, True), "dev": rows_22("b", 3, False), "test": rows_22("c", 2, False)} | changes
    target = folder / "newsemp22"
    target.mkdir()
    for part, file in {
        "train": "messages_train_ready_for_WS.tsv",
        "dev": "messages_dev_features_ready_for_WS_2022.tsv",
        "test": "messages_test_features_ready_for_WS_2022.tsv",
    }.items():
        pd.DataFrame(parts[part]).to_csv(target / file, sep="\t", index=False)
    gold = changes.get("gold", ["5.5\t1.5\tsadness", "6\t2\tjoy", "6.5\t2.5\tanger"])
    (target / "goldstandard_dev_2022.tsv").write_text("\n".join(gold) + "\n")
    return folder


def write_23(folder: Path) -> Path:
    target = folder / "newsemp23"
    target.mkdir()

    def rows(part: str, conversations: range, first: int, labels: bool) -> Rows:
        return [
            {"conversation_id": str(conversation), "article_id": "7", "speaker_id": str(speaker), "split": part}
            | {"essay_id": str(first + 2 * n + speaker), "essay": f"Speaker {speaker} before talk {conversation}."}
            | {"gender": "unknown", "age": " Unknown ", "income": "", "personality_openness": "unknown"}
            | ({"empathy": "4", "distress": "2"} if labels else {})
            for n, conversation in enumerate(conversations)
            for speaker in (0, 1)
        ]

    for part, file, first, conversations in (
        ("train", "WASSA23_essay_level_with_labels_train.tsv", 0, range(1, 4)),
        ("dev", "WASSA23_essay_level_dev.tsv", 6, range(4, 6)),
        ("test", "WASSA23_essay_level_test.tsv", 0, range(1001, 1003)),
    ):
        pd.DataFrame(rows(part, conversations, first, part == "train")).to_csv(target / file, sep="\t", index=False)
    (target / "goldstandard_dev.tsv").write_text("1\t7\n2\t6\n3\t5\n4\t4\n")
    return folder


HEADER_24 = "conversation_id,article_id,person_id,person_essay,person_empathy,person_distress\n"
PARTS_24 = {
    "trac3_EMP_train.csv": HEADER_24
    + '1,35,p019,"I am a \\"good\\" person, mostly.",5.5,1.5\n'
    + '1,35,p012,"A back\\\\slash, and\na new line.",2,3\n'
    + "2,35,p019,Short.,4,4\n",
    "trac3_EMP_dev.csv": "id," + HEADER_24 + '1,1,8,38,"Dev, one.",1,7\n2,1,8,75,"Dev, two.",,6\n3,2,8,38,,3,3\n',
    "goldstandard_EMP.csv": HEADER_24 + '396,28,191,"Test, one.",6.5,2\n',
}
PEOPLE_24 = "person_id,gender,education,race,age,income,personality_openness\n"


def write_24(folder: Path, **files: str) -> Path:
    target = folder / "newsemp24"
    target.mkdir()
    for file, content in (PARTS_24 | {f"{name}.csv": content for name, content in files.items()}).items():
        (target / file).write_text(content)
    return folder


def test_22_reads_train_dev_and_test(tmp_path: Path) -> None:
    corpus = NewsEmp(22, folder=write_22(tmp_path)).read(EMPATHY)
    table = corpus.table.set_index("text_id")
    assert table["official_split"].tolist() == ["train"] * 4 + ["dev"] * 3 + ["test"] * 2
    assert table["split"].tolist() == ["train"] * 4 + ["val"] * 3 + ["unlabelled"] * 2
    assert table["crowd_label"].tolist()[:7] == [2, 2.5, 3, 3.5, 5.5, 6, 6.5]
    assert table["crowd_label"].isna().tolist() == [False] * 7 + [True] * 2
    first = table.loc["R_a0_1"]
    assert first["group_id"] == "R_a0"
    assert first["text"] == "An essay of a number 0, with a comma."
    assert (first["age"], first["iri_fantasy"], first["article_id"]) == ("33", "3.2", "0")
    assert not {"message_id", "response_id", "essay", "empathy", "distress"} & set(table.columns)
    assert "redistribution" in corpus.licence


def test_22_reads_distress_from_the_second_column(tmp_path: Path) -> None:
    table = NewsEmp(22, folder=write_22(tmp_path)).read(DISTRESS).table
    assert table["crowd_label"].tolist()[:7] == [1, 1.5, 2, 2.5, 1.5, 2, 2.5]


def test_22_may_be_split_anew(tmp_path: Path) -> None:
    table = NewsEmp(22, split=Holdout(test=0.3), folder=write_22(tmp_path)).read(EMPATHY).table
    assert table["split"].value_counts().to_dict() == {"train": 4, "test": 2, "unlabelled": 2, "val": 1}


def test_23_reads_train_dev_and_test(tmp_path: Path) -> None:
    table = NewsEmp(23, folder=write_23(tmp_path)).read(EMPATHY).table
    assert table["text_id"].tolist()[:3] == ["1_0", "1_1", "2_0"]
    assert table["group_id"].tolist()[:3] == ["0", "1", "0"]
    assert table["split"].value_counts().to_dict() == {"train": 6, "val": 4, "unlabelled": 4}
    assert table["crowd_label"].tolist()[6:10] == [1, 2, 3, 4]
    assert "speaker_id" not in table


def test_23_keeps_essays_apart_whose_numbers_start_anew(tmp_path: Path) -> None:
    table = NewsEmp(23, folder=write_23(tmp_path)).read(EMPATHY).table
    assert table["essay_id"].duplicated().any()
    assert table["text_id"].is_unique


def test_dev_is_the_test_where_test_has_no_labels(tmp_path: Path) -> None:
    table = NewsEmp(22, split=DevAsTest(val=0.25), folder=write_22(tmp_path)).read(EMPATHY).table
    assert table["split"].value_counts().to_dict() == {"train": 3, "val": 1, "test": 3, "unlabelled": 2}
    assert set(table.loc[table["split"] == "test", "official_split"]) == {"dev"}
    assert set(table.loc[table["split"] == "unlabelled", "official_split"]) == {"test"}


def test_validation_is_drawn_by_author(tmp_path: Path) -> None:
    table = NewsEmp(23, split=DevAsTest(val=0.4), folder=write_23(tmp_path)).read(EMPATHY).table
    inside = table[table["official_split"] == "train"]
    assert inside.groupby("group_id")["split"].nunique().tolist() == [1, 1]
    assert set(inside["split"]) == {"train", "val"}


def test_a_labelled_test_is_not_given_up_for_dev(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has test texts with crowd labels \(3 train, 1 val, 1 test.*split=publish"):
        NewsEmp(24, split=DevAsTest(), folder=write_24(tmp_path)).read(EMPATHY)


@pytest.mark.parametrize("split", [Published(), DevAsTest(val=0.25)])
def test_a_training_text_that_is_also_in_dev_is_left_out(
    tmp_path: Path, split: SplitRule, caplog: pytest.LogCaptureFixture
) -> None:
    """NewsEmp23 was published with one such essay."""
    folder = write_22(tmp_path, dev=changed(rows_22("b", 3, False), 1, essay="An essay of a number 2, with a comma. "))
    with caplog.at_level(logging.WARNING):
        corpus = NewsEmp(22, split=split, folder=folder).read(EMPATHY)
    assert "newsemp22: left out: 1 text of training or pool also in validation or test: R_a2_1" in caplog.text
    assert "R_a2_1" not in set(corpus.table["text_id"])
    assert len(corpus.table) == 8
    refuse_shared_texts(corpus.of_split("train", "unlabelled"), corpus.of_split("val", "test"), "newsemp22")


@pytest.mark.parametrize("column", ["gender", "age", "income", "personality_openness"])
def test_unknown_is_missing(tmp_path: Path, column: str) -> None:
    assert NewsEmp(23, folder=write_23(tmp_path)).read(EMPATHY).table[column].isna().all()


def test_24_reads_its_dialect(tmp_path: Path) -> None:
    table = NewsEmp(24, folder=write_24(tmp_path)).read(EMPATHY).table.set_index("text_id")
    assert table.loc["1_p019", "text"] == 'I am a "good" person, mostly.'
    assert table.loc["1_p012", "text"] == "A back\\slash, and\na new line."
    assert table.loc["1_p019", "group_id"] == "p019"
    assert table["conversation_id"].tolist() == ["1", "1", "2", "1", "1", "396"]
    assert table["split"].tolist() == ["train"] * 3 + ["val", "unlabelled", "test"]
    assert table["official_split"].tolist() == ["train"] * 3 + ["dev", "dev", "test"]
    assert table["crowd_label"].fillna(-1).tolist() == [5.5, 2, 4, 1, -1, 6.5]


def test_24_reads_distress(tmp_path: Path) -> None:
    table = NewsEmp(24, folder=write_24(tmp_path)).read(DISTRESS).table
    assert table["crowd_label"].tolist() == [1.5, 3, 4, 7, 6, 2]


def test_24_counts_blank_labels_and_blank_texts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        NewsEmp(24, folder=write_24(tmp_path)).read(EMPATHY)
    assert "trac3_EMP_dev.csv: left out: 1 row without a text" in caplog.text
    assert "trac3_EMP_dev.csv: unlabelled: 1 text with a blank crowd label" in caplog.text


def test_24_takes_demographics_from_the_personality_files(tmp_path: Path) -> None:
    folder = write_24(
        tmp_path,
        trac4_PER_train="id," + PEOPLE_24 + "1,p019,1,6,1,33,50000,4.5\n2,p019,1,6,1,33,50000,4.5\n",
        goldstandard_PER=PEOPLE_24 + "191,2,7,5,unknown,70000,2\n999,1,1,1,1,1,1\n",
    )
    table = NewsEmp(24, folder=folder).read(EMPATHY).table.set_index("text_id")
    assert len(table) == 6
    assert table.loc[["1_p019", "2_p019"], "age"].tolist() == ["33", "33"]
    assert (table.loc["396_191", "gender"], table.loc["396_191", "personality_openness"]) == ("2", "2")
    assert table.loc[["396_191"], "age"].isna().all()
    assert table.loc[["1_p012", "1_38"], "gender"].isna().all()


def test_24_reads_without_demographics_and_without_dev_labels(tmp_path: Path) -> None:
    dev = "conversation_id,article_id,person_id,person_essay\n1,8,38,Dev.\n"
    table = NewsEmp(24, folder=write_24(tmp_path, trac3_EMP_dev=dev)).read(EMPATHY).table
    assert "gender" not in table
    assert table["split"].tolist() == ["train"] * 3 + ["unlabelled", "test"]


@pytest.mark.parametrize(
    ("year", "files"),
    [(22, 4), (23, 4), (24, 3)],
)
def test_missing_files_are_named_with_the_way_to_get_them(tmp_path: Path, year: Any, files: int) -> None:
    with pytest.raises(InputError) as refused:
        NewsEmp(year, folder=tmp_path).read(EMPATHY)
    assert len(refused.value.problems) == files
    for problem in refused.value.problems:
        assert f"WASSA 20{year} shared task" in problem
        assert "register" in problem
        assert str(tmp_path / f"newsemp{year}") in problem
        assert "INVITRO_DATA_DIR" in problem


@pytest.mark.parametrize("reader", [NewsEmp(22), NewsEmp(23), NewsEmp(24)])
def test_other_constructs_are_refused_before_files_are_looked_for(reader: Reader) -> None:
    with pytest.raises(InputError, match=r"has crowd labels of empathy and distress, not of 'anxiety'"):
        reader.read(Scale("gad7", "anxiety", (Item("tense", "tense"),), 0, 3, "sum"))


def changed(rows: Rows, row: int, **cells: str) -> Rows:
    return [record | cells if n == row else record for n, record in enumerate(rows)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"gold": ["5\t5", "5\t5"]},
            r"goldstandard_dev_2022.tsv: expected one line, without a header, for each of the 3 texts of messages_dev.*"
            r"found 2 lines",
        ),
        ({"gold": ["empathy\tdistress", "5\t5", "5\t5", "5\t5"]}, "each of the 3 texts .* found 4 lines"),
        ({"gold": ["5", "5", "5"]}, "expected empathy and distress in the first two columns, found one column"),
        ({"gold": ["5\t5", "x\t5", "5\t5"]}, "dev_2022.tsv: data row 2, column empathy: expected a number, found 'x'"),
        (
            {"gold": ["5\t5", "8\t5", "5\t5"]},
            r"data row 2 \(text_id R_b1_1\), column crowd_label: expected 1 to 7 \(batson_empathy\), found 8.0",
        ),
        (
            {"train": changed(rows_22("a", 4, True), 3, message_id="R_a0_1")},
            r"messages_train_ready_for_WS.tsv: data row 1 .* an id that occurs once, found 'R_a0_1'",
        ),
        (
            {"test": rows_22("a", 2, False)},
            r"newsemp22 \(its files together\): .* column text_id: expected an id that occurs once, found 'R_a0_1'",
        ),
        (
            {"train": [{"message_id": "R_1", "essay": "x", "empathy": "1"}]},
            "messages_train_ready_for_WS.tsv: expected column response_id; found message_id, essay, empathy",
        ),
        (
            {"train": rows_22("a", 4, False)},
            "messages_train_ready_for_WS.tsv: expected column empathy; found message_id",
        ),
    ],
)
def test_files_that_are_not_as_published_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NewsEmp(22, folder=write_22(tmp_path, **change)).read(EMPATHY)


def test_a_file_with_a_header_only_is_an_empty_corpus(tmp_path: Path) -> None:
    folder = write_24(tmp_path, trac3_EMP_train=HEADER_24)
    with pytest.raises(InputError, match=r"trac3_EMP_train.csv: expected texts, found an empty table"):
        NewsEmp(24, folder=folder).read(EMPATHY)


def test_a_blank_gold_label_makes_a_text_unlabelled(tmp_path: Path) -> None:
    table = NewsEmp(22, folder=write_22(tmp_path, gold=["5\t5", "\t5", "5\t5"])).read(EMPATHY).table
    assert table["split"].tolist()[4:7] == ["val", "unlabelled", "val"]


def test_the_paper_s_combination_reads_from_one_folder(tmp_path: Path) -> None:
    write_24(tmp_path)
    write_22(tmp_path, dev=changed(rows_22("b", 3, False), 0, essay="Dev, one."))
    corpus = Combination("newsemp24_22", [NewsEmp(24), NewsEmp(22)], folder=tmp_path).read(EMPATHY)
    table = corpus.table.set_index("text_id")
    # 22's first dev text repeats a validation text of 24; its other two join the training texts.
    assert "newsemp22:R_b0_1" not in table.index
    assert table.loc[["newsemp22:R_b1_1", "newsemp22:R_b2_1"], "split"].tolist() == ["train", "train"]
    assert table["split"].value_counts().to_dict() == {"train": 3 + 4 + 2, "unlabelled": 1 + 2, "val": 1, "test": 1}
    assert table.loc["newsemp24:1_p019", "group_id"] == "newsemp24:p019"
    assert corpus.label_corpora == ("newsemp24", "newsemp22")


HEADERS = {
    "newsemp22": "message_id\tresponse_id\tessay\n{}",
    "newsemp23": "conversation_id\tspeaker_id\tessay\n{}",
    "newsemp24": "conversation_id,person_id,person_essay\n{}",
}


def write_test(folder: Path, corpus: str, texts: list[str]) -> Path:
    """Write the test file of `corpus` with ids that fall while rows rise."""
    separator = "," if corpus == "newsemp24" else "\t"
    rows = [separator.join([f"R_{99 - n}", f"{n}", text]) for n, text in enumerate(texts)]
    path = folder / corpus / YEARS[TASKS[corpus]].files["test"]
    path.parent.mkdir(parents=True)
    path.write_text(HEADERS[corpus].format("\n".join(rows) + "\n"))
    return path


@pytest.mark.parametrize("corpus", TASKS)
def test_texts_are_in_the_file_s_order(tmp_path: Path, corpus: str) -> None:
    path = write_test(tmp_path, corpus, ["zebra", "ape", " mole "])
    assert task_texts(corpus, tmp_path).texts == ("zebra", "ape", "mole")
    assert task_texts(corpus, tmp_path).path == path


def test_a_blank_text_keeps_its_row(tmp_path: Path) -> None:
    write_test(tmp_path, "newsemp22", ["one", "", "  ", "four"])
    assert task_texts("newsemp22", tmp_path).texts == ("one", "", "", "four")


def test_the_dialect_of_24_is_read(tmp_path: Path) -> None:
    write_test(tmp_path, "newsemp24", ['"I am a \\"good\\" person, mostly,\nand more."', "Short."])
    assert task_texts("newsemp24", tmp_path).texts == ('I am a "good" person, mostly,\nand more.', "Short.")


def test_corpora_and_files_without_a_test_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data=newsemp18: is not a corpus of a WASSA shared task; .* newsemp22"):
        task_texts("newsemp18", tmp_path)
    with pytest.raises(InputError, match=r"messages_test_features_ready_for_WS_2022.tsv is neither in .* register"):
        task_texts("newsemp22", tmp_path)
    path = write_test(tmp_path, "newsemp22", [])
    path.write_text("message_id\tessay\n")
    with pytest.raises(InputError, match="expected texts, found a header only"):
        task_texts("newsemp22", tmp_path)
    path.write_text("message_id\ttext\n1\tx\n")
    with pytest.raises(InputError, match="expected column essay; found message_id, text"):
        task_texts("newsemp22", tmp_path)
