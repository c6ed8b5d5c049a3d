"""From a corpus to its label set: what ``label.py`` does, with plain arguments."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from invitro.data import Corpus, Reader
from invitro.engines.base import Engine, Readout, Sampling
from invitro.errors import InputError, not_whole, out_of_range, refuse_if_any
from invitro.files import SUFFIXES, suffix_of, whole_or_absent
from invitro.labelling.forms import ReplyForm
from invitro.labelling.job import estimate, reparse, run_job
from invitro.labelling.prompts import Prompt, Renderer
from invitro.labelling.questions import RETRY_TEMPERATURE, Job, set_info
from invitro.labelling.reports import Estimate, JobReport, agreement_lines, write_datasheet
from invitro.labelling.texts import CorpusTexts, Example, Shots, Text, chosen, parts
from invitro.labels.labelset import LabelSet
from invitro.labels.published import published_sets
from invitro.labels.source import stored_labels
from invitro.labels.store import LabelStore
from invitro.scales import Scale
from invitro.stats.agreement import Agreement, agreement

log = logging.getLogger(__name__)


def export(table: pd.DataFrame, path: Path) -> None:
    """Write labels; Parquet, CSV, TSV or JSONL by suffix."""
    suffix = suffix_of(path)
    with whole_or_absent(path) as temporary:
        if suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        elif suffix == ".jsonl":
            table.to_json(temporary, orient="records", lines=True, force_ascii=False)
        else:
            table.to_csv(temporary, index=False, sep="\t" if suffix == ".tsv" else ",")


def exported(table: pd.DataFrame, labels: LabelSet, construct: str, prefix: str) -> pd.DataFrame:
    """Return the exported rows: ids, ``llm_<construct>``, spread, item scores; one a text, blank without a label."""
    columns = [name for name in labels.labels.columns if name.startswith("llm_") and name != "llm_label"]
    of_texts = labels.labels.reindex(table["text_id"])
    out = pd.DataFrame({"text_id": (prefix + table["text_id"]).to_numpy()})
    out[f"llm_{construct}"] = of_texts["llm_label"].to_numpy()
    if of_texts["spread"].notna().any():
        out["spread"] = of_texts["spread"].to_numpy()
    for name in columns:
        if name not in out:  # an item may be called as the construct is
            out[name] = of_texts[name].to_numpy()
    return out


LOGPROBS = 20
"""Alternatives asked for by the `expected` readout: as many as common servers give."""
PROVENANCE = ("base_url", "constraint", "dtype", "quantization", "max_model_len", "tensor_parallel_size")
"""What a datasheet tells of an engine, where the engine has it."""


@dataclass(frozen=True)
class Labelling:
    """What is to be labelled, by whom and how.

    Args:
        reader: of the corpus.
        scale: the questionnaire.
        prompt: how it is asked.
        llm: the choice of the group ``llm``.
        engine: who answers.
        store: the label store's file.
        readout: how scores are taken from replies.
        temperature: of the first attempt.
        max_tokens: most tokens of a reply; None is enough for what is asked.
        seed: of sampling.
        samples: answers a text.
        merges_digits: whether the model's tokenizer makes one token of neighbouring digits; then `expected` asks for
            spaces between them.
        limit: only so many texts.
        limit_seed: they are drawn at random by this seed; None takes the first.
        export: a table file for the labels.
        progress: whether a bar is shown; None shows it on a terminal.
        merge: another label store, whose answers are taken in first.
        reparse: read the label set's stored replies anew first.

    Raises:
        InputError: naming every setting that is wrong.
    """

    reader: Reader
    scale: Scale
    prompt: Prompt
    llm: str
    engine: Engine
    store: Path
    readout: Readout = Readout.TEXT
    temperature: float = 0.0
    max_tokens: int | None = None
    seed: int | None = 0
    samples: int = 1
    merges_digits: bool = False
    limit: int | None = None
    limit_seed: int | None = None
    export: str | None = None
    progress: bool | None = None
    merge: str | None = None
    reparse: bool = False
    form: ReplyForm = field(init=False)

    def __post_init__(self) -> None:
        separated = self.merges_digits and self.readout == Readout.EXPECTED
        problems = list(self._problems())
        try:
            object.__setattr__(self, "form", self.prompt.form(self.scale, self.readout, separated))
        except InputError as error:
            problems += error.problems
        refuse_if_any(problems)

    def _problems(self) -> Iterator[str]:
        yield from not_whole("samples", self.samples, 1)
        least = {"limit": 1, "limit_seed": 0, "sampling.max_tokens": 1, "sampling.seed": 0}
        for name, low in least.items():
            value = getattr(self, name.rpartition(".")[2])
            yield from () if value is None else not_whole(name, value, low)
        yield from out_of_range("sampling.temperature", self.temperature, 0, 2)
        if self.temperature == 0 and isinstance(self.samples, int) and self.samples > 1:
            yield (
                f"samples={self.samples} at sampling.temperature=0 would be the same answer each time; "
                "set sampling.temperature, such as 0.7"
            )
        if not self.engine.model or not isinstance(self.engine.model, str):
            yield f"llm.model: expected a model's name, found {self.engine.model!r}"
        if self.progress not in (None, True, False):
            yield f"progress: expected true, false, or null for a bar on a terminal, found {self.progress!r}"
        if self.export is not None and not str(self.export).lower().endswith(SUFFIXES):
            yield f"export: expected a file ending in {', '.join(SUFFIXES)}, found {self.export!r}"

    @property
    def sampling(self) -> Sampling:
        """How the model decodes at the first attempt."""
        alternatives = LOGPROBS if self.readout == Readout.EXPECTED else 0
        return Sampling(self.temperature, self.max_tokens or self.form.max_tokens, self.seed, alternatives)


@dataclass(frozen=True)
class Labelled:
    """One corpus, labelled.

    Args:
        report: the job's.
        labels: the label set.
        agreement: with the crowd, where there is one.
        datasheet: the file.
        texts: the rows of the canonical table that were to be labelled.
        prefix: of their ids in a combination.
    """

    report: JobReport
    labels: LabelSet
    agreement: Agreement | None
    datasheet: Path
    texts: pd.DataFrame
    prefix: str

    def lines(self) -> list[str]:
        """Return the report for people, the agreement with the crowd first: without it the rest means little."""
        stored = self.report.stored
        return [
            f"Label set {stored.id}  {stored.info.name}",
            *agreement_lines(self.agreement),
            *self.report.lines(),
            f"  datasheet        {self.datasheet}",
        ]


def label(what: Labelling, corpus: Corpus | None = None) -> list[Labelled]:
    """Label a corpus, or each member of a combination; see `invitro.labelling.job.run_job`.

    Args:
        what: is to be labelled, and how.
        corpus: what ``what.reader`` reads, where that has been read already.
    """
    corpus = corpus or what.reader.read(what.scale)
    for line in untranslated(what):
        log.warning(line)
    done, tables = [], []
    with LabelStore(what.store) as store:
        if what.merge is not None:
            log.info("%s: %d new answers taken in from %s", what.store, store.merge(what.merge), what.merge)
        for name, table, prefix in parts(corpus, chosen(corpus.table, what.limit, what.limit_seed)):
            for line in published_already(what, name):
                log.warning(line)
            job = _job(what, store, corpus, name)
            for stored in store.sets(id=job.info.id) if what.reparse else ():
                changed = reparse(store, stored, what.form)
                log.info("%s: read anew, %d replies came out otherwise", stored.info.name, changed)
            report = run_job(job, CorpusTexts(table))
            labels = stored_labels(store, report.stored, what.scale)
            found = _agreement(table, labels)
            sheet = write_datasheet(what.store, report.stored, RETRY_TEMPERATURE, found)
            done.append(Labelled(report, labels, found, sheet, table, prefix))
            if what.export is not None:
                tables.append(exported(table, labels, what.scale.construct, prefix))
    if what.export is not None:
        export(pd.concat(tables, ignore_index=True), Path(what.export))
    return done


def dry_run(what: Labelling, corpus: Corpus | None = None) -> list[tuple[str, Estimate]]:
    """Count and price what `label` would ask, by corpus; nothing is asked, and no store is made."""
    corpus = corpus or what.reader.read(what.scale)
    for line in untranslated(what):
        log.warning(line)
    found = []
    with LabelStore(what.store if what.store.is_file() else ":memory:") as store:
        for name, table, _ in parts(corpus, chosen(corpus.table, what.limit, what.limit_seed)):
            for line in published_already(what, name):
                log.warning(line)
            found.append((name, estimate(_job(what, store, corpus, name), CorpusTexts(table))))
    return found


def _job(what: Labelling, store: LabelStore, corpus: Corpus, name: str) -> Job:
    """Put one corpus's job together."""
    renderer = Renderer(what.prompt, what.form)
    shots = Shots(corpus, what.prompt.shots, what.prompt.shots_seed)
    empty = Text("", "")
    usual = shots.of(empty)
    answering = getattr(what.engine, "engine", what.engine)  # on a cluster, what runs in its workers
    engine = {name: value for name in PROVENANCE if (value := getattr(answering, name, None)) is not None}
    about: dict[str, Any] = {
        "version": version("invitro"),
        "licence": corpus.licence,
        "citation": corpus.citation,
        "scale": asdict(what.scale),
        "messages": renderer.messages(empty, tuple(_nameless(one) for one in usual)),
        "price": vars(what.engine.price),
        "engine": {"class": type(answering).__name__} | engine,
    }
    return Job(
        store=store,
        engine=what.engine,
        renderer=renderer,
        info=set_info(name, what.llm, what.engine, renderer, what.sampling, about, usual),
        sampling=what.sampling,
        examples=shots.of,
        samples=what.samples,
        progress=what.progress,
    )


def _nameless(example: Example) -> Example:
    """Return an example with its id in the place of its words, which a datasheet may not be allowed to repeat."""
    return Example(Text("", f"(the text {example.text.text_id} of the training split)"), example.score)


def _agreement(table: pd.DataFrame, labels: LabelSet) -> Agreement | None:
    """Compare the labels of these texts with the crowd's; None with fewer than two texts that both have scored."""
    llm = table["text_id"].map(labels.labels["llm_label"]).to_numpy(dtype=float)
    crowd = table["crowd_label"].to_numpy(dtype=float)
    both = ~(pd.isna(llm) | pd.isna(crowd))
    if both.sum() < 2:
        return None
    return agreement(crowd[both], llm[both], table["group_id"].to_numpy()[both], ("crowd", "llm"))


def published_already(what: "Labelling", corpus: str) -> Iterator[str]:
    """Say that labels by this model with this prompt are published, where that is so."""
    wanted = (corpus, what.llm, what.prompt.name, what.scale.name)
    for one in published_sets():
        if (one.corpus, one.llm, one.prompt, one.scale) == wanted:
            yield (
                f"{one.name}: labels of this name are published already ({one.licence}); train.py and report=true find "
                "them without a question to any model. What is asked now makes another set, and train.py will want to "
                "know which: llm.set_id=published, or the id of the new one"
            )


def untranslated(what: "Labelling") -> Iterator[str]:
    """Say in which of the prompt's languages the scale has no words of its own, and is asked in the file's instead.

    The first language is the one that prompts and scales are written in.
    """
    without = [one for one in what.prompt.languages[1:] if one not in what.scale.translations]
    if without:
        yield (
            f"scale={what.scale.name} has no words in {', '.join(without)}: prompt={what.prompt.name} gives its task "
            "in the text's language there, and the questionnaire as the scale's file has it; translations of the scale "
            "change that"
        )
