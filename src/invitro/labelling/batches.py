"""Batches of requests on their way to workers that may die, and what workers make of them."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from invitro.errors import InputError
from invitro.labelling.exchange import Engine, Reply, Request


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
        return Outcome(answered, failure=f"{type(error).__name__}: {error}", times=times)
    return Outcome(answered, times=times)
