"""Configurations without a command line: `import invitro` composes those of the entry points.

Overrides are written as on the command line, such as ``fit.epochs=2``; if two set the same key, the later one counts.
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


@contextmanager
def composed(name: str, overrides: Sequence[str], scale: Scale | None = None) -> Iterator[DictConfig]:
    """Compose a main configuration as its entry point would; within the context Hydra knows it, as in a job.

    Args:
        name: of the main configuration, such as ``train``.
        overrides: such as ``plm=minilm``.
        scale: replaces the configuration's.

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
        if scale is not None:
            items = [{"_target_": "invitro.scales.Item"} | asdict(item) for item in scale.items]
            cfg.scale = {"_target_": "invitro.scales.Scale", "_convert_": "all"} | asdict(scale) | {"items": items}
    try:
        yield cfg
    finally:
        hydra.cfg = before


def run_folder() -> Path:
    """Return where the entry point of the composed configuration would record a run."""
    return Path(HydraConfig.get().run.dir)


def scale_of(name: str | Path | Scale) -> Scale:
    """Return the scale of this name in ``conf/scale/``, or of a file of the same kind; return a scale unchanged.

    Raises:
        InputError: there is no such scale, or its definition is wrong.
    """
    if isinstance(name, Scale):
        return name
    file = Path(name)
    if file.suffix != ".yaml":
        files = {path.stem: path for path in sorted((conf_folder() / "scale").glob("*.yaml"))}
        if str(name) not in files:
            raise InputError(f"scale: expected one of {', '.join(files)}, or a file ending in .yaml, found {name!r}")
        file = files[str(name)]
    if not file.is_file():
        raise InputError(f"scale: {file}: no such file (looked in {file.parent.resolve()})")
    node = OmegaConf.load(file)
    scale = instantiated(node) if isinstance(node, DictConfig) and "_target_" in node else None
    if not isinstance(scale, Scale):
        raise InputError(f"scale: {file}: expected _target_: invitro.scales.Scale with its items and bounds")
    return scale


@contextmanager
def composed_for(
    frame: "pd.DataFrame",
    name: str,
    scale: str | Path | Scale,
    columns: Mapping[str, str | Sequence[str]] | None,
    overrides: Sequence[str],
    divided: bool = True,
) -> "Iterator[tuple[DictConfig, Frame]]":
    """Compose a main configuration for the texts of a DataFrame, and yield it with their reader.

    Args:
        frame: one row per text.
        name: of the main configuration, such as ``train``.
        scale: of its labels, as for `scale_of`.
        columns: its names for ``llm_label`` and the columns of `invitro.data.TableFile`, if they differ.
        overrides: of the entry point.
        divided: whether there is a split.

    Raises:
        InputError: a column is missing, Hydra refuses an override, or a setting holds a secret.
    """
    from invitro.data.table import Frame

    frame, named, given = _described(frame, columns or {})
    if divided and "split" in named:
        given = ["data/split=published", *given]
    with composed(name, ["data=table", "data.path=frame", *given, *overrides], scale_of(scale)) as cfg:
        with open_dict(cfg):
            cfg.data.columns = named
            if not divided:
                cfg.data.split = UNDIVIDED
        table = instantiated(cfg.data)
        yield cfg, Frame(**{field.name: getattr(table, field.name) for field in fields(table)}, rows=frame)


def _described(
    frame: "pd.DataFrame", columns: Mapping[str, str | Sequence[str]]
) -> "tuple[pd.DataFrame, dict[str, Any], list[str]]":
    """Return a frame with ids, its names for the canonical columns, and the override that names its LLM labels."""
    import pandas as pd

    from invitro.data.corpus import CANONICAL_COLUMNS, DEMOGRAPHICS
    from invitro.tables import require_columns

    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"frame: expected a DataFrame with one row per text, found {type(frame).__name__}")
    keys = (*CANONICAL_COLUMNS, *DEMOGRAPHICS, "raters", "llm_label")
    refuse_if_any(f"columns: expected any of {', '.join(keys)}, found {key!r}" for key in columns if key not in keys)
    named: dict[str, Any] = {key: columns.get(key, key) for key in keys if key in columns or key in frame}
    remedy = "Name the frame's columns with columns={'text': ..., 'crowd_label': ...}"
    raters = [named["raters"]] if isinstance(named.get("raters"), str) else [*named.get("raters", [])]
    needed = dict.fromkeys(["text"] if raters else ["text", "crowd_label"]) | named
    required = [named.get(key, key) for key in needed if key != "raters"]
    require_columns(frame, [*required, *raters], "frame", remedy)
    if raters:
        named |= {"raters": raters, "crowd_label": named.get("crowd_label") if "crowd_label" in columns else None}
    if "text_id" not in named:
        frame = frame.assign(text_id=frame.index.astype("str"))
        named["text_id"] = "text_id"
    llm_label = named.pop("llm_label", None)
    source = [] if llm_label is None else [f"llm.column={quoted(llm_label)}"]
    return frame, named, source
