"""``sweep.py``: a study from its launch to its report; ``study=inference`` and ``study=worth`` need no launch."""

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hydra import compose
from hydra.errors import HydraException
from omegaconf import DictConfig

from invitro.commands.common import (
    data_folder,
    each_instantiated,
    feature_cache,
    first_lines,
    missing,
    noting,
    refusing,
    stoppable,
    with_own_labels_named,
)
from invitro.commands.typed import configured, explained
from invitro.errors import InputError, as_called, called, command_line, conf_folder, error_text, quoted, refuse_if_any
from invitro.writing.words import count

if TYPE_CHECKING:
    from invitro.commands.plans import SweepRequest
    from invitro.data import Reader
    from invitro.studies import Runs
    from invitro.studies.report.worth import Weighed
    from invitro.studies.summary import Summary
    from invitro.writing.charts import Figure


PLAIN_VALUE = re.compile(r"[\w./+-]+")
"""What needs no quotes as the value of an override."""

HELP = """Launch a study's jobs and report the results: tables, tests, figures.

  python sweep.py study=NAME [anything that train.py understands]
  python sweep.py report_only=true runs=FOLDER [study=NAME]

Running the same command again continues where it stopped; more seeds or values add runs.

Studies:

{studies}

Examples:

  python sweep.py study=demo
  python sweep.py study=applications data=newsemp18 plm=minilm plm.train=frozen data/split=kfold data.split.grouped=true
  python sweep.py study=alpha alpha=3.5,4.0,inf hydra/launcher=joblib hydra.launcher.n_jobs=2

Its own settings, besides study.*; for all others see train.py --help:

{settings}"""


@stoppable("Stopped. Run the same command again to continue.")
def sweep_command(arguments: Sequence[str]) -> None:
    """Run ``sweep.py`` with these `arguments`.

    The last line printed is the report's path. The process ends with status 0; 1 if a job failed or has no outcome;
    `REFUSED` if nothing was started; 128 plus the signal's number if it was stopped.
    """
    if {"-h", "--help"} & set(arguments):
        print(as_called(_help()))
        return
    from invitro.commands.plans import INFERENCE, WORTH, request

    with refusing("Nothing was started."):
        asked = request(arguments)
    for note in asked.notes:
        print(note, file=sys.stderr)
    if asked.settings.dry_run:
        _show(asked)
        return
    if asked.study.job in (INFERENCE, WORTH):
        with refusing("Nothing was estimated."):
            print(estimate(asked), flush=True)
        return
    problem = launch_jobs(asked)
    try:
        runs = read_jobs(asked)
    except InputError as error:
        print(problem or error, "There is nothing to report.", sep="\n", file=sys.stderr)
        sys.exit(1)
    failed = asked.plan is not None and _report_failures(runs)
    if problem:
        print(problem, file=sys.stderr)
    report, summary, drawn = report_jobs(asked, runs)
    if line := training_line(asked, summary):
        print(f"To train and save the configuration with the best CCC on validation:\n  {line}")
    print(report, flush=True)
    send_report(asked, runs, summary, drawn, report)
    if failed or problem:
        sys.exit(1)


def launch_jobs(asked: "SweepRequest") -> str | None:
    """Launch the plan's jobs; return what went wrong, apart from failed jobs."""
    if asked.plan is None:
        return None
    from invitro.files import write_json
    from invitro.studies.launch import LostError, launch
    from invitro.training.multirun import STUDY

    write_json(asked.root / STUDY, asdict(asked.study))
    try:
        launch(asked.plan)
    except LostError as error:
        return str(error)
    return None


def read_jobs(asked: "SweepRequest") -> "Runs":
    """Read the jobs of this launch and of all earlier ones from disk."""
    from invitro.studies import read_runs

    # If a study without factors is only reported, the settings in which its runs differ are the factors.
    factors = asked.study.factors if asked.study.factors or asked.plan is not None else None
    return read_runs(asked.root, factors, asked.study.replicates)


def report_jobs(asked: "SweepRequest", runs: "Runs") -> "tuple[Path, Summary, Sequence[Figure]]":
    """Make the report; return its path, the numbers in it, and its figures."""
    from invitro.studies.figures import figures
    from invitro.studies.health import findings
    from invitro.studies.report.page import write_report
    from invitro.studies.summary import summarise

    study = replace(asked.study, factors=runs.factors)
    summary = summarise(study, runs, resamples=asked.settings.resamples)
    health, drawn = findings(study, runs, summary), figures(study, runs, summary)
    report = write_report(study, runs, summary, health, drawn, asked.report, asked.settings.show_ids)
    return report, summary, drawn


def send_report(
    asked: "SweepRequest", runs: "Runs", summary: "Summary", drawn: "Sequence[Figure]", report: Path
) -> None:
    """Send the report to W&B if its jobs were logged there; failures are only printed, since the report exists."""
    from invitro.studies.dashboard import publish, save_workspace

    study = replace(asked.study, factors=runs.factors)
    what = "summary table, figures and report"
    try:
        publish(study, runs, summary, drawn, report)
        if asked.settings.dashboard:
            what = "workspace"
            print(f"Workspace: {save_workspace(study, runs, asked.report)}", file=sys.stderr)
    except InputError as error:
        print(error, file=sys.stderr)
    except Exception as error:  # a tracker may raise anything
        settings = asked.settings
        words = ["report_only=true", f"runs={_value(asked.root)}", f"resamples={settings.resamples}"]
        words += [f"directory={_value(asked.report)}"] * (asked.report != asked.root / "report")
        words += ["show_ids=false"] * (not settings.show_ids) + ["dashboard=true"] * settings.dashboard
        why = " ".join(error_text(error).split())
        again = f"{called('sweep')} {command_line(words)}"
        print(f"WARNING: not uploaded to W&B: {what} ({why}). To try again: {again}", file=sys.stderr)


def _value(value: object) -> str:
    return str(value) if PLAIN_VALUE.fullmatch(str(value)) else quoted(value)


PLACES = ("store", "logger", "runs", "cache", "data.folder")
"""Keys that say where runs read and write, without changing results; the command keeps the study's."""


def training_line(asked: "SweepRequest", summary: "Summary") -> str | None:
    """Return the command that trains and saves the chosen configuration, or else the best on validation.

    None if nothing was launched, or if no run has a validation metric: nothing is chosen by test metrics.
    """
    rated = summary.groups.dropna(subset=["val_ccc_mean"]) if "val_ccc_mean" in summary.groups else summary.groups[:0]
    if asked.plan is None or asked.study.job != "train" or rated.empty:
        return None
    from invitro.studies.launch import is_incidental
    from invitro.studies.study import FOLD, matches

    rows = [{str(name): value for name, value in row.items()} for row in rated.to_dict("records")]
    fitting = [row for row in rows if summary.chosen and matches(row, summary.chosen)] or rows
    best = max(fitting, key=lambda row: float(row["val_ccc_mean"]))
    words = []
    for override in asked.plan.overrides:
        key, _, value = override.lstrip("+").partition("=")
        if FOLD in asked.study.replicates and key.startswith(("data/split", "data.split")):
            continue  # the model to keep is not that of one fold
        if key in asked.study.factors and key in best:
            words.append(f"{key}={_value(best[key])}")
        elif key in ("seed", *asked.study.replicates):
            words.append(f"{key}={re.split('[,)]', value.removeprefix('range('))[0].strip()}")
        elif not is_incidental(key) or key.startswith(PLACES):
            words.append(override)
    folders = [f"--config-dir={folder}" for folder in asked.folders]
    return f"{called('train')} {command_line([*folders, *words])}"


def _report_failures(runs: "Runs") -> bool:
    """Name the jobs that failed or were skipped on stderr; return whether any failed.

    Jobs that were skipped for the same reason share a line.
    """
    names = [*runs.factors, *runs.replicates]
    skipped: dict[str, list[dict[str, str]]] = {}
    for _, row in runs.table.iterrows():
        values = {name: str(row[name]) for name in names}
        if row["outcome"] == "failed":
            where = Path(row["record"]) / "error.txt"
            print(f"failed: {_named(values)}: {row['error']} ({where})", file=sys.stderr)
        elif row["outcome"] == "skipped":
            skipped.setdefault(str(row["error"]), []).append(values)
    for reason, jobs in skipped.items():
        differing = {name: ",".join(dict.fromkeys(job[name] for job in jobs)) for name in names}
        several = f"{len(jobs)} jobs: " if len(jobs) > 1 else ""
        print(f"skipped: {several}{_named(differing)}: {reason}", file=sys.stderr)
    return bool((runs.table["outcome"] == "failed").any())


def _named(values: Mapping[str, str]) -> str:
    """Name a job, or several, by the values in which they differ."""
    return " ".join(f"{name}={value}" for name, value in values.items()) or "the only job"


def _show(asked: "SweepRequest") -> None:
    if asked.plan is None:
        print(f"Nothing would be started; the report of {asked.root} would be made in {asked.report}")
        return
    for number, job in enumerate(asked.plan.jobs or ()):
        reason = asked.plan.not_run.get(number)
        print(" ".join(job) + (f"  (not run: {reason})" if reason else ""))
    print(f"{count(len(asked.plan.jobs or ()) or asked.plan.trials, 'job')}, in {asked.root}")


def _help() -> str:
    conf = conf_folder()
    studies = first_lines(conf / "study")
    width = max(map(len, studies))
    lines = (conf / "sweep.yaml").read_text("utf-8").splitlines()
    settings = [line for line in lines if line and not line.startswith(("#", "defaults", " "))]
    return HELP.format(
        studies="\n".join(f"  {name:<{width}}  {what}" for name, what in studies.items()),
        settings="\n".join(f"  {line}" for line in settings),
    )


def estimate(asked: "SweepRequest") -> Path:
    """Run ``study=inference`` or ``study=worth`` in this process, and return the path of the report.

    The settings of all jobs are checked before the first corpus is read.

    Raises:
        InputError: settings, data or labels that cannot be used; launchers, which have nothing to launch.
    """
    from invitro.commands.plans import WORTH

    name = asked.study.job
    what, report = ("learning curves", "its report") if name == WORTH else ("estimates", "its report in seconds")
    if asked.plan is None or asked.plan.jobs is None:
        raise InputError(f"report_only=true: {what} leave no runs; the study's command makes {report}")
    refuse_if_any(f"{override}: {what} are made in this process; leave it out" for override in asked.plan.hydra)
    with configured(name, asked.folders):
        try:
            cfgs = [with_own_labels_named(compose(name, overrides=list(job))) for job in asked.plan.jobs]
        except HydraException as error:
            raise explained(error, name) from error
    make = _weighed if name == WORTH else _inferred
    return make(asked, asked.plan.asked, list(zip(asked.plan.jobs, cfgs, strict=True)))


Jobs: TypeAlias = Sequence[tuple[Sequence[str], DictConfig]]
"""The overrides and the configuration of each job."""


def _inferred(asked: "SweepRequest", command: str, jobs: Jobs) -> Path:
    """Make estimates of one corpus after another."""
    import pandas as pd

    from invitro.files import write_json
    from invitro.studies.inference import Estimated, infer, inference_data, write_inference
    from invitro.training.multirun import STUDY, as_mapping

    checked = [_checked_inference(cfg) for _, cfg in jobs]
    overrides = [as_mapping(job) for job, _ in jobs]
    factors = tuple(key for key in overrides[0] if len({values.get(key) for values in overrides}) > 1)
    tables, inputs = [], []
    for values, (_, cfg), made in zip(overrides, jobs, checked, strict=True):
        data = inference_data(
            reader=made["data"],
            scale=made["scale"],
            source=made["llm"],
            prompt=cfg.prompt.name,
            folder=data_folder(cfg),
            covariate=made["inference"].covariate,
        )
        rows = infer(data, made["inference"], cfg.seed).assign(**{name: values.get(name) for name in factors})
        tables.append(rows[[*factors, *rows.columns.difference(list(factors), sort=False)]])
        inputs.append(data)
    write_json(asked.root / STUDY, asdict(asked.study))
    estimated = Estimated(pd.concat(tables, ignore_index=True), factors, inputs, command)
    return write_inference(asked.study, estimated, asked.report)


def _checked_inference(cfg: DictConfig) -> dict[str, Any]:
    """Return the instantiated settings by name, or report everything that is wrong with them in one error."""
    from invitro.training.recipe import Seeded

    refuse_if_any(missing(cfg))
    problems: list[str] = []
    with noting(problems):
        Seeded(cfg.seed)
    made = each_instantiated(cfg, ("data", "scale", "llm", "inference"), problems)
    refuse_if_any(problems)
    return made


def _weighed(asked: "SweepRequest", command: str, jobs: Jobs) -> Path:
    """Make learning curves, and print each job's sentence as soon as it is known."""
    from invitro.files import write_json
    from invitro.studies.report.worth import worth_sentence, write_worth
    from invitro.training.multirun import STUDY

    checked = [checked_worth(cfg) for _, cfg in jobs]
    names = Counter(cfg.llm.name for _, cfg in jobs)
    refuse_if_any(
        f"llm={name}: expected one job per LLM; compare other settings in separate studies"
        for name in sorted(names)
        if names[name] > 1
    )
    weighed = []
    for (job, cfg), settings in zip(jobs, checked, strict=True):
        weighed.append(replace(weigh(cfg, settings, asked.settings.resamples), settings=_for_training(job)))
        print(worth_sentence(weighed[-1].data.llm, weighed[-1].exchange), flush=True)
    write_json(asked.root / STUDY, asdict(asked.study))
    return write_worth(asked.study, weighed, command, asked.report)


def _for_training(job: Sequence[str]) -> tuple[str, ...]:
    """Return a job's settings for ``train.py``, with the encoder named: the two commands have different defaults."""
    settings = tuple(override for override in job if not override.lstrip("+").startswith("worth."))
    return settings if any(override.startswith("plm=") for override in settings) else ("plm=minilm", *settings)


def weigh(cfg: DictConfig, settings: dict[str, Any], resamples: int, reader: "Reader | None" = None) -> "Weighed":
    """Read a corpus and its LLM labels, and make the curves.

    Args:
        cfg: the composed ``worth.yaml``.
        settings: what `checked_worth` returned for it.
        resamples: draws of the bootstrap.
        reader: of the corpus, instead of the configuration's.

    Raises:
        InputError: files, ids or labels cannot be used, or there are too few.
    """
    from invitro.studies.report.worth import Weighed
    from invitro.studies.wording import corpus_name, llm_name
    from invitro.studies.worth import WorthData, curves, exchange

    scale, plm = settings["scale"], settings["plm"]
    corpus = (reader or settings["data"]).read(scale)
    corpus.refuse_faults()
    labels = settings["llm"].find(corpus.label_corpora, corpus.table, scale, cfg.prompt.name, data_folder(cfg))
    labels.refuse_evaluated(
        corpus.whole_ids(corpus.table.loc[corpus.table["crowd_label"].notna()]),
        "one of the folds of a learning curve",
        "weigh them by training runs: sweep.py study=applications data/split=holdout",
    )
    table = corpus.table.assign(llm_label=labels.of(corpus.table["text_id"]).to_numpy())
    table = table.loc[table[["crowd_label", "llm_label"]].notna().any(axis=1)].reset_index(drop=True)
    named = replace(corpus, name=corpus_name(cfg.data))
    data = WorthData(named, labels, scale, table, llm_name(cfg.llm), plm.name)
    learning_curves = curves(table, feature_cache(cfg.cache, plm), settings["worth"])
    return Weighed(data, exchange(learning_curves, settings["worth"], resamples))


def checked_worth(cfg: DictConfig) -> dict[str, Any]:
    """Return the instantiated settings by name, or report everything that is wrong with them in one error."""
    from invitro.models import PLM

    refuse_if_any(missing(cfg))
    problems: list[str] = []
    settings = each_instantiated(cfg, ("data", "scale", "llm", "plm", "worth"), problems)
    refuse_if_any(problems)
    if not isinstance(settings["plm"], PLM):
        raise InputError(f"plm={cfg.plm.name}: expected an encoder, such as plm=minilm or plm=mpnet, not a baseline")
    return settings
