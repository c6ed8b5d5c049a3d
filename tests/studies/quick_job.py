"""Jobs that take a fraction of a second and leave what runs leave, to be launched and killed many times over.

``python quick_job.py plan.json`` launches a plan; with Hydra's overrides it is the entry point whose jobs are launched.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from invitro.commands.common import stop_children
from invitro.files import write_json, write_text
from invitro.training import record
from invitro.training.multirun import alone, is_held, jobs, kin, write_job

NODE = {"value": 0, "seed": 0, "seconds": 0.0, "dies": -1, "fails": -1, "launch": "l", "fail_fast": False, "runs": "."}
ConfigStore.instance().store(name="quick", node=NODE)


@hydra.main(version_base="1.3", config_path=None, config_name="quick")
def main(cfg: DictConfig) -> float | None:
    config = HydraConfig.get()
    sweep, directory = Path(config.sweep.dir), Path(config.runtime.output_dir)
    if is_held(sweep, config.overrides.task):
        return None
    if cfg.fail_fast and any(job.outcome == "failed" for job in jobs(sweep)):
        write_job(directory, directory, "skipped", config.overrides.task, cfg.launch, "one failed")
        return None
    run = f"{cfg.value}-{cfg.seed}"
    with alone(Path(cfg.runs), run):
        earlier = record.finished_run((kin(sweep),), run)
        if earlier is not None:
            write_job(directory, earlier, "finished before", config.overrides.task, cfg.launch)
            return 0.5
        time.sleep(cfg.seconds)
        if cfg.value == cfg.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        directory = record.claim(directory, run, force=False, sibling=True)
        if cfg.value == cfg.fails:
            record.write_failure(directory, RuntimeError(f"value {cfg.value} is no good"))
            write_job(directory, directory, "failed", config.overrides.task, cfg.launch)
            return None
        write_text(directory / "history.csv", f"epoch,pid\n0,{os.getpid()}\n")
        scores = {"pcc": 0.5, "ccc": cfg.value / 10, "rmse": 1.0}
        facts = {"val": scores, "test": scores, "train": {"size": 9}, "fingerprint": run, "status": "finished"}
        write_json(directory / record.METRICS_FILE, facts)
        write_job(directory, directory, "finished", config.overrides.task, cfg.launch)
    return float(cfg.value) / 10


def stop(*_: object) -> None:
    """End as train.py does: with the jobs that run in processes of their own."""
    stop_children()
    sys.exit(128 + signal.SIGTERM)


def drive(path: Path) -> None:
    from invitro.studies.launch import LostError, Plan, launch

    facts = json.loads(path.read_text("utf-8"))
    facts |= {"directory": Path(facts["directory"]), "command": (sys.executable, __file__)}
    facts["jobs"] = facts["jobs"] and tuple(map(tuple, facts["jobs"]))
    facts["not_run"] = {int(number): reason for number, reason in facts.get("not_run", {}).items()}
    try:
        launch(Plan(**facts))
    except LostError as error:
        sys.exit(f"lost: {error}")


if __name__ == "__main__":
    if sys.argv[1].endswith(".json"):
        drive(Path(sys.argv[1]))
    else:
        signal.signal(signal.SIGTERM, stop)
        main()
