"""An engine on many machines: Ray Data hands batches of requests to workers, each of which runs another engine.

::

    requests -> Feeder <- numbers of batches -> workers -> outcomes -> replies
    (here)     (an actor)      (Ray Data)    (Ray Data)     (here)

Only the numbers of batches run through Ray Data; a worker fetches the batch with its number from the feeder, which
keeps it until its replies have arrived. A worker that dies is replaced and its batch is asked again. Replies are
matched here to the requests that wait for them, so that each gets exactly one, whatever was asked twice on the way.
"""

import asyncio
import logging
import math
import os
import pickle
import secrets
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

from annotated_types import Ge

from invitro.engines.base import Engine, EngineError, Messages, Reply, Request
from invitro.errors import InputError, error_text
from invitro.settings import Count, checked

log = logging.getLogger(__name__)


Amount = Annotated[float, Ge(0)]
UNASKED = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
"""Nothing is reported to anybody, and the job's own progress bar is the one to be seen."""
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
"""As on Windows and macOS, a cluster of one machine listens on loopback only; without its token nobody can use it."""
HEAD_TIMEOUT = 20.0
"""Seconds within which a cluster's head node has to answer."""


def set_environment(local: bool) -> None:
    """Set what Ray reads when it is first imported; what the user has set stays.

    Args:
        local: whether Ray is to be started on this machine. Its token lives in this process and those that it starts,
            and is written nowhere.
    """
    settings = UNASKED | (LOOPBACK | {"RAY_AUTH_TOKEN": secrets.token_hex(32)} if local else {})
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def check_address(address: str) -> None:
    """Refuse ``host:port`` at which nothing listens: Ray itself would go on trying for ever.

    Raises:
        InputError: nothing answers there.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return  # such as "auto", which Ray resolves itself
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=HEAD_TIMEOUT).close()
    except OSError as error:
        raise InputError(f"cluster.address: nothing answers at {address}: {error}") from error


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hide what Ray's C++ part writes at its start, whatever the level of its log; errors are raised all the same."""
    sys.stderr.flush()
    shown, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(shown, 2)
        os.close(shown)
        os.close(nowhere)


@dataclass(frozen=True)
class Outcome:
    """What a worker made of a batch.

    Args:
        answered: the fields of replies but the request, by the request's key.
        refused: why the engine refuses to work at all.
        failure: what went wrong with the requests that have no reply.
        times: how often the batch was handed to a worker; more than once when one died.
    """

    answered: Mapping[str, dict[str, Any]]
    refused: tuple[str, ...] = ()
    failure: str = "no reply"
    times: int = 1

    def replies(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Yield a reply to each of `requests`; what was answered is given before a refusal is raised.

        Raises:
            InputError: the engine refuses to work.
        """
        for request in requests:
            if request.key in self.answered:
                yield Reply(request=request, **self.answered[request.key])
            elif not self.refused:
                yield Reply(request, "", "error", self.failure)
        if self.refused and requests:
            raise InputError(*self.refused)


class Feeder:
    """Keeps the batches that have no replies yet, in a process beside the job's."""

    def __init__(self) -> None:
        self._kept: dict[int, list[Request]] = {}
        self._given: dict[int, int] = {}
        self._count = 0
        self._ended = False
        self._changed = asyncio.Condition()

    async def put(self, number: int, requests: list[Request]) -> None:
        """Take a batch; they are numbered from 0, and may come in another order than they were sent in."""
        async with self._changed:
            self._kept[number] = requests
            while self._count in self._kept:
                self._count += 1
            self._changed.notify_all()

    async def end(self) -> None:
        """Say that no batch follows."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def count(self, beyond: int) -> int:
        """Return up to which number batches have come, once it is more than `beyond` or no more follow."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._count > beyond or self._ended)
            return self._count

    async def give(self, number: int) -> tuple[list[Request], int]:
        """Return a batch, empty when its replies have come already, and how often it was given by now."""
        if number not in self._kept:
            return [], 0
        self._given[number] = self._given.get(number, 0) + 1
        return self._kept[number], self._given[number]

    async def drop(self, number: int) -> None:
        """Forget a batch."""
        self._kept.pop(number, None)
        self._given.pop(number, None)


def answer(engine: Engine, requests: list[Request], times: int = 1) -> Outcome:
    """Ask an engine; whatever it raises becomes part of the outcome, which is what can be sent."""
    answered: dict[str, dict[str, Any]] = {}
    try:
        for reply in engine.replies(requests):
            answered[reply.request.key] = {name: value for name, value in vars(reply).items() if name != "request"}
    except InputError as error:
        return Outcome(answered, refused=error.problems, times=times)
    except Exception as error:
        return Outcome(answered, failure=error_text(error), times=times)
    return Outcome(answered, times=times)


AHEAD = 8
"""Batches per worker that are out at a time. Ray Data looks for finished ones only ten times a second: some wait."""
QUEUED = 4
"""Of these, batches that Ray Data sends to a worker at a time."""


@checked("cluster")
@dataclass
class RayData:
    """Spreads an engine over a Ray cluster; it starts with the first request and runs until it is closed.

    A reply arrives with its whole batch. What goes wrong with an engine in a worker becomes ``error`` replies, what the
    engine refuses altogether stops the job.

    Args:
        engine: what runs in each worker; it is sent there before it has loaded anything.
        address: ``host:port`` of a running cluster's head node, or ``auto`` on one of its nodes; None starts Ray on
            this machine, for nobody else, and ends it with the job. On a cluster all nodes need this package, and
            whatever the engine needs, in the same versions.
        workers: engines at a time.
        cpus: per worker.
        gpus: per worker; all on one node.
        batch: requests that a worker gets at a time. Those that a dying worker had in hand are asked again.
        tries: workers that may die over the same batch, each of which is replaced; then its requests end in errors.
        store_mb: memory of a local Ray's object store, in MB.

    Raises:
        InputError: naming every setting that is wrong.
    """

    engine: Engine
    address: str | None = None
    workers: Count = 1
    cpus: Amount = 1.0
    gpus: Amount = 0.0
    batch: Count = 256
    tries: Count = 3
    store_mb: Annotated[int, Ge(80)] = 200

    def __post_init__(self) -> None:
        self._stream: _Stream | None = None
        self._connected = False

    def contradictions(self) -> Iterator[str]:
        """Yield what is wrong with the address."""
        if self.address is not None and self.address.startswith("ray://"):
            yield (
                "cluster.address: expected host:port of the cluster's head node (usually port 6379), found the address "
                f"of a Ray client, {self.address}"
            )

    model = property(lambda self: self.engine.model)
    revision = property(lambda self: self.engine.revision)
    price = property(lambda self: self.engine.price)

    def replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Answer requests, batch by batch, in the order in which batches are done.

        Raises:
            InputError: Ray is not installed, there is no such cluster, it is too small, or the engine in a worker
                refuses to work.
            EngineError: workers die again and again, or the cluster is gone.
        """
        source = iter(requests)
        waiting: dict[int, list[Request]] = {}
        try:
            while True:
                while len(waiting) < AHEAD * self.workers and (some := list(islice(source, self.batch))):
                    waiting[self._running().put(some)] = some
                if not waiting:
                    return
                number, outcome = self._running().next()
                some = waiting.pop(number, [])  # an earlier call may have left before its batches were done
                if outcome.times > 1 and some:
                    log.warning("a Ray worker died; %d requests were asked again", len(some))
                yield from outcome.replies(some)
        finally:
            if self._stream is not None:
                for number in waiting:
                    self._stream.drop(number)

    def count_tokens(self, messages: Messages) -> int:
        """Count a chat's tokens as the engine does, here; no cluster is needed."""
        return self.engine.count_tokens(messages)

    def close(self) -> None:
        """End the workers, and Ray where it was started from here; a running cluster keeps running."""
        if self._stream is not None:
            self._stream.end()
            self._stream = None
        if self._connected:
            import ray

            ray.shutdown()
            self._connected = False
        self.engine.close()

    def _running(self) -> "_Stream":
        """Return the stream of batches, starting Ray and the workers at the first call."""
        if self._stream is None:
            self._connect()
            self._stream = _Stream(self)
        return self._stream

    def _connect(self) -> None:
        """Connect to the cluster, or start one, unless this process belongs to one already."""
        set_environment(local=self.address is None)
        try:
            import ray.data
        except ImportError as error:
            raise InputError(f"cluster=ray: Ray is not installed; pip install 'invitro[ray]' ({error})") from error
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        if not ray.is_initialized():
            place: dict[str, Any] = {"address": self.address}
            if self.address is not None:
                check_address(self.address)
            else:
                place = {
                    "address": "local",
                    "num_cpus": max(os.cpu_count() or 1, math.ceil(self.workers * self.cpus)),
                    "object_store_memory": self.store_mb * 10**6,
                    "include_dashboard": False,
                }
            try:
                with quiet_stderr():
                    ray.init(**place, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                where = f"no Ray cluster answers at {self.address}" if self.address else "Ray does not start here"
                raise InputError(f"cluster.address: {where}: {error}") from error
            self._connected = True
        self._check_size(ray.cluster_resources())  # type: ignore[no-untyped-call]

    def _check_size(self, resources: Mapping[str, float]) -> None:
        """Refuse a cluster on which the workers would wait for ever; `resources` as Ray counts them."""
        for name, each in (("cpus", self.cpus), ("gpus", self.gpus)):
            there = resources.get(name[:3].upper(), 0.0)
            if there < self.workers * each:
                raise InputError(
                    f"cluster.{name}: {self.workers} workers with {each:g} each need {self.workers * each:g}, and Ray "
                    f"has {there:g}; set cluster.workers, cluster.{name}, or the cluster.address of a larger cluster"
                )


class Worker:
    """Runs an engine in one of Ray Data's actors."""

    def __init__(self, engine: Engine, feeder: Any, tries: int) -> None:
        self.engine = engine
        self.feeder = feeder
        self.tries = tries

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Turn the row with a batch's number into a row with its outcome."""
        import ray

        number = int(rows["number"][0])
        requests, times = ray.get(self.feeder.give.remote(number))
        if times > self.tries:
            outcome = Outcome({}, failure=f"{self.tries} Ray workers died over this batch", times=times)
        else:
            outcome = answer(self.engine, requests, times)
        return {"number": [number], "outcome": [pickle.dumps(outcome)]}


def numbers(rows: Mapping[str, Any], feeder: Any) -> Iterator[dict[str, list[int]]]:
    """Yield the number of each batch when there is one; one that starts anew in another process yields the same."""
    import ray

    known = 0
    while (count := ray.get(feeder.count.remote(known))) > known:
        for number in range(known, count):
            yield {"number": [number]}
        known = count


class _Stream:
    """Batches on their way through Ray Data, which is running from the first to the last call of `replies`."""

    def __init__(self, settings: RayData) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._feeder: Any = ray.remote(Feeder).options(num_cpus=0, scheduling_strategy=here).remote()
        self._sent = 0
        start: Any = ray.data.from_items([{"start": 0}], override_num_blocks=1)
        context = start.context
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_no_progress_timeout_s = -1  # a large model loads for long, and a batch may take its time
        context.target_max_block_size = 1  # bytes: a row is passed on when it is there
        batches = start.map_batches(numbers, fn_kwargs={"feeder": self._feeder}, batch_size=1, num_cpus=0)
        outcomes = batches.map_batches(
            Worker,
            fn_constructor_kwargs={"engine": settings.engine, "feeder": self._feeder, "tries": settings.tries},
            batch_size=1,
            num_cpus=settings.cpus,
            num_gpus=settings.gpus,
            compute=ray.data.ActorPoolStrategy(size=settings.workers, max_tasks_in_flight_per_actor=QUEUED),
        )
        self._rows = iter(outcomes.iter_batches(batch_size=None, prefetch_batches=0))

    def put(self, requests: list[Request]) -> int:
        """Send a batch and return its number."""
        self._feeder.put.remote(self._sent, requests)
        self._sent += 1
        return self._sent - 1

    def next(self) -> tuple[int, Outcome]:
        """Wait for the next outcome."""
        try:
            row = next(self._rows)
        except Exception as error:
            raise EngineError(
                f"cluster=ray: the workers are gone: {error_text(error)}. All answers so far are stored "
                "and are not asked for again: fix the cause and run the same line"
            ) from error
        number = int(row["number"][0])
        self.drop(number)
        return number, pickle.loads(row["outcome"][0])

    def drop(self, number: int) -> None:
        """Forget a batch: its replies have come, or nobody waits for them."""
        self._feeder.drop.remote(number)

    def end(self) -> None:
        """Let the workers go."""
        self._feeder.end.remote()
        self._rows = iter(())
