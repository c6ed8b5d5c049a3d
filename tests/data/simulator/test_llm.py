"""The simulated LLM: its errors are those that were set."""

from typing import Any

import numpy as np
import pytest

from invitro.data.simulator.rating import LLMRater
from invitro.errors import InputError
from invitro.scales import Item, Scale
from invitro.stats import Floats

SEVEN = Scale("seven", "empathy", tuple(Item(f"i{n}", f"question {n}") for n in range(6)), 1, 7)
TEXTS = 4000


def said_by(texts: int = TEXTS) -> Floats:
    """Return item scores anywhere within the bounds, items of a text alike."""
    rng = np.random.default_rng(7)
    level, own = rng.random((texts, 1)), rng.random((texts, 6))
    return SEVEN.low + (SEVEN.high - SEVEN.low) * (0.8 * level + 0.2 * own)


class TestLLM:
    def score(self, said: Floats, **changed: Any) -> Floats:
        settings = {"bias": 0.0, "gain": 1.0, "text_noise": 0.0, "item_noise": 0.0, "missing": 0.0, "decimals": 6}
        return LLMRater(**{**settings, **changed}).score(said, SEVEN, np.random.default_rng(3))

    def test_without_errors_it_repeats_what_the_text_says(self) -> None:
        said = said_by()
        np.testing.assert_allclose(self.score(said), said, atol=1e-6)

    def test_bias_of_all_items_and_of_one(self) -> None:
        said = np.full((2000, 6), 4.0)
        np.testing.assert_allclose(self.score(said, bias=0.1, item_noise=0.05).mean(axis=0), 4.6, atol=0.04)
        by_item = self.score(said, bias={"i2": -0.2}).mean(axis=0)
        np.testing.assert_allclose(by_item, [4, 4, 2.8, 4, 4, 4], atol=1e-6)

    def test_gain_is_the_slope(self) -> None:
        said = np.random.default_rng(0).uniform(3, 5, (2000, 6))
        answer = self.score(said, gain=0.6, item_noise=0.02)
        assert np.polyfit(said.ravel(), answer.ravel(), 1)[0] == pytest.approx(0.6, abs=0.01)

    def test_noise_of_texts_and_of_items(self) -> None:
        error = self.score(np.full((TEXTS, 6), 4.0), text_noise=0.1, item_noise=0.05) - 4.0
        assert error.std(axis=1, ddof=1).mean() == pytest.approx(0.3 * 0.9515, rel=0.03)  # c4(6) = 0.9515
        assert error.mean(axis=1).std() == pytest.approx(np.sqrt(0.6**2 + 0.3**2 / 6), rel=0.05)

    def test_failed_replies_miss_all_items(self) -> None:
        missing = np.isnan(self.score(said_by(), missing=0.2))
        assert (missing.all(axis=1) == missing.any(axis=1)).all()
        assert abs(missing[:, 0].mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / TEXTS)

    def test_decimals(self) -> None:
        assert self.score(np.full((1, 6), 3.14159), decimals=1).tolist() == [[3.1] * 6]

    def test_bias_of_a_foreign_item_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"data\.llm\.bias: expected items of seven \(i0, .*found tender"):
            self.score(said_by(), bias={"tender": 0.1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bias": 3}, "data.llm.bias: expected a number from -1 to 1, or one for each of some items, found 3"),
        ({"bias": {"i1": "high"}}, "one for each of some items, found {'i1': 'high'}"),
        ({"gain": -1}, "data.llm.gain: expected a number of at least 0, found -1"),
        ({"missing": 1.1}, "data.llm.missing: expected a number from 0 to 1, found 1.1"),
        ({"decimals": 0.5}, "data.llm.decimals: expected a whole number of at least 0, found 0.5"),
        ({"by_group": {"age": 1}}, "such as {gender: {2: -0.1}}, found {'age': 1}"),
        ({"by_group": {"age": {"18-29": 2}}}, "data.llm.by_group: expected null or groups by one of gender, education"),
        ({"by_group": {"sex": {2: 0.1}}}, "race, age, income, with biases from -1 to 1, such as {gender: {2: -0.1}}"),
        ({"by_group": {"age": {"old": 0}}}, "data.llm.by_group.age: expected a number or a range such as 18-29, found"),
    ],
)
def test_wrong_llm_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        LLMRater(**settings)
    assert message in str(refused.value)
