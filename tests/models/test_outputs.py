"""From raw outputs to scores and uncertainty, and what ``scale.json`` says of them."""

import json
import math

import pytest
import torch

from invitro.errors import InputError
from invitro.models.outputs import Distribution, Gaussian, Outputs, Score, outputs_from


def test_one_output_is_the_score() -> None:
    read = Score().read(torch.tensor([[3.5], [1.0]]))
    assert read.score.tolist() == [3.5, 1.0]
    assert read.sd is None


def test_a_gaussian_by_hand() -> None:
    read = Gaussian.over(1, 7).read(torch.tensor([[3.5, math.log(4)], [2.0, 0.0], [2.0, -99.0], [2.0, 99.0]]))
    assert read.score.tolist() == [3.5, 2.0, 2.0, 2.0]
    assert read.sd is not None
    assert read.sd.tolist() == pytest.approx([2.0, 1.0, 0.06, 6.0])  # a hundredth of the range, and the range


def test_a_distribution_by_hand() -> None:
    outputs = Distribution.over(0, 4, 3)
    assert outputs.bins == (0, 2, 4)
    read = outputs.read(torch.tensor([[0.5, 0.25, 0.25], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]]).log())
    assert read.score.tolist() == pytest.approx([1.5, 2.0, 2.0])
    assert read.sd is not None
    expected = [math.sqrt(0.5 * 1.5**2 + 0.25 * 0.5**2 + 0.25 * 2.5**2), math.sqrt(8 / 3), 0.0]
    assert read.sd.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("outputs", [Score(), Gaussian.over(0, 27), Distribution.over(1, 7, 13)])
def test_what_is_written_is_read_again(outputs: Outputs) -> None:
    assert outputs_from(json.loads(json.dumps(outputs.meaning()))) == outputs
    assert outputs.sentence().endswith(".")


@pytest.mark.parametrize("found", [["votes"], None, "score"])
def test_unknown_outputs_are_refused(found: object) -> None:
    with pytest.raises(InputError, match=r"outputs: expected \[score\].* or a newer one"):
        outputs_from({"outputs": found})
