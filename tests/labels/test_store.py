"""The label store: what is put in stays, whoever else writes."""

import math
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support import ROOT

from invitro.errors import InputError
from invitro.labels.answers import Answer, Attempt, SetInfo, Use, next_attempt
from invitro.labels.source import stored_labels
from invitro.labels.store import LabelStore
from invitro.scales import Item, Scale

SCALE = Scale("s", "empathy", (Item("warm", "warm"), Item("tender", "tender")), 1, 7)
ITEMS = '{"names": ["warm", "tender"], "low": 1, "high": 7, "aggregation": "mean"}'
INFO = SetInfo("c", "gpt", "gpt-4o", "", "plain", "hash", "s", ITEMS, "digits", "{}", {"licence": "CC"})


def ok(key: str, *items: float, spread: float | None = None, **more) -> Answer:
    values = {"raw": "reply", "score": sum(items) / len(items), "spread": spread, "answered": "2026-01-01T00:00:00Z"}
    return Answer(key, 0, "ok", items=items, **(values | more))


def bad(key: str, attempt: int = 0, status: str = "unparseable", raw: str = "no") -> Answer:
    return Answer(key, attempt, status, raw, error="why", answered="2026-01-01T00:00:00Z")


@pytest.fixture
def store(tmp_path: Path):
    with LabelStore(tmp_path / "new" / "labels.sqlite") as store:
        yield store


def fill(store: LabelStore, answers: list[Answer], uses: dict[tuple[str, int], str]) -> str:
    set_id = store.open_set(INFO)
    store.use(set_id, [Use(text_id, sample, key, f"hash of {text_id}") for (text_id, sample), key in uses.items()])
    store.put(answers)
    return set_id


def test_an_answer_comes_back_as_it_was_put(store: LabelStore) -> None:
    tokens = (("3", (("3", -0.1), ("4", -2.5))), ("5", (("5", 0.0),)))
    whole = ok(
        "k", 3.0, 5.0, spread=0.5, tokens=tokens, prompt_tokens=10, completion_tokens=2, cost=0.01, finish="length"
    )
    store.put([whole, bad("k2", 1)])
    assert list(store.answers()) == [whole, bad("k2", 1)]
    assert store.known(["k", "k2", "k3"]) == {"k": {0: (1, "ok", "length")}, "k2": {1: (2, "unparseable", "stop")}}
    assert store.latest() == 2


def test_what_is_stored_stays_and_only_an_error_gives_way(store: LabelStore) -> None:
    store.put([ok("a", 3, 5), bad("b"), bad("c", status="error")])
    store.put([ok("a", 1, 1), ok("b", 1, 1), ok("c", 1, 1)])
    assert [(answer.key, answer.status, answer.score) for answer in store.answers()] == [
        ("a", "ok", 4),
        ("b", "unparseable", None),
        ("c", "ok", 1),
    ]
    assert store.known(["c"])["c"][0].number > 3  # fmt: skip


@pytest.mark.parametrize("raw", ["half \ud800 pair", "nul \0 inside", "emoji 🙂 and\r\nlines"])
def test_any_reply_can_be_stored(store: LabelStore, raw: str) -> None:
    store.put([bad("k", raw=raw)])
    assert next(store.answers()).raw == raw.replace("\ud800", "\\ud800")


def test_samples_are_averaged_with_their_spread(store: LabelStore) -> None:
    uses = {("t1", 0): "a", ("t1", 1): "b", ("t2", 0): "c", ("t2", 1): "d", ("t3", 0): "e", ("t4", 0): "f"}
    answers = [ok("a", 2, 4), ok("b", 4, 6), ok("c", 7, 7), bad("d"), bad("e"), bad("e", 1), ok("f", 1, 2, spread=0.5)]
    set_id = fill(store, answers, uses)
    (stored,) = store.sets()
    labels = stored_labels(store, stored, SCALE)
    assert labels.labels["llm_label"].fillna(-1).tolist() == [4, 7, -1, 1.5]
    assert labels.labels["spread"].fillna(-1).tolist() == [1, -1, -1, 0.5]
    assert labels.labels["samples"].tolist() == [2, 1, 0, 1]
    assert labels.labels["llm_warm"].fillna(-1).tolist() == [3, 7, -1, 1]
    assert (labels.name, stored.id) == ("c/gpt/plain/s/digits", set_id)
    assert (stored.texts, stored.labelled, stored.samples, stored.answers) == (4, 3, 2, 7)
    assert stored.unusable == {"unparseable": 2}
    assert stored.info.about == {"licence": "CC"}


def test_spreads_of_samples_add_up() -> None:
    from invitro.labels.source import _averaged

    label, spread = _averaged([(3.0, 1.0), (5.0, 2.0)])
    assert (label, spread) == (4.0, pytest.approx(math.sqrt((1 + 4) / 2 + 1)))


def test_the_retry_counts_where_the_first_answer_was_of_no_use(store: LabelStore) -> None:
    fill(store, [bad("a"), replace(ok("a", 3, 3), attempt=1)], {("t", 0): "a"})
    assert stored_labels(store, store.sets()[0], SCALE).labels["llm_label"].tolist() == [3]
    assert store.sets()[0].unusable == {}


def test_one_answer_serves_several_texts_and_sets(store: LabelStore) -> None:
    fill(store, [ok("a", 3, 3)], {("t", 0): "a", ("copy of t", 0): "a"})
    other = store.open_set(replace(INFO, corpus="d"))
    store.use(other, [Use("u", 0, "a", "h")])
    assert {stored.info.corpus: (stored.labelled, stored.answers) for stored in store.sets()} == {
        "c": (2, 1),
        "d": (1, 1),
    }
    assert [stored.id for stored in store.sets(corpus="d")] == [other]


@pytest.mark.parametrize("part", [name for name in SetInfo.__dataclass_fields__ if name != "about"])
def test_each_part_of_the_identity_makes_another_set(part: str) -> None:
    assert replace(INFO, **{part: "other"}).id != INFO.id
    assert replace(INFO, about={"licence": "other"}).id == INFO.id


def test_parsing_anew(store: LabelStore) -> None:
    set_id = fill(store, [bad("a", raw="36"), bad("b", status="error"), ok("c", 2, 2)], {})
    store.use(set_id, [Use(key, 0, key, "h") for key in "abc"])

    def parse(answer: Answer) -> Answer:
        return replace(answer, status="ok", items=(3.0, 6.0), score=4.5) if answer.raw == "36" else answer

    assert store.reparse(parse, set_id) == 1
    assert store.reparse(parse, set_id) == 0
    assert store.sets()[0].labelled == 2
    assert stored_labels(store, store.sets()[0], SCALE).labels.loc["a", "llm_label"] == 4.5


def test_merging(store: LabelStore, tmp_path: Path) -> None:
    fill(store, [ok("a", 3, 3), bad("b", status="error")], {("t1", 0): "a", ("t2", 0): "b"})
    with LabelStore(tmp_path / "other.sqlite") as other:
        fill(other, [ok("a", 7, 7), ok("b", 2, 2), ok("c", 5, 5)], {("t2", 0): "b", ("t3", 0): "c"})
    assert store.merge(tmp_path / "other.sqlite") == 1
    labels = stored_labels(store, store.sets()[0], SCALE).labels["llm_label"]
    assert labels.to_dict() == {"t1": 3, "t2": 2, "t3": 5}
    assert store.merge(tmp_path / "other.sqlite") == 0
    with pytest.raises(InputError, match="this is the same store"):
        store.merge(store.path)
    with pytest.raises(InputError, match="no such label store"):
        store.merge(tmp_path / "none.sqlite")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, but long enough to have a header " * 20)
    with pytest.raises(InputError, match="not a label store, or its beginning is damaged"):
        LabelStore(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE t (x)")
    other.commit()
    with pytest.raises(InputError, match="but not a label store"):
        LabelStore(tmp_path / "other.sqlite")
    with LabelStore(tmp_path / "new.sqlite") as new:
        new.db.execute("PRAGMA user_version = 99")
    with pytest.raises(InputError, match="of version 99"):
        LabelStore(tmp_path / "new.sqlite")


@pytest.mark.parametrize(
    "broken",
    [{"score": math.nan}, {"score": None}, {"score": math.inf}, {"score": -math.inf}, {"items": ()},
     {"items": (math.nan, 3.0)}, {"items": (3.0, math.inf)}, {"spread": -1.0}, {"spread": math.inf}, {"cost": math.nan},
     {"cost": -1.0}, {"prompt_tokens": -1}, {"completion_tokens": math.nan}, {"completion_tokens": "many"}],
    ids=str,
)  # fmt: skip
def test_what_is_no_number_is_not_stored(store: LabelStore, broken: dict) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        store.put([ok("a", 3, 3), replace(ok("b", 3, 3), **broken)])
    assert list(store.answers()) == []


@pytest.mark.parametrize(
    ("stored", "before", "wanted"),
    [
        ({}, None, (0, 0, 0)),
        ({0: (1, "ok", "stop")}, None, (None, None, None)),
        ({0: (1, "refused", "stop"), 1: (2, "ok", "stop")}, None, (None, None, None)),
        ({0: (1, "error", "error")}, None, (0, 0, 0)),
        ({0: (9, "error", "error")}, 8, (None, None, None)),  # of this job
        ({0: (1, "unparseable", "stop")}, None, (1, 1, 1)),
        ({0: (9, "unparseable", "stop")}, 8, (1, 1, 1)),
        ({0: (1, "truncated", "length"), 1: (2, "error", "error")}, None, (1, 1, 1)),
        ({0: (1, "truncated", "length"), 1: (2, "truncated", "length")}, None, (None, 2, 2)),
        ({0: (1, "truncated", "length"), 1: (9, "truncated", "length")}, 8, (None, None, None)),
        ({0: (1, "refused", "filter")}, None, (None, None, 1)),
        ({0: (9, "refused", "filter")}, 8, (None, None, None)),
    ],
)  # fmt: skip
def test_which_attempt_is_next(stored: dict, before: int | None, wanted: tuple[int | None, ...]) -> None:
    attempts = {number: Attempt(*attempt) for number, attempt in stored.items()}
    assert tuple(next_attempt(attempts, retry, before) for retry in ("errors", "unusable", "all")) == wanted


def test_a_failing_transaction_leaves_nothing(store: LabelStore) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        store.put([ok("a", 3, 3), replace(ok("b", 3, 3), raw="", status=None)])  # type: ignore[arg-type]
    assert list(store.answers()) == []
    store.put([ok("a", 3, 3)])


def test_two_processes_write_one_store(tmp_path: Path) -> None:
    """Both make the file, write the same keys and their own, and read; nothing is lost, doubled or torn."""
    code = (
        "import sys\n"
        "from invitro.labels.store import LabelStore\n"
        "from invitro.labels.answers import Answer, SetInfo, Use\n"
        f"info = SetInfo(*{INFO.identity!r})\n"
        "me = sys.argv[2]\n"
        "with LabelStore(sys.argv[1]) as store:\n"
        "    set_id = store.open_set(info)\n"
        "    for n in range(150):\n"
        "        for key in (f'both{n}', f'{me}{n}'):\n"
        "            store.use(set_id, [Use(key, 0, key, 'h')])\n"
        "            store.put([Answer(key, 0, 'ok', 'x', items=(3.0, 3.0), score=3.0)])\n"
        "        store.known([f'both{n}'])\n"
    )
    path = tmp_path / "labels.sqlite"
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(path), me], cwd=ROOT, stderr=subprocess.PIPE) for me in "ab"
    ]
    for process in both:
        assert process.wait(timeout=120) == 0, process.stderr.read().decode()
    with LabelStore(path, read_only=True) as store:
        assert store.db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        keys = [answer.key for answer in store.answers()]
        assert len(keys) == len(set(keys)) == 450
        assert store.sets()[0].labelled == 450


def test_attempts_of_some_texts(store: LabelStore) -> None:
    answers = [bad("k1"), replace(ok("k1", 2.0), attempt=1), ok("k2", 3.0), ok("k3", 4.0)]
    set_id = fill(store, answers, {("b", 0): "k1", ("a", 1): "k2", ("a", 0): "k1", ("c", 0): "k3", ("d", 0): "k4"})
    rows = [tuple(row)[:4] for row in store.attempts(set_id, ["a", "b", "d", "elsewhere"])]
    assert rows == [
        ("a", 0, 0, "unparseable"),
        ("a", 0, 1, "ok"),
        ("a", 1, 0, "ok"),
        ("b", 0, 0, "unparseable"),
        ("b", 0, 1, "ok"),
    ]
