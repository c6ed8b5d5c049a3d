"""Batch files: many questions in one file, which a provider answers within a day at half the price.

The files are those of OpenAI's Batch API, which ``vllm run-batch`` reads too. Each question's id says which answer of
the store it asks for, so results can be read in any order, in parts, and repeatedly.
"""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qsl

from annotated_types import Le

from invitro.engines.base import EngineError, Messages, Price, Reply, Request, Sampling
from invitro.engines.chat import PermanentError, TransientError, read
from invitro.engines.openai import OpenAICompatible
from invitro.errors import InputError, error_text
from invitro.files import whole_or_absent, write_json
from invitro.settings import Count, Positive, Share, checked

log = logging.getLogger(__name__)

ENDPOINT = "/v1/chat/completions"
MOST_BYTES = 190 * 2**20
"""Bytes in a file; OpenAI takes 200 MB."""
ENDED = ("completed", "expired", "cancelled", "failed")
QUESTION_ID = re.compile(r"([0-9a-f]{64})(?:-(\d{1,6}))?")


class BatchLine(NamedTuple):
    """A line of a results file: the key of its question, the attempt, and the whole line."""

    key: str
    attempt: int
    line: Mapping[str, Any]

    def reply(self, batch: str) -> Reply:
        """Return the line as a reply, with the part of its question that this needs; errors are replies too."""
        request = Request(self.key, "", (), Sampling(), attempt=self.attempt)
        response, error = (
            value if isinstance(value := self.line.get(name), dict) else {} for name in ("response", "error")
        )
        body, status = response.get("body"), response.get("status_code", 200)
        if body is None:
            status = max(status, 400) if isinstance(status, int) else 400
            body = {"error": error.get("error", error) or "the line holds neither a response nor an error"}
        try:
            return replace(read(request, status if isinstance(status, int) else 400, body), batch=batch)
        except (TransientError, PermanentError) as failed:
            return Reply(request, "", "error", str(failed), batch=batch)


def results_in(path: Path) -> Iterator[BatchLine | None]:
    """Yield the results in a file; None for a line that is not a result, such as a truncated last one.

    Raises:
        InputError: there is no such file.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                if text.strip():
                    yield _result(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _result(text: str) -> BatchLine | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    name = line.get("custom_id") if isinstance(line, dict) else None
    match = QUESTION_ID.fullmatch(name) if isinstance(name, str) else None
    return BatchLine(match[1], int(match[2] or 0), line) if match else None


@checked("engine")
@dataclass
class BatchFiles:
    """Writes questions to files, submits them, and waits for the results.

    If the key's environment variable is not set, or the engine names none, the job stops once the files are written. A
    job that was stopped while it waited finds its batches again.

    Args:
        engine: the server, the model and the fields of a request.
        folder: for the files, their results and the notes of submitted batches.
        poll: seconds between two checks of the batches.
        most: questions in a file.
        price_share: the share of the engine's price that an answer costs.

    Raises:
        InputError: naming every setting that is wrong.
    """

    engine: Any
    folder: str
    poll: Positive = 60.0
    most: Annotated[Count, Le(50_000), "a whole number from 1 to 50000"] = 50_000
    price_share: Share = 0.5

    prepaid = True
    """All answers arrive together: stopping early saves nothing if many of them are unusable."""

    def contradictions(self) -> Iterator[str]:
        """Yield what is wrong with the engine."""
        if not isinstance(self.engine, OpenAICompatible):
            yield (
                "engine=batch writes requests to an OpenAI-compatible server: expected llm=gpt or another of this "
                f"kind, such as llm=vllm_server, found {type(self.engine).__name__}"
            )

    model = property(lambda self: self.engine.model)
    revision = property(lambda self: self.engine.revision)
    approximate = property(lambda self: self.engine.approximate)

    @property
    def price(self) -> Price:
        """The engine's price, reduced."""
        return Price(self.engine.price.prompt * self.price_share, self.engine.price.completion * self.price_share)

    def replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer requests file by file, as the files are finished.

        Raises:
            InputError: the provider refuses the key or a file.
            EngineError: there is no key; the files are written.
        """
        # Files whose batches have no results here yet.
        noted = [file for file in sorted(Path(self.folder).glob("*.jsonl")) if _note(file).is_file()]
        submitted = {file: set(_ids(file)) for file in noted}
        asked: dict[str, Path | None] = {}
        written: list[Path] = []
        lines, count = bytearray(), 0
        for request in requests:
            name = f"{request.key}-{request.attempt}"
            asked[name] = next((file for file, names in submitted.items() if name in names), None)
            if asked[name] is None:
                body = self.engine.request_body(request)
                asks = {"custom_id": name, "method": "POST", "url": ENDPOINT, "body": body}
                line = json.dumps(asks).encode() + b"\n"
                if count and (count == self.most or len(lines) + len(line) > MOST_BYTES):
                    written.append(self._write(lines, count))
                    lines, count = bytearray(), 0
                lines += line
                count += 1
        if count:
            written.append(self._write(lines, count))
        if not asked:
            return
        if not self.engine.key_env or not os.environ.get(self.engine.key_env, "").strip():
            paths = [str(file) for file in (*written, *(file for file in submitted if file in asked.values()))]
            raise EngineError(
                f"{len(asked)} questions are written to {', '.join(paths)}. Have them answered, for example by vllm "
                f"run-batch -i {paths[0]} -o RESULTS --model {self.model}, and run the same command with import=RESULTS"
            )
        with self._client() as client:
            for file in written:
                self._submit(client, file)
                asked |= dict.fromkeys(_ids(file), file)
            waiting = {file for file in asked.values() if file is not None}
            while waiting:
                for file in sorted(waiting):
                    if self._has_ended(client, file):
                        waiting.remove(file)
                        yield from self._results(file, {name for name, source in asked.items() if source == file})
                        _note(file).unlink()
                if waiting:
                    time.sleep(self.poll)

    def count_tokens(self, messages: Messages) -> int:
        """Count as the engine does."""
        return int(self.engine.count_tokens(messages))

    def close(self) -> None:
        """Do nothing: batches continue without us."""

    def _write(self, lines: bytearray, count: int) -> Path:
        """Write a file of `count` questions; its name follows from them."""
        model = re.sub(r"[^\w.-]+", "_", self.model)[-40:]
        path = Path(self.folder) / f"{model}-{count}-{hashlib.sha256(lines).hexdigest()[:12]}.jsonl"
        with whole_or_absent(path) as temporary:
            temporary.write_bytes(lines)
        return path

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """Yield OpenAI's client; refusals and failed connections are raised as `InputError`."""
        try:
            import openai
        except ImportError as error:
            raise InputError('engine=batch needs OpenAI\'s client: pip install "invitro[llm]"') from error
        for name in ("openai", "httpx2"):
            logging.getLogger(name).setLevel(logging.WARNING)
        base, _, query = self.engine.base_url.partition("?")
        headers = self.engine.all_headers()
        try:
            client = openai.OpenAI(
                api_key=headers.get("Authorization", "none").removeprefix("Bearer "),
                base_url=base,
                default_headers=headers,
                default_query=dict(parse_qsl(query)),
                timeout=self.engine.timeout,
                max_retries=self.engine.tries,
            )
            with client:
                yield client
        except (openai.OpenAIError, ImportError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{self.engine.base_url}: {error_text(error)[:300]}. Check llm.engine.base_url and the key in "
                f"{self.engine.key_env}"
            ) from None

    def _submit(self, client: Any, file: Path) -> None:
        """Submit a file, unless the provider has it already from a job that was killed at this point."""
        latest = islice(client.batches.list(limit=100), 100)
        same_file = (batch for batch in latest if (batch.metadata or {}).get("file") == file.name)
        batch = next((batch for batch in same_file if batch.status not in (*ENDED[1:], "cancelling")), None)
        if batch is None:
            with file.open("rb") as content:
                upload = client.files.create(file=content, purpose="batch")
            batch = client.batches.create(
                input_file_id=upload.id, endpoint=ENDPOINT, completion_window="24h", metadata={"file": file.name}
            )
        write_json(_note(file), {"batch": batch.id})
        log.info("%s is batch %s; the job can be stopped and started again meanwhile", file, batch.id)

    def _has_ended(self, client: Any, file: Path) -> bool:
        """Whether a batch has ended; if so, fetch its results to a file next to it, or refuse one that failed."""
        import openai

        name = json.loads(_note(file).read_text("utf-8"))["batch"]
        try:
            batch = client.batches.retrieve(name)
            if batch.status == "failed":
                _note(file).unlink()
                faults = [str(fault.message) for fault in (batch.errors and batch.errors.data) or ()]
                raise InputError(
                    f"{file}: the batch {name} failed: {'; '.join(faults)[:300] or 'for no stated reason'}"
                )
            if batch.status not in ENDED:
                counts = batch.request_counts
                done = f", {counts.completed + counts.failed} of {counts.total} answered" if counts else ""
                log.info("batch %s: %s%s", name, batch.status, done)
                return False
            parts = [client.files.content(part).read() for part in (batch.output_file_id, batch.error_file_id) if part]
        except (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError) as error:
            log.warning("%s: %s; asked again in %g s", self.engine.base_url, error_text(error)[:200], self.poll)
            return False
        partial = _results_file(file).with_suffix(".partial")
        partial.write_bytes(b"\n".join(parts))
        partial.replace(_results_file(file))
        return True

    def _results(self, file: Path, names: set[str]) -> Iterator[Reply]:
        """Yield one reply to each of the questions `names` of a file that has results."""
        for result in results_in(_results_file(file)):
            if result is not None and (name := f"{result.key}-{result.attempt}") in names:
                names.remove(name)
                yield result.reply(file.name)
        for name in sorted(names):
            key, _, attempt = name.rpartition("-")
            missing = Request(key, "", (), Sampling(), attempt=int(attempt))
            yield Reply(missing, "", "error", "the batch ended without an answer to this question")


def _note(file: Path) -> Path:
    return file.with_suffix(".batch.json")


def _results_file(file: Path) -> Path:
    return file.with_suffix(".results")


def _ids(file: Path) -> Iterator[str]:
    """Yield the ids of a batch file's questions."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["custom_id"]
