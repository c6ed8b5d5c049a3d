"""What ``label.py`` prints and leaves behind, and the jobs of a multirun side by side."""

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from invitro.data import DataFolder, Reader
from invitro.files import write_json, write_text
from invitro.labelling.exchange import Readout
from invitro.labelling.labeller import Labelled, Labelling, dry_run, label
from invitro.labelling.parts import chosen
from invitro.labels import LabelSource
from invitro.scales import Scale

REPORT, ERROR, CHECK = "report.json", "error.txt", "prompt_check"


def setting_problems(llm: str, engine: Mapping[str, Any] | None, readout: str, dry: bool) -> Iterator[str]:
    """Say what keeps a job from starting that no class checks by itself.

    Args:
        llm: the choice of the group ``llm``.
        engine: its engine, as configuration.
        readout: how scores are to be read.
        dry: whether nothing is asked, so that no key is needed.
    """
    if engine is None:
        yield f"llm={llm} cannot be asked; choose another, such as llm=scripted for a rehearsal"
    key = engine.get("key_env") if engine else None
    if key and not dry and not os.environ.get(key):
        yield f"llm.engine.key_env: the environment variable {key} is not set; put the server's key into it"
    if readout not in list(Readout):
        yield f"readout: expected one of {', '.join(Readout)}, found {readout!r}"


def carry_out(what: Labelling, dry: bool, directory: Path) -> list[str]:
    """Label, or with `dry` only count and price; return the report for people and leave it in `directory` as JSON."""
    try:
        if dry:
            return _estimated([what], directory)
        done = label(what)
    finally:
        what.engine.close()
    write_json(directory / REPORT, [_record(one) for one in done])
    lines = [line for one in done for line in one.lines()]
    return lines + ([f"  exported to      {what.export}"] if what.export else [])


def carry_out_check(what: Mapping[str, Labelling], dry: bool, directory: Path) -> list[str]:
    """Compare prompts, see `invitro.labelling.check`; return what is to be printed and leave it in `directory`.

    Args:
        what: by role; all with one engine, reader and scale.
        dry: only count and price.
        directory: gets ``report.json`` as any labelling, ``prompt_check.json`` and ``prompt_check.txt``.
    """
    from invitro.labelling.check import check
    from invitro.labelling.check_text import advice, lines

    one = what["items"]
    try:
        if dry:
            return _estimated(list(what.values()), directory)
        corpus = one.reader.read(one.scale)
        done = {role: label(labelling, corpus) for role, labelling in what.items()}
    finally:
        one.engine.close()
    found = check(corpus, what, done)
    told = lines(found)
    write_json(directory / REPORT, [_record(labelled) for each in done.values() for labelled in each])
    write_json(directory / f"{CHECK}.json", _without_nan(asdict(found) | {"advice": advice(found)}))
    write_text(directory / f"{CHECK}.txt", "\n".join(told) + "\n")
    return [*told, "", f"Report: {directory / f'{CHECK}.txt'}"]


def report(
    reader: Reader,
    scale: Scale,
    store: Path,
    folder: DataFolder,
    directory: Path,
    own: LabelSource | None = None,
    raters: Sequence[str] | None = None,
    limit: int | None = None,
    limit_seed: int | None = None,
) -> list[str]:
    """Compare the crowd and every label set of a corpus; return what is to be printed.

    Args:
        reader: of the corpus.
        scale: of the scores.
        store: the label store, which need not exist.
        folder: where published files lie.
        directory: where the report is written.
        own: labels in a file or column of the user's.
        raters: only these; see `invitro.labelling.gathering.gather`.
        limit: see `chosen`.
        limit_seed: likewise.
    """
    from invitro.labelling.gathering import gather
    from invitro.labelling.reliability import reliability_report

    corpus = reader.read(scale)
    found = gather(corpus, chosen(corpus.table, limit, limit_seed), scale, store, folder, own, raters)
    told = reliability_report(
        found.ratings,
        found.groups,
        directory,
        scale,
        found.raters,
        corpus.name,
        parts=found.parts,
        remarks=found.remarks,
    )
    return [str(told), "", f"Report: {told.files[-1]}"]


def _estimated(what: Sequence[Labelling], directory: Path) -> list[str]:
    """Return what labelling would ask and cost."""
    corpus = what[0].reader.read(what[0].scale)
    found = [(f"{name}, prompt={one.prompt.name}", each) for one in what for name, each in dry_run(one, corpus)]
    write_json(directory / REPORT, [{"corpus": name} | asdict(each) for name, each in found])
    return [line for name, each in found for line in (f"{name} (nothing was asked)", *each.lines())]


def _without_nan(value: Any) -> Any:
    """Return nested values with None in the place of what is undefined, which JSON cannot write."""
    if isinstance(value, Mapping):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def leave_error(directory: Path, error: Exception) -> None:
    """Record that a job of a multirun failed."""
    write_text(directory / ERROR, f"{type(error).__name__}: {error}\n")


def show_sweep(directory: Path) -> bool:
    """Print the label sets of a multirun side by side, from what its jobs left; return whether all went well."""
    jobs = [path for path in sorted(directory.iterdir(), key=lambda path: (len(path.name), path.name)) if path.is_dir()]
    rows = [row for job in jobs if (job / REPORT).is_file() for row in json.loads((job / REPORT).read_text("utf-8"))]
    if rows:
        table = pd.DataFrame(rows).drop(columns="unusable", errors="ignore")
        print(f"\n{table.to_string(index=False, na_rep='')}\n")
        if "set" in table:
            print("report=true, with the same data and scale, compares them with each other")
    failed = [job for job in jobs if (job / ERROR).is_file()]
    for job in failed:
        print(f"failed: {job}: {(job / ERROR).read_text('utf-8').strip()}", file=sys.stderr)
    return not failed


def _record(one: Labelled) -> dict[str, Any]:
    """Return a report as JSON values; what is undefined is null."""
    stored, found = one.report.stored, one.agreement
    figures = {name: getattr(found, name).value for name in ("pcc", "ccc", "alpha", "rmse", "bias")} if found else {}
    figures |= {"pcc_low": found.pcc.low, "pcc_high": found.pcc.high} if found else {}
    return {
        "set": stored.info.name,
        "id": stored.id,
        "labelled": stored.labelled,
        "texts": stored.texts,
        **{name: round(value, 4) if value == value else None for name, value in figures.items()},
        "measurable": found.pcc.measurable if found else None,
        "requests": one.report.usage.requests,
        "prompt_tokens": one.report.usage.prompt_tokens,
        "completion_tokens": one.report.usage.completion_tokens,
        "cost": round(one.report.usage.cost, 6),
        "seconds": round(one.report.seconds, 3),
        "unusable": stored.unusable,
    }
