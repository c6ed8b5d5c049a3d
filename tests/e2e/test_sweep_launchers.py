"""Studies through Hydra's launchers and Optuna's sweeper, for real: jobs beside each other on this machine."""

import importlib.util
import json
import os
import re
from pathlib import Path

import pytest
from support import table_overrides

from invitro.studies import read_runs

RAY = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
LOCAL = {
    "joblib": (["hydra.launcher.n_jobs=2"], {"CUDA_VISIBLE_DEVICES": "0,1"}),  # nothing here starts CUDA
    "submitit_local": ([], {}),
    "ray": (["+hydra.launcher.ray.init.num_cpus=2"], RAY),
}

SBATCH = """#!/bin/bash
# Stands in for a cluster: keeps the job script, and runs every task of its array on this machine.
script="${@: -1}"; cp "$script" "$CLUSTER/script.sh"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
export SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=here SLURM_NTASKS=1 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_PROCID=0
for task in $(seq 0 "${last:-0}"); do
  export SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=$task SLURM_JOB_ID=$((78 + task))
  bash "$script" >"$CLUSTER/$task.out" 2>&1 &
done
echo "Submitted batch job 77"
"""
SRUN = """#!/bin/bash
# Options have their value after a blank; the first word that starts with a slash is the program.
while [[ "$1" == --* ]]; do shift; [[ "$1" == --* || "$1" == *python* ]] || shift; done
exec "$@"
"""
SACCT = """#!/bin/bash
echo "JobID|State|NodeList"
for task in 0 1; do echo "77_$task|RUNNING|here"; done
"""


@pytest.fixture
def tiny(corpus_csv: Path, tiny_roberta: Path) -> list[str]:
    settings = ["plm=roberta", f"plm.name={tiny_roberta}", *table_overrides(corpus_csv), "save_model=false"]
    return [*settings, "directory=study", "resamples=20", "application=none"]


def interval(record: Path) -> tuple[float, float]:
    """Return when a job was started and when its record was whole."""
    return (record / ".hydra" / "overrides.yaml").stat().st_mtime, (record / "metrics.json").stat().st_mtime


@pytest.mark.slow
@pytest.mark.usefixtures("one_ray")
@pytest.mark.parametrize("launcher", LOCAL)
def test_two_jobs_at_a_time(run_apart, tiny: list[str], tmp_path: Path, launcher: str) -> None:
    if importlib.util.find_spec(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher") is None:
        pytest.skip(f"the launcher {launcher} is not installed")
    settings, environment = LOCAL[launcher]
    environment = environment | {"TMPDIR": str(tmp_path)} if launcher == "joblib" else environment
    done = run_apart(
        "sweep.py", "study=grid", "seed=0,1", f"hydra/launcher={launcher}", *settings, *tiny, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "study/report/report.html"
    table = read_runs(tmp_path / "study", ()).table
    assert table["outcome"].tolist() == ["finished", "finished"]
    (start, end), (other_start, other_end) = (interval(Path(record)) for record in table["record"])
    assert max(start, other_start) < min(end, other_end), "the jobs ran one after the other"
    if launcher == "joblib":
        logs = "".join(path.read_text() for path in tmp_path.glob("study/jobs/*/*/train.log"))
        assert sorted(re.findall(r"this job's GPU: (\S+)", logs)) == ["0", "1"]


@pytest.mark.slow
def test_slurm_runs_the_job_script_that_submitit_writes(run_apart, tiny: list[str], tmp_path: Path) -> None:
    cluster = tmp_path / "cluster"
    cluster.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT, "scancel": "#!/bin/bash\n"}.items():
        (cluster / name).write_text(text)
        (cluster / name).chmod(0o755)
    done = run_apart(
        "sweep.py", "study=grid", "seed=0,1", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu",
        "hydra.launcher.gres=gpu:1", "hydra.launcher.timeout_min=30", "hydra.launcher.cpus_per_task=4", *tiny,
        env={"PATH": f"{cluster}:{os.environ['PATH']}", "CLUSTER": str(cluster)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    script = (cluster / "script.sh").read_text()
    for line in (
        "--partition=gpu",
        "--gres=gpu:1",
        "--time=30",
        "--cpus-per-task=4",
        "--job-name=train",
        "--array=0-1%2",
    ):
        assert f"#SBATCH {line}\n" in script
    assert "srun" in script
    assert read_runs(tmp_path / "study", ()).table["outcome"].tolist() == ["finished", "finished"]


@pytest.mark.slow
def test_optuna_searches_and_goes_on(run_apart, tiny: list[str], tmp_path: Path) -> None:
    if importlib.util.find_spec("hydra_plugins.hydra_optuna_sweeper") is None:
        pytest.skip("hydra-optuna-sweeper is not installed")
    settings = [one for one in tiny if not one.startswith(("plm.lr", "application="))]
    done = run_apart("sweep.py", "study=hparams", "hydra.sweeper.n_trials=2", "fit.epochs=1", *settings)
    assert done.returncode == 0, done.stderr
    first = read_runs(tmp_path / "study", ("plm.lr", "alpha")).table
    assert len(first) == 2
    assert first["plm.lr"].between(1e-5, 1e-3).all()
    assert first["alpha"].between(2, 6).all()
    more = run_apart("sweep.py", "study=hparams", "hydra.sweeper.n_trials=3", "fit.epochs=1", *settings)
    assert more.returncode == 0, more.stderr
    assert "1 finished, 0 finished before" in more.stdout
    table = read_runs(tmp_path / "study", ("plm.lr", "alpha")).table
    assert table["plm.lr"].nunique() == 3  # the third is a trial of its own, not the first again
    journal = [json.loads(line) for line in (tmp_path / "study" / "trials.log").read_text().splitlines()]
    told = [line["values"][0] for line in journal if line.get("values")]
    assert told == pytest.approx(table["val_ccc"].tolist())  # what is maximised
    none = run_apart("sweep.py", "study=hparams", "hydra.sweeper.n_trials=3", "fit.epochs=1", *settings)
    assert "train.py -m" not in none.stdout
    assert none.stdout.splitlines()[-1] == "study/report/report.html"
