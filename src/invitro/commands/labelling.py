"""``label.py``: one labelling job, the prompt check, the reliability report, or the jobs of a multirun."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
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
    UNDIVIDED,
    RememberPlace,
    data_folder,
    each_instantiated,
    instantiated,
    missing,
    noting,
    plain,
    remove_if_fresh,
    stoppable,
    with_own_labels_named,
)
from invitro.commands.settings import run_settings
from invitro.errors import InputError, called, command_line, error_text, refuse_if_any, traceback_text
from invitro.settings import Index, checked

if TYPE_CHECKING:
    import pandas as pd

    from invitro.data import Corpus
    from invitro.labelling.labeller import Labelling
    from invitro.reliability.gathering import Gathered
    from invitro.scales import Scale

log = logging.getLogger(__name__)

OPTIONS = ("readout", "samples", "limit", "limit_seed", "export", "merge", "reparse", "retry", "progress")
"""Settings that are passed to `invitro.labelling.labeller.Options` unchanged."""


@checked("")
@dataclass(frozen=True)
class Mode:
    """What ``label.py`` does: label, estimate what labelling would cost, compare existing labels, or copy the store."""

    dry_run: bool
    report: bool
    show: Index = 0
    backup: str | None = None
    next: Index = 0

    def contradictions(self) -> Iterator[str]:
        """Yield what is wrong with the file of the backup."""
        if self.backup is not None and Path(self.backup).exists():
            yield f"backup={self.backup}: already exists; choose another name"
        if self.backup is not None and (self.dry_run or self.report):
            yield "backup copies the label store and does nothing else; leave dry_run and report out"


def _choices(*groups: str) -> str:
    loader = GlobalHydra.instance().config_loader()
    return "\n".join(f"{group}: {', '.join(loader.get_group_options(group))}" for group in groups)


OmegaConf.register_new_resolver("choices", _choices, replace=True)


def label_command(main: Callable[[], None]) -> None:
    """Run ``label.py``; after a multirun, show its label sets side by side and exit with 1 if a job failed."""
    with stoppable("\nStopped. Every answer so far is stored; run the same command again to continue."):
        main()
    if RememberPlace.sweep is not None:
        from invitro.labelling.reports import multirun_lines

        lines, failed = multirun_lines(RememberPlace.sweep)
        sys.stdout.writelines(f"{line}\n" for line in lines)
        if failed:
            print("\n".join(failed), file=sys.stderr)
            sys.exit(1)


def run_label(cfg: DictConfig) -> None:
    """Label one corpus, check prompts or compare label sets, and print the result.

    A job of a multirun records its own failure.
    """
    from invitro.engines.base import EngineError
    from invitro.files import write_text
    from invitro.labelling.reports import JOB_ERROR

    hydra = HydraConfig.get()
    directory = Path(hydra.runtime.output_dir)
    try:
        refuse_if_any(missing(cfg))
        action = _compared if cfg.report else _labelled
        action = _backed_up if cfg.backup is not None else _ranked if cfg.next else action
        print("\n".join(action(cfg, directory)))
    except (InputError, EngineError) as error:
        if hydra.mode == RunMode.MULTIRUN:
            write_text(directory / JOB_ERROR, f"{error_text(error)}\n")
            return
        refused = isinstance(error, InputError)
        remove_if_fresh(directory)
        print(f"{error}\n" + "Nothing was labelled." * (refused and not cfg.report), file=sys.stderr)
        sys.exit(REFUSED if refused else 1)
    except Exception as error:
        print(traceback_text(error), file=sys.stderr)  # Hydra's own traceback could show a key
        sys.exit(1)


def labellings(cfg: DictConfig, prompts: Mapping[str, DictConfig], dry_run: bool) -> "dict[str, Labelling]":
    """Return the configured labelling for each prompt; all share one engine.

    Args:
        cfg: as composed from ``label.yaml``.
        prompts: by role.
        dry_run: no requests are sent, so no key is needed.

    Raises:
        InputError: everything that is wrong with the settings, together.
    """
    from invitro.engines.base import Sampling, key_in
    from invitro.labelling.labeller import Labelling, Options

    llm, problems = cfg.llm, list[str]()
    if llm.engine is None:
        problems.append(f"llm={llm.name} cannot be asked; choose another, such as llm=scripted for a trial run")
    if cfg.get("cluster") and cfg.get("engine"):
        problems.append("engine=batch does not use a cluster; choose cluster= or engine=")
    engine = llm.engine and (cfg.get("engine") or cfg.get("cluster") or llm.engine)  # the first two contain the LLM's
    nodes = {"scale": cfg.scale, "engine": engine, "sampling": cfg.sampling, **prompts}
    instances = each_instantiated(nodes, nodes, problems)
    key = getattr(getattr(instances.get("engine"), "engine", instances.get("engine")), "key_env", None)
    if key and not dry_run and not cfg.get("engine") and not cfg.get("import"):
        with noting(problems):
            key_in(key)
    with noting(problems):
        sampling = instances.get("sampling", Sampling(temperature=1.0))  # the default if the given one is refused
        options = Options(sampling=sampling, results=cfg["import"], **{name: cfg[name] for name in OPTIONS})
    refuse_if_any(problems)
    by_role = {}
    for role in prompts:
        with noting(problems):
            by_role[role] = Labelling(
                instances["scale"], instances[role], llm.name, instances["engine"], Path(cfg.store), options
            )
    refuse_if_any(problems)
    return by_role


def _refuse_contradictions(cfg: DictConfig) -> None:
    mode = Mode(cfg.dry_run, cfg.report, cfg.show, cfg.backup, cfg.next)
    given = [word for word in HydraConfig.get().overrides.task if word.startswith("prompt=")]
    problems = []
    if cfg.check and given:
        names = ", ".join(prompt.name for prompt in cfg.check.values() if prompt)
        problems.append(
            f"{given[0]}: the check compares {names}; to check this one, use prompt@check.items={given[0][7:]}, or "
            "prompt@check.overall= for a prompt that asks for one score"
        )
    if cfg.check and cfg.export:
        problems.append("export: the check makes several label sets; to export one of them, run its prompt alone")
    if mode.report and (cfg.check or mode.dry_run or mode.show):
        problems.append("report=true compares existing labels and asks no LLM; leave dry_run, show and the check out")
    if mode.next and (mode.report or mode.dry_run or mode.show or cfg.check):
        problems.append("next: ranks unrated texts and asks no LLM; leave report, dry_run, show and the check out")
    if cfg.get("plm") and not mode.next:
        problems.append("plm: is only used by next=, to find texts that are alike; labelling needs no encoder")
    refuse_if_any(problems)


def _labelled(cfg: DictConfig, directory: Path) -> list[str]:
    """Label a corpus, once or with each prompt of the check; return the report and write it to `directory` as JSON."""
    from invitro.files import write_json
    from invitro.labelling.labeller import dry_run, label, rendered_prompts
    from invitro.labelling.reports import JOB_REPORT

    prompts = {str(role): prompt for role, prompt in cfg.check.items() if prompt} or {"items": cfg.prompt}
    problems: list[str] = []
    with noting(problems):
        _refuse_contradictions(cfg)
    with noting(problems):
        reader = instantiated(_data(cfg, whole=not any(prompt.get("shots") for prompt in prompts.values())))
    with noting(problems):
        by_role = labellings(cfg, prompts, dry_run=cfg.dry_run or bool(cfg.show))
    refuse_if_any(problems)
    labelling = by_role["items"]
    try:
        corpus = reader.read(labelling.scale)
        shown = [line for each in by_role.values() if cfg.show for line in rendered_prompts(corpus, each, cfg.show)]
        if shown and not cfg.dry_run:
            remove_if_fresh(directory)
            return shown
        if cfg.dry_run:
            costs = [
                (f"{name}, prompt={each.prompt.name}", cost)
                for each in by_role.values()
                for name, cost in dry_run(corpus, each)
            ]
            write_json(directory / JOB_REPORT, [{"corpus": name} | asdict(cost) for name, cost in costs])
            return [*shown, *(line for name, cost in costs for line in (f"{name} (nothing was asked)", *cost.lines()))]
        done = {role: label(corpus, each) for role, each in by_role.items()}
    finally:
        labelling.engine.close()
    parts = [part for each in done.values() for part in each]
    write_json(directory / JOB_REPORT, [part.record() for part in parts])
    if cfg.check:
        return _checked(corpus, by_role, done, directory)
    exported = [f"  exported to      {cfg.export}"] if cfg.export else []
    return [line for part in parts for line in part.lines()] + exported


def _checked(corpus: "Corpus", whats: Mapping[str, "Labelling"], done: Mapping[str, Any], directory: Path) -> list[str]:
    """Compare the prompts; return the lines to print and write them to `directory`, also as JSON."""
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
    """Copy the label store, even while other processes write to it."""
    from invitro.labels.store import LabelStore

    _refuse_contradictions(cfg)
    with LabelStore(cfg.store, read_only=True) as store:
        store.backup(cfg.backup)
        sets = store.sets()
    remove_if_fresh(directory)
    return [f"Backup: {cfg.backup} ({sum(labels.answers for labels in sets)} answers of {len(sets)} label sets)"]


def _compared(cfg: DictConfig, directory: Path) -> list[str]:
    """Compare the existing labels with the crowd's; the LLM's engine is not even instantiated."""
    from invitro.reliability.gathering import NoLabelsError
    from invitro.reliability.people import crowd_report
    from invitro.reliability.report import reliability_report

    _refuse_contradictions(cfg)
    corpus, scale, texts, own_labels = _to_gather(cfg)
    try:
        gathered = _gathered(cfg, corpus, scale, texts, own_labels)
    except NoLabelsError as error:
        if corpus.people is not None and own_labels is None:
            lines = crowd_report(corpus.people, texts.set_index("text_id")["group_id"], directory)
            return [*lines, *error.problems, f"Report: {directory / 'crowd.md'}"]
        raise InputError(*error.problems, f"To make some: {_command(cfg)}") from error
    report = reliability_report(gathered, directory, scale, corpus.name, corpus.people)
    return [str(report), "", f"Report: {report.files[-1]}"]


def _to_gather(cfg: DictConfig) -> "tuple[Corpus, Scale, pd.DataFrame, Any]":
    """Return the corpus, the scale, the selected texts, and the user's own labels, if any are named."""
    from invitro.labelling.texts import chosen
    from invitro.labels import LabelSource

    for word in HydraConfig.get().overrides.task:
        if word.startswith(("llm=", "prompt=")):
            log.warning("%s does not limit the report to some label sets; raters=[NAME, ...] does", word)
    own_labels, llm = None, with_own_labels_named(cfg.copy()).llm
    if llm.get("labels") or llm.get("column"):
        own_labels = LabelSource(
            llm.name, labels=llm.get("labels"), column=llm.get("column"), columns=plain(llm.columns)
        )
    scale = instantiated(cfg.scale)
    corpus = instantiated(_data(cfg, whole=True)).read(scale)
    return corpus, scale, chosen(corpus.table, cfg.limit, cfg.limit_seed), own_labels


def _gathered(cfg: DictConfig, corpus: "Corpus", scale: "Scale", texts: "pd.DataFrame", own_labels: Any) -> "Gathered":
    """Return everybody's scores; raise `NoLabelsError` if there is no label set."""
    from invitro.reliability.gathering import gather

    raters = [cfg.raters] if isinstance(cfg.raters, str) else cfg.raters and list(map(str, cfg.raters))
    return gather(corpus, texts, scale, Path(cfg.store), data_folder(cfg), own_labels, raters)


def _ranked(cfg: DictConfig, directory: Path) -> list[str]:
    """Rank unrated texts by how informative a human rating would be; write them to ``next.csv`` in `directory`."""
    from invitro.commands.predicting import rank_texts
    from invitro.files import whole_or_absent
    from invitro.reliability.gathering import NoLabelsError

    _refuse_contradictions(cfg)
    corpus, scale, table, own_labels = _to_gather(cfg)
    try:
        gathered = _gathered(cfg, corpus, scale, table, own_labels)
        llms = [name for name, rater in gathered.raters.items() if rater.llm and rater.sample is None]
        llm = gathered.ratings[llms].reset_index(drop=True)
    except NoLabelsError:  # people's ratings alone
        llm = table.iloc[:, :0]
    ranked = rank_texts(cfg, corpus.name, table, llm)
    with whole_or_absent(directory / "next.csv") as temporary:
        ranked.table.drop(columns=["split", "crowd_label"]).to_csv(temporary, index=False)
    return [*ranked.lines(), f"Texts and ids: {directory / 'next.csv'}"]


def _data(cfg: DictConfig, whole: bool) -> DictConfig:
    """Return the reader's configuration; with `whole`, a corpus too small to be divided can be read too."""
    data: DictConfig = cfg.data.copy()
    if whole and "split" in data:
        data.split = UNDIVIDED
    return data


def _command(cfg: DictConfig) -> str:
    """Return the command that would make labels of this corpus on this scale."""
    given = [word for word in HydraConfig.get().overrides.task if word.partition("=")[0] not in ("report", "raters")]
    llm = [] if any(word.startswith("llm=") for word in given) else ["llm=llama"]
    return f"{called('label')} {command_line([*llm, *given])}"


class Lack(NamedTuple):
    """What a run lacks, as lines to print, and whether they are labels that it may use."""

    lines: tuple[str, ...]
    labels: bool = False


def lack_of(cfg: DictConfig, job: Sequence[str]) -> Lack | None:
    """Read the texts and labels of a run, and return what is missing or wrong, or None.

    Args:
        cfg: as composed from ``train.yaml``; Hydra knows it.
        job: its overrides.
    """
    from invitro.labels.labelset import ShownExamplesError
    from invitro.labels.source import MissingLabelsError

    try:
        run_settings(cfg, multirun=True).prepared(embedded=False)
    except MissingLabelsError as error:
        if not cfg.llm.get("engine") and not cfg.llm.get("members"):
            return Lack(error.problems)
        return Lack(tuple(_line_for_labels(llm, job, str(cfg.store)) for llm in error.llms), labels=True)
    except InputError as error:
        return Lack(error.problems, labels=isinstance(error, ShownExamplesError))
    return None


def _line_for_labels(llm: str, job: Sequence[str], store: str) -> str:
    """Return one line about missing labels: whose, what they would cost, and the command that makes them."""
    choices, groups = HydraConfig.get().runtime.choices, ("prompt", "scale", "data")
    kept = [*groups, *(["llm"] if choices["llm"] == llm else [])]
    settings = [word for word in job if word.lstrip("+").partition(".")[0] in kept and "." in word.partition("=")[0]]
    words = [f"llm={llm}", *(f"{group}={choices[group]}" for group in groups), *settings, f"store={store}"]
    what = (
        f"no labels by llm={llm} with prompt={choices['prompt']} on scale={choices['scale']} for data={choices['data']}"
    )
    return f"{what} ({_price(words)}): {command_line(['python', 'label.py', *words])}"


def _price(words: Sequence[str]) -> str:
    """Return the requests and the cost of a labelling, or why they cannot be estimated here."""
    from invitro.engines.base import EngineError
    from invitro.labelling.labeller import dry_run

    reasons = []
    # Without the model's own tokenizer, tokens are estimated, if the engine can do that.
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
