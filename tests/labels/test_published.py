"""Published label files in their real formats, and where a run's labels come from."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from invitro.data import DataFolder
from invitro.errors import InputError
from invitro.labels import LabelSource, published, published_sets
from invitro.scales import Item, Scale

NAMES = ("sympathetic", "moved", "compassionate", "tender", "warm", "softhearted")
SCALE = Scale("batson_empathy", "empathy", tuple(Item(name, name) for name in NAMES), 1, 7)
real = pytest.mark.skipif("INVITRO_DATA_DIR" not in os.environ, reason="INVITRO_DATA_DIR names no real corpus")


def corpus(*ids: str, **columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"text_id": list(ids), "text": "a text"} | columns)


def test_names_are_unique_and_files_are_named_by_suffix() -> None:
    names = [entry.name for entry in published_sets()]
    assert len(set(names)) == len(names)
    assert all(path.endswith(".tsv") for entry in published_sets() for path, _ in entry.files)


def test_newsemp24_joins_by_conversation_and_person_and_reads_the_plain_prompt(tmp_path: Path) -> None:
    folder = tmp_path / "newsemp24"
    folder.mkdir()
    folder.joinpath("trac3_EMP_dev_llama_llama_plain.tsv").write_text(
        "id\tconversation_id\tarticle_id\tperson_id\tllm_empathy\tllm_empathy_plain\n2\t72\t9\t65\t1.6\t2.5\n1\t68\t8\t38\t5.3\t\n"
    )
    folder.joinpath("goldstandard_EMP_llama_llama_plain.tsv").write_text(
        "conversation_id\tarticle_id\tperson_id\tllm_empathy\tllm_empathy_plain\n396\t28\t191\t4.25\t5.5\n"
    )
    labels = published("newsemp24", "llama", "plain", "batson_empathy").read(SCALE, DataFolder(tmp_path))
    assert labels.of(pd.Series(["72_65", "396_191"])).tolist() == [2.5, 5.5]
    assert np.isnan(labels.of(pd.Series(["72_65", "68_38"])).iloc[1])


def test_a_missing_file_says_where_it_is_published(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"trac3_EMP_train_gpt\.tsv is neither in .*It is published at https://"
    ) as refused:
        published("newsemp24", "gpt", "scale_aware", "batson_empathy").read(SCALE, DataFolder(tmp_path))
    assert "Apache-2.0" in str(refused.value)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("newsemp18", "gpt", "plain", "batson_empathy"), "There are: llm=llama prompt=scale_aware"),
        (("newsemp18", "gpt", "scale_aware", "batson_distress"), "on scale=batson_distress"),
        (("simulated", "llama", "scale_aware", "batson_empathy"), "No label file was published for it"),
    ],
)
def test_labels_that_nobody_published_are_refused_with_the_candidates(wanted: tuple, expected: str) -> None:
    with pytest.raises(InputError) as refused:
        published(*wanted)
    assert expected in str(refused.value)
    assert "llm.labels=FILE" in str(refused.value)


def test_a_file_of_the_users_with_its_own_columns(tmp_path: Path) -> None:
    path = tmp_path / "gpt.csv"
    path.write_text("essay_nr,score,comment\n007,3.5,kept\n8,,blank\n")
    source = LabelSource("gpt", labels=str(path), columns={"text_id": "essay_nr", "llm_label": "score"})
    labels = source.find(["table"], corpus("8", "007"), SCALE, "plain", DataFolder(tmp_path))
    assert np.isnan(labels.of(pd.Series(["8", "007"])).iloc[0])
    assert labels.of(pd.Series(["8", "007"])).iloc[1] == 3.5


def test_a_missing_column_is_refused_with_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "gpt.csv"
    path.write_text("id,score\na,3\n")
    with pytest.raises(
        InputError, match=r"gpt\.csv: expected columns text_id, llm_label; found id, score.*llm\.columns="
    ):
        LabelSource("gpt", labels=str(path)).find(["table"], corpus("a"), SCALE, "plain", DataFolder(tmp_path))


def test_a_column_of_the_corpus(tmp_path: Path) -> None:
    table = corpus("a", "b", rated=["2", "6.5"])
    labels = LabelSource("gpt", column="rated").find(["table"], table, SCALE, "plain", DataFolder(tmp_path))
    assert labels.of(table["text_id"]).tolist() == [2, 6.5]


def test_file_and_column_exclude_each_other() -> None:
    with pytest.raises(InputError, match="exclude each other"):
        LabelSource("gpt", labels="a.csv", column="b")


def test_a_corpus_that_carries_labels_is_pointed_to(tmp_path: Path) -> None:
    table = corpus("a", llm_label=["2"])
    with pytest.raises(InputError, match="llm=simulated"):
        LabelSource("llama").find(["simulated"], table, SCALE, "plain", DataFolder(tmp_path))


@real
@pytest.mark.real
@pytest.mark.parametrize(
    ("llm", "n", "pcc", "beyond"),
    [("llama", 1860, 0.436868, {4.0: 93, 4.5: 51, 3.5: 165}), ("gpt", 1855, 0.381206, {4.0: 142, 4.5: 97, 3.5: 214})],
)
def test_the_real_labels_have_the_known_figures(llm: str, n: int, pcc: float, beyond: dict[float, int]) -> None:
    from invitro.application import correct
    from invitro.data import Holdout, NewsEmp
    from invitro.stats.moments import measure

    folder = os.environ["INVITRO_DATA_DIR"]
    table = NewsEmp(18, Holdout(), folder).read(SCALE).table
    labels = published("newsemp18", llm, "scale_aware", "batson_empathy").read(SCALE, DataFolder(folder))
    shuffled = table.sample(frac=1, random_state=0)
    llm_labels = labels.of(shuffled["text_id"])
    labelled = llm_labels.notna()
    assert labelled.sum() == n
    assert measure(llm_labels[labelled], shuffled["crowd_label"][labelled])["pcc"] == pytest.approx(pcc, abs=1e-6)
    for alpha, count in beyond.items():
        assert correct(shuffled["crowd_label"].to_numpy(), llm_labels.to_numpy(), alpha).replaced.sum() == count
