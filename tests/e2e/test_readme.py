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
    return [*given, *data, *quick, "seed=0" if not any(word.startswith("seed=") for word in given) else "force=false"]


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
