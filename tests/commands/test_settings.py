"""A run's settings from its configuration."""

import pytest
from hydra import compose
from omegaconf import OmegaConf

from invitro.commands.settings import _device
from invitro.commands.typed import configured


@pytest.mark.parametrize(
    ("overrides", "device"),
    [
        (["trainer=cpu"], "cpu"),
        (["trainer=auto"], "auto"),
        (["trainer=gpu"], "auto"),
        (["trainer=gpu", "trainer.devices=[1]"], "cuda:1"),
        (["trainer=ddp", "trainer.devices=[0,1]"], "auto"),
    ],
)
def test_texts_are_embedded_on_the_gpu_that_the_trainer_names(overrides: list[str], device: str) -> None:
    with configured("train"):
        cfg = compose("train", overrides=overrides)
    OmegaConf.resolve(cfg.trainer)
    assert _device(cfg) == device
