"""Batch files: written, submitted and waited for, and their results taken in, in any order, in parts and twice."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_server import BatchServer
from prompting import prompt, scale

from invitro.engines.base import EngineError, Price, Readout, Sampling
from invitro.engines.batch import BatchFiles
from invitro.engines.openai import OpenAICompatible
from invitro.engines.scripted import Scripted
from invitro.errors import InputError
from invitro.labelling.job import LabelJob, import_results, run_job
from invitro.labelling.prompts import Renderer
from invitro.labelling.texts import Text
from invitro.labels.source import stored_labels
from invitro.labels.store import LabelStore

KEY = "sk-of-a-batch"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LabelStore]:
    with LabelStore(tmp_path / "labels.sqlite") as store:
        yield store


@pytest.fixture(autouse=True)
def key(monkeypatch) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)


def a_job(store: LabelStore, url: str, folder: Path, llm: str = "gpt", **more) -> LabelJob:
    engine = OpenAICompatible("gpt-4.1", url, key_env=more.pop("key_env", "LAB_KEY"), price=Price(2.0, 8.0), tries=1)
    renderer = Renderer(prompt("scale_aware"), prompt("scale_aware").form(scale(), Readout.TEXT))
    batch = BatchFiles(engine, str(folder / "batches"), poll=0.02, **more)
    return LabelJob(store, batch, renderer, Sampling(0.0, 160, 0), "c", llm, progress=False)


def texts(n: int) -> list[Text]:
    return [Text(f"t{i}", f"a story called word{i}") for i in range(n)]


def batch_file(folder: Path) -> Path:
    (file,) = (folder / "batches").glob("*.jsonl")
    return file


SCHEDULE = {"word1": "error", "word2": "400", "word3": "absent", "word4": "says I feel sad."}


def test_questions_are_answered_at_half_the_price(store: LabelStore, tmp_path: Path) -> None:
    with BatchServer(schedule=SCHEDULE, fails=2) as server:
        report = run_job(a_job(store, server.url, tmp_path), texts(10))
        assert server.keys == {f"Bearer {KEY}"}
        assert [len(server.files[batch["input_file_id"]].splitlines()) for batch in server.batches.values()] == [10, 1]
        again = server.asked[-1]["body"]  # what was unusable, once more
        assert (again["temperature"], again["seed"]) == (0.7, 1_000_003)
        # The error and the absent answer cost nothing, and the next job asks again.
        assert report.stored.unusable == {"error": 2, "refused": 1, "unparseable": 1}
        assert report.stored.labelled == 6
        assert report.stored.cost == pytest.approx(8 * (100 * 2 + 10 * 8) / 2e6)
        server.schedule = {}
        second = run_job(a_job(store, server.url, tmp_path), texts(10))
        assert (second.usage.requests, second.stored.labelled) == (2, 8)
    errors = sorted(str(answer.error) for answer in store.answers() if answer.status == "refused")
    assert errors == ["HTTP 400 content_filter: no"]
    files = {file.name for file in (tmp_path / "batches").glob("*.jsonl")}
    assert {answer.batch for answer in store.answers()} == files
    assert stored_labels(store, second.stored, scale()).labels["llm_label"].dropna().eq(4.5).all()
    assert not list((tmp_path / "batches").glob("*.batch.json"))
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_files_have_a_largest_number_of_questions(store: LabelStore, tmp_path: Path) -> None:
    with BatchServer() as server:
        assert run_job(a_job(store, server.url, tmp_path, most=4), texts(10)).stored.labelled == 10
        files = [server.files[batch["input_file_id"]] for batch in server.batches.values()]
        assert [len(file.splitlines()) for file in files] == [4, 4, 2]


def test_a_stopped_job_finds_its_batch_again(store: LabelStore, tmp_path: Path, monkeypatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with BatchServer(looks=3) as server:
        for _ in range(2):
            with monkeypatch.context() as patch:
                patch.setattr("invitro.engines.batch.time.sleep", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    run_job(a_job(store, server.url, tmp_path), texts(5))
        # Killed between the submission and the note about it, too.
        next((tmp_path / "batches").glob("*.batch.json")).unlink()
        report = run_job(a_job(store, server.url, tmp_path), texts(7))
        assert report.stored.labelled == 7
        asked = [json.loads(line)["custom_id"] for batch in server.batches.values()
                 for line in server.files[batch["input_file_id"]].splitlines()]  # fmt: skip
        assert len(set(asked)) == 7
    assert store.db.execute("SELECT count(*) FROM claims").fetchone()[0] == 0


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_what_came_of_an_unfinished_batch_counts(store: LabelStore, tmp_path: Path, status: str) -> None:
    with BatchServer(schedule={"word0": "absent"}, status=status) as server:
        report = run_job(a_job(store, server.url, tmp_path), texts(4))
    assert (report.stored.labelled, report.stored.unusable) == (3, {"error": 1})
    assert report.error == "the batch ended without an answer to this question"


def test_a_batch_that_fails_is_told_and_can_be_submitted_again(store: LabelStore, tmp_path: Path) -> None:
    with BatchServer(status="failed") as server:
        with pytest.raises(InputError, match="the batch batch_0 failed: line 1 is no request"):
            run_job(a_job(store, server.url, tmp_path), texts(4))
        server.status = "completed"
        assert run_job(a_job(store, server.url, tmp_path), texts(4)).stored.labelled == 4


def test_many_useless_answers_are_all_stored_and_not_asked_for_again(store: LabelStore, tmp_path: Path) -> None:
    with BatchServer(schedule={f"word{i}": "says no" for i in range(60)}) as server:
        with pytest.raises(EngineError, match="60 replies without a label"):
            run_job(a_job(store, server.url, tmp_path), texts(60))
        assert len(server.batches) == 1
    assert len(list(store.answers())) == 60


@pytest.mark.parametrize("key_env", [None, "NO_SUCH_KEY"])
def test_without_a_key_the_file_is_written_and_its_place_told(store: LabelStore, tmp_path: Path, key_env) -> None:
    for _ in range(2):  # the same questions make the same file
        with pytest.raises(EngineError, match=r"8 questions are written to .*jsonl.*import=RESULTS") as refused:
            run_job(a_job(store, "http://127.0.0.1:9/v1", tmp_path, key_env=key_env), texts(8))
        file = batch_file(tmp_path)
        assert str(file) in str(refused.value)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({line["custom_id"] for line in lines}) == 8
    assert {(line["method"], line["url"], line["body"]["model"]) for line in lines} == {
        ("POST", "/v1/chat/completions", "gpt-4.1")
    }
    assert store.sets()[0].unusable == {"pending": 8}


def answers_to(file: Path, schedule: dict[str, str]) -> list[str]:
    """Return the lines in which the server answers a file."""
    good, bad = BatchServer(schedule=schedule)._answered(file.read_bytes())
    return (good + bad).decode().splitlines()


def test_results_are_taken_in_any_order_in_parts_and_twice(store: LabelStore, tmp_path: Path) -> None:
    job = a_job(store, "http://127.0.0.1:9/v1", tmp_path, key_env=None)
    with pytest.raises(EngineError):
        run_job(job, texts(10))
    lines = answers_to(batch_file(tmp_path), SCHEDULE)
    random.Random(0).shuffle(lines)
    results = tmp_path / "results.jsonl"
    foreign = ['{"custom_id": "request-1", "response": null}', json.dumps({"custom_id": f"{'0' * 64}-0"})]
    results.write_text("\n".join([*lines[:5], *foreign, lines[0], "", "no JSON", lines[5][:50]]))
    first = import_results(job, texts(10), results)
    assert (first.usage.requests, first.twice, first.foreign, first.unreadable) == (5, 1, 1, 3)
    results.write_text("\n".join([*lines, *lines]))
    second = import_results(job, texts(10), results)
    assert second.usage.requests == 4
    assert second.stored.unusable == {"error": 1, "pending": 1, "refused": 1, "unparseable": 1}
    assert (second.stored.labelled, second.labels + first.labels) == (6, 6)
    third = import_results(job, texts(10), results)
    assert (third.usage.requests, third.labels, third.stored.answers) == (0, 0, second.stored.answers)
    assert stored_labels(store, third.stored, scale()).labels["llm_label"].dropna().eq(4.5).all()
    # Only what is open is written next: the error, the absent one, and the unusable one once more.
    with pytest.raises(EngineError, match="2 questions are written to"):
        run_job(job, texts(10))


def test_an_error_gives_way_to_an_answer_and_never_the_other_way_round(store: LabelStore, tmp_path: Path) -> None:
    job = a_job(store, "http://127.0.0.1:9/v1", tmp_path, key_env=None)
    with pytest.raises(EngineError):
        run_job(job, texts(3))
    file, results = batch_file(tmp_path), tmp_path / "r.jsonl"
    bad, good = (answers_to(file, {f"word{i}": how for i in range(3)}) for how in ("error", "well"))
    for lines, labelled in ((bad, 0), (bad, 0), (bad + good[:1], 1), (good, 3), (bad, 3)):
        results.write_text("\n".join(lines))
        assert import_results(job, texts(3), results).stored.labelled == labelled


def test_results_of_vllm_that_are_errors_are_answers_too(store: LabelStore, tmp_path: Path) -> None:
    job = a_job(store, "http://127.0.0.1:9/v1", tmp_path, key_env=None)
    with pytest.raises(EngineError):
        run_job(job, texts(1))
    name = json.loads(batch_file(tmp_path).read_text())["custom_id"]
    for response, error, reason in (
        ({"status_code": 400, "body": None}, {"error": {"message": "too long", "code": 400}}, "HTTP 400: too long"),
        ({"status_code": 500, "body": {"error": {"message": "out of memory"}}}, None, "HTTP 500: out of memory"),
        (None, {"code": "x", "message": "no"}, "HTTP 400 x: no"),
        (["odd"], "odd", "HTTP 400: the line holds neither a response nor an error"),
        ({"status_code": "odd", "body": {}}, None, "HTTP 400"),
    ):
        with LabelStore(tmp_path / f"{reason.replace(' ', '')}.sqlite") as fresh:
            (tmp_path / "r").write_text(json.dumps({"custom_id": name, "response": response, "error": error}))
            report = import_results(a_job(fresh, "http://127.0.0.1:9/v1", tmp_path), texts(1), tmp_path / "r")
            assert (report.stored.unusable, report.error) == ({"error": 1}, reason)


def test_only_servers_have_batches(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected llm=gpt .* found Scripted"):
        BatchFiles(Scripted(), str(tmp_path))
    with pytest.raises(InputError, match=r"engine\.most: expected a whole number from 1 to 50000"):
        BatchFiles(OpenAICompatible("m", "http://localhost:1/v1"), str(tmp_path), most=50_001)
