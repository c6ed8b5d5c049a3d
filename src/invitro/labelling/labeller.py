"""From a corpus to its label set: what ``label.py`` does, with plain arguments."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from annotated_types import Predicate
from pydantic_core import to_jsonable_python

from invitro.data import Corpus
from invitro.engines.base import Engine, Readout, Reply, Request, Sampling
from invitro.errors import InputError
from invitro.files import whole_or_absent
from invitro.labelling.job import RETRY_TEMPERATURE, LabelJob, estimate, import_results, reparse, run_job
from invitro.labelling.prompts import Prompt, Renderer
from invitro.labelling.replies import ReplyForm, parse
from invitro.labelling.reports import CostEstimate, JobReport, agreement_lines, alike_warning, write_datasheet
from invitro.labelling.texts import CorpusTexts, Example, Shots, Text, chosen, parts
from invitro.labels.answers import Retry, StoredSet
from invitro.labels.drift import drift_of, drift_warning
from invitro.labels.labelset import LabelSet, published
from invitro.labels.source import stored_labels
from invitro.labels.store import LabelStore
from invitro.scales import Scale
from invitro.settings import Count, Index, checked
from invitro.stats.agreement import Agreement, agreement
from invitro.tables import SUFFIXES, suffix_of

log = logging.getLogger(__name__)

LOGPROBS = 20
"""Alternatives that the `expected` readout asks for: as many as common servers return."""
PROVENANCE = ("base_url", "constraint", "dtype", "quantization", "max_model_len", "tensor_parallel_size")
"""What a datasheet reports about an engine, if the engine has it."""
ExportFile = Annotated[
    str, Predicate(lambda name: name.lower().endswith(SUFFIXES)), f"a file ending in {', '.join(SUFFIXES)}"
]


@checked("")
@dataclass(frozen=True)
class Options:
    """How texts are labelled: the settings of ``label.yaml`` that are not choices in a group.

    Args:
        readout: how scores are taken from replies.
        sampling: of the first attempt; if ``max_tokens`` is None, it is set to enough for the reply.
        samples: answers per text; more than one needs a temperature.
        limit: label only this many texts; None for all.
        limit_seed: seed for drawing them at random; None takes the first.
        export: a table file for the labels.
        merge: another label store, whose answers are added first.
        reparse: first read the label set's stored replies again.
        retry: which questions are asked again; see `LabelJob`.
        results: a batch's results file, which is imported instead of asking anything.
        progress: whether to show a progress bar; None shows it on a terminal, and elsewhere one line per minute.

    Raises:
        InputError: naming every setting that is wrong.
    """

    readout: Readout = Readout.TEXT
    sampling: Sampling = field(default_factory=Sampling)
    samples: Count = 1
    limit: Count | None = None
    limit_seed: Index | None = None
    export: ExportFile | None = None
    merge: str | None = None
    reparse: bool = False
    retry: Retry = "errors"
    results: str | None = None
    progress: Annotated[bool | None, "true, false, or null for a bar on a terminal"] = None

    def contradictions(self) -> Iterator[str]:
        """Yield the settings that contradict each other."""
        if self.samples > 1 and self.sampling.temperature == 0:
            yield (
                f"samples={self.samples} at sampling.temperature=0 would be the same answer each time; "
                "set sampling.temperature, such as 0.7"
            )


@dataclass(frozen=True)
class Labelling:
    """Which LLM labels texts, on which scale and how.

    Args:
        scale: the questionnaire.
        prompt: how it is asked.
        llm: the name that the labels are stored under, such as a choice in the group ``llm``.
        engine: the engine that answers.
        store: the label store's file, which need not exist.
        options: everything else.

    Raises:
        InputError: the readout does not fit this prompt and scale.
    """

    scale: Scale
    prompt: Prompt
    llm: str
    engine: Engine
    store: Path
    options: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        self.form  # noqa: B018  (raises an error if the settings do not fit together)

    @cached_property
    def form(self) -> ReplyForm:
        """The form of the replies."""
        return self.prompt.form(self.scale, self.options.readout)

    @cached_property
    def sampling(self) -> Sampling:
        """How the model decodes in the first attempt."""
        wanted, expected = self.options.sampling, self.options.readout == Readout.EXPECTED
        alternatives = (wanted.top_logprobs or LOGPROBS) if expected else 0
        return Sampling(wanted.temperature, wanted.max_tokens or self.form.max_tokens, wanted.seed, alternatives)


@dataclass(frozen=True)
class Labelled:
    """One corpus, labelled.

    Args:
        report: the report of the job.
        labels: the label set.
        agreement: with the crowd, if there is one.
        datasheet: the datasheet's file.
        texts: the labelled rows of the canonical table.
        prefix: the prefix of their ids in a combination.
        doubts: reasons to doubt the labels, one sentence each: parts that differ from the others, replies that are all
            alike.
    """

    report: JobReport
    labels: LabelSet
    agreement: Agreement | None
    datasheet: Path
    texts: pd.DataFrame
    prefix: str
    doubts: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the report as text, starting with the agreement with the crowd: without it the rest means little."""
        stored = self.report.stored
        return [
            f"Label set {stored.id}  {stored.info.name}",
            *agreement_lines(self.agreement),
            *(f"  {doubt}" for doubt in self.doubts),
            *self.report.lines(),
            f"  datasheet        {self.datasheet}",
        ]

    def record(self) -> dict[str, Any]:
        """Return the report as JSON values; undefined ones are null."""
        stored, used, crowd = self.report.stored, self.report.usage, self.agreement
        names = ("pcc", "ccc", "krippendorff", "rmse", "bias")
        figures = {name: getattr(crowd, name).value for name in names} if crowd else {}
        figures |= {"pcc_low": crowd.pcc.low, "pcc_high": crowd.pcc.high} if crowd else {}
        record = {
            "set": stored.info.name,
            "id": stored.id,
            "labelled": stored.labelled,
            "texts": stored.texts,
            **{name: round(value, 4) for name, value in figures.items()},
            "measurable": crowd.pcc.measurable if crowd else None,
            **asdict(used),
            "cost": round(used.cost, 6),
            "seconds": round(self.report.seconds, 3),
            "unusable": stored.unusable,
        }
        return dict(to_jsonable_python(record, inf_nan_mode="null"))


def label(corpus: Corpus, what: Labelling) -> list[Labelled]:
    """Label a corpus, or each member of a combination; answers that are stored already are not asked for again.

    Args:
        corpus: its texts; `invitro.labelling.texts.corpus_of` makes one of plain texts.
        what: which LLM labels it, on which scale and how.

    Raises:
        InputError: the settings do not suit this corpus, or the engine refuses them.
        EngineError: the engine does not answer, or stops answering; see `invitro.labelling.job.run_job`.
    """
    done, options = [], what.options
    with LabelStore(what.store) as store:
        if options.merge is not None:
            log.info("%s: %d new answers added from %s", what.store, store.merge(options.merge), options.merge)
        for job, table, prefix in _jobs(corpus, what, store):
            for stored in store.sets(id=job.info.id) if options.reparse else ():
                changed = reparse(store, stored, what.form)
                log.info("%s: stored replies read again, %d results changed", stored.info.name, changed)
            all_texts = CorpusTexts(table)
            if options.results is None:
                report = run_job(job, all_texts)
            else:
                report = import_results(job, all_texts, Path(options.results))
            labels = stored_labels(store, report.stored, what.scale)
            crowd = _agreement(table, labels)
            drift_parts = list(drift_of(labels.labels, table, [job.info.corpus]))
            agreements = [_agreement(table.loc[table["text_id"].isin(part.texts)], labels) for part in drift_parts]
            drifting = drift_warning(report.stored.info.name, drift_parts)
            doubts = tuple(filter(None, (drifting, _alike(store, report.stored, what.form))))
            by_part = list(zip(drift_parts, agreements, strict=True))
            sheet = write_datasheet(what.store, report.stored, RETRY_TEMPERATURE, crowd, by_part, doubts)
            done.append(Labelled(report, labels, crowd, sheet, table, prefix, doubts))
    if options.results is not None and not any(labelled.report.stored.answers for labelled in done):
        raise InputError(
            f"import={options.results}: none of its results answers a question of this label set; give the settings of "
            "the command that wrote the batch file, such as llm=, prompt=, data= and limit="
        )
    if options.export is not None:
        _export(done, corpus.published_ids, what.scale.construct, Path(options.export))
    return done


def dry_run(corpus: Corpus, what: Labelling) -> list[tuple[str, CostEstimate]]:
    """Count and price what `label` would ask, by corpus; nothing is asked, and no store is created."""
    exists = what.store.is_file()
    with LabelStore(what.store if exists else ":memory:", read_only=exists) as store:
        jobs = _jobs(corpus, what, store)
        return [(job.info.corpus, estimate(job, CorpusTexts(table))) for job, table, _ in jobs]


def rendered_prompts(corpus: Corpus, what: Labelling, count: int) -> Iterator[str]:
    """Yield the prompts of the first `count` texts as `label` would send them; nothing is asked or stored."""
    with LabelStore(what.store if what.store.is_file() else ":memory:") as store:
        for job, table, _ in _jobs(corpus, what, store):
            for text in islice(CorpusTexts(table), count):
                request, _ = next(job.questions(text))
                yield f"{job.info.corpus}, prompt={what.prompt.name}, text {text.text_id} (nothing was asked)"
                yield from (f"--- {message['role']}\n{message['content']}" for message in request.messages)
                yield ""


def scored(what: Labelling, done: Labelled) -> pd.DataFrame:
    """Return a label set's scores as a table, for further work in Python.

    Args:
        what: as it was given to `label`.
        done: what `label` returned.

    Returns:
        One row per text in the corpus's order, indexed by ``text_id``: ``score`` (the scale's units; NaN without a
        usable answer), ``spread`` (standard deviation of the score, if the readout or several samples give one), a
        column for each item that was scored, and ``status``: ``ok``, or why there is no usable answer, as a value of
        `invitro.labels.answers.Status` or ``pending``.
    """
    with LabelStore(what.store, read_only=True) as store:
        statuses: dict[str, str] = {}
        for row in store.outcomes(done.report.stored.id):
            if statuses.get(row["text_id"]) != "ok":
                statuses[row["text_id"]] = row["status"] or "pending"
    labels = done.labels.labels.reindex(done.texts["text_id"])
    columns = {"score": labels["llm_label"]}
    if labels["spread"].notna().any():
        columns["spread"] = labels["spread"]
    names = [item.name for item in what.scale.items]
    # On a scale with a single item, the score is that item's score.
    columns |= {name: labels[column] for name in names
                if (column := f"llm_{name}" if len(names) > 1 else "llm_label") in labels}  # fmt: skip
    table = pd.DataFrame(columns).assign(status=labels.index.map(statuses))
    return table.set_axis(done.prefix + table.index)


def _jobs(corpus: Corpus, what: Labelling, store: LabelStore) -> Iterator[tuple[LabelJob, pd.DataFrame, str]]:
    """Yield the job of each label set that the corpus's texts belong to, their rows and the prefix of their ids."""
    options, prompt = what.options, what.prompt
    renderer = Renderer(prompt, what.form)
    shots = Shots(corpus, prompt.shots, prompt.shots_seed)
    empty = Text("", "")
    # A datasheet may not be allowed to repeat the examples' texts; it shows their ids instead.
    nameless = tuple(
        Example(Text("", f"(the text {shot.text.text_id} of the training split)"), shot.score)
        for shot in shots.of(empty)
    )
    answering = getattr(what.engine, "engine", what.engine)  # on a cluster, the engine that runs in its workers
    provenance = {name: value for name in PROVENANCE if (value := getattr(answering, name, None)) is not None}
    about: dict[str, Any] = {
        "version": version("invitro"),
        "licence": corpus.licence,
        "citation": corpus.citation,
        "scale": asdict(what.scale),
        "messages": renderer.messages(empty, nameless),
        "price": vars(what.engine.price),
        "engine": {"class": type(answering).__name__} | provenance,
    }
    if prompt.shots:
        about["examples"] = sorted(corpus.whole_ids(shots.shown(CorpusTexts(corpus.table))))
    _warn_of_translations(what)
    for name, table, prefix in parts(corpus, chosen(corpus.table, options.limit, options.limit_seed)):
        _warn_of_published(what, name)
        job = LabelJob(
            store, what.engine, renderer, what.sampling, name, what.llm, about, shots.of,
            options.samples, options.retry, options.progress,
        )  # fmt: skip
        yield job, table, prefix


def _alike(store: LabelStore, stored: StoredSet, form: ReplyForm) -> str | None:
    """Return a warning if most of a set's replies are the same unequal scores; see `alike_warning`."""
    commonest = store.commonest_reply(stored.id)
    if commonest is None:
        return None
    raw, times, replies = commonest
    written = replace(form, readout=Readout.TEXT) if form.readout == Readout.EXPECTED else form
    scores = parse(Reply(Request("", "", (), Sampling()), raw, "stop"), written).items
    return alike_warning(stored.info.name, scores, times, replies)


def _agreement(table: pd.DataFrame, labels: LabelSet) -> Agreement | None:
    """Compare the labels of these texts with the crowd's; None if both have scored fewer than two texts."""
    llm = table["text_id"].map(labels.labels["llm_label"]).to_numpy(dtype=float)
    crowd = table["crowd_label"].to_numpy(dtype=float)
    both = ~(pd.isna(llm) | pd.isna(crowd))
    if both.sum() < 2:
        return None
    return agreement(crowd[both], llm[both], table["group_id"].to_numpy()[both], ("crowd", "llm"))


def _warn_of_published(what: Labelling, corpus: str) -> None:
    """Warn if labels by this model with this prompt are already published."""
    with suppress(InputError):  # there are none
        existing = published(corpus, what.llm, what.prompt.name, what.scale.name)
        log.warning(
            "%s: labels of this name are published already (%s); train.py and report=true find them without asking "
            "any model. Labelling now makes a second set, and train.py will need to know which: "
            "llm.set_id=published, or the id of the new one",
            existing.name,
            existing.licence,
        )


def _warn_of_translations(what: Labelling) -> None:
    """Warn about the prompt's languages that the scale has no words for; the scale's file is in the first one."""
    without = [language for language in what.prompt.languages[1:] if language not in what.scale.translations]
    if without:
        log.warning(
            "scale=%s has no translation into %s: prompt=%s states its task in the text's language, but leaves the "
            "questionnaire untranslated; to change this, add translations to the scale's file",
            what.scale.name,
            ", ".join(without),
            what.prompt.name,
        )


def _export(done: list[Labelled], published_ids: Mapping[str, Mapping[str, str]], construct: str, path: Path) -> None:
    """Write labels as Parquet, CSV, TSV or JSONL, depending on the suffix.

    Columns are the corpus's own id columns under their published names, ``text_id``, ``llm_<construct>``, spread and
    item scores; one row per text, blank without a label.
    """
    tables = []
    for part in done:
        labels = part.labels.labels.reindex(part.texts["text_id"])
        ids = published_ids.get(part.report.stored.info.corpus, {})
        id_columns = {name: part.texts[column].str.removeprefix(part.prefix).to_numpy() for name, column in ids.items()}
        columns = id_columns | {"text_id": part.prefix + labels.index}
        columns[f"llm_{construct}"] = labels["llm_label"].to_numpy()
        if labels["spread"].notna().any():
            columns["spread"] = labels["spread"].to_numpy()
        items = [name for name in map(str, labels) if name.startswith("llm_") and name != "llm_label"]
        # An item may have the same name as the construct.
        columns |= {name: labels[name].to_numpy() for name in items if name not in columns}
        tables.append(pd.DataFrame(columns))
    table = pd.concat(tables, ignore_index=True)
    suffix = suffix_of(path)
    with whole_or_absent(path) as temporary:
        if suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        elif suffix == ".jsonl":
            table.to_json(temporary, orient="records", lines=True, force_ascii=False)
        else:
            table.to_csv(temporary, index=False, sep="\t" if suffix == ".tsv" else ",")
