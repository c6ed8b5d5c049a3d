"""The wheel, installed where nothing of the repository is: the commands run in an empty folder."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from support import ROOT

import invitro

COMMANDS = ("invitro-train", "invitro-label", "invitro-sweep", "invitro-predict", "invitro-describe")


def sh(*command: str | Path, folder: Path, path: Path | None = None) -> str:
    """Run a command as a user of a new environment would; return what it printed."""
    env = {"PATH": f"{path}:{os.environ['PATH']}", "HOME": str(folder), "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"}
    env |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP"))}
    done = subprocess.run([str(word) for word in command], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_version_and_citation_are_one() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == invitro.__version__
    assert f"## {invitro.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(r'^dynamic = \["version"\]', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert {"cff-version", "title", "authors", "license", "message"} <= citation.keys()


@pytest.mark.slow
def test_a_wheel_in_a_new_environment_runs_the_demo(tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    dist, empty, new = tmp_path / "dist", tmp_path / "empty", tmp_path / "env"
    empty.mkdir()
    sh(*pip, "wheel", "--no-deps", "-w", dist, ROOT, folder=tmp_path)
    (wheel,) = dist.glob(f"invitro-{invitro.__version__}-*.whl")
    names = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    conf = {path.relative_to(ROOT) for path in (ROOT / "conf").rglob("*.yaml")}
    assert {Path("invitro") / path for path in conf} <= names
    assert Path("invitro/py.typed") in names

    sh(sys.executable, "-m", "venv", new, folder=tmp_path)
    constraints = ("-c", ROOT / "constraints.txt")
    sh(new / "bin" / "python", *pip[1:], "install", *constraints, f"{wheel}[demo,report]", folder=empty)
    quick = ("experiment=demo", "data.texts=150", "fit.epochs=1")
    trained = sh("invitro-train", *quick, "hydra.run.dir=run", folder=empty, path=new / "bin")
    assert trained.strip().splitlines()[-1] == f"Record: {empty / 'run'}"
    (empty / "essays.csv").write_text("id,text\n1,My heart aches for them.\n2,Just the news of today.\n")
    scored = sh("invitro-predict", "model=run/model", "input=essays.csv", "output=scores.csv",
                folder=empty, path=new / "bin")  # fmt: skip
    assert "2 of 2 rows scored" in scored
    labelled = sh("invitro-label", "llm=scripted", "data=simulated", "data.texts=20", folder=empty, path=new / "bin")
    assert "20 of 20" in labelled
    swept = sh("invitro-sweep", "study=applications", "data=simulated", "llm=simulated", "logger=none", "plm=tfidf",
               "data.texts=150", "seed=0", folder=empty, path=new / "bin")  # fmt: skip
    assert (empty / swept.strip().splitlines()[-1]).name == "report.html"
    for command in COMMANDS:
        told = sh(command, "--help", folder=empty, path=new / "bin")
        assert f"  {command} " in told
        assert not re.search(r"python \w+\.py", told)
