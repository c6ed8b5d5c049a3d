"""A study on Weights & Biases: a run that summarises it, and a saved workspace. The report needs neither."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from invitro.errors import InputError
from invitro.files import write_json, write_text
from invitro.studies.report.page import without_ids
from invitro.studies.runs import Runs
from invitro.studies.study import Study
from invitro.studies.summary import Summary
from invitro.training.loggers import RunInfo, WandB, default_entity
from invitro.writing.charts import Figure

log = logging.getLogger(__name__)

SPECIFICATION = "workspace.json"
PANELS = ("ccc", "pcc", "rmse")


def wandb_of(runs: Runs) -> tuple[WandB, str | None] | None:
    """Return the W&B settings and the group of a study's finished jobs; None if none of them logged to W&B."""
    for row in runs.finished().index:
        config = runs.config(row)
        logger = dict(config.get("logger") or {})
        if str(logger.get("_target_", "")).endswith(".WandB"):
            names = {field.name for field in fields(WandB)}
            settings = {name: value for name, value in logger.items() if name in names} | {"job_type": "study"}
            return WandB(**settings), settings.get("group") or config.get("group") or runs.root.name
    return None


def publish(study: Study, runs: Runs, summary: Summary, figures: Sequence[Figure], report: Path) -> bool:
    """Log summary table, figures and report to one run in the group of the study's jobs; return whether it was done.

    Nothing is sent unless the jobs themselves were logged to W&B; ids of texts never are.

    Args:
        study: the study.
        runs: its runs.
        summary: its numbers.
        figures: their PNG files are in ``figures/`` next to the report.
        report: ``report.html``.
    """
    destination = wandb_of(runs)
    if destination is None:
        return False
    logger, group = destination
    about = {"study": study.name, "question": study.question, "factors": list(runs.factors), "jobs": len(runs.table)}
    info = RunInfo(runs.root, f"study {study.name}", about, group, (study.name, "study"))
    folder = report.parent / "figures"
    images = {figure.name: path for figure in figures if (path := folder / f"{figure.name}.png").is_file()}
    with logger.open(info) as opened, TemporaryDirectory() as temporary:
        page = Path(temporary) / report.name
        write_text(page, without_ids(report.read_text("utf-8")))  # ids may be names
        opened.attach(
            tables={"summary": summary.groups.astype(object).where(summary.groups.notna(), None)},
            images=images,
            files=(page,),
        )
    return True


def save_workspace(study: Study, runs: Runs, folder: Path) -> str:
    """Save the study's workspace on the server, and its specification in `folder`; return its address.

    Raises:
        InputError: the study's jobs were not logged to W&B, a package or a login is missing, or the server refuses.
    """
    destination = wandb_of(runs)
    if destination is None:
        raise InputError("dashboard=true: no finished job of this study was logged to W&B; run it with logger=wandb")
    logger, group = destination
    entity = logger.entity or (None if os.environ.get("WANDB_MODE") == "offline" else default_entity())
    workspace = workspace_of(study, runs, entity or "entity", logger.project, group)
    write_json(folder / SPECIFICATION, specification(workspace))
    if entity is None:
        raise InputError(
            f"dashboard=true: not logged in to W&B; run wandb login, or set logger.entity. The workspace's "
            f"specification is in {folder / SPECIFICATION}"
        )
    try:
        saved = workspace.save()
    except Exception as error:
        raise InputError(f"dashboard=true: W&B did not save the workspace: {error}") from error
    return str(saved.url)


def workspace_of(study: Study, runs: Runs, entity: str, project: str, group: str | None) -> Any:
    """Return the workspace for the runs of one group: metrics by factor, learning curves, and changes to labels."""
    try:
        panels: Any = import_module("wandb_workspaces.reports.v2")
        ws: Any = import_module("wandb_workspaces.workspaces")
    except ImportError as error:
        raise InputError('dashboard=true needs a package: pip install "invitro[dashboard]"') from error

    axis = study.axis or next(iter(runs.factors), None)

    def against(split: str, metric: str) -> Any:
        y, title = panels.SummaryMetric(f"{split}/{metric}"), f"{metric.upper()}, {split}"
        if axis is not None and axis == study.axis:
            return panels.ScatterPlot(title=title, x=panels.Config(axis), y=y)
        return panels.BarPlot(title=title, metrics=[y], groupby=panels.Config(axis) if axis else None)

    sections = [
        ws.Section(name=name, is_open=split == "val", panels=[against(split, metric) for metric in PANELS])
        for name, split in (("Validation", "val"), ("Test", "test"))
    ]
    curves = [
        panels.LinePlot(title=title, x="epoch", y=[key], groupby=panels.Config(axis) if axis else None)
        for key, title in (("val_ccc", "CCC on validation"), ("train_loss", "Training loss"))
    ]
    labels = [
        panels.BarPlot(title=title, metrics=[panels.SummaryMetric(f"train/{key}")])
        for key, title in (("replaced", "Labels changed"), ("augmented", "Texts added"))
    ]
    sections += [ws.Section(name="Learning curves", panels=curves), ws.Section(name="Training labels", panels=labels)]
    chosen = [ws.Metric("Group") == group] if group else []
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"{study.title} ({group})" if group else study.title,
        sections=sections,
        runset_settings=ws.RunsetSettings(filters=chosen, groupby=[ws.Config(axis)] if axis else []),
    )


def specification(workspace: Any) -> Mapping[str, Any]:
    """Return a workspace as the values that are sent to the server."""
    values: dict[str, Any] = workspace._to_model().model_dump(by_alias=True, mode="json")
    return values
