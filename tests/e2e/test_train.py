"""``train.py`` as a user runs it: in an empty folder, with an encoder of the real architecture."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from support import ROOT, table_overrides

from invitro.stats.moments import measure


def record_of(stdout: str) -> Path:
    """Return the directory that the last line names."""
    last = stdout.strip().splitlines()[-1]
    assert last.startswith("Record: "), stdout
    return Path(last.removeprefix("Record: "))


def test_the_headline_command(run, corpus_csv: Path, tiny_deberta: Path, tmp_path: Path) -> None:
    done = run(
        "train.py",
        "plm=deberta",
        "application=both",
        "alpha=4.0",
        f"plm.name={tiny_deberta}",
        *table_overrides(corpus_csv),
    )
    assert done.returncode == 0, done.stderr
    directory = tmp_path / record_of(done.stdout)
    assert re.search(r"^test +12 +-?\d\.\d{3} +-?\d\.\d{3} +\d\.\d{3}$", done.stdout, re.M)
    assert "crowd labels replaced (alpha=4)" in done.stdout
    config = yaml.safe_load((directory / "config.yaml").read_text("utf-8"))
    assert config["application"]["name"] == "both"
    assert config["alpha"] == 4.0
    assert [config["llm"][key] for key in ("name", "model", "engine")] == ["gpt", None, None]  # the column, not Llama
    assert "${" not in (directory / "config.yaml").read_text("utf-8")
    metrics = json.loads((directory / "metrics.json").read_text("utf-8"))
    assert metrics["status"] == "finished"
    assert {"model.safetensors", "scale.json", "README.md", "config.json"} <= {
        f.name for f in (directory / "model").iterdir()
    }


@pytest.mark.slow
@pytest.mark.parametrize("application", ["posterior", "distill", "auto"])
def test_policies_on_a_frozen_encoder_by_folds_without_validation(
    run, corpus_csv: Path, tiny_deberta: Path, tmp_path: Path, application: str
) -> None:
    done = run(
        "train.py", "plm=deberta", "plm.train=frozen", f"plm.name={tiny_deberta}", f"application={application}",
        "application.pool=none", *table_overrides(corpus_csv), "data/split=kfold", "data.split.folds=4",
        "data.split.val=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    directory = tmp_path / record_of(done.stdout)
    metrics = json.loads((directory / "metrics.json").read_text("utf-8"))
    assert metrics["val"] is None
    assert metrics["test"]["rmse"] > 0
    assert set(pd.read_csv(directory / "predictions.csv")["split"]) == {"test"}
    assert (directory / "choice.csv").is_file() == (application == "auto")
    said = {
        "posterior": "the crowd's reliability is",
        "distill": "crowd labels replaced",
        "auto": "chosen by cross-valid",
    }
    assert said[application] in done.stdout


@pytest.mark.slow
def test_roberta_and_a_multirun_that_goes_on(run, corpus_csv: Path, tiny_roberta: Path, tmp_path: Path) -> None:
    command = [
        "train.py", "-m", "plm=roberta", f"plm.name={tiny_roberta}", "application=none,correction", "alpha=1.0,inf",
        "hydra.sweep.dir=sweep", "save_model=false", *table_overrides(corpus_csv), "fit.epochs=1",
    ]  # fmt: skip
    done = run(*command)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert lines[-1] == "Records: sweep"
    # none does not depend on alpha, and alpha=inf is none: two of four jobs are the first one again.
    assert lines[-2] == "2 finished, 2 finished before, 0 failed"
    assert {p.parent.name for p in tmp_path.glob("sweep/*/metrics.json")} == {"0", "2"}
    table = "\n".join(lines[-8:])
    assert re.search(r"application +alpha +PCC", table)
    again = run(*command, "seed=0,1")
    assert again.stdout.strip().splitlines()[-2] == "2 finished, 6 finished before, 0 failed"
    assert {json.loads(p.read_text())["status"] for p in tmp_path.rglob("metrics.json")} == {"finished"}


@pytest.mark.slow
def test_jobs_on_the_same_texts_share_a_frozen_encoders_work(
    run, corpus_csv: Path, tiny_deberta: Path, tmp_path: Path
) -> None:
    done = run(
        "train.py", "-m", "plm=deberta", "plm.train=frozen", f"plm.name={tiny_deberta}", "application=correction",
        "data/split=kfold", "data.split.folds=4", "data.split.fold=0,1", "alpha=0.5,1.0,inf", "hydra.sweep.dir=sweep",
        "save_model=false", *table_overrides(corpus_csv),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = [json.loads((tmp_path / "sweep" / str(job) / "metrics.json").read_text("utf-8")) for job in range(6)]
    assert [one["cost"]["encoder"]["seconds"] == 0 for one in records] == [False, True, True] * 2


@pytest.mark.slow
def test_a_job_that_fails_is_recorded_and_the_others_finish(
    run, corpus_csv: Path, tiny_roberta: Path, tmp_path: Path
) -> None:
    done = run(
        "train.py", "-m", "plm=roberta", f"plm.name={tiny_roberta}", "alpha=-1,1", "plm.lr=1e30,1e-3", "fit.clip=null",
        "hydra.sweep.dir=sweep", "save_model=false", "fit.epochs=1",
        *[o for o in table_overrides(corpus_csv) if not o.startswith(("plm.lr", "fit.epochs"))],
    )  # fmt: skip
    assert done.returncode == 1
    assert "1 finished, 0 finished before, 3 failed" in done.stdout
    assert done.stdout.strip().splitlines()[-1] == "Records: sweep"
    assert "alpha: expected a number from 0 to inf" in (tmp_path / "sweep" / "0" / "error.txt").read_text()
    failed = json.loads((tmp_path / "sweep" / "2" / "metrics.json").read_text())
    assert failed["status"] == "failed"
    assert "diverged" in failed["error"]
    assert "Traceback" in (tmp_path / "sweep" / "2" / "error.txt").read_text()


@pytest.mark.slow
def test_two_joblib_workers(run_apart, corpus_csv: Path, tiny_roberta: Path, tmp_path: Path) -> None:
    done = run_apart(
        "train.py", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "plm=roberta", f"plm.name={tiny_roberta}",
        "seed=0,1", "save_model=false", *table_overrides(corpus_csv),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 finished, 0 finished before, 0 failed" in done.stdout
    sweeps = list(tmp_path.glob("runs/sweep/*/*"))
    assert len(sweeps) == 1  # one directory, though each worker composes the configuration anew
    assert {path.name for path in sweeps[0].iterdir() if path.is_dir()} == {"0", "1"}


@pytest.mark.slow
def test_default_directories_differ_in_the_same_second(corpus_csv: Path, tiny_roberta: Path) -> None:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf
    from support import ROOT

    import invitro.commands  # noqa: F401

    directories = set()
    for _ in range(20):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose("train", return_hydra_config=True)
            directories.add(OmegaConf.to_container(cfg.hydra.run, resolve=True)["dir"])  # type: ignore[call-overload,index]
    assert len(directories) == 20


@pytest.mark.slow
def test_two_processes_train_one_model(run_apart, corpus_csv: Path, tiny_deberta: Path, tmp_path: Path) -> None:
    common = ["plm=deberta", f"plm.name={tiny_deberta}", "alpha=1.0", "plm.dropout=0", "save_model=false"]
    small = [*common, *table_overrides(corpus_csv), "fit.eval_batch_size=5"]
    small = [one for one in small if not one.startswith("logger=")] + ["logger=csv"]
    two = run_apart(
        "train.py", *small, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "hydra.run.dir=two"
    )
    one = run_apart("train.py", *small, "trainer=cpu", "hydra.run.dir=one")
    assert two.returncode == one.returncode == 0, two.stderr + one.stderr
    assert two.stdout.count("Record: ") == 1
    predictions = {name: pd.read_csv(tmp_path / name / "predictions.csv") for name in ("one", "two")}
    assert predictions["two"]["prediction"].to_numpy() == pytest.approx(predictions["one"]["prediction"], abs=0.02)
    metrics = json.loads((tmp_path / "two" / "metrics.json").read_text())
    rows = predictions["two"][predictions["two"]["split"] == "val"]
    assert metrics["val"] == pytest.approx(measure(rows["prediction"], rows["crowd_label"]))
    history = pd.read_csv(tmp_path / "two" / "history.csv")
    assert history["val_ccc"].max() == pytest.approx(metrics["val"]["ccc"], abs=1e-5)  # seen by both, kept as the best


REFUSALS = [
    (["alpha=-1", "seed=x", "fit.epochs=0"], ["alpha: expected a number", "seed: expected", "fit.epochs: expected"]),
    (["alpha=four"], ["alpha: expected a number from 0 to inf in the scale's units, found 'four'"]),
    (["data.path=missing.csv"], ["missing.csv: no such file"]),
    (["data.path=missing.csv", "plm.name=nobody/has-this"], ["missing.csv: no such file"]),  # the texts come first
    (["data.columns.text=body"], ["expected", "body", "found", "essay"]),
    (["llm.column=claude"], ["expected column claude (llm.column); found"]),
    (["llm.column=null"], ["No LLM labels by llm=llama", "llm.labels=FILE"]),
    (["plm.name=nobody/has-this"], ["PLM nobody/has-this: not found", "plm.name="]),
    (["application=both", "application.pool=none"], ["application=both needs texts to add"]),
    (["application.pool=newsemp99"], ["application.pool: expected set_aside, unlabelled, none, a corpus (newsemp18"]),
    (["plm.train=frozen", "trainer=ddp"], ["plm.train=frozen is fitted in one step and one process"]),
    (["application=posterior", "baseline=tfidf"], ["application=posterior needs an encoder's features"]),
    (["spread=matched"], ["spread=matched: it is found on left-out training texts, which only the exact"]),
    (["plm.train=head", "fit.loss=ccc"], ["fit.loss=ccc: plm.train=head is fitted in one step on squared errors"]),
    (["trainer=ddp", "trainer.devices=3"], ["fit.batch_size=16 does not divide among trainer.devices=3"]),
    (["trainer.precision=16-mixed"], ["trainer.precision=16-mixed: a fused optimiser", "optimizer.fused=false"]),
    (["resume=nothing.ckpt"], ["resume=nothing.ckpt: no such checkpoint"]),
    (["application=auto", "alpha_quantile=0.1"], ["application=auto chooses alpha itself; set alpha_quantile=null"]),
    (["scale=gad7"], ["column empathy", "rated rows lie outside 0 to 21 (gad7)", "data row", "scale="]),
    (["data/split=published"], ["data/split=holdout"]),
    (["force=no"], ["force: expected true or false, found 'no'"]),
    (["data.path=???"], ["data.path: expected a value"]),
    (["plm.name=./typo"], ["plm.name=./typo: no such folder"]),
    (["+trainer.max_epochs=3"], ["trainer.max_epochs is decided by fit.epochs"]),
    (["trainer=gpu"], ["trainer: these settings do not work here"]),
    (["optimizer.betas=[2,3]"], ["optimizer: these settings do not work here"]),
    (["logger=wandb", "logger.mode=nonsense"], ["logger.mode: expected auto, online or offline"]),
    (
        ["application.pool=set_aside", "application.pool_share=0.001"],
        ["application.pool_share=0.001 of", "sets 0 aside"],
    ),
]


OF_ONE_KIND = ("alpha=four", "force=no", "trainer=gpu", "data/split=published", "fit.loss=ccc", "spread=matched",
               "application.pool_share=0.001", "plm.name=./typo")  # fmt: skip
"""Refused by the same lines as another."""


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [pytest.param(*one, marks=[pytest.mark.slow] if one[0][-1] in OF_ONE_KIND else []) for one in REFUSALS],
    ids=lambda value: value[0] if "=" in value[0] else "",
)
def test_bad_input_is_refused_and_nothing_stays(
    run, corpus_csv: Path, tiny_roberta: Path, tmp_path: Path, overrides: list[str], expected: list[str]
) -> None:
    if overrides == ["scale=gad7"]:
        frame = pd.read_csv(corpus_csv)
        frame.assign(empathy=frame["empathy"] * 4).to_csv(corpus_csv, index=False)
    settings = [*table_overrides(corpus_csv), "plm=roberta", f"plm.name={tiny_roberta}"]
    keys = {one.partition("=")[0] for one in overrides}
    done = run("train.py", *[one for one in settings if one.partition("=")[0] not in keys], *overrides)
    assert done.returncode == 2, done.stdout + done.stderr
    for part in expected:
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [corpus_csv]


def test_on_a_mac_the_cpu_trains(run, corpus_csv: Path, tiny_roberta: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apple's GPUs have no float64: Lightning chooses them, and the first metric would fail."""
    from lightning.fabric.accelerators import MPSAccelerator as Below
    from lightning.pytorch.accelerators import MPSAccelerator

    for accelerator in (MPSAccelerator, Below):
        monkeypatch.setattr(accelerator, "is_available", staticmethod(lambda: True))
    settings = [one for one in table_overrides(corpus_csv) if one != "trainer=cpu"]
    small = ["train.py", *settings, "plm=roberta", f"plm.name={tiny_roberta}"]
    done = run(*small)
    assert done.returncode == 0, done.stderr
    refused = run(*small, "trainer=gpu", "force=true")
    assert refused.returncode == 2
    assert "trainer: Apple's GPUs do not compute in float64, as metrics do; choose trainer=cpu" in refused.stderr


def test_an_unknown_choice_names_the_choices(run) -> None:
    done = run("train.py", "plm=bert")
    assert done.returncode == 2
    assert "Could not find 'plm/bert'" in done.stderr
    for choice in ("deberta", "minilm", "roberta", "xlm_roberta"):
        assert choice in done.stderr


def test_help_lists_groups_and_examples_and_is_quick(run, run_apart) -> None:
    import time

    started = time.perf_counter()
    done = run_apart("train.py", "--help")
    assert time.perf_counter() - started < 4  # half a second on an idle machine
    for said in ("application: augmentation, auto, blend, both", "logger: csv, none, tensorboard, trackio, wandb"):
        assert said in done.stdout
    assert done.stdout.count("python train.py ") == 3
    assert "study: " not in done.stdout  # sweep.py's
    assert "name: microsoft/deberta-v3-base" in run("train.py", "plm=deberta", "--help").stdout
    script = f"{sys.executable} {ROOT / 'train.py'} --help"
    piped = subprocess.run(["bash", "-c", f"set -o pipefail; {script} | true"], capture_output=True, text=True)
    assert (piped.returncode, piped.stderr) == (0, "")
    wrong = run("train.py", "plm=deberto", "-h")
    assert wrong.returncode == 2
    assert "deberta" in wrong.stderr


@pytest.mark.parametrize("script", ["train.py", "predict.py", "sweep.py"])
def test_entry_points_import_nothing_heavy(script: str) -> None:
    import subprocess
    import sys

    from support import ROOT

    code = (
        f"import sys, runpy; sys.argv = ['{script}', '--help']\n"
        f"try: runpy.run_path('{ROOT / script}', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'lightning', 'pandas', 'wandb', 'vllm'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_launching_and_reading_a_study_s_jobs_loads_no_network() -> None:
    import subprocess
    import sys

    code = "import sys, invitro.studies.launch, invitro.studies.runs; sys.exit(str({'torch'} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == ""


@pytest.mark.slow
def test_a_finished_record_is_not_overwritten_by_a_single_run(
    run, corpus_csv: Path, tiny_roberta: Path, tmp_path: Path
) -> None:
    command = [
        "train.py", "plm=roberta", f"plm.name={tiny_roberta}", "hydra.run.dir=here", "save_model=false",
        *table_overrides(corpus_csv), "fit.epochs=1",
    ]  # fmt: skip
    assert run(*command).returncode == 0
    before = (tmp_path / "here" / "metrics.json").read_text()
    again = run(*command)
    assert again.returncode == 2
    assert "holds the record of a finished run" in again.stderr
    refused = run(*command, "force=true", "plm.name=nobody/has-this")
    assert refused.returncode == 2
    assert (tmp_path / "here" / "metrics.json").read_text() == before
    diverged = run(*command, "force=true", "plm.lr=1e30", "fit.clip=null")
    assert diverged.returncode == 1
    assert (tmp_path / "here" / "metrics.json").read_text() == before
    assert run(*command, "force=true", "seed=1").returncode == 0
    assert (tmp_path / "here" / "metrics.json").read_text() != before
    assert not (tmp_path / "here" / ".replaced").exists()


def test_a_refused_run_removes_nothing_of_the_user_s(run, corpus_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.log").write_text("keep")
    done = run("train.py", *table_overrides(corpus_csv), "alpha=-1", "hydra.run.dir=mine")
    assert done.returncode == 2
    assert (tmp_path / "mine" / "notes.log").read_text() == "keep"


@pytest.mark.slow
def test_a_run_that_was_killed_is_resumed(run, corpus_csv: Path, tiny_roberta: Path, tmp_path: Path) -> None:
    import os
    import signal
    import subprocess
    import sys
    import time

    from support import ROOT

    command = [
        "plm=roberta", f"plm.name={tiny_roberta}", "save_model=false", "hydra.run.dir=here", "fit.patience=null",
        *[o for o in table_overrides(corpus_csv) if "epochs" not in o], "fit.epochs=60",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *command],
        cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    last = tmp_path / "here" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "here" / "metrics.json").exists()
    done = run("train.py", *command[:-1], "fit.epochs=12", f"resume={last}")
    assert done.returncode == 0, done.stderr
    steps = pd.read_csv(tmp_path / "here" / "history.csv")["step"]
    assert steps.tolist() == [3 * (epoch + 1) for epoch in range(12)]


@pytest.mark.parametrize("script", ["train.py", "label.py"])
def test_a_cluster_without_slurm_is_one_line(run, script: str, tmp_path: Path) -> None:
    done = run(script, "-m", "hydra/launcher=submitit_slurm", "scale=gad7,phq9", env={"PATH": str(tmp_path)})
    assert done.returncode == 2
    told, nothing = done.stderr.splitlines()
    assert told.startswith("hydra/launcher=submitit_slurm: there is no srun on this machine")
    assert nothing == "Nothing was started."
