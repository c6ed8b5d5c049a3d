"""The commands without a command line: what `import invitro` calls, on the configuration of the entry points.

Overrides are those of the command line, such as ``fit.epochs=2``; if two set the same key, the later one counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from invitro.commands.common import UNDIVIDED, instantiated, secrets_in
from invitro.commands.typed import configured, explained, parsed, readable
from invitro.errors import InputError, conf_folder, quoted, refuse_if_any
from invitro.scales import Scale

if TYPE_CHECKING:
    import pandas as pd

    from invitro.data.table import Frame
    from invitro.labelling.texts import NextTexts
    from invitro.studies.report.worth import Weighed


@contextmanager
def composed(name: str, overrides: Sequence[str]) -> Iterator[DictConfig]:
    """Compose a main configuration as its entry point would; within the context Hydra knows it, as in a job.

    Args:
        name: of the main configuration, such as ``train``.
        overrides: such as ``plm=minilm``.

    Yields:
        The configuration, without Hydra's own part, which `HydraConfig` has.

    Raises:
        InputError: Hydra refuses an override, or a setting holds a secret.
    """
    hydra, before = HydraConfig.instance(), HydraConfig.instance().cfg
    with configured(name):
        try:
            cfg = compose(name, overrides=readable(overrides), return_hydra_config=True)
        except HydraException as error:
            raise explained(error, name, parsed(readable(overrides))) from error
    refuse_if_any(secrets_in(cfg))
    hydra.set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    try:
        yield cfg
    finally:
        hydra.cfg = before


def scale_of(name: str | Path | Scale) -> Scale:
    """Return a scale by its name in ``conf/scale/``, or by a file of the same kind; return a scale unchanged.

    Raises:
        InputError: there is no such scale, or its definition is wrong.
    """
    if isinstance(name, Scale):
        return name
    file = Path(name)
    if file.suffix != ".yaml":
        known = {path.stem: path for path in sorted((conf_folder() / "scale").glob("*.yaml"))}
        if str(name) not in known:
            raise InputError(f"scale: expected one of {', '.join(known)}, or a file ending in .yaml, found {name!r}")
        file = known[str(name)]
    if not file.is_file():
        raise InputError(f"scale: {file}: no such file (looked in {file.parent.resolve()})")
    node = OmegaConf.load(file)
    scale = instantiated(node) if isinstance(node, DictConfig) and "_target_" in node else None
    if not isinstance(scale, Scale):
        raise InputError(f"scale: {file}: expected _target_: invitro.scales.Scale with its items and bounds")
    return scale


def label_texts(texts: "pd.Series[str]", scale: Scale, overrides: Sequence[str]) -> "pd.DataFrame":
    """Label texts as ``label.py`` labels a corpus.

    Returns:
        On the index of `texts`: ``score``, one column per item, and ``status``; see
        `invitro.labelling.labeller.scored`.
    """
    import pandas as pd

    from invitro.commands.labelling import labellings
    from invitro.labelling.labeller import label, scored
    from invitro.labelling.texts import corpus_of
    from invitro.labels.answers import text_hash

    # Texts are identified by their content: the same text is asked about once, however often it occurs.
    ids = texts.map(text_hash)
    corpus = corpus_of(pd.DataFrame({"text_id": ids, "text": texts}).drop_duplicates("text_id"), scale)
    with composed("label", ["data=table", "data.path=texts", *overrides]) as cfg:
        _put_scale(cfg, scale)
        what = labellings(cfg, {"items": cfg.prompt}, dry_run=False)["items"]
    try:
        (done,) = label(corpus, what)
    finally:
        what.engine.close()
    return scored(what, done).reindex(ids).set_axis(texts.index)


def train_frame(
    frame: "pd.DataFrame",
    scale: Scale,
    columns: Mapping[str, str | Sequence[str]],
    overrides: Sequence[str],
    directory: str | Path | None,
) -> tuple[Path, Mapping[str, Any]]:
    """Train on a DataFrame as ``train.py`` trains on a table file.

    Args:
        frame: one row per text.
        scale: of its labels.
        columns: its names of ``llm_label`` and of the columns of `invitro.data.TableFile`, where they differ.
        overrides: of ``train.py``.
        directory: the run's; None makes one as ``train.py`` does.

    Returns:
        The record's directory, and the content of ``metrics.json``.
    """
    from invitro.commands.training import train_configured

    with _composed_for(frame, "train", scale, columns, overrides) as (cfg, reader):
        uses = cfg.application.correction or cfg.application.augmentation
        if uses and not (cfg.llm.column or cfg.llm.labels or any(word.startswith("llm=") for word in overrides)):
            raise InputError(
                f"application={cfg.application.name} needs an LLM's labels: expected a column llm_label, found "
                f"{', '.join(map(str, reader.rows.columns))}; invitro.label makes them, and application='none' needs "
                "none"
            )
        place = Path(directory or HydraConfig.get().run.dir)
        record, _, metrics = train_configured(cfg, place, reader=reader)
    return record, metrics


def describe_frame(
    frame: "pd.DataFrame",
    scale: Scale,
    columns: Mapping[str, str | Sequence[str]],
    overrides: Sequence[str],
    directory: str | Path | None,
) -> tuple[dict[str, str], tuple[str, ...], Path | None]:
    """Describe a DataFrame as ``describe.py`` describes a table file; return facts, doubts and the page's path."""
    from invitro.commands.predicting import describe_configured
    from invitro.studies.report.describe import write_description

    with _composed_for(frame, "describe", scale, columns, overrides) as (cfg, reader):
        found = describe_configured(cfg, reader)
    page = None if directory is None else write_description(found, Path(directory))
    return found.named, tuple(found.doubts), page


def weigh_frame(
    frame: "pd.DataFrame",
    scale: Scale,
    columns: Mapping[str, str | Sequence[str]],
    overrides: Sequence[str],
    resamples: int,
) -> "Weighed":
    """Weigh the LLM labels of a DataFrame as ``sweep.py study=worth`` weighs those of a corpus."""
    from invitro.commands.studies import checked_worth, weigh

    with _composed_for(frame, "worth", scale, columns, overrides, divided=False) as (cfg, reader):
        if not cfg.llm.column and not any(word.startswith(("llm=", "llm.")) for word in overrides):
            raise InputError(
                f"worth: expected LLM labels in a column llm_label, found {', '.join(map(str, reader.rows.columns))}; "
                "invitro.label makes them"
            )
        cfg.llm.name = "the LLM" if cfg.llm.column else cfg.llm.name
        return weigh(cfg, checked_worth(cfg), resamples, reader)


def rank_frame(
    frame: "pd.DataFrame", scale: Scale, columns: Mapping[str, str | Sequence[str]], overrides: Sequence[str]
) -> "NextTexts":
    """Rank the unrated texts of a DataFrame as ``label.py next=`` ranks those of a corpus."""
    from invitro.commands.predicting import rank_texts
    from invitro.tables import numbers

    with _composed_for(frame, "label", scale, columns, overrides, divided=False) as (cfg, reader):
        table = reader.read(scale).table
        llm, column = table.iloc[:, :0], str(columns.get("llm_label", "llm_label"))
        if column in table:
            llm = numbers(table[column], "frame").to_frame("the LLM")
        return rank_texts(cfg, "frame", table, llm)


@contextmanager
def _composed_for(
    frame: "pd.DataFrame",
    name: str,
    scale: Scale,
    columns: Mapping[str, str | Sequence[str]],
    overrides: Sequence[str],
    divided: bool = True,
) -> "Iterator[tuple[DictConfig, Frame]]":
    """Compose a main configuration for the texts of a DataFrame, and yield it with their reader.

    The reader's settings are those of a table file. Without `divided`, there is no split.
    """
    from invitro.data.table import Frame

    frame, named, given = _described(frame, columns)
    if divided and "split" in named:
        given = ["data/split=published", *given]
    with composed(name, ["data=table", "data.path=frame", *given, *overrides]) as cfg:
        _put_scale(cfg, scale)
        with open_dict(cfg):
            cfg.data.columns = named
            if not divided:
                cfg.data.split = UNDIVIDED
        table = instantiated(cfg.data)
        yield cfg, Frame(**{field.name: getattr(table, field.name) for field in fields(table)}, rows=frame)


def _described(
    frame: "pd.DataFrame", columns: Mapping[str, str | Sequence[str]]
) -> "tuple[pd.DataFrame, dict[str, Any], list[str]]":
    """Return a frame with ids, its names of the canonical columns, and the override that names its LLM labels."""
    import pandas as pd

    from invitro.data.corpus import CANONICAL_COLUMNS, DEMOGRAPHICS
    from invitro.tables import require_columns

    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"frame: expected a DataFrame with one row per text, found {type(frame).__name__}")
    known = (*CANONICAL_COLUMNS, *DEMOGRAPHICS, "raters", "llm_label")
    refuse_if_any(f"columns: expected any of {', '.join(known)}, found {key!r}" for key in columns if key not in known)
    named: dict[str, Any] = {key: columns.get(key, key) for key in known if key in columns or key in frame}
    mend = "Name the frame's columns by columns={'text': ..., 'crowd_label': ...}"
    raters = [named["raters"]] if isinstance(named.get("raters"), str) else [*named.get("raters", [])]
    needed = dict.fromkeys(["text"] if raters else ["text", "crowd_label"]) | named
    required = [named.get(key, key) for key in needed if key != "raters"]
    require_columns(frame, [*required, *raters], "frame", mend)
    if raters:
        named |= {"raters": raters, "crowd_label": named.get("crowd_label") if "crowd_label" in columns else None}
    if "text_id" not in named:
        frame = frame.assign(text_id=frame.index.astype("str"))
        named["text_id"] = "text_id"
    llm_label = named.pop("llm_label", None)
    source = [] if llm_label is None else [f"llm.column={quoted(llm_label)}"]
    return frame, named, source


def run_study(name: str, overrides: Sequence[str]) -> tuple[Path, Path, "pd.DataFrame", "pd.DataFrame", int]:
    """Run a study as ``sweep.py`` does.

    Returns:
        Its folder, its report, `Summary.groups`, `Summary.differences`, and how many jobs failed. Estimates of
        ``study=inference``, and curves of ``study=worth``, take the place of groups, and have no differences.
    """
    import pandas as pd

    from invitro.commands.plans import INFERENCE, WORTH, request
    from invitro.commands.studies import estimate, launch_jobs, read_jobs, report_jobs, send_report

    asked = request([f"study={name}", *overrides])
    tables = {INFERENCE: "estimates.csv", WORTH: "worth.csv"}
    if asked.study.job in tables:
        report = estimate(asked)
        return asked.root, report, pd.read_csv(report.parent / tables[asked.study.job]), pd.DataFrame(), 0
    launch_jobs(asked)
    runs = read_jobs(asked)
    report, summary, drawn = report_jobs(asked, runs)
    send_report(asked, runs, summary, drawn, report)
    failed = int((runs.table["outcome"] == "failed").sum())
    return asked.root, report, summary.groups, summary.differences, failed


def _put_scale(cfg: DictConfig, scale: Scale) -> None:
    """Put a scale into a configuration, as its file would define it."""
    items = [{"_target_": "invitro.scales.Item"} | asdict(item) for item in scale.items]
    with open_dict(cfg):
        cfg.scale = {"_target_": "invitro.scales.Scale", "_convert_": "all"} | asdict(scale) | {"items": items}
