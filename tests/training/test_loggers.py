"""Trackers that need no account, read back by their own commands."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import small_corpus, table_overrides

from invitro.errors import InputError
from invitro.training import loggers
from invitro.training.loggers import CSV, RunInfo, TensorBoard, Trackio, tracked


@pytest.mark.parametrize("logger", [TensorBoard(), Trackio()])
def test_a_tracker_that_is_not_installed(
    logger: TensorBoard | Trackio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    name = type(logger).__name__.lower()
    said = rf"logger={name} needs the package {name}: pip install .invitro\[{name}\]."
    with pytest.raises(InputError, match=said), logger.open(RunInfo(tmp_path, "one", {}, None, ())):
        pass


def test_failures_at_the_end_of_a_run_become_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    info = RunInfo(tmp_path, "tfidf none seed=0", {}, None, ())

    def gone(*errors: Exception) -> None:
        with tracked(CSV(), info) as (curves, final):
            assert curves is not None
            curves.log_metrics({"val_ccc": 0.4})
            final["test/ccc"] = 0.5
            shutil.rmtree(tmp_path / "logs")
            for error in errors:
                raise error

    gone()
    (warning,) = caplog.messages
    assert warning.startswith("the end of tfidf none seed=0 was not sent to the tracker (FileNotFoundError: ")
    assert warning.endswith("Its record is complete. To send it: train again with force=true")
    with pytest.raises(ValueError, match="of the run itself"):
        gone(ValueError("of the run itself"))


@pytest.mark.slow
def test_trackio_has_what_the_record_has(run_apart, corpus_csv: Path, tiny_roberta: Path, tmp_path: Path) -> None:
    secret, folder = "sk-this-is-a-secret", tmp_path / "tracked"
    # Neither the hub's login nor another project's Space is used.
    env = {"TRACKIO_DIR": str(folder), "HF_TOKEN": "hf_" + "a" * 34, "TRACKIO_SPACE_ID": "someone/else"}
    settings = [override for override in table_overrides(corpus_csv) if not override.startswith("logger=")]
    done = run_apart(
        "train.py", *settings, "logger=trackio", "plm=roberta", f"plm.name={tiny_roberta}", "alpha=1.0",
        "save_model=false", "hydra.run.dir=run", env=env | {"OPENAI_API_KEY": secret, "HF_HUB_OFFLINE": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f'Trackio has the curves in {folder}. To see them: trackio show --project "invitro"' in done.stdout
    assert "huggingface" not in done.stdout + done.stderr

    def asked(sql: str) -> list[dict[str, str]]:
        command = [str(Path(sys.executable).with_name("trackio")), "query", "project", "--project", "invitro"]
        answer = subprocess.run(
            [*command, "--sql", sql, "--json"], env={"TRACKIO_DIR": str(folder)}, capture_output=True, text=True
        )
        return list(json.loads(answer.stdout)["rows"])

    history = [json.loads(row["metrics"]) for row in asked("select metrics from metrics order by id")]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    for split in ("val", "test"):
        assert {name: history[-1][f"{split}/{name}"] for name in metrics[split]} == metrics[split]
    assert [row["epoch"] for row in history if "val_ccc" in row] == [0, 1]
    assert any("train_loss" in row for row in history)
    (run,) = asked("select run_name, config from configs")
    config = json.loads(run["config"])
    assert (config["alpha"], config["application"]["name"], config["_Username"]) == (1, "both", None)
    assert set(config["tags"]) >= {"both", "table"}
    stored = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for part in (*small_corpus()["essay"], secret, env["HF_TOKEN"]):
        assert part.encode() not in stored
