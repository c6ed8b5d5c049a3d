"""An engine on many machines: Ray Data hands batches of requests to workers, each of which runs another engine.

::

    requests -> Feeder <- numbers of batches -> workers -> outcomes -> replies
    (here)     (an actor)      (Ray Data)    (Ray Data)     (here)

Only batch numbers pass through Ray Data; a worker fetches the batch with its number from the feeder, which
keeps it until its replies have arrived. A worker that dies is replaced and its batch is asked again. Replies are
matched here to the requests that wait for them, so that each gets exactly one, even if it was asked twice on the way.
"""

import asyncio
import logging
import math
import os
import pickle
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any
from unittest.mock import patch

from annotated_types import Ge

from invitro.engines.base import Engine, EngineError, Messages, Reply, Request
from invitro.errors import InputError, error_text
from invitro.settings import Count, checked

log = logging.getLogger(__name__)


Amount = Annotated[float, Ge(0)]
UNASKED = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
"""Ray sends no usage reports, and only the job's own progress bar is shown."""
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
"""A cluster of one machine listens on loopback only, as on Windows and macOS; nobody can use it without its token."""
HEAD_TIMEOUT = 20.0
"""Seconds to wait for an answer from a cluster's head node."""


def set_environment(local: bool) -> None:
    """Set the variables that Ray reads on its first import; those that the user has set stay.

    Args:
        local: whether to start Ray on this machine. Its token exists only in this process and those it starts, and is
            never written to disk.
    """
    settings = UNASKED | (LOOPBACK | {"RAY_AUTH_TOKEN": secrets.token_hex(32)} if local else {})
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def check_address(address: str) -> None:
    """Raise an error if nothing listens at ``host:port``: Ray itself would keep trying for ever.

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
    """Hide what Ray's C++ part prints at startup at any log level; errors are still raised."""
    sys.stderr.flush()
    shown, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(shown, 2)
        os.close(shown)
        os.close(nowhere)


@contextmanager
def own_signals() -> Iterator[None]:
    """Keep this process's signal handlers; Ray's would print a stack trace and exit with another status."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        # Ray has no setting for this; it may swallow what its handler raises, after having ended its processes.
        with patch.object(signal, "signal", lambda number, handler: signal.getsignal(number)):
            yield
    finally:  # replace those that its C++ part has installed
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


@dataclass(frozen=True)
class Outcome:
    """The result of a batch in a worker.

    Args:
        answered: the fields of the replies, except the request, by the request's key.
        refused: the reason, if the engine refuses to work at all.
        failure: what went wrong with requests that have no reply.
        times: how often the batch was given to a worker; more than once if a worker died.
    """

    answered: Mapping[str, dict[str, Any]]
    refused: tuple[str, ...] = ()
    failure: str = ""
    times: int = 1

    def replies(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Yield a reply to each of `requests`; answers are returned before a refusal is raised.

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
    """Keeps the batches that have no replies yet, in a process next to the job's."""

    def __init__(self) -> None:
        self._kept: dict[int, list[Request]] = {}
        self._given: dict[int, int] = {}
        self._count = 0
        self._ended = False
        self._changed = asyncio.Condition()

    async def put(self, number: int, requests: list[Request]) -> None:
        """Take a batch; batches are numbered from 0 and may arrive in a different order from the one sent."""
        async with self._changed:
            self._kept[number] = requests
            while self._count in self._kept:
                self._count += 1
            self._changed.notify_all()

    async def end(self) -> None:
        """Signal that no more batches follow."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def count(self, beyond: int) -> int:
        """Return how many batches have arrived, once there are more than `beyond` or no more follow."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._count > beyond or self._ended)
            return self._count

    async def give(self, number: int) -> tuple[list[Request], int]:
        """Return a batch, empty if its replies have already arrived, and how often it has been given out."""
        if number not in self._kept:
            return [], 0
        self._given[number] = self._given.get(number, 0) + 1
        return self._kept[number], self._given[number]

    async def drop(self, number: int) -> None:
        """Forget a batch."""
        self._kept.pop(number, None)
        self._given.pop(number, None)


def answer(engine: Engine, requests: list[Request], times: int = 1) -> Outcome:
    """Ask an engine; any exception becomes part of the outcome, since only the outcome is sent back."""
    answered: dict[str, dict[str, Any]] = {}
    refused, failure = tuple[str, ...](), "no reply"
    try:
        for reply in engine.replies(requests):
            answered[reply.request.key] = {name: value for name, value in vars(reply).items() if name != "request"}
    except InputError as error:
        refused = error.problems
    except Exception as error:
        failure = error_text(error)
    return Outcome(answered, refused, failure, times)


AHEAD = 8
"""Batches given out per worker. Ray Data looks for finished ones only ten times a second, so some should wait."""
QUEUED = 4
"""How many of these Ray Data sends to a worker at a time."""


@checked("cluster")
@dataclass
class RayData:
    """Spreads an engine over a Ray cluster; it starts with the first request and runs until it is closed.

    A reply arrives with its whole batch. If an engine fails in a worker, its requests get ``error`` replies; if it
    refuses to work at all, the job stops.

    Args:
        engine: what runs in each worker; it is sent there before it has loaded anything.
        address: ``host:port`` of a running cluster's head node, or ``auto`` on one of its nodes; None starts Ray on
            this machine, for this job only, and stops it with the job. On a cluster all nodes need this package, and
            everything the engine needs, in the same versions.
        workers: engines at a time.
        cpus: per worker.
        gpus: per worker; all on one node.
        batch: requests that a worker gets at a time. If it dies, its requests are asked again.
        tries: how many workers may die on the same batch and be replaced; after that its requests end in errors.
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
        """Answer requests batch by batch, in the order in which batches are finished.

        Raises:
            InputError: Ray is not installed, there is no such cluster, the cluster is too small, or the engine in a
                worker refuses to work.
            EngineError: workers keep dying, or the cluster is gone.
        """
        source = iter(requests)
        waiting: dict[int, list[Request]] = {}
        try:
            while True:
                while len(waiting) < AHEAD * self.workers and (batch := list(islice(source, self.batch))):
                    waiting[self._running().put(batch)] = batch
                if not waiting:
                    return
                number, outcome = self._running().next()
                batch = waiting.pop(number, [])  # an earlier call may have ended before its batches were finished
                if outcome.times > 1 and batch:
                    log.warning("a Ray worker died; %d requests were asked again", len(batch))
                yield from outcome.replies(batch)
        finally:
            if self._stream is not None:
                for number in waiting:
                    self._stream.drop(number)

    def count_tokens(self, messages: Messages) -> int:
        """Count a chat's tokens as the engine does, in this process; no cluster is needed."""
        return self.engine.count_tokens(messages)

    def close(self) -> None:
        """Stop the workers, and Ray if it was started here; a cluster that was already running keeps running."""
        if self._stream is not None:
            self._stream.end()
            self._stream = None
        if self._connected:
            import ray

            ray.shutdown()
            self._connected = False
        self.engine.close()

    def _running(self) -> "_Stream":
        """Return the stream of batches, starting Ray and the workers on the first call."""
        if self._stream is None:
            self._connect()
            self._stream = _Stream(self)
        return self._stream

    def _connect(self) -> None:
        """Connect to the cluster or start one, unless this process already belongs to one."""
        set_environment(local=self.address is None)
        try:
            import ray.data
        except ImportError as error:
            raise InputError(f'cluster=ray: Ray is not installed; pip install "invitro[ray]" ({error})') from error
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        if not ray.is_initialized():
            options: dict[str, Any] = {"address": self.address}
            if self.address is not None:
                check_address(self.address)
            else:
                options = {
                    "address": "local",
                    "num_cpus": max(os.cpu_count() or 1, math.ceil(self.workers * self.cpus)),
                    "object_store_memory": self.store_mb * 10**6,
                    "include_dashboard": False,
                }
            try:
                with quiet_stderr(), own_signals():
                    ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                where = f"no Ray cluster answers at {self.address}" if self.address else "Ray does not start here"
                raise InputError(f"cluster.address: {where}: {error}") from error
            self._connected = True
        self._check_size(ray.cluster_resources())  # type: ignore[no-untyped-call]

    def _check_size(self, resources: Mapping[str, float]) -> None:
        """Reject a cluster on which the workers would wait for ever; `resources` as Ray counts them."""
        for name, each in (("cpus", self.cpus), ("gpus", self.gpus)):
            available = resources.get(name[:3].upper(), 0.0)
            if available < self.workers * each:
                raise InputError(
                    f"cluster.{name}: {self.workers} workers with {each:g} each need {self.workers * each:g}, and "
                    f"Ray has {available:g}; set cluster.workers, cluster.{name}, or the cluster.address of a "
                    "larger cluster"
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
    """Yield the number of each batch as it arrives; started again in another process, it yields the same numbers."""
    import ray

    seen = 0
    while (count := ray.get(feeder.count.remote(seen))) > seen:
        for number in range(seen, count):
            yield {"number": [number]}
        seen = count


class _Stream:
    """Batches on their way through Ray Data, which runs from the first to the last call of `replies`."""

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
        context.execution_no_progress_timeout_s = -1  # a large model takes long to load, and a batch may be slow
        context.target_max_block_size = 1  # bytes: each row is passed on as soon as it is ready
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
                "and are not asked for again: fix the cause and run the same command again"
            ) from error
        number = int(row["number"][0])
        self.drop(number)
        return number, pickle.loads(row["outcome"][0])

    def drop(self, number: int) -> None:
        """Forget a batch: its replies have arrived, or nobody waits for them."""
        self._feeder.drop.remote(number)

    def end(self) -> None:
        """Release the workers."""
        self._feeder.end.remote()
        self._rows = iter(())
