"""The jobs of a study, looked at before any is started: what each would refuse is refused at once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict

from invitro.config.settings import checked, prepared_for, with_floor
from invitro.errors import InputError, refuse_if_any
from invitro.training.jobs import as_mapping

if TYPE_CHECKING:
    from invitro.studies import Study

Job = tuple[str, ...]

ELSEWHERE = ("seed", "alpha", "plm", "floor", "fit", "optimizer", "trainer", "logger")
"""Keys that say nothing about which texts and labels are read."""


def not_to_run(jobs: Sequence[Job], hydra: Sequence[str], study: "Study") -> Mapping[int, str]:
    """Return the jobs, by position, whose data or LLM labels are not there, and what they lack, for a partial study.

    Settings are composed and checked once for every value that is swept; then the material of the first job is read,
    without a model. Where that is refused, and so is every other job's, the study is.

    Raises:
        InputError: settings that a job would refuse, or material that no job has.
    """
    problems: dict[str, None] = {}
    for job in _one_of_each(jobs):
        try:
            checked(_composed(job, hydra), multirun=True)
        except InputError as error:
            problems |= dict.fromkeys(error.problems)
    refuse_if_any(problems)
    if not study.partial:
        _refuse_where_all_fail(jobs)
        return {}
    lacking: dict[Job, str | None] = {}
    for job in jobs:
        lacking.setdefault(_material(job), None)
    for job in lacking:
        lacking[job] = _problem(job)
    found = {number: lacking[_material(job)] for number, job in enumerate(jobs)}
    return {number: problem for number, problem in found.items() if problem is not None}


def _refuse_where_all_fail(jobs: Sequence[Job]) -> None:
    """Refuse the study when the first job's material is not there, and no other's either."""
    first = _problem(jobs[0])
    if first is not None and all(_problem(job) for job in dict.fromkeys(_material(one) for one in jobs)):
        raise InputError(first)


def _problem(job: Job) -> str | None:
    """Return what is wrong with a job's material, or None."""
    cfg = _composed(job, ())
    try:
        prepared_for(cfg, checked(cfg, multirun=True))
    except InputError as error:
        return str(error)
    return None


def _material(job: Job) -> Job:
    """Return the overrides of a job that say which texts and labels it trains on."""
    return tuple(one for one in job if one.lstrip("+").partition("=")[0].partition(".")[0] not in ELSEWHERE)


def _one_of_each(jobs: Sequence[Job]) -> Iterator[Job]:
    """Yield jobs such that every override occurs."""
    seen: set[tuple[str, str]] = set()
    for job in jobs:
        new = set(as_mapping(job).items()) - seen
        if new or not seen:
            seen |= new
            yield job


def _composed(job: Job, hydra: Sequence[str]) -> DictConfig:
    """Compose a job's configuration as its process will."""
    cfg = compose("train", overrides=[*hydra, *job], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return with_floor(cfg)
