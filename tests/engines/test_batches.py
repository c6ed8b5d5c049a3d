"""Batches on their way to workers: numbers, what is kept, and what becomes of an engine that fails."""

import asyncio
from collections.abc import Iterable, Iterator

import pytest

from invitro.engines.base import Reply, Request, Sampling, TokenChoice
from invitro.engines.ray import Feeder, Outcome, answer
from invitro.engines.scripted import Scripted
from invitro.errors import InputError


def requests(n: int) -> list[Request]:
    return [Request(f"k{i}", f"t{i}", ({"role": "user", "content": f"essay {i}"},), Sampling()) for i in range(n)]


class Failing(Scripted):
    """Answers one request, then raises."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def replies(self, requests: Iterable[Request]) -> Iterator[Reply]:
        yield next(super().replies(requests))
        raise self.error


def test_batches_are_counted_in_the_order_of_their_numbers() -> None:
    async def scene() -> None:
        feeder, asked = Feeder(), requests(3)
        waits = asyncio.create_task(feeder.count(0))
        await feeder.put(1, asked[1:2])
        await asyncio.sleep(0)
        assert not waits.done()  # number 0 is still on its way
        await feeder.put(0, asked[:1])
        assert await waits == 2
        further = asyncio.create_task(feeder.count(2))
        await feeder.end()
        assert await further == 2

    asyncio.run(scene())


def test_a_batch_is_kept_until_it_is_dropped() -> None:
    async def scene() -> None:
        feeder, asked = Feeder(), requests(2)
        await feeder.put(0, asked)
        assert await feeder.give(0) == (asked, 1)
        assert await feeder.give(0) == (asked, 2)
        await feeder.drop(0)
        assert await feeder.give(0) == ([], 0)
        await feeder.put(1, asked)
        assert await feeder.count(1) == 2

    asyncio.run(scene())


def test_replies_survive_without_their_requests() -> None:
    asked = requests(3)
    known = Reply(asked[0], "4", "stop", None, (TokenChoice("4", (("4", -0.1), ("5", -2.4))),), 7, 1)
    fields = {name: value for name, value in vars(known).items() if name != "request"}
    got = list(Outcome({"k0": fields}, failure="OSError: disk full").replies(asked[:2]))
    assert got == [known, Reply(asked[1], "", "error", "OSError: disk full")]
    assert list(answer(Scripted(), asked).replies(asked)) == list(Scripted().replies(asked))


def test_what_an_engine_raises_is_an_error_of_what_it_left_open() -> None:
    asked = requests(3)
    first, *rest = answer(Failing(OSError("disk full")), asked, times=2).replies(asked)
    assert first == next(Scripted().replies(asked))
    assert [(one.finish, one.error) for one in rest] == [("error", "OSError: disk full")] * 2
    assert answer(Failing(OSError()), asked, times=2).times == 2


def test_what_an_engine_refuses_stops_the_job_after_the_replies() -> None:
    asked = requests(3)
    outcome = answer(Failing(InputError("no such model", "no key")), asked)
    replies = outcome.replies(asked)
    assert next(replies).request.key == "k0"
    with pytest.raises(InputError, match="no such model\nno key"):
        next(replies)
    assert list(outcome.replies([])) == []
