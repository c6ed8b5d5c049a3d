"""What a report's numbers are based on: software, hardware, time, data and their terms, failed jobs."""

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
from invitro.studies.wording import configuration
from invitro.writing.words import count, duration, plain

if TYPE_CHECKING:
    from invitro.studies.runs import Runs


class Fact(NamedTuple):
    """A name and what is known of it."""

    name: str
    value: str


class FailedJob(NamedTuple):
    """A job without a result: its settings, its outcome, the error's first line, and the way to the traceback."""

    job: int
    name: str
    outcome: str
    error: str
    path: str
    link: str


def environment_facts(runs: "Runs") -> list[Fact]:
    """Return versions, commit, hardware and wall time; where runs differ, every value with the number of its runs."""
    environments = [runs.environment(int(str(row))) for row in runs.finished().drop_duplicates("record").index]
    if not environments:
        return []
    values: dict[str, Counter[str]] = {}
    for environment in environments:
        for name, value in _of_environment(environment):
            values.setdefault(name, Counter())[value] += 1
    facts = []
    for name, counts in values.items():
        several = [f"{value} ({count(number, 'run')})" for value, number in counts.most_common()]
        facts.append(Fact(name, next(iter(counts)) if len(counts) == 1 else "; ".join(several)))
    seconds = pd.Series([environment["seconds"] for environment in environments], dtype="float64")
    total, longest = duration(float(seconds.sum())), duration(float(seconds.max()))
    return [*facts, Fact("wall time", f"{total} over {count(len(seconds), 'run')}; the longest took {longest}")]


def _of_environment(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
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


def data_facts(runs: "Runs") -> list[Fact]:
    """Return corpora and label sets with their hashes, their terms and the citation they ask for."""
    hashes: dict[str, dict[str, None]] = {}
    sources: dict[str, str] = {}
    for row in map(int, map(str, runs.finished().drop_duplicates("record").index)):
        corpus = runs.config(row).get("data") or {}
        sources |= dict(_terms(corpus))
        for name, value in (runs.environment(row).get("hashes") or {}).items():
            labelled = f"corpus {corpus.get('name', 'corpus')}" if name == "corpus" else f"LLM labels {name}"
            hashes.setdefault(labelled, {})[str(value)] = None
    licences = {f"LLM labels {one.name}": f"{one.licence}; " for one in published_sets()}
    facts = [Fact(f"terms of {name}", terms) for name, terms in sources.items() if terms]
    return facts + [Fact(name, f"{licences.get(name, '')}hash {'; '.join(known)}") for name, known in hashes.items()]


def _terms(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every corpus of a configuration with its terms, members of a combination each for itself."""
    for member in config.get("members") or []:
        yield from _terms(member)
    reader = getattr(data, str(config.get("_target_", "")).rpartition(".")[2], None)
    if reader is None or config.get("members"):
        return
    known, name = (
        (YEARS[config["year"]], f"newsemp{config['year']}") if reader is data.NewsEmp else (reader, reader.__name__)
    )
    licence, citation = (config.get(part) or getattr(known, part, "") for part in ("licence", "citation"))
    yield str(config.get("name") or name), terms(str(licence), str(citation))


def terms(licence: str, citation: str) -> str:
    """Write a licence and whom to cite, as far as they are known."""
    return ". ".join(part for part in (licence, f"Cite: {citation}" if citation else "") if part)


def failed_jobs(runs: "Runs", directory: Path) -> list[FailedJob]:
    """Return the jobs without a result, with the path of the traceback as seen from the report's `directory`."""
    jobs = []
    for job, row in runs.table.iterrows():
        if row["outcome"] in ("finished", "finished before"):
            continue
        values = {str(name): value for name, value in row.items()}
        parts = [configuration(values, runs.factors)] if runs.factors else []
        parts += [f"{name} {plain(row[name])}" for name in runs.replicates]
        error = row["error"] if isinstance(row["error"], str) else "no reason was recorded"
        path = Path(str(row["record"])) / "error.txt"
        shown, link = (str(path), quote(os.path.relpath(path, directory))) if path.is_file() else ("", "")
        jobs.append(FailedJob(int(str(job)), ", ".join(parts), row["outcome"], error, shown, link))
    return jobs
