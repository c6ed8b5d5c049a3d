"""What a report says about where its numbers come from: software, hardware, time, data and their terms, failures."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import pandas as pd

from invitro import data
from invitro.data.newsemp import YEARS
from invitro.labels.published import published_sets
from invitro.studies.wording import configuration, count, plain

if TYPE_CHECKING:
    from invitro.studies.runs import Runs


class Fact(NamedTuple):
    """A name and what is known of it."""

    name: str
    value: str


class Failure(NamedTuple):
    """A job without a result: which, what became of it, the error's first line, and the way to the traceback."""

    job: int
    name: str
    outcome: str
    error: str
    path: str
    link: str


def environment_facts(runs: "Runs") -> list[Fact]:
    """Return versions, commit, hardware and wall time; where runs differ, every value with the number of its runs."""
    rows = [int(str(row)) for row in runs.finished().drop_duplicates("record").index]
    flat = [dict(_flattened(runs.environment(row))) for row in rows]
    if not flat:
        return []
    names = list(dict.fromkeys(name for one in flat for name in one))
    facts = [Fact(name, _values([one.get(name) for one in flat])) for name in names]
    seconds = pd.Series([runs.environment(row)["seconds"] for row in rows], dtype="float64")
    longest = duration(float(seconds.max()))
    told = f"{duration(float(seconds.sum()))} over {count(len(rows), 'run')}; the longest took {longest}"
    return [*facts, Fact("wall time", told)]


def _flattened(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the lines of one ``environment.json``."""
    yield "invitro", str(environment["invitro"])
    yield "commit", str(environment["commit"] or "none: not run from a checkout")
    yield "python", str(environment["python"])
    for name, version in environment["packages"].items():
        yield name, str(version)
    hardware = environment["hardware"]
    yield "processor", f"{hardware['processor']}, {count(int(hardware['cores'] or 0), 'core')}"
    yield "GPU", ", ".join(hardware["gpus"]) or "none"
    yield "platform", str(hardware["platform"])


def _values(values: list[str | None]) -> str:
    """Return the values that occur, with their numbers where there are several."""
    counts = Counter(value for value in values if value is not None)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{value} ({count(number, 'run')})" for value, number in counts.most_common())


def duration(seconds: float) -> str:
    """Write a time as ``41 s``, ``12 min 5 s`` or ``3 h 12 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def data_facts(runs: "Runs") -> list[Fact]:
    """Return corpora and label sets with their hashes, terms and whom to cite."""
    hashes: dict[str, Counter[str]] = {}
    sources: dict[str, str] = {}
    for row in runs.finished().drop_duplicates("record").index:
        config = runs.config(int(str(row)))
        corpus = str((config.get("data") or {}).get("name", "corpus"))
        for part, terms in _corpora(config.get("data") or {}):
            sources[part] = terms
        for name, value in (runs.environment(int(str(row))).get("hashes") or {}).items():
            told = f"corpus {corpus}" if name == "corpus" else f"LLM labels {name}"
            hashes.setdefault(told, Counter())[str(value)] += 1
    licences = {f"LLM labels {one.name}": one.licence for one in published_sets()}
    facts = [Fact(f"terms of {name}", terms) for name, terms in sources.items() if terms]
    for name, values in hashes.items():
        told = "; ".join(value for value, _ in values.most_common())
        facts.append(Fact(name, f"{licences[name]}; hash {told}" if name in licences else f"hash {told}"))
    return facts


def _corpora(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every corpus of a configuration with its licence and citation, members of a combination each for itself."""
    for member in config.get("members") or []:
        yield from _corpora(member)
    reader = getattr(data, str(config.get("_target_", "")).rpartition(".")[2], None)
    if reader is None or config.get("members"):
        return
    terms = YEARS[config["year"]] if reader is data.NewsEmp else reader
    licence = config.get("licence") or getattr(terms, "licence", "")
    citation = config.get("citation") or getattr(terms, "citation", "")
    name = str(config.get("name") or (f"newsemp{config['year']}" if reader is data.NewsEmp else reader.__name__))
    yield name, ". ".join(part for part in (str(licence), f"Cite: {citation}" if citation else "") if part)


def failures(runs: "Runs", directory: Path) -> list[Failure]:
    """Return the jobs without a result, with the path of the traceback as seen from the report's `directory`."""
    found = []
    for job, row in runs.table.iterrows():
        if row["outcome"] in ("finished", "finished before"):
            continue
        values = {str(name): value for name, value in row.items()}
        parts = [configuration(values, runs.factors)] if runs.factors else []
        parts += [f"{name} {plain(row[name])}" for name in runs.replicates]
        error = row["error"] if isinstance(row["error"], str) else "no reason was recorded"
        path = Path(str(row["record"])) / "error.txt"
        there = path.is_file()
        link = quote(os.path.relpath(path, directory)) if there else ""
        found.append(Failure(int(str(job)), ", ".join(parts), row["outcome"], error, str(path) if there else "", link))
    return found
