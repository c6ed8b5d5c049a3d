"""Small-loss selection: which texts are learnt from, from which epoch on, and after resuming."""

from typing import Any

import pytest
import torch

from invitro.training.callbacks import SmallLossSelection, kept_of, small_loss_factor
from invitro.training.recipe import Fit


def test_the_smallest_losses_are_kept_with_steps_as_large_as_before() -> None:
    factor = small_loss_factor(torch.tensor([0.5, 9.0, 0.1, 0.5]), kept=2)
    assert factor.tolist() == [2.0, 0.0, 2.0, 0.0]  # of equal losses the first
    assert factor.mean().item() == 1


def test_a_text_whose_loss_is_not_known_comes_last() -> None:
    assert small_loss_factor(torch.tensor([torch.nan, 3.0, 4.0]), kept=2).tolist() == [0.0, 1.5, 1.5]


@pytest.mark.parametrize(("keep", "texts", "kept"), [(0.8, 10, 8), (0.05, 10, 1), (0.01, 10, 1), (1.0, 7, 7)])
def test_the_number_of_kept_texts(keep: float, texts: int, kept: int) -> None:
    assert kept_of(Fit(keep=keep), texts) == kept


def test_losses_of_two_processes_are_merged() -> None:
    selection = SmallLossSelection(Fit(keep=0.5, select_from=1), texts=4)
    theirs = torch.tensor([torch.nan, torch.nan, 5.0, 0.1])
    selection.losses = torch.tensor([1.0, 4.0, 5.0, torch.nan])  # row 2 was in both parts of a batch
    module = type("M", (), {"all_gather": lambda self, ours: torch.stack([ours, theirs])})()
    trainer = type("T", (), {"current_epoch": 0, "world_size": 2})()
    selection.on_train_epoch_end(trainer, module)
    assert selection.factor.tolist() == [2.0, 0.0, 0.0, 2.0]


def test_selection_waits_for_its_epoch_and_survives_a_resumption() -> None:
    selection = SmallLossSelection(Fit(keep=0.5, select_from=2), texts=2)
    selection.losses = torch.tensor([2.0, 1.0])
    module = type("M", (), {"all_gather": lambda self, ours: ours})()

    def epoch_ends(number: int) -> Any:
        trainer = type("T", (), {"current_epoch": number, "world_size": 1})()
        selection.on_train_epoch_end(trainer, module)
        return selection.factor.tolist()

    assert epoch_ends(0) == [1.0, 1.0]
    assert epoch_ends(1) == [0.0, 2.0]
    resumed = SmallLossSelection(Fit(keep=0.5, select_from=2), texts=2)
    resumed.load_state_dict(selection.state_dict())
    assert resumed.factor.tolist() == [0.0, 2.0]
