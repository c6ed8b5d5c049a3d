"""Settings are checked strictly, all problems at once, in words a user knows."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt

from invitro.errors import InputError
from invitro.settings import Count, Positive, Share, checked


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


@checked("")
@dataclass(frozen=True)
class Top:
    size: Size = Size.SMALL


@checked("fit")
@dataclass(frozen=True)
class Small:
    epochs: Count = 20
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.06
    keep: Annotated[float, Gt(0), Le(1)] = 1.0
    clip: Positive | None = None
    schedule: Literal["linear", "constant"] = "linear"
    penalties: tuple[Positive, ...] = (0.1, 1.0)
    force: bool = False
    share: Annotated[Share, "a share of the texts"] = 0.5

    def contradictions(self) -> Iterator[str]:
        if self.epochs == 1 and self.schedule == "linear":
            yield "fit.schedule=linear needs more than fit.epochs=1"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"epochs": 0}, "fit.epochs: expected a whole number of at least 1, found 0"),
        ({"epochs": True}, "fit.epochs: expected a whole number of at least 1, found True"),
        ({"epochs": 2.0}, "fit.epochs: expected a whole number of at least 1, found 2.0"),
        ({"epochs": "4"}, "fit.epochs: expected a whole number of at least 1, found '4'"),
        ({"warmup": 1}, "fit.warmup: expected a number from 0 to below 1, found 1"),
        ({"keep": 0}, "fit.keep: expected a number above 0 and at most 1, found 0"),
        ({"keep": float("nan")}, "fit.keep: expected a number above 0 and at most 1, found nan"),
        ({"clip": float("inf")}, "fit.clip: expected null or a number above 0, found inf"),
        ({"clip": -1}, "fit.clip: expected null or a number above 0, found -1"),
        ({"schedule": "cosine"}, "fit.schedule: expected linear or constant, found 'cosine'"),
        ({"penalties": [1, 0]}, "fit.penalties: expected a list, each a number above 0, found [1, 0]"),
        ({"penalties": 3}, "fit.penalties: expected a list, each a number above 0, found 3"),
        ({"force": "no"}, "fit.force: expected true or false, found 'no'"),
        ({"share": 3}, "fit.share: expected a share of the texts, found 3"),
        ({"epochs": 1}, "fit.schedule=linear needs more than fit.epochs=1"),
    ],
)
def test_a_wrong_setting_is_named_as_in_the_configuration(setting: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as raised:
        Small(**setting)
    assert raised.value.problems == (said,)


def test_all_problems_are_reported_at_once_and_contradictions_only_of_sound_fields() -> None:
    with pytest.raises(InputError) as raised:
        Small(epochs=1, keep=2, schedule="linear", force=1)  # type: ignore[arg-type]
    assert [problem.partition(":")[0] for problem in raised.value.problems] == ["fit.keep", "fit.force"]


def test_values_have_their_types_and_the_class_stays_a_dataclass() -> None:
    small = Small(warmup=0, penalties=[1, 2])  # type: ignore[arg-type]
    assert isinstance(small.warmup, float)
    assert small.penalties == (1.0, 2.0)
    assert replace(small, epochs=3).epochs == 3
    assert asdict(small)["schedule"] == "linear"
    with pytest.raises(InputError):
        replace(small, epochs=-1)
    with pytest.raises(TypeError, match="unknown"):
        Small(unknown=1)  # type: ignore[call-arg]


def test_a_word_names_a_member_of_an_enumeration_and_settings_may_be_at_the_top() -> None:
    assert Top("large").size is Size.LARGE  # type: ignore[arg-type]
    with pytest.raises(InputError, match="size: expected small or large, found 'tiny'"):
        Top("tiny")  # type: ignore[arg-type]
