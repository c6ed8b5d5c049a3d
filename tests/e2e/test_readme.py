"""The README's commands, run as they stand, with small input and tiny encoders put behind them."""

import re
import shlex
from pathlib import Path

import pytest
from support import ROOT, small_corpus

SETUP = ("make demo", "make test")
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
COMMANDS = [line.partition("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
TRAIN = [command for command in COMMANDS if "train.py" in command]


def test_the_readme_shows_the_setup_and_each_entry_point() -> None:
    assert set(SETUP) <= set(COMMANDS)
    others = [command for command in COMMANDS if command not in SETUP]
    assert all(re.match(r"(\.venv/bin/)?python (train|predict|label|sweep)\.py ", command) for command in others)
    assert any("plm=deberta application=both alpha=4.0" in command for command in TRAIN)


def test_no_placeholder_is_left() -> None:
    assert not re.search(r"^[A-Z]+_[A-Z]+$", (ROOT / "README.md").read_text("utf-8"), re.M)


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
def test_labelling_commands(run) -> None:
    commands = [command for command in COMMANDS if "label.py" in command]
    assert len(commands) == 5
    asked = False
    for command in commands:
        given = [word for word in shlex.split(command)[1:] if not word.startswith(("llm=", "data="))]
        done = run(*given, *([] if "report=true" in given else ["llm=scripted"]), "data=simulated", "data.texts=60")
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        asked |= "60 of 60" in done.stdout
    assert asked
    assert done.stdout.strip().splitlines()[-1].endswith("reliability.md")


@pytest.mark.slow
def test_study_commands(run, tiny_roberta: Path, tmp_path: Path) -> None:
    demo, alpha, report = [command for command in COMMANDS if "sweep.py" in command]
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
