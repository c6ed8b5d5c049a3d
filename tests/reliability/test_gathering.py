"""Everybody's scores side by side: published, stored, the user's own; combinations; what is left out and said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from prompting import scale

from invitro.data import Corpus, DataFolder
from invitro.errors import InputError
from invitro.labelling.texts import chosen, parts
from invitro.labels import LabelSource
from invitro.labels.answers import Answer, SetInfo, Use, text_hash
from invitro.labels.store import LabelStore
from invitro.reliability.facets import Rater
from invitro.reliability.gathering import Gathered, NoLabelsError, gather, told_apart

ITEMS = (
    '{"names": ["sympathetic", "moved", "compassionate", "tender", "warm", "softhearted"], "low": 1, "high": 7, '
    '"aggregation": "mean"}'
)
INFO = SetInfo(
    "essays", "qwen", "Qwen2.5", "", "plain", "t1", "batson_empathy", ITEMS, "digits", '{"temperature": 0.0}'
)  # fmt: skip


def put(path: Path, info: SetInfo, scores: dict[str, list[float | None]], text: str = "text {}") -> str:
    """Store a set whose texts have these samples; None is one of no use."""
    with LabelStore(path) as store:
        set_id = store.open_set(info)
        for text_id, samples in scores.items():
            for sample, score in enumerate(samples):
                key = f"{set_id}/{text_id}/{sample}"
                store.use(set_id, [Use(text_id, sample, key, text_hash(text.format(text_id)))])
                status = "ok" if score is not None else "refused"
                store.put([Answer(key, 0, status, "raw", items=(score,) * 6 if score else (), score=score)])
    return set_id


def a_corpus(name: str = "essays", ids: str = "abcd", **more) -> Corpus:
    table = pd.DataFrame(
        {
            "text_id": list(ids), "text": [f"text {one}" for one in ids], "group_id": [f"author {one}" for one in ids],
            "split": "train", "crowd_label": [float(1 + place % 7) for place in range(len(ids))],
        }
    )  # fmt: skip
    return Corpus(name, table.assign(**more), "CC0", "nobody")


def gathered(corpus: Corpus, path: Path | None, tmp_path: Path, **more) -> Gathered:
    return gather(corpus, corpus.table, scale(), path, DataFolder(tmp_path / "data"), **more)


def test_a_stored_set_stands_beside_the_crowd(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    put(path, INFO, {"a": [2.0], "b": [5.0], "d": [None], "elsewhere": [7.0]})
    put(path, replace(INFO, corpus="others"), {"a": [7.0]})
    put(path, replace(INFO, scale="batson_distress"), {"a": [7.0]})
    put(path, replace(INFO, prompt="reasoned"), {"a": [None]})
    found = gathered(a_corpus(), path, tmp_path)
    assert found.raters == {"crowd": Rater(), "qwen/plain": Rater("qwen", "plain", variant="digits")}
    assert found.ratings.fillna(-1).to_dict("list") == {"crowd": [1, 2, 3, 4], "qwen/plain": [2, 5, -1, -1]}
    assert found.ratings.index.tolist() == list("abcd")
    assert found.groups["b"] == "author b"
    assert set(found.parts) == {"essays"}
    assert found.remarks == ()


def test_sets_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    changes: list[dict[str, str]] = [
        {}, {"readout": "text"}, {"sampling": '{"temperature": 0.7}'}, {"revision": "v2"}, {"prompt": "reasoned"},
        {"llm": "gpt", "model": "gpt-4o"}, {"llm": "gpt", "model": "gpt-5"}, {"prompt": "few_shot", "template": "t2"},
        {"prompt": "few_shot", "template": "t3"},
    ]  # fmt: skip
    for change in changes:
        put(path, replace(INFO, **change), {"a": [2.0]})
    raters = gathered(a_corpus(), path, tmp_path).raters
    assert set(raters) == {
        "crowd", "qwen/plain (digits)", "qwen/plain (text)", "qwen/plain (digits, temperature 0.7)",
        "qwen/plain (digits, v2)", "qwen/reasoned", "gpt/plain (gpt-4o)", "gpt/plain (gpt-5)", "qwen/few_shot~t2",
        "qwen/few_shot~t3",
    }  # fmt: skip
    assert raters["gpt/plain (gpt-5)"] == Rater("gpt", "plain", "gpt-5", variant="digits")
    assert raters["qwen/few_shot~t2"].prompt == "few_shot~t2"
    assert raters["qwen/plain (digits, v2)"].revision == "v2"


@pytest.mark.parametrize(
    ("traits", "expected"),
    [
        ([("a", "x")], [""]),
        ([("a", "x"), ("b", "x")], ["a", "b"]),
        ([("a", "x"), ("a", "y")], ["x", "y"]),
        ([("a", "x"), ("b", "x"), ("b", "y")], ["a, x", "b, x", "b, y"]),
        ([("a", ""), ("a", "y")], ["", "y"]),
    ],
)
def test_the_first_traits_that_tell_things_apart(traits: list[tuple[str, str]], expected: list[str]) -> None:
    assert told_apart(traits) == expected


def test_samples_are_raters_beside_their_mean(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    put(path, INFO, {"a": [2.0, 4.0], "b": [5.0, None], "c": [None, None]})
    found = gathered(a_corpus(), path, tmp_path)
    assert found.ratings.drop(columns="crowd").fillna(-1).to_dict("list") == {
        "qwen/plain": [3, 5, -1, -1],
        "qwen/plain #1": [2, 5, -1, -1],
        "qwen/plain #2": [4, -1, -1, -1],
    }
    assert [found.raters[f"qwen/plain{which}"].sample for which in ("", " #1", " #2")] == [None, 1, 2]


def test_labels_of_changed_texts_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    set_id = put(path, INFO, {"a": [2.0, 3.0], "b": [5.0, 5.0]})
    with LabelStore(path) as store:
        store.use(set_id, [Use("b", sample, f"{set_id}/b/{sample}", text_hash("before")) for sample in (0, 1)])
    found = gathered(a_corpus(), path, tmp_path)
    assert found.ratings["qwen/plain"].fillna(-1).tolist() == [2.5, -1, -1, -1]
    assert found.ratings["qwen/plain #2"].fillna(-1).tolist() == [3, -1, -1, -1]
    (remark,) = found.remarks
    assert "1 label of essays/qwen/plain/batson_empathy/digits: the texts have changed since" in remark


def test_a_set_on_other_items_or_bounds_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    put(path, INFO, {"a": [2.0]})
    put(path, replace(INFO, items=ITEMS.replace('"high": 7', '"high": 9'), prompt="reasoned"), {"a": [2.0]})
    put(path, replace(INFO, items=ITEMS.replace("tender", "angry"), prompt="few_shot"), {"a": [2.0]})
    overall = '{"names": ["score"], "low": 1, "high": 7, "aggregation": "mean"}'
    put(path, replace(INFO, items=overall, prompt="both"), {"a": [2.0]})
    found = gathered(a_corpus(), path, tmp_path)
    assert list(found.raters) == ["crowd", "qwen/plain", "qwen/both"]
    assert len(found.remarks) == 2
    assert all("different items or bounds" in remark for remark in found.remarks)


def combined() -> Corpus:
    one, other = a_corpus("newsemp24", "ab"), a_corpus("newsemp22", "bc")
    tables = [
        part.table.assign(text_id=f"{part.name}:" + part.table["text_id"], official_split=["train", "test"])
        for part in (one, other)
    ]
    return Corpus("both", pd.concat(tables, ignore_index=True), "", "", label_corpora=("newsemp24", "newsemp22"))


def test_the_sets_of_members_are_one_rater(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    put(path, replace(INFO, corpus="newsemp24"), {"a": [2.0], "b": [3.0]})
    put(path, replace(INFO, corpus="newsemp22"), {"b": [4.0], "c": [5.0]})
    put(path, replace(INFO, corpus="newsemp22", prompt="reasoned"), {"b": [6.0]})
    found = gathered(combined(), path, tmp_path)
    assert found.ratings.drop(columns="crowd").fillna(-1).to_dict("list") == {
        "qwen/plain": [2, 3, 4, 5],
        "qwen/reasoned": [-1, -1, 6, -1],
    }
    assert found.parts.to_dict() == {
        "newsemp24:a": "newsemp24 train",
        "newsemp24:b": "newsemp24 test",
        "newsemp22:b": "newsemp22 train",
        "newsemp22:c": "newsemp22 test",
    }
    # Published sets of both members exist, but their files are not there: that is said, and does not stop the rest.
    assert any(
        "published labels newsemp24/llama/plain/batson_empathy: newsemp24: the file" in one for one in found.remarks
    )


def test_published_files_are_label_sets(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "newsemp24"
    folder.mkdir(parents=True)
    rows = "conversation_id\tperson_id\tllm_empathy\tllm_empathy_plain\n"
    (folder / "trac3_EMP_dev_llama_llama_plain.tsv").write_text(rows + "1\t2\t4.5\t3.0\n")
    (folder / "goldstandard_EMP_llama_llama_plain.tsv").write_text(rows + "1\t3\t5.5\t\n")
    corpus = a_corpus("newsemp24")
    corpus = replace(corpus, table=corpus.table.assign(text_id=["1_2", "1_3", "1_4", "1_5"]))
    found = gathered(corpus, None, tmp_path)
    assert found.ratings["llama/plain"].fillna(-1).tolist() == [3, -1, -1, -1]
    assert found.raters["llama/plain"] == Rater("llama", "plain", variant="published")
    assert len(found.remarks) == 2  # the training file of either prompt is not there


def test_a_file_and_a_column_of_one_s_own_stand_beside_them(tmp_path: Path) -> None:
    pd.DataFrame({"id": ["a", "b"], "score": [6.0, 7.0]}).to_csv(tmp_path / "mine.csv", index=False)
    own = LabelSource("mine", labels=str(tmp_path / "mine.csv"), columns={"text_id": "id", "llm_label": "score"})
    found = gathered(a_corpus(llm_label=[1.0, 2.0, 3.0, np.nan]), None, tmp_path, own=own)
    assert found.ratings.fillna(-1).to_dict("list") == {
        "crowd": [1, 2, 3, 4],
        "simulated": [1, 2, 3, -1],
        "mine": [6, 7, -1, -1],
    }


def test_raters_are_chosen_by_the_beginning_of_their_names(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    for prompt in ("plain", "reasoned", "few_shot"):
        put(path, replace(INFO, prompt=prompt), {"a": [2.0]})
    assert list(gathered(a_corpus(), path, tmp_path, wanted=["qwen/p", "qwen/few"]).raters) == [
        "crowd", "qwen/plain", "qwen/few_shot",
    ]  # fmt: skip
    with pytest.raises(InputError, match="beginnings of qwen/plain, qwen/reasoned, qwen/few_shot; found gpt"):
        gathered(a_corpus(), path, tmp_path, wanted=["qwen", "gpt"])


def test_no_labels_at_all(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with pytest.raises(
        NoLabelsError, match=r"essays: there are no LLM labels on scale=batson_empathy .* no label store"
    ):
        gathered(a_corpus(), path, tmp_path)
    put(path, replace(INFO, scale="phq9"), {"a": [2.0]})
    with pytest.raises(NoLabelsError) as refused:
        gathered(a_corpus(), path, tmp_path)
    assert "There are labels on scale=phq9: qwen/plain" in str(refused.value)
    corpus = a_corpus("newsemp24")
    with pytest.raises(NoLabelsError) as refused:
        gather(corpus, corpus.table, scale("batson_distress"), None, DataFolder(tmp_path))
    assert "scale=batson_empathy: llama/scale_aware (published), llama/plain (published), gpt" in str(refused.value)


def test_texts_are_drawn_by_seed_and_those_with_a_crowd_label_first() -> None:
    table = a_corpus(ids="abcdefghij").table
    table.loc[[1, 4, 7], "crowd_label"] = np.nan
    assert chosen(table).equals(table)
    assert chosen(table, 3)["text_id"].tolist() == ["a", "b", "c"]
    drawn = [chosen(table, 4, seed)["text_id"].tolist() for seed in range(20)]
    assert all(one == sorted(one) and len(one) == 4 and not {"b", "e", "h"} & set(one) for one in drawn)
    assert len({tuple(one) for one in drawn}) > 5
    assert chosen(table, 4, 3).equals(chosen(table, 4, 3))
    assert chosen(table, 9, 0)["crowd_label"].notna().sum() == 7
    assert len(chosen(table, 99, 0)) == 10


def test_members_of_a_combination_come_one_by_one() -> None:
    corpus = combined()
    found = [(name, table["text_id"].tolist(), prefix) for name, table, prefix in parts(corpus, corpus.table.iloc[1:])]
    assert found == [("newsemp24", ["b"], "newsemp24:"), ("newsemp22", ["b", "c"], "newsemp22:")]
    assert [name for name, _, _ in parts(corpus, corpus.table.iloc[:1])] == ["newsemp24"]
