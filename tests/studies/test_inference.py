"""Estimates over a corpus: its material, the draw, what stands beside, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from invitro.data import DataFolder, TableFile, Undivided
from invitro.data.simulator.corpus import Simulator
from invitro.errors import InputError
from invitro.labels import LabelSource
from invitro.scales import Item, Scale
from invitro.stats.powered import CLASSICAL, NAIVE, POWERED, estimates, problem
from invitro.studies.inference import (
    ALL_CROWD,
    TRUTH,
    Estimated,
    Inference,
    InferenceData,
    drawn,
    estimates_table,
    infer,
    inference_data,
)

pytestmark = pytest.mark.skipif(problem() is not None, reason="ppi-python is not installed")

SCALE = Scale("batson_empathy", "empathy", (Item("warm", "warm"), Item("tender", "tender")), 1, 7)


def simulated(covariate: str = "words", **settings) -> InferenceData:
    reader = Simulator(split=Undivided(), texts=500, **settings)
    source = LabelSource("simulated", column="llm_label")
    return inference_data(reader, SCALE, source, "scale_aware", DataFolder(), covariate)


@pytest.mark.slow
def test_estimates_over_the_simulated_corpus() -> None:
    data = simulated()
    table = data.table
    rows = infer(data, Inference(gold=150), seed=3)
    assert rows["estimand"].unique().tolist() == ["mean", "coefficient of words"]
    assert rows["method"].tolist() == [CLASSICAL, NAIVE, POWERED, ALL_CROWD, TRUTH] * 2
    mean = rows[rows["estimand"] == "mean"].set_index("method")
    gold = drawn(table, 150, 3)
    assert mean.loc[CLASSICAL, "value"] == pytest.approx(table["crowd_label"][gold].mean())
    assert mean.loc[ALL_CROWD, "value"] == pytest.approx(table["crowd_label"].mean())
    assert mean.loc[TRUTH, "value"] == pytest.approx(table["truth"].mean())
    assert np.isnan(mean.loc[TRUTH, "low"])
    assert data.without_llm == 500 - len(table)
    assert (mean.loc[POWERED, "crowd_labels"], mean.loc[POWERED, "llm_labels"]) == (150, len(table))

    words = table["covariate"]
    design = np.column_stack([np.ones(len(table)), (words - words.mean()) / words.std(ddof=0)])
    slope = rows[rows["estimand"] != "mean"].set_index("method")
    crowd, llm = table["crowd_label"].to_numpy(), table["llm_label"].to_numpy()
    by_hand = estimates(design, crowd, llm, gold, table["group_id"].to_numpy())[2]
    assert slope.loc[POWERED, ["value", "low", "high"]].tolist() == pytest.approx(
        [by_hand.value, by_hand.low, by_hand.high]
    )


def test_llms_are_compared_in_one_table() -> None:
    data = simulated()
    rows = infer(data, Inference(gold=150), seed=3)
    several = pd.concat([rows.assign(llm=name) for name in ("llama", "gpt")], ignore_index=True)
    table = estimates_table(Estimated(several, ("llm",), [data, data], "sweep.py study=inference llm=llama,gpt"))
    rows_by_key = [dict(zip([column.key for column in table.columns], row, strict=True)) for row in table.rows]
    assert [row["llm"].value for row in rows_by_key] == ["llama"] * 10 + ["gpt"] * 10
    assert [row["llm_labels"].value for row in rows_by_key[:3]] == [None, len(data.table), len(data.table)]


def test_the_draw_is_the_seed_s_and_of_rated_texts() -> None:
    table = pd.DataFrame({"crowd_label": [np.nan] * 50 + [3.0] * 100})
    first, again, other = drawn(table, 40, 0), drawn(table, 40, 0), drawn(table, 40, 1)
    assert (first == again).all()
    assert (first != other).any()
    assert first.sum() == 40
    assert not first[:50].any()
    assert drawn(table, None, 0).sum() == 100
    assert drawn(table, 101, 0).sum() == 100


@pytest.mark.slow
def test_a_demographic_as_the_covariate() -> None:
    data = simulated("age")
    assert data.table["covariate"].between(18, 100).all()
    rows = infer(data, Inference(gold=100, covariate="age"), seed=0)
    assert "coefficient of age" in set(rows["estimand"])


def test_texts_without_a_crowd_label_count_with_the_llm_s(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"text_id": [f"t{i}" for i in range(200)], "text": [f"text {i} " + "a " * (i % 9) for i in range(200)]}
    )
    frame["llm"] = rng.uniform(2, 6, 200).round(2)
    frame["crowd_label"] = (frame["llm"] + rng.normal(0, 0.3, 200)).round(2)
    frame.loc[60:, "crowd_label"] = np.nan
    frame.to_csv(tmp_path / "texts.csv", index=False)
    columns = {"text_id": "text_id", "text": "text", "crowd_label": "crowd_label"}
    reader = TableFile(str(tmp_path / "texts.csv"), columns, Undivided(), name="texts")
    data = inference_data(reader, SCALE, LabelSource("gpt", column="llm"), "plain", DataFolder(), "words")
    rows = infer(data, Inference(gold=None), seed=0)
    assert rows["method"].tolist() == [CLASSICAL, NAIVE, POWERED] * 2  # no further crowd label is there to check with
    powered = rows[rows["method"] == POWERED]
    assert powered["crowd_labels"].tolist() == [60, 60]
    assert (powered["effective"] > 100).all()


@pytest.mark.parametrize("name", ["gender_", "text", "fault"])
def test_a_covariate_that_is_no_number_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(InputError, match=rf"inference\.covariate={name}: expected words or .*age"):
        simulated(name)


@pytest.mark.parametrize(("settings", "says"), [({"gold": 10}, "at least 30"), ({"covariate": ""}, "expected words")])
def test_settings_are_checked(settings, says: str) -> None:
    with pytest.raises(InputError, match=says):
        Inference(**settings)
