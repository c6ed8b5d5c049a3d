"""Every shipped configuration composes and instantiates, and says in its first line what it is."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from support import ROOT

CONF = ROOT / "conf"
GROUPS = ("application", "data", "data/split", "experiment", "llm", "logger", "plm", "prompt", "scale", "trainer")
CHOICES = [(group, file.stem) for group in GROUPS for file in sorted((CONF / group).glob("*.yaml"))]


def composed(*overrides: str, name: str = "train") -> DictConfig:
    import invitro.config  # noqa: F401  (registers the resolvers)

    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides=list(overrides))


def instantiated(node: Any) -> Any:
    return instantiate(node, _convert_="all")


def test_every_group_is_known() -> None:
    folders = {path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")} - {"."}
    assert folders == set(GROUPS)


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda path: path.relative_to(CONF).as_posix())
def test_the_first_lines_say_what_it_is(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    first = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert first.startswith("# ")
    assert len(first) > 10


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_instantiates(group: str, choice: str) -> None:
    extra = ["data.path=essays.csv"] if choice == "table" else []
    cfg = composed(f"{group}={choice}", *extra)
    OmegaConf.to_container(cfg, resolve=False)
    for node in ("data", "scale", "llm", "application", "plm", "fit", "optimizer", "trainer", "logger"):
        assert instantiated(cfg[node]) is not None


def test_alpha_is_a_number_of_its_own() -> None:
    assert composed("alpha=4.0").alpha == 4.0
    assert composed("alpha=4").alpha == 4
    assert composed("alpha=inf").alpha == float("inf")
    assert not (CONF / "alpha").exists()


def test_the_paper_s_recipe() -> None:
    cfg = composed("experiment=paper")
    fit = instantiated(cfg.fit)
    assert (fit.epochs, fit.batch_size, fit.start_epoch, fit.patience, fit.checkpoint) == (20, 16, 5, 2, "last")
    assert (fit.schedule_epochs, fit.warmup, fit.loss) == (10, 0.06, "mse")
    assert (cfg.optimizer.lr, list(cfg.optimizer.betas), cfg.optimizer.eps) == (3e-5, [0.9, 0.98], 1e-6)
    assert cfg.optimizer.weight_decay == 0.1
    assert cfg.plm.max_length == 512


def test_predict_composes() -> None:
    assert OmegaConf.missing_keys(composed(name="predict")) == {"model", "input", "output"}


def test_application_defaults_are_the_class_s() -> None:
    from invitro.application import Application

    cfg = OmegaConf.to_container(composed("application=both").application)
    assert isinstance(cfg, dict)
    given = Application(**{key: value for key, value in cfg.items() if not key.startswith("_")})
    columns = {"text_id": "text_id", "text": "text"}
    assert given == Application("both", True, True, pool_columns=columns)
