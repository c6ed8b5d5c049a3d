"""``label.py``: one labelling job, the prompt check, the reliability report, or the jobs of a multirun."""

import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from invitro.commands.common import (
    REFUSED,
    RememberPlace,
    Stopped,
    instantiated,
    missing,
    noting,
    plain,
    remove_if_fresh,
    stoppable,
)
from invitro.commands.settings import run_settings
from invitro.errors import InputError, called, error_text, refuse_if_any, traceback_text
from invitro.settings import Index, checked

if TYPE_CHECKING:
    from invitro.data import Corpus
    from invitro.labelling.labeller import Labelling

log = logging.getLogger(__name__)

JOB_REPORT, JOB_ERROR = "report.json", "error.txt"
OPTIONS = ("readout", "samples", "limit", "limit_seed", "export", "merge", "reparse", "retry", "progress")
"""Settings that `invitro.labelling.labeller.Options` takes as they are."""


@checked("")
@dataclass(frozen=True)
class Mode:
    """What ``label.py`` does: label, count what labelling would cost, compare existing labels, or copy the store."""

    dry_run: bool
    report: bool
    show: Index = 0
    backup: str | None = None

    def contradictions(self) -> Iterator[str]:
        """Yield what is wrong with the file of the backup."""
        if self.backup is not None and Path(self.backup).exists():
            yield f"backup={self.backup}: already exists; choose another name"
        if self.backup is not None and (self.dry_run or self.report):
            yield "backup copies the label store and does nothing else; leave dry_run and report out"


def _choices(*groups: str) -> str:
    """Return the choices of config groups, one line per group, for the help."""
    loader = GlobalHydra.instance().config_loader()
    return "\n".join(f"{group}: {', '.join(loader.get_group_options(group))}" for group in groups)


OmegaConf.register_new_resolver("choices", _choices, replace=True)


def label_command(main: Callable[[], None]) -> None:
    """Run ``label.py``; after a multirun, show its label sets side by side and exit with 1 if a job failed."""
    try:
        with stoppable():
            main()
    except Stopped:
        print("\nStopped. Every answer so far is stored; run the same command to continue from here", file=sys.stderr)
        raise
    if RememberPlace.sweep is not None and not _show_multirun(RememberPlace.sweep):
        sys.exit(1)


def run_label(cfg: DictConfig) -> None:
    """Label one corpus, check prompts or compare label sets, and print the result.

    A job of a multirun records its own failure.
    """
    from invitro.engines.base import EngineError
    from invitro.files import write_text

    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    try:
        refuse_if_any(missing(cfg))
        does = _backed_up if cfg.backup is not None else _compared if cfg.report else _labelled
        print("\n".join(does(cfg, directory)))
    except (InputError, EngineError) as error:
        if hydra.mode == RunMode.MULTIRUN:
            write_text(directory / JOB_ERROR, f"{error_text(error)}\n")
            return
        refused = isinstance(error, InputError)
        remove_if_fresh(directory, {".hydra", f"{hydra.job.name}.log"})
        print(f"{error}\n" + "Nothing was labelled." * (refused and not cfg.report), file=sys.stderr)
        sys.exit(REFUSED if refused else 1)
    except Exception as error:
        print(traceback_text(error), file=sys.stderr)  # Hydra would print it with any key that it holds
        sys.exit(1)


def labellings(cfg: DictConfig, prompts: Mapping[str, DictConfig], dry_run: bool) -> "dict[str, Labelling]":
    """Return what the configuration says about how to label, for each prompt; all share one engine.

    Args:
        cfg: as composed from ``label.yaml``.
        prompts: by role.
        dry_run: nothing is asked, so no key is needed.

    Raises:
        InputError: naming everything that is wrong with the settings.
    """
    from invitro.engines.base import Sampling, key_in
    from invitro.labelling.labeller import Labelling, Options

    llm, problems = cfg.llm, list[str]()
    if llm.engine is None:
        problems.append(f"llm={llm.name} cannot be asked; choose another, such as llm=scripted for a rehearsal")
    if cfg.get("cluster") and cfg.get("engine"):
        problems.append("engine=batch asks no cluster; choose cluster= or engine=")
    engine = llm.engine and (cfg.get("engine") or cfg.get("cluster") or llm.engine)  # the first two hold the LLM's
    nodes = {"scale": cfg.scale, "engine": engine, "sampling": cfg.sampling, **prompts}
    made: dict[str, Any] = {}
    for name, node in nodes.items():
        with noting(problems):
            made[name] = instantiated(node) if node else None
    key = getattr(getattr(made.get("engine"), "engine", made.get("engine")), "key_env", None)
    if key and not dry_run and not cfg.get("engine") and not cfg.get("import"):
        with noting(problems):
            key_in(key)
    with noting(problems):
        sampling = made.get("sampling", Sampling(temperature=1.0))  # the default where the given one is refused
        options = Options(sampling=sampling, results=cfg["import"], **{name: cfg[name] for name in OPTIONS})
    refuse_if_any(problems)
    whats = {}
    for role in prompts:
        with noting(problems):
            whats[role] = Labelling(
                made["scale"], made[role], llm.name, made["engine"], Path(cfg.store), options, llm.merges_digits
            )
    refuse_if_any(problems)
    return whats


def _refuse_contradictions(cfg: DictConfig) -> None:
    """Refuse settings that contradict each other."""
    mode = Mode(cfg.dry_run, cfg.report, cfg.show, cfg.backup)
    given = [word for word in HydraConfig.get().overrides.task if word.startswith("prompt=")]
    problems = []
    if cfg.check and given:
        names = ", ".join(prompt.name for prompt in cfg.check.values() if prompt)
        problems.append(
            f"{given[0]}: the check compares {names}; to check this one, use prompt@check.items={given[0][7:]}, or "
            "prompt@check.overall= for a prompt that asks for one score"
        )
    if cfg.check and cfg.export:
        problems.append("export: the check makes several label sets; export one of them by a run with its prompt")
    if mode.report and (cfg.check or mode.dry_run or mode.show):
        problems.append("report=true compares existing labels and asks no LLM; leave dry_run, show and the check out")
    refuse_if_any(problems)


def _labelled(cfg: DictConfig, directory: Path) -> list[str]:
    """Label a corpus, once or with each prompt of the check; return the report and leave it in `directory` as JSON."""
    from invitro.files import write_json
    from invitro.labelling.labeller import dry_run, label, rendered_prompts

    prompts = {str(role): prompt for role, prompt in cfg.check.items() if prompt} or {"items": cfg.prompt}
    problems: list[str] = []
    with noting(problems):
        _refuse_contradictions(cfg)
    with noting(problems):
        reader = instantiated(_data(cfg, whole=not any(prompt.get("shots") for prompt in prompts.values())))
    with noting(problems):
        whats = labellings(cfg, prompts, dry_run=cfg.dry_run or bool(cfg.show))
    refuse_if_any(problems)
    what = whats["items"]
    try:
        corpus = reader.read(what.scale)
        shown = [line for each in whats.values() if cfg.show for line in rendered_prompts(corpus, each, cfg.show)]
        if shown and not cfg.dry_run:
            remove_if_fresh(directory, {".hydra", f"{HydraConfig.get().job.name}.log"})
            return shown
        if cfg.dry_run:
            costs = [
                (f"{name}, prompt={each.prompt.name}", cost)
                for each in whats.values()
                for name, cost in dry_run(corpus, each)
            ]
            write_json(directory / JOB_REPORT, [{"corpus": name} | asdict(cost) for name, cost in costs])
            return [*shown, *(line for name, cost in costs for line in (f"{name} (nothing was asked)", *cost.lines()))]
        done = {role: label(corpus, each) for role, each in whats.items()}
    finally:
        what.engine.close()
    parts = [part for each in done.values() for part in each]
    write_json(directory / JOB_REPORT, [part.record() for part in parts])
    if cfg.check:
        return _checked(corpus, whats, done, directory)
    exported = [f"  exported to      {cfg.export}"] if cfg.export else []
    return [line for part in parts for line in part.lines()] + exported


def _checked(corpus: "Corpus", whats: Mapping[str, "Labelling"], done: Mapping[str, Any], directory: Path) -> list[str]:
    """Compare the prompts; return what is to be printed and leave it in `directory`, also as JSON."""
    from pydantic_core import to_jsonable_python

    from invitro.files import write_json, write_text
    from invitro.reliability.check import advice, check, lines

    result = check(corpus, whats, done)
    text = directory / "prompt_check.txt"
    write_json(
        text.with_suffix(".json"), to_jsonable_python(asdict(result) | {"advice": advice(result)}, inf_nan_mode="null")
    )
    write_text(text, "\n".join(lines(result)) + "\n")
    return [*lines(result), "", f"Report: {text}"]


def _backed_up(cfg: DictConfig, directory: Path) -> list[str]:
    """Copy the label store, whoever writes to it meanwhile."""
    from invitro.labels.store import LabelStore

    _refuse_contradictions(cfg)
    with LabelStore(cfg.store, read_only=True) as store:
        store.backup(cfg.backup)
        sets = store.sets()
    remove_if_fresh(directory, {".hydra", f"{HydraConfig.get().job.name}.log"})
    return [f"Backup: {cfg.backup} ({sum(one.answers for one in sets)} answers of {len(sets)} label sets)"]


def _compared(cfg: DictConfig, directory: Path) -> list[str]:
    """Compare the existing labels with the crowd's; the LLM's engine is not even instantiated."""
    from invitro.data import DataFolder
    from invitro.labelling.texts import chosen
    from invitro.labels import LabelSource
    from invitro.reliability.gathering import NoLabelsError, gather
    from invitro.reliability.people import crowd_report
    from invitro.reliability.report import reliability_report

    _refuse_contradictions(cfg)
    for word in HydraConfig.get().overrides.task:
        if word.startswith(("llm=", "prompt=")):
            log.warning("%s does not limit the report to some label sets; raters=[NAME, ...] does", word)
    own = None
    if cfg.llm.get("labels") or cfg.llm.get("column"):
        own = LabelSource(
            cfg.llm.name, labels=cfg.llm.get("labels"), column=cfg.llm.get("column"), columns=plain(cfg.llm.columns)
        )
    reader, scale = instantiated(_data(cfg, whole=True)), instantiated(cfg.scale)
    folder = DataFolder(cfg.data.get("folder") or os.environ.get("INVITRO_DATA_DIR"))
    raters = [cfg.raters] if isinstance(cfg.raters, str) else cfg.raters and list(map(str, cfg.raters))
    corpus = reader.read(scale)
    texts = chosen(corpus.table, cfg.limit, cfg.limit_seed)
    try:
        gathered = gather(corpus, texts, scale, Path(cfg.store), folder, own, raters)
    except NoLabelsError as error:
        if corpus.people is not None and own is None:
            lines = crowd_report(corpus.people, texts.set_index("text_id")["group_id"], directory)
            return [*lines, *error.problems, f"Report: {directory / 'crowd.md'}"]
        raise InputError(*error.problems, f"To make some: {_command(cfg)}") from error
    report = reliability_report(
        gathered.ratings,
        gathered.groups,
        directory,
        scale,
        gathered.raters,
        corpus.name,
        parts=gathered.parts,
        remarks=gathered.remarks,
        origins=gathered.origins,
        people=corpus.people,
        items=gathered.items,
    )
    return [str(report), "", f"Report: {report.files[-1]}"]


def _data(cfg: DictConfig, whole: bool) -> DictConfig:
    """Return the reader's configuration; with `whole`, a corpus too small to be divided can be read too."""
    data: DictConfig = cfg.data.copy()
    if whole and "split" in data:
        data.split = {"_target_": "invitro.data.Undivided"}
    return data


def _command(cfg: DictConfig) -> str:
    """Return the command that would make labels of this corpus on this scale."""
    given = [word for word in HydraConfig.get().overrides.task if word.partition("=")[0] not in ("report", "raters")]
    llm = [] if any(word.startswith("llm=") for word in given) else ["llm=llama"]
    return f"{called('label')} {shlex.join([*llm, *given])}"


class Lack(NamedTuple):
    """What a run lacks, in lines for people, and whether it is labels."""

    lines: tuple[str, ...]
    labels: bool = False


def lack_of(cfg: DictConfig, choices: Mapping[str, str], job: Sequence[str]) -> Lack | None:
    """Read the texts and labels of a run, and return what is missing or wrong, or None.

    Args:
        cfg: as composed from ``train.yaml``.
        choices: of its groups.
        job: its overrides.
    """
    from invitro.labels.source import MissingLabelsError

    try:
        settings = run_settings(cfg, multirun=True)
        if settings.application.policy in ("auto", "posterior"):  # needs the same labels, and here no text is embedded
            settings = replace(settings, application=replace(settings.application, policy="replace"))
        settings.prepared()
    except MissingLabelsError as error:
        if not cfg.llm.get("engine") and not cfg.llm.get("members"):
            return Lack(error.problems)
        return Lack(tuple(line_for_labels(llm, choices, job, str(cfg.store)) for llm in error.llms), labels=True)
    except InputError as error:
        return Lack(error.problems)
    return None


def line_for_labels(llm: str, choices: Mapping[str, str], job: Sequence[str], store: str) -> str:
    """Return one line on labels that are missing: whose, what they would cost, and the command that makes them.

    Hydra has to be initialised.

    Args:
        llm: who gives them, a choice of the group ``llm``.
        choices: by group, of the run that needs them.
        job: the run's overrides.
        store: where labels are kept.
    """
    groups = ("prompt", "scale", "data")
    kept = [*groups, *(["llm"] if choices["llm"] == llm else [])]
    own = [word for word in job if word.lstrip("+").partition(".")[0] in kept and "." in word.partition("=")[0]]
    words = [f"llm={llm}", *(f"{group}={choices[group]}" for group in groups), *own, f"store={store}"]
    what = (
        f"no labels by llm={llm} with prompt={choices['prompt']} on scale={choices['scale']} for data={choices['data']}"
    )
    return f"{what} ({_price(words)}): {shlex.join(['python', 'label.py', *words])}"


def _price(words: Sequence[str]) -> str:
    """Return what a labelling would ask and cost, or why that cannot be said here."""
    from invitro.engines.base import EngineError
    from invitro.labelling.labeller import dry_run

    reasons = []
    # Where the model's own tokenizer is not there, tokens are estimated, if the engine can do that.
    for rough in ([], ["llm.engine.tokenizer=approximate"]):
        try:
            cfg = compose("label", overrides=[*words, *rough])
            what = labellings(cfg, {"items": cfg.prompt}, dry_run=True)["items"]
            corpus = instantiated(_data(cfg, whole=not cfg.prompt.get("shots"))).read(what.scale)
            costs = [cost for _, cost in dry_run(corpus, what)]
        except (InputError, EngineError, ImportError, HydraException) as error:
            reasons.append(str(error).splitlines()[0])
            continue
        dollars, most = sum(cost.cost for cost in costs), sum(cost.at_most for cost in costs)
        return f"{sum(cost.requests for cost in costs)} requests, about ${dollars:.2f}, at most ${most:.2f}"
    return f"price unknown: {reasons[0]}"


def _show_multirun(directory: Path) -> bool:
    """Print the label sets of a multirun side by side, from what its jobs left; return whether all went well."""
    import pandas as pd

    jobs = [path for path in sorted(directory.iterdir(), key=lambda path: (len(path.name), path.name)) if path.is_dir()]
    reports = [job / JOB_REPORT for job in jobs if (job / JOB_REPORT).is_file()]
    rows = [row for report in reports for row in json.loads(report.read_text("utf-8"))]
    if rows:
        table = pd.DataFrame(rows).drop(columns="unusable", errors="ignore")
        print(f"\n{table.to_string(index=False, na_rep='')}\n")
        if "set" in table:
            print("report=true, with the same data and scale, compares them with each other")
            if table["labelled"].nunique() > 1:
                print("These sets label different numbers of texts; report=true compares prompts on the same ones")
    failed = [job for job in jobs if (job / JOB_ERROR).is_file()]
    for job in failed:
        print(f"failed: {job}: {(job / JOB_ERROR).read_text('utf-8').strip()}", file=sys.stderr)
    return not failed
