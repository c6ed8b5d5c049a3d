"""Checkpoints that a run can continue from, and others."""

from pathlib import Path

import pytest
import torch

from invitro.errors import InputError
from invitro.training.recipe import Fit
from invitro.training.run import check_resume


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 1, "state_dict": {}}, "has only weights"),
        (
            {"state_dict": {}},
            "expected a checkpoint of a run, found a file without epochs; name the file checkpoints/last",
        ),
        (b"", "expected a checkpoint of a run, found another file"),
        (b"no checkpoint", "expected a checkpoint of a run, found another file"),
        ({"epoch": 4, "optimizer_states": [{}]}, "already has 5 epochs; set fit.epochs above that"),
    ],
)
def test_what_cannot_be_resumed_is_refused(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "a.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(InputError, match=rf"resume={path}: {message}"):
        check_resume(path, Fit(epochs=5))


def test_a_checkpoint_with_its_optimiser_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"epoch": 1, "optimizer_states": [{"state": {}}]}, path)
    check_resume(path, Fit(epochs=5))
