"""What ``label.py`` prints and leaves behind, and the jobs of a multirun side by side."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from invitro.files import write_json, write_text
from invitro.labelling.exchange import Readout
from invitro.labelling.labeller import Labelled, Labelling, dry_run, label

REPORT, ERROR = "report.json", "error.txt"


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
            estimates = dry_run(what)
            write_json(directory / REPORT, [{"corpus": name} | asdict(one) for name, one in estimates])
            return [line for name, one in estimates for line in (f"{name} (nothing was asked)", *one.lines())]
        done = label(what)
    finally:
        what.engine.close()
    write_json(directory / REPORT, [_record(one) for one in done])
    lines = [line for one in done for line in one.lines()]
    return lines + ([f"  exported to      {what.export}"] if what.export else [])


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
    failed = [job for job in jobs if (job / ERROR).is_file()]
    for job in failed:
        print(f"failed: {job}: {(job / ERROR).read_text('utf-8').strip()}", file=sys.stderr)
    return not failed


def _record(one: Labelled) -> dict[str, Any]:
    """Return a report as JSON values; what is undefined is null."""
    stored, found = one.report.stored, one.agreement
    figures = {name: getattr(found, name).value for name in ("pcc", "ccc", "alpha", "rmse", "bias")} if found else {}
    return {
        "set": stored.info.name,
        "id": stored.id,
        "labelled": stored.labelled,
        "texts": stored.texts,
        **{name: round(value, 4) if value == value else None for name, value in figures.items()},
        "requests": one.report.usage.requests,
        "prompt_tokens": one.report.usage.prompt_tokens,
        "completion_tokens": one.report.usage.completion_tokens,
        "cost": round(one.report.usage.cost, 6),
        "seconds": round(one.report.seconds, 3),
        "unusable": stored.unusable,
    }
