"""From a corpus to its label set: what ``label.py`` does, with plain arguments."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from invitro.data import Corpus, Reader
from invitro.errors import InputError, refuse_if_any
from invitro.files import SUFFIXES, suffix_of, whole_or_absent
from invitro.labelling.datasheet import write_datasheet
from invitro.labelling.exchange import Engine, Readout, Sampling
from invitro.labelling.forms import ReplyForm
from invitro.labelling.job import RETRY_TEMPERATURE, Job, estimate, reparse, run_job, set_info
from invitro.labelling.prompts import Prompt, Renderer
from invitro.labelling.reports import Estimate, JobReport
from invitro.labelling.texts import CorpusTexts, Example, Shots, Text
from invitro.labels.agreement import Agreement, agreement, told
from invitro.labels.averages import stored_labels
from invitro.labels.labelset import LabelSet
from invitro.labels.store import LabelStore
from invitro.scales import Scale

log = logging.getLogger(__name__)

LOGPROBS = 20
"""Alternatives asked for by the `expected` readout: as many as common servers give."""


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
        limit: only the first so many texts.
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
        for name, value in (("limit", self.limit), ("samples", self.samples), ("sampling.max_tokens", self.max_tokens)):
            if value is not None and (isinstance(value, bool) or value < 1):
                yield f"{name}: expected 1 or more, found {value}"
        if not 0 <= self.temperature <= 2:
            yield f"sampling.temperature: expected 0 to 2, found {self.temperature}"
        elif self.samples > 1 and self.temperature == 0:
            yield (
                f"samples={self.samples} at sampling.temperature=0 would be the same answer each time; "
                "set sampling.temperature, such as 0.7"
            )
        if self.export is not None and not self.export.lower().endswith(SUFFIXES):
            yield f"export: expected a file ending in {', '.join(SUFFIXES)}, found {self.export!r}"

    @property
    def sampling(self) -> Sampling:
        """How the model decodes at the first attempt."""
        alternatives = LOGPROBS if self.readout == Readout.EXPECTED else 0
        return Sampling(self.temperature, self.max_tokens or self.form.max_tokens, self.seed, alternatives)


@dataclass(frozen=True)
class Labelled:
    """One corpus, labelled: the job's report, the labels, their agreement with the crowd, where there is one."""

    report: JobReport
    labels: LabelSet
    agreement: Agreement | None
    datasheet: Path

    def lines(self) -> list[str]:
        """Return the report for people."""
        told = ["  agreement with the crowd", *agreement_lines(self.agreement)] if self.agreement else []
        return [*self.report.lines(), *told, f"  datasheet        {self.datasheet}"]


def label(what: Labelling) -> list[Labelled]:
    """Label a corpus, or each member of a combination; see `invitro.labelling.job.run_job`."""
    corpus = what.reader.read(what.scale)
    done, tables = [], []
    with LabelStore(what.store) as store:
        if what.merge is not None:
            log.info("%s: %d new answers taken in from %s", what.store, store.merge(what.merge), what.merge)
        for name, table, prefix in parts(corpus, what.limit):
            job = _job(what, store, corpus, name)
            for stored in store.sets(id=job.info.id) if what.reparse else ():
                changed = reparse(store, stored, what.form)
                log.info("%s: read anew, %d replies came out otherwise", stored.info.name, changed)
            report = run_job(job, CorpusTexts(table))
            labels = stored_labels(store, report.stored, what.scale)
            found = _agreement(table, labels)
            sheet = write_datasheet(
                what.store, report.stored, RETRY_TEMPERATURE, agreement_lines(found) if found else []
            )
            done.append(Labelled(report, labels, found, sheet))
            tables.append(_exported(table, labels, what.scale.construct, prefix))
    if what.export is not None:
        export(pd.concat(tables, ignore_index=True), Path(what.export))
    return done


def dry_run(what: Labelling) -> list[tuple[str, Estimate]]:
    """Count and price what `label` would ask, by corpus; nothing is asked."""
    corpus = what.reader.read(what.scale)
    with LabelStore(what.store) as store:
        return [
            (name, estimate(_job(what, store, corpus, name), CorpusTexts(table)))
            for name, table, _ in parts(corpus, what.limit)
        ]


def parts(corpus: Corpus, limit: int | None = None) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Yield name, table and id prefix of each corpus whose label set is concerned; ids are the corpus's own.

    A combination's members are label sets of their own, which other combinations share.
    """
    table = corpus.table if limit is None else corpus.table.head(limit)
    if len(corpus.label_corpora) == 1:
        yield corpus.label_corpora[0], table, ""
        return
    for name in corpus.label_corpora:
        prefix = f"{name}:"
        own = table.loc[table["text_id"].str.startswith(prefix)]
        if len(own):
            yield name, own.assign(text_id=own["text_id"].str.removeprefix(prefix)), prefix


def agreement_lines(found: Agreement) -> list[str]:
    """Return the agreement of LLM and crowd for people, figures with 95 % intervals."""
    figures = {
        "PCC": told(found.pcc),
        "CCC": told(found.ccc),
        "alpha": told(found.alpha),
        "RMSE": str(found.rmse),
        "mean bias": f"{found.bias} (positive: the LLM scores higher)",
    }
    return [f"    {name:<14} {figure}" for name, figure in figures.items()] + [f"    {'texts':<14} {found.n}"]


def export(table: pd.DataFrame, path: Path) -> None:
    """Write labels in the format of published label files; Parquet, CSV, TSV or JSONL by suffix."""
    suffix = suffix_of(path)
    with whole_or_absent(path) as temporary:
        if suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        elif suffix == ".jsonl":
            table.to_json(temporary, orient="records", lines=True, force_ascii=False)
        else:
            table.to_csv(temporary, index=False, sep="\t" if suffix == ".tsv" else ",")


def _job(what: Labelling, store: LabelStore, corpus: Corpus, name: str) -> Job:
    """Put one corpus's job together."""
    renderer = Renderer(what.prompt, what.form)
    shots = Shots(corpus, what.prompt.shots, what.prompt.shots_seed)
    empty = Text("", "")
    about = {
        "version": version("invitro"),
        "licence": corpus.licence,
        "citation": corpus.citation,
        "scale": asdict(what.scale),
        "messages": renderer.messages(empty, tuple(_nameless(one) for one in shots.of(empty))),
        "price": vars(what.engine.price),
    }
    return Job(
        store=store,
        engine=what.engine,
        renderer=renderer,
        info=set_info(name, what.llm, what.engine, renderer, what.sampling, about),
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


def _exported(table: pd.DataFrame, labels: LabelSet, construct: str, prefix: str) -> pd.DataFrame:
    """Return the exported rows: ids, ``llm_<construct>``, spread, item scores; one a text, blank without a label."""
    columns: Sequence[str] = [name for name in labels.labels.columns if name.startswith("llm_") and name != "llm_label"]
    of_texts = labels.labels.reindex(table["text_id"])
    out = pd.DataFrame({"text_id": (prefix + table["text_id"]).to_numpy()})
    out[f"llm_{construct}"] = of_texts["llm_label"].to_numpy()
    if of_texts["spread"].notna().any():
        out["spread"] = of_texts["spread"].to_numpy()
    for name in columns:
        if name not in out:  # an item may be called as the construct is
            out[name] = of_texts[name].to_numpy()
    return out
