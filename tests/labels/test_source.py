"""Where a run's labels come from when there is a store: exactly one set, or the choice, or the line that makes it."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from invitro.data import DataFolder
from invitro.errors import InputError
from invitro.labels import LabelSource
from invitro.labels.answers import Answer, SetInfo, Use, text_hash
from invitro.labels.store import LabelStore
from invitro.scales import Item, Scale

SCALE = Scale("batson_empathy", "empathy", (Item("warm", "warm"), Item("tender", "tender")), 1, 7)
ITEMS = '{"names": ["warm", "tender"], "low": 1, "high": 7, "aggregation": "mean"}'
INFO = SetInfo("essays", "gpt", "gpt-4o", "", "plain", "hash", "batson_empathy", ITEMS, "digits", "{}")
TABLE = pd.DataFrame({"text_id": ["a", "b"], "text": ["text a", "text b"]})


def put(path: Path, info: SetInfo, **scores: float) -> str:
    with LabelStore(path) as store:
        set_id = store.open_set(info)
        for text_id, score in scores.items():
            key = f"{set_id}/{text_id}"
            store.use(set_id, [Use(text_id, 0, key, text_hash(f"text {text_id}"))])
            store.put([Answer(key, 0, "ok", "raw", items=(score, score), score=score)])
    return set_id


def source(path: Path, **changes) -> LabelSource:
    return LabelSource(**({"name": "gpt", "model": "gpt-4o", "store": str(path), "engine": {"x": 1}} | changes))


def find(of: LabelSource, tmp_path: Path, corpora: tuple[str, ...] = ("essays",), table: pd.DataFrame = TABLE):
    return of.find(corpora, table, SCALE, "plain", DataFolder(tmp_path / "data"))


def test_the_one_stored_set_is_used(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    put(path, INFO, a=2.0, b=5.0, elsewhere=7.0)
    put(path, replace(INFO, model="gpt-5"), a=1.0)
    put(path, replace(INFO, prompt="scale_aware"), a=1.0)
    put(path, replace(INFO, corpus="other"), a=1.0)
    labels = find(source(path), tmp_path)
    assert labels.of(TABLE["text_id"]).tolist() == [2, 5]
    assert labels.name == "essays/gpt/plain/batson_empathy/digits"
    assert find(source(path, model="gpt-5"), tmp_path).of(TABLE["text_id"]).tolist()[0] == 1


def test_several_sets_are_listed_and_one_is_chosen_by_id(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    one, other = put(path, INFO, a=2.0), put(path, replace(INFO, readout="expected"), a=3.0)
    with pytest.raises(InputError, match="2 label sets by llm=gpt with prompt=plain") as refused:
        find(source(path), tmp_path)
    assert f"llm.set_id={one}" in str(refused.value)
    assert f"llm.set_id={other}" in str(refused.value)
    assert find(source(path, set_id=other[:6]), tmp_path).of(TABLE["text_id"]).tolist()[0] == 3
    with pytest.raises(InputError, match="No label set nonsense"):
        find(source(path, set_id="nonsense"), tmp_path)


def test_a_published_set_is_a_candidate_too(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    mine = put(path, replace(INFO, corpus="newsemp24", llm="llama"), a=2.0)
    wanted = source(path, name="llama")
    with pytest.raises(InputError, match="2 label sets") as refused:
        find(wanted, tmp_path, ("newsemp24",))
    assert f"llm.set_id={mine}" in str(refused.value)
    assert "llm.set_id=published  newsemp24/llama/plain/batson_empathy" in str(refused.value)
    assert find(replace(wanted, set_id=mine), tmp_path, ("newsemp24",)).of(TABLE["text_id"]).tolist()[0] == 2
    with pytest.raises(InputError, match=r"trac3_EMP_dev_llama_llama_plain\.tsv is neither in"):
        find(replace(wanted, set_id="published"), tmp_path, ("newsemp24",))


@pytest.mark.parametrize("there", [False, True], ids=["no store", "an empty set"])
def test_without_a_set_the_line_that_makes_it_is_shown(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "labels.sqlite"
    if there:
        put(path, INFO)
    with pytest.raises(InputError) as refused:
        find(source(path), tmp_path)
    line = f"python label.py llm=gpt llm.model=gpt-4o prompt=plain scale=batson_empathy data=essays store={path}"
    assert line in str(refused.value)
    assert "No LLM labels by llm=gpt" in str(refused.value)
    assert path.exists() == there
    with pytest.raises(InputError) as refused:
        find(source(path, engine=None), tmp_path)
    assert "label.py" not in str(refused.value)


def test_texts_that_changed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    put(path, INFO, a=2.0, b=5.0)
    with pytest.raises(InputError, match=r"1 text changed since labels were made under the same ids, such as b"):
        find(source(path), tmp_path, table=TABLE.assign(text=["text a", "changed"]))


def test_members_of_a_combination_are_found_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    put(path, INFO, a=2.0)
    put(path, replace(INFO, corpus="more"), b=5.0)
    table = TABLE.assign(text_id=["essays:a", "more:b"])
    assert find(source(path), tmp_path, ("essays", "more"), table).of(table["text_id"]).tolist() == [2, 5]


def test_an_ensemble_is_the_mean_where_all_members_have_a_label(tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    put(path, INFO, a=2.0, b=5.0)
    put(path, replace(INFO, llm="llama", model="llama-3"), a=4.0)
    labels = find(source(path, name="ensemble", model=None, engine=None, members=("gpt", "llama")), tmp_path)
    assert labels.labels["llm_label"].fillna(-1).to_dict() == {"a": 3, "b": -1}
    assert labels.labels.loc["a", "spread"] == 1
    with pytest.raises(InputError, match="llm=qwen"):
        find(source(path, name="ensemble", members=("gpt", "qwen")), tmp_path)


@pytest.mark.parametrize(
    ("by_prompt", "prompt", "expected"),
    [(True, "plain", [5, 6]), (True, "reasoned", [1, 2]), (False, "plain", [1, 2])],
)
def test_a_prompt_s_own_column_goes_before_where_there_is_one(
    tmp_path: Path, by_prompt: bool, prompt: str, expected: list[float]
) -> None:
    table = TABLE.assign(theirs=[1.0, 2.0], theirs_plain=[5.0, 6.0])
    label_source = LabelSource("mine", column="theirs", by_prompt=by_prompt)
    labels = label_source.find(["essays"], table, SCALE, prompt, DataFolder(tmp_path))
    assert labels.of(table["text_id"]).tolist() == expected
    assert labels.name == f"essays/theirs{'_plain' if expected == [5, 6] else ''}"
