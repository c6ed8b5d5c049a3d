"""Reading runs: launches joined, the latest outcome, shared records, factors that are found, any kind of folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from invitro.errors import InputError
from invitro.files import write_json
from invitro.studies import read_runs
from invitro.training.multirun import STUDY, write_job
from invitro.training.record import write_failure

CONFIG: dict[str, Any] = {
    "launch": "l", "seed": 0, "alpha": 4.0, "data": {"_target_": "x", "name": "simulated", "texts": 9},
    "application": {"_target_": "y", "name": "none", "correction": False, "portion": 1.0},
    "plm": {"name": "tiny", "lr": 0.1}, "optimizer": {"lr": 0.1}, "logger": {"mode": "auto"}, "cache": "runs/cache",
}  # fmt: skip


def record(
    directory: Path, run: str, ccc: float = 0.5, truth: bool = False, config: dict[str, Any] | None = None
) -> Path:
    """Write what a finished run leaves, as far as it is read here."""
    scores = {"pcc": ccc + 0.1, "ccc": ccc, "rmse": 1.5}
    train = {
        "size": 9,
        "replaced": 2,
        "augmented": 1,
        "without_llm_label": 0,
        "truncated": 3,
        "epochs": 4,
        "seconds": 5.5,
    }
    facts = {"val": scores, "test": scores, "train": train, "fingerprint": run, "status": "finished"}
    write_json(directory / "metrics.json", facts | ({"truth": {"val": scores, "test": None}} if truth else {}))
    (directory / "predictions.csv").write_text("text_id,split,crowd_label,prediction\n007,val,2.0,2.5\nNA,test,,3.5\n")
    (directory / "config.yaml").write_text(yaml.safe_dump(config or CONFIG))
    return directory


def finish(launch: Path, number: int, run: str, *overrides: str, **more: Any) -> Path:
    directory = record(launch / str(number), run, **more)
    write_job(directory, directory, "finished", overrides, launch.name, choices={"plm": "roberta", "data": "simulated"})
    return directory


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return a study of two launches: alphas 1 and inf, seeds 0 and 42; one job failed, then was mended."""
    write_json(tmp_path / STUDY, {})
    first, again = tmp_path / "jobs" / "2026-01-02_1", tmp_path / "jobs" / "2026-01-02_2"
    kept = finish(first, 0, "f0", "alpha=1.0", "seed=0", "launch=a")
    broken = first / "1"
    write_failure(broken, RuntimeError("diverged\nby far"))
    write_job(broken, broken, "failed", ["alpha=1.0", "seed=42", "launch=a"], "a")
    (first / "2" / ".hydra").mkdir(parents=True)  # killed
    for number in range(3, 10):
        write_failure(first / str(number), RuntimeError("no memory"))
        write_job(first / str(number), first / str(number), "failed", [f"alpha={number}", "seed=0"], "a")
    write_job(again / "0", kept, "finished before", ["alpha=1", "seed=0", "launch=b", "logger=none"], "b")
    finish(again, 1, "f1", "alpha=1", "seed=42", "launch=b", ccc=0.25)
    tenth = finish(again, 10, "f2", "alpha=inf", "seed=0", truth=True)
    write_job(again / "2", tenth, "finished before", ["alpha=6.0", "seed=0"], "b")
    command = {"asked": "python sweep.py study=alpha", "command": "python train.py -m alpha=1", "launch": "a"}
    write_json(first / "launch.json", command)
    write_json(again / "launch.json", command | {"command": "python train.py -m alpha=1,inf"})
    return tmp_path


def test_the_table_of_a_study(study: Path) -> None:
    runs = read_runs(study, ("alpha",))
    table = runs.table
    assert (runs.factors, runs.replicates) == (("alpha",), ("seed",))
    assert table["alpha"].tolist() == [1, 1, 3, 4, 5, 6, 7, 8, 9, np.inf]
    assert table["seed"].tolist() == [0, 42, 0, 0, 0, 0, 0, 0, 0, 0]
    assert (table["alpha"].dtype, table["seed"].dtype) == ("float64", "int64")
    assert table.index.tolist() == list(range(10))
    assert table["outcome"].value_counts().to_dict() == {"failed": 6, "finished": 2, "finished before": 2}
    assert runs.finished().index.tolist() == [0, 1, 5, 9]
    assert runs.commands == (
        "python sweep.py study=alpha", "python train.py -m alpha=1", "python train.py -m alpha=1,inf"
    )  # fmt: skip


def test_the_latest_outcome_counts_in_the_place_of_the_first(study: Path) -> None:
    rows = {(row["alpha"], row["seed"]): row for row in read_runs(study, ("alpha",)).table.to_dict("records")}
    assert rows[1, 0]["outcome"] == "finished before"
    assert rows[1, 0]["record"] == str(study / "jobs" / "2026-01-02_1" / "0")
    mended = rows[1, 42]
    assert (mended["outcome"], mended["error"], mended["fingerprint"]) == ("finished", None, "f1")
    assert (mended["test_pcc"], mended["test_ccc"], mended["val_rmse"]) == (0.35, 0.25, 1.5)
    assert (mended["size"], mended["replaced"], mended["epochs"], mended["seconds"]) == (9, 2, 4, 5.5)
    assert rows[3, 0]["error"] == "RuntimeError: no memory"
    assert np.isnan(rows[3, 0]["val_ccc"])
    assert rows[np.inf, 0]["truth_val_ccc"] == 0.5
    assert np.isnan(rows[1, 0]["truth_val_ccc"])
    assert "truth_test_ccc" not in rows[1, 0]  # nowhere measured


def test_equal_labels_share_a_record_and_the_table_says_so(study: Path) -> None:
    table = read_runs(study, ("alpha",)).table
    assert table.loc[table["shared"], "alpha"].tolist() == [6, np.inf]
    assert table.loc[table["shared"], "record"].nunique() == 1


def test_the_files_of_a_row(study: Path) -> None:
    runs = read_runs(study)
    predictions = runs.predictions(0)
    assert predictions["text_id"].tolist() == ["007", "NA"]
    assert predictions["crowd_label"].isna().tolist() == [False, True]
    predictions["prediction"] = 0.0
    assert runs.predictions(0)["prediction"].tolist() == [2.5, 3.5]
    assert runs.config(0)["alpha"] == 4.0


def test_a_killed_multirun_s_finished_record_counts(study: Path) -> None:
    late = record(study / "jobs" / "2026-01-02_2" / "11", "f3")  # killed between the record and job.json
    (late / ".hydra").mkdir()
    (late / ".hydra" / "overrides.yaml").write_text("[alpha=2.0, seed=0, launch=b]")
    table = read_runs(study, ("alpha",)).table
    assert table.loc[table["alpha"] == 2, "outcome"].tolist() == ["finished"]


def test_factors_are_found_and_settings_are_never_mixed(tmp_path: Path) -> None:
    launch = tmp_path / "sweep"
    finish(launch, 0, "a", "application=none", "alpha=4.0", "seed=0", "logger=none")
    finish(launch, 1, "b", "application=both", "alpha=4.0", "seed=0")
    finish(launch, 2, "c", "application=both", "alpha=4", "seed=1", "plm=roberta")  # the default, spelled out
    assert read_runs(launch).factors == ("application",)
    finish(launch, 3, "d", "application=both", "alpha=4", "seed=0", "fit.epochs=3")
    runs = read_runs(launch, ("application",))
    assert runs.factors == ("application", "fit.epochs")  # two runs of one seed differ in it
    assert len(runs.table) == 4


def test_a_default_spelled_out_is_the_same_job(tmp_path: Path) -> None:
    launch = tmp_path / "sweep"
    first = finish(launch, 0, "a", "application=none", "seed=0")
    write_job(launch / "1", first, "finished before", ["application=none", "seed=0", "plm=roberta"], "l")
    runs = read_runs(launch, ("application",))
    assert len(runs.table) == 1
    assert not runs.table["shared"].any()


def test_replicates_are_what_the_study_says(tmp_path: Path) -> None:
    for fold in range(3):
        finish(tmp_path, fold, f"f{fold}", f"data.split.fold={fold}", "seed=0", "application=none")
    runs = read_runs(tmp_path, ("application",), ("data.split.fold", "seed", "data.seed"))
    assert runs.replicates == ("data.split.fold", "seed")
    assert runs.table["data.split.fold"].tolist() == [0, 1, 2]
    by_themselves = read_runs(tmp_path)
    assert (by_themselves.factors, by_themselves.replicates) == ((), ("data.split.fold", "seed"))
    assert read_runs(tmp_path, ("data.split.fold",)).replicates == ("seed",)


def test_single_runs_are_told_apart_by_their_configurations(tmp_path: Path) -> None:
    other = CONFIG | {"launch": "m", "application": CONFIG["application"] | {"name": "both", "correction": True}}
    record(tmp_path / "a" / "run", "a")
    lower = {"seed": 1, "optimizer": {"lr": 0.2}, "plm": {"name": "tiny", "lr": 0.2}}
    record(tmp_path / "b", "b", config=other | lower)
    write_failure(tmp_path / "c", RuntimeError("boom"))
    (tmp_path / "c" / "config.yaml").write_text(yaml.safe_dump(CONFIG | {"seed": 2}))
    runs = read_runs(tmp_path)
    # Not correction, which the application decides, nor optimizer.lr, which repeats plm.lr, nor what is incidental.
    assert runs.factors == ("application", "plm.lr")
    assert runs.table["application"].tolist() == ["none", "both", "none"]
    assert runs.table["outcome"].tolist() == ["finished", "finished", "failed"]
    assert runs.table["seed"].tolist() == [0, 1, 2]


def test_a_record_that_is_gone_is_a_failure(study: Path) -> None:
    (study / "jobs" / "2026-01-02_2" / "10" / "metrics.json").unlink()
    table = read_runs(study, ("alpha",)).table
    assert table.loc[table["alpha"] == 6, "outcome"].tolist() == ["failed"]
    assert "its record is missing" in str(table.loc[table["alpha"] == 6, "error"].iloc[0])


def test_a_multirun_s_command_is_read_from_what_hydra_wrote(tmp_path: Path) -> None:
    finish(tmp_path, 0, "a", "alpha=1")
    overrides = {"hydra": ["hydra/launcher=joblib"], "task": ["alpha=1,2", "x={a: b}"]}
    hydra = {"job": {"name": "train"}, "overrides": overrides}
    (tmp_path / "multirun.yaml").write_text(yaml.safe_dump({"hydra": hydra}))
    assert read_runs(tmp_path).commands == ("python train.py -m hydra/launcher=joblib alpha=1,2 'x={a: b}'",)


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no runs; expected a folder that"):
        read_runs(tmp_path)
    with pytest.raises(InputError, match="no such folder of runs"):
        read_runs(tmp_path / "none")


def test_a_study_moved_elsewhere_is_read_as_before(study: Path) -> None:
    before = read_runs(study, ("alpha",)).table
    moved = study.rename(study.with_name("moved"))
    after = read_runs(moved, ("alpha",)).table
    pd.testing.assert_frame_equal(before.drop(columns="record"), after.drop(columns="record"))
    assert json.loads((Path(after["record"][0]) / "metrics.json").read_text())["fingerprint"] == "f0"
