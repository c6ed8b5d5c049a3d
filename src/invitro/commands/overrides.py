"""Parts of Hydra's overrides: what they belong to, which key they set, and to which value."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException

from invitro.errors import InputError
from invitro.studies import Study


def parsed(lines: Sequence[str]) -> list[Override]:
    """Parse overrides; Hydra has to be initialised."""
    return list(OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(list(lines)))


def key_of(one: Override) -> str:
    """Return what an override sets, with or without ``+``."""
    return f"{one.key_or_group}@{one.package}" if one.package else one.key_or_group


def own_line(one: Override) -> str:
    """Return an override of ``sweep.yaml`` so that it may also set a field that the study's file leaves out."""
    group, _, name = one.key_or_group.partition(".")
    if group != "study" or not name:
        return str(one.input_line)
    known = [field.name for field in fields(Study)]
    if name.partition(".")[0] not in known:
        raise InputError(f"study.{name}: expected one of {', '.join(known)} after the point")
    return f"++study.{name}={expression(one)}"


def is_hydra(one: Override) -> bool:
    """Return whether an override decides how jobs are run and is not a setting of theirs."""
    return one.key_or_group.startswith(("hydra.", "hydra/"))


def is_sweeper(one: Override) -> bool:
    """Return whether an override affects how the jobs are generated."""
    return one.key_or_group.startswith(("hydra.sweeper.", "hydra/sweeper"))


def expression(one: Override) -> str:
    """Return an override's value as written."""
    return str(one.input_line).partition("=")[2]


def first_value(one: Override) -> str:
    """Return an override with the first of its swept values."""
    if not one.is_sweep_override():
        return str(one.input_line)
    if one.is_discrete_sweep():
        return f"{one.get_key_element()}={next(iter(one.sweep_string_iterator()))}"
    interval = one.value()
    assert isinstance(interval, IntervalSweep)
    return f"{one.get_key_element()}={interval.start}"


def decided_by_rows(swept: Mapping[str, Override], passed: Sequence[Override], conf: Path) -> Iterator[str]:
    """Yield overrides that would give all rows of the group ``row`` one value of a key in which rows differ."""
    if "row" not in swept:
        return
    deciders: dict[str, str] = {}
    chosen = swept["row"]
    for row in chosen.sweep_string_iterator() if chosen.is_sweep_override() else [str(chosen.value())]:
        file = conf / "row" / f"{row}.yaml"
        config = yaml.safe_load(file.read_text("utf-8")) if file.is_file() else {}
        groups = [one for one in config.pop("defaults", []) if isinstance(one, dict)]
        names = [name.removeprefix("override /") for one in groups for name in one]
        deciders |= dict.fromkeys([*names, *_dotted(config)], row)
    for one in passed:
        key = one.key_or_group
        if key in deciders:
            yield (
                f"{one.input_line}: the rows of this study differ in {key}, which {deciders[key]} sets; leave it out, "
                "or choose rows by row=..."
            )


def _dotted(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def message_of(error: HydraException) -> str:
    """Return Hydra's message, and say what to install where a plugin is missing."""
    text = str(error).partition("Config search path:")[0].strip()
    for kind, remedy in {
        "hydra/launcher": "pip install 'invitro[joblib]', [slurm] or [ray]",
        "hydra/sweeper": "pip install 'invitro[optuna]' and pip install --no-deps hydra-optuna-sweeper==1.3.0",
    }.items():
        if f"Could not find '{kind}" in text:
            return f"{text}\nTo install more: {remedy}"
    return text
