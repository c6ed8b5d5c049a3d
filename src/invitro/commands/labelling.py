"""``label.py``: one labelling job, the prompt check, the reliability report, or the jobs of a multirun."""

import json
import logging
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from invitro.commands.common import REFUSED, RememberPlace, instantiated, missing, plain, remove_if_fresh
from invitro.data import DataFolder, Reader
from invitro.engines.base import Readout
from invitro.errors import InputError, not_boolean, refuse_if_any
from invitro.files import write_json, write_text
from invitro.labelling.labeller import Labelled, Labelling, dry_run, label
from invitro.labelling.texts import chosen
from invitro.labels import LabelSource
from invitro.scales import Scale

log = logging.getLogger(__name__)


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
    """Compare prompts, see `invitro.reliability.check`; return what is to be printed and leave it in `directory`.

    Args:
        what: by role; all with one engine, reader and scale.
        dry: only count and price.
        directory: gets ``report.json`` as any labelling, ``prompt_check.json`` and ``prompt_check.txt``.
    """
    from invitro.reliability.check import advice, check, lines

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
        raters: only these; see `invitro.reliability.gathering.gather`.
        limit: see `chosen`.
        limit_seed: likewise.
    """
    from invitro.reliability.gathering import gather
    from invitro.reliability.report import reliability_report

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


BOOLEANS = ("dry_run", "report", "reparse")
SHARED = ("samples", "limit", "limit_seed", "export", "progress", "merge", "reparse")
"""Settings that reach `invitro.labelling.labeller.Labelling` as they are."""


def _choices(*groups: str) -> str:
    """Return the choices of config groups, one line a group, for the help."""
    loader = GlobalHydra.instance().config_loader()
    return "\n".join(f"{group}: {', '.join(loader.get_group_options(group))}" for group in groups)


OmegaConf.register_new_resolver("choices", _choices, replace=True)


def run_label(cfg: DictConfig) -> None:
    """Label one corpus, check prompts or compare label sets, and print what came out.

    A job of a multirun records its own failure.
    """
    hydra = HydraConfig.get()
    directory, multirun = Path(hydra.runtime.output_dir), hydra.mode == RunMode.MULTIRUN
    from invitro.engines.base import EngineError

    try:
        print("\n".join(_carried_out(cfg, directory)))
    except (InputError, EngineError) as error:
        if multirun:
            leave_error(directory, error)
            return
        refused = isinstance(error, InputError)
        remove_if_fresh(directory, {".hydra", f"{hydra.job.name}.log"})
        print(f"{error}\n" + "Nothing was labelled." * (refused and not cfg.report), file=sys.stderr)
        sys.exit(REFUSED if refused else 1)


def label_command(main: Callable[[], None]) -> None:
    """Run ``label.py``; after a multirun, show its label sets side by side and let the exit status tell of failures."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nStopped. Every answer so far is stored; the same line goes on from here")
    if RememberPlace.sweep is None:
        return

    if not show_sweep(RememberPlace.sweep):
        sys.exit(1)


def _carried_out(cfg: DictConfig, directory: Path) -> list[str]:
    """Do what the settings ask for, and return what is to be printed."""
    refuse_if_any([*missing(cfg), *not_boolean(**{name: cfg[name] for name in BOOLEANS}), *_contradictions(cfg)])
    if cfg.report:
        return _reported(cfg, directory)

    if cfg.check:
        prompts = {str(role): prompt for role, prompt in cfg.check.items() if prompt}
        return carry_out_check(labellings(cfg, prompts), cfg.dry_run, directory)
    return carry_out(labellings(cfg, {"": cfg.prompt})[""], cfg.dry_run, directory)


def _contradictions(cfg: DictConfig) -> list[str]:
    """Return a problem for every two settings that cannot both be meant."""
    problems = []
    given = [word for word in HydraConfig.get().overrides.task if word.startswith("prompt=")]
    if cfg.check and given:
        names = ", ".join(prompt.name for prompt in cfg.check.values() if prompt)
        problems.append(
            f"{given[0]}: the check compares {names}; to check this one, say prompt@check.items={given[0][7:]}, or "
            "prompt@check.overall= for a prompt that asks for one score"
        )
    if cfg.check and cfg.export:
        problems.append("export: the check makes several label sets; export one of them by a run with its prompt")
    if cfg.report and (cfg.check or cfg.dry_run):
        problems.append("report=true compares labels that are there and asks nobody; leave dry_run and the check out")
    return problems


def labellings(cfg: DictConfig, prompts: Mapping[str, DictConfig]) -> dict[str, Any]:
    """Instantiate what `label.py` works with, and report everything that is wrong with the settings in one error.

    Args:
        cfg: the configuration.
        prompts: by role; all are asked of one engine.
    """
    from invitro.engines.base import Readout
    from invitro.labelling.labeller import Labelling

    problems = list(setting_problems(cfg.llm.name, cfg.llm.engine, cfg.readout, cfg.dry_run))
    settings = plain(cfg.sampling)
    shots = any(prompt.get("shots") for prompt in prompts.values())
    engine = cfg.llm.engine and (cfg.get("cluster") or cfg.llm.engine)  # a cluster's engine holds the LLM's
    nodes = {"reader": _data(cfg, whole=not shots), "scale": cfg.scale, "engine": engine}
    for name, node in (nodes | dict(prompts)).items():
        try:
            settings[name] = instantiated(node) if node else None
        except InputError as error:
            problems += error.problems
    refuse_if_any(problems)
    settings |= {name: cfg[name] for name in SHARED}
    settings |= {"llm": cfg.llm.name, "readout": Readout(cfg.readout), "store": Path(cfg.store)}
    asked = {role: settings.pop(role) for role in prompts}
    found = {}
    for role, prompt in asked.items():
        try:
            found[role] = Labelling(**settings, prompt=prompt, merges_digits=cfg.llm.merges_digits)
        except InputError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    refuse_if_any(problems)
    return found


def _reported(cfg: DictConfig, directory: Path) -> list[str]:
    """Compare the labels that are there; the LLM's engine is not even instantiated."""
    from invitro.data import DataFolder
    from invitro.labels import LabelSource
    from invitro.reliability.gathering import NoLabelsError

    for word in HydraConfig.get().overrides.task:
        if word.startswith(("llm=", "prompt=")):
            log.warning("%s leaves no label set out of the report; raters=[NAME, ...] does", word)
    own = None
    if cfg.llm.get("labels") or cfg.llm.get("column"):
        own = LabelSource(
            cfg.llm.name, labels=cfg.llm.get("labels"), column=cfg.llm.get("column"), columns=plain(cfg.llm.columns)
        )
    reader, scale = instantiated(_data(cfg, whole=True)), instantiated(cfg.scale)
    folder = DataFolder(cfg.data.get("folder") or os.environ.get("INVITRO_DATA_DIR"))
    raters = [cfg.raters] if isinstance(cfg.raters, str) else cfg.raters and list(map(str, cfg.raters))
    try:
        return report(reader, scale, Path(cfg.store), folder, directory, own, raters, cfg.limit, cfg.limit_seed)
    except NoLabelsError as error:
        raise InputError(*error.problems, f"To make some: {_line(cfg)}") from error


def _data(cfg: DictConfig, whole: bool) -> DictConfig:
    """Return the reader's configuration; with `whole`, a corpus too small to be divided can be read too."""
    data: DictConfig = cfg.data.copy()
    if whole and "split" in data:
        data.split = {"_target_": "invitro.data.Undivided"}
    return data


def _line(cfg: DictConfig) -> str:
    """Return the command that would make labels of this corpus on this scale."""
    given = [word for word in HydraConfig.get().overrides.task if word.partition("=")[0] not in ("report", "raters")]
    llm = [] if any(word.startswith("llm=") for word in given) else ["llm=llama"]
    return shlex.join(["python", "label.py", *llm, *given])
