"""The commands of the README and of two guides run as they stand, with small input and tiny encoders behind them."""

import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
from support import ROOT, small_corpus

SETUP = ("make demo", "make test")


def commands(page: str) -> list[str]:
    """Return the commands of a page, those of an installed invitro as the scripts of a checkout."""
    blocks = re.findall(r"```bash[^\n]*\n(.*?)```", (ROOT / page).read_text("utf-8"), re.S)
    lines = [
        re.split(r" +# | 2>&1", line)[0].strip() for block in blocks for line in block.splitlines() if line.strip()
    ]
    return [re.sub(r"^invitro-(\w+)", r"python \1.py", line) for line in lines]


COMMANDS = commands("README.md")
TRAIN = [command for command in COMMANDS if "train.py" in command]


def test_the_readme_shows_the_setup_and_each_entry_point() -> None:
    assert set(SETUP) <= set(COMMANDS)
    others = [command for command in COMMANDS if command not in SETUP]
    assert all(re.match(r"(\.venv/bin/)?python (train|predict|label|sweep)\.py ", command) for command in others)
    assert any("plm=deberta application=both alpha=4.0" in command for command in TRAIN)


def test_no_placeholder_is_left() -> None:
    assert not re.search(r"^[A-Z]+_[A-Z]+$", (ROOT / "README.md").read_text("utf-8"), re.M)


@pytest.mark.slow
def test_the_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"crowd, llm +400 ", printed)
    assert re.search(r"\ntest +80 +0\.\d+ \[.*\] +0\.\d+ \[.*\] +\d\.\d+ \[.*\]\n(.*\n)+Record", printed)
    assert printed.count("score") == 2


def small(command: str, tiny: dict[str, Path]) -> list[str]:
    """Return script and overrides of `command`, with a tiny encoder of the named kind and few texts."""
    words = shlex.split(command)
    given = words[words.index(next(word for word in words if word.endswith(".py"))) :]
    plm = next((word.partition("=")[2] for word in given if word.startswith("plm=")), "roberta")
    data = (
        [] if any(word.startswith("data=") for word in given) else ["data=simulated", "llm=simulated", "data.texts=80"]
    )
    encoder = tiny["deberta" if plm == "deberta" else "roberta"]
    quick = [f"plm.name={encoder}", "plm.max_length=64", "fit.epochs=1", "trainer=cpu", "logger=none"]
    # MiniLM's package would be preferred to a name on the hub, but a folder is preferred to both.
    seed = next((word.partition(",")[0] for word in given if word.startswith("seed=")), "seed=0")
    return [*(word for word in given if not word.startswith("seed=")), *data, *quick, seed]


@pytest.mark.slow
@pytest.mark.parametrize("command", TRAIN)
def test_training_commands(run, command: str, tiny_deberta: Path, tiny_roberta: Path, tmp_path: Path) -> None:
    corpus = small_corpus()
    corpus.to_csv(tmp_path / "essays.csv", index=False)
    corpus[["id", "gpt"]].set_axis(["text_id", "llm_label"], axis=1).to_csv(tmp_path / "llm.csv", index=False)
    done = run(*small(command, {"deberta": tiny_deberta, "roberta": tiny_roberta}))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().splitlines()[-1].startswith("Record")


def test_scoring_command(run, tiny_roberta: Path, tmp_path: Path) -> None:
    (command,) = [command for command in COMMANDS if "predict.py" in command]
    train = ["train.py", "plm=minilm", "hydra.run.dir=RUN_DIR"]
    done = run(*small(" ".join(["python", *train]), {"roberta": tiny_roberta, "deberta": tiny_roberta}))
    assert done.returncode == 0, done.stderr
    small_corpus().rename(columns={"essay": "text"})[["id", "text"]].to_csv(tmp_path / "essays.csv", index=False)
    scored = run(*shlex.split(command)[1:])
    assert scored.returncode == 0, scored.stderr
    assert "60 of 60 rows scored" in scored.stdout


@pytest.mark.slow
def test_the_report_on_a_table(run, tiny_roberta: Path, tmp_path: Path) -> None:
    (command,) = [command for command in COMMANDS if "study=worth" in command]
    essays = pd.read_csv(ROOT / "examples" / "essays.csv").head(150).rename(columns={"llm": "gpt"})
    essays.to_csv(tmp_path / "essays.csv", index=False)
    quick = [f"plm.name={tiny_roberta}", "plm.max_length=64", "worth.folds=2", "worth.draws=1", "resamples=20"]
    done = run(*shlex.split(command)[1:], *quick)
    assert done.returncode == 0, done.stderr
    *_, said, report = done.stdout.strip().splitlines()
    assert said.startswith("The labels of gpt are worth ")
    assert (tmp_path / report).stat().st_size > 100_000


@pytest.mark.slow
def test_labelling_commands(run) -> None:
    (first,) = [command for command in COMMANDS if "label.py" in command]
    guide = [line for line in commands("docs/labelling.md") if re.search(r"show=|prompt_check|readout=|report=", line)]
    assert len(guide) == 5
    asked = False
    for command in (first, *sorted(guide, key=lambda line: "report=true" in line)):
        given = [word for word in shlex.split(command)[1:] if not word.startswith(("llm=", "data", "texts"))]
        done = run(*given, *([] if "report=true" in given else ["llm=scripted"]), "data=simulated", "data.texts=60")
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        asked |= "60 of 60" in done.stdout
    assert asked
    assert done.stdout.strip().splitlines()[-1].endswith("reliability.md")


@pytest.mark.slow
def test_study_commands(run, tiny_roberta: Path, tmp_path: Path) -> None:
    (demo,) = [command for command in COMMANDS if "study=demo" in command]
    guide = commands("docs/studies.md")
    (alpha,) = [line for line in guide if "study=alpha" in line]
    (report,) = [line for line in guide if "report_only=true" in line]
    assert demo in guide
    quick = [
        f"plm.name={tiny_roberta}", "plm.max_length=64", "fit.epochs=1", "fit.start_epoch=0", "trainer=cpu",
        "logger=none", "data.texts=100", "seed=0,1",
    ]  # fmt: skip
    for command, more in ((demo, ["alpha=1.0,inf"]), (alpha, ["alpha=1.0,inf", "llm=simulated"])):
        given = [word.replace("data=newsemp18", "data=simulated") for word in shlex.split(command)[1:]]
        done = run(*given, *quick, *more, timeout=600)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        page = tmp_path / done.stdout.strip().splitlines()[-1]
        assert page.name == "report.html"
        assert page.stat().st_size > 100_000
    given = [word.replace("runs/sweep/DIR", str(page.parents[1])) for word in shlex.split(report)[1:]]
    done = run(*given)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / done.stdout.strip().splitlines()[-1]).is_file()
