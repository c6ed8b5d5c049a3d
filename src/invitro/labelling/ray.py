"""An engine on many machines: Ray Data hands batches of requests to workers, each of which runs another engine.

::

    requests -> Feeder <- numbers of batches -> workers -> outcomes -> replies
    (here)     (an actor)      (Ray Data)    (Ray Data)     (here)

What runs through Ray Data are the numbers of batches; a worker fetches the batch with its number from the feeder, which
keeps it until its replies have come. A worker that dies is replaced and its batch is asked again. Replies are matched
to the requests that wait for them here, so that each request gets exactly one, whatever was asked twice on the way.
"""

import logging
import math
import os
import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from invitro.errors import InputError, out_of_range, refuse_if_any
from invitro.labelling.batches import Feeder, Outcome, answer
from invitro.labelling.cluster import check_address, check_size, quiet_stderr, set_environment
from invitro.labelling.exchange import Engine, Price, Reply, Request
from invitro.labelling.job import EngineError

log = logging.getLogger(__name__)

AHEAD = 8
"""Batches a worker that are out at a time. Ray Data may look for finished ones only ten times a second: some wait."""
QUEUED = 4
"""Of these, batches that Ray Data sends to a worker at a time."""


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
        cpus: a worker.
        gpus: a worker; all on one node.
        batch: requests that a worker gets at a time. Those that a dying worker had in hand are asked again.
        tries: workers that may die over the same batch, each of which is replaced; then its requests end in errors.
        store_mb: memory of a local Ray's object store, in MB.

    Raises:
        InputError: naming every setting that is wrong.
    """

    engine: Engine
    address: str | None = None
    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    batch: int = 256
    tries: int = 3
    store_mb: int = 200
    model: str = field(init=False)
    revision: str | None = field(init=False)
    price: Price = field(init=False)

    def __post_init__(self) -> None:
        refuse_if_any(self._problems())
        self.model, self.revision, self.price = self.engine.model, self.engine.revision, self.engine.price
        self._stream: _Stream | None = None
        self._connected = False

    def _problems(self) -> Iterator[str]:
        for name, least in (("workers", 1), ("batch", 1), ("tries", 1), ("store_mb", 80)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                yield f"cluster.{name}: expected {least} or more, found {value!r}"
        for name in ("cpus", "gpus"):
            yield from out_of_range(f"cluster.{name}", getattr(self, name), 0, math.inf)
        if self.address is not None and self.address.startswith("ray://"):
            yield (
                f"cluster.address: expected host:port of the cluster's head node (port 6379 as a rule), found the "
                f"address of a Ray client, {self.address}"
            )

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

    def count_tokens(self, messages: tuple[dict[str, str], ...]) -> int:
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
        resources: Any = ray.cluster_resources  # it has no types
        check_size(resources(), self.workers, self.cpus, self.gpus)


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
        one: Any = ray.data.from_items([{"start": 0}], override_num_blocks=1)
        context = one.context
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.execution_no_progress_timeout_s = -1  # a large model loads for long, and a batch may take its time
        context.target_max_block_size = 1  # bytes: a row is passed on when it is there
        batches = one.map_batches(numbers, fn_kwargs={"feeder": self._feeder}, batch_size=1, num_cpus=0)
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
                f"cluster=ray: the workers are gone: {type(error).__name__}: {error}. All answers so far are stored "
                "and are not asked for again: mend the cause and run the same line"
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
