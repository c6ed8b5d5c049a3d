"""Label sets: joined by key, never by row order."""

import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invitro.errors import InputError
from invitro.labels import joined, label_set
from invitro.scales import Item, Scale

SCALE = Scale("empathy7", "empathy", (Item("warm", "warm"),), 1, 7)


def a_set(labels: dict[str, float], name: str = "c/llm/p/s"):
    return label_set(name, table(list(labels), list(labels.values())), SCALE, "labels.tsv")


def table(ids: list, labels: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"text_id": pd.Series(ids, dtype="str"), "llm_label": pd.Series(labels, dtype="float64")})


@given(st.permutations(range(8)), st.sets(st.integers(0, 7), max_size=7), st.integers(0, 3))
def test_shuffled_shortened_and_foreign_rows_change_no_label(order: list[int], deleted: set[int], foreign: int) -> None:
    truth = {f"t{i}": 1 + i * 0.5 for i in range(8)}
    rows = {f"t{i}": truth[f"t{i}"] for i in order if i not in deleted}
    rows |= {f"foreign{i}": 7.0 for i in range(foreign)}
    ids = pd.Series([f"t{i}" for i in range(8)], dtype="str")
    labels = a_set(rows).of(ids)
    for text_id, label in zip(ids, labels, strict=True):
        assert (np.isnan(label) and int(text_id[1:]) in deleted) or label == truth[text_id]


def test_foreign_ids_are_counted_and_left(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        labels = a_set({"t1": 2.0, "x1": 3.0, "x2": 4.0}).of(pd.Series(["t1", "t2"]))
    assert labels.tolist()[0] == 2.0
    assert "left out: 2 labels of texts that are not in use" in caplog.text


def test_no_id_in_common_is_an_error_that_shows_both_sides() -> None:
    with pytest.raises(InputError, match="no id in common") as refused:
        a_set({"x1": 2.0}).of(pd.Series(["t1", "t2"]))
    assert "'x1'" in str(refused.value)
    assert "'t1'" in str(refused.value)


def test_labels_on_another_scale_are_told_in_one_line() -> None:
    with pytest.raises(InputError) as refused:
        a_set({f"t{number}": 10.0 * number for number in range(11)})
    (problem,) = refused.value.problems
    assert "11 of 11 LLM labels lie outside 1 to 7 (empathy7): they range from 0 to 100, such as 0 in " in problem
    assert problem.endswith("Have the LLM answer on this scale, or convert its labels: 1 + 0.06 * (label - 0)")


@pytest.mark.parametrize(
    ("ids", "labels", "message"),
    [
        (["a", "a"], [1.0, 2.0], "data row 2: expected an id that occurs once, found id 'a'"),
        (["a", None], [1.0, 2.0], "data row 2: expected an id"),
        (["a", "b"], [1.0, 7.5], r"data row 2: expected a label from 1 to 7 \(empathy7\), found id 'b' with label 7.5"),
    ],
)
def test_faulty_rows_are_refused_with_their_number(ids: list, labels: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        label_set("n", table(ids, labels), SCALE, "labels.tsv")


def test_the_fingerprint_ignores_order_and_sees_labels() -> None:
    labels, shuffled, other = a_set({"a": 1, "b": 2}), a_set({"b": 2, "a": 1}), a_set({"a": 1, "b": 3})
    assert labels.fingerprint == shuffled.fingerprint != other.fingerprint


def test_members_of_a_combination_get_their_prefix() -> None:
    both = joined([a_set({"a": 1}, "x"), a_set({"a": 2}, "y")], ["newsemp24:", "newsemp22:"])
    assert both.of(pd.Series(["newsemp22:a", "newsemp24:a"])).tolist() == [2, 1]
    assert both.name == "x+y"


def test_further_columns_are_carried() -> None:
    labels = label_set("n", table(["a"], [2.0]).assign(warm="3", article="7"), SCALE, "labels.tsv")
    assert labels.labels.loc["a", "warm"] == "3"
    assert list(labels.labels.columns) == ["llm_label", "warm", "article"]
