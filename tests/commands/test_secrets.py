"""Secrets in settings, which are written into records: refused by every entry point before anything is written."""

from pathlib import Path

import pytest

from invitro.commands.common import secrets_in

KEY = "sk-" + "proj4uPq" * 4


@pytest.mark.parametrize(
    "word",
    [
        f"+llm.engine.api_key={KEY}",
        "+llm.engine.api-key=short",
        "+llm.engine.headers.Authorization=x",
        f"llm.engine.key_env={KEY}",
        "llm.engine.key_env=0123456789abcdef0123456789abcdef",
        "llm.engine.base_url=https://me:word@host/v1",
        "llm.engine.base_url=https://host/v1?api-version=3&api-key=x",
        "llm.engine.base_url=https://host/v1?subscription_key=x",
        "+note=hf_" + "a1B2" * 6,
        "+llm.engine.extra=${oc.env:OPENAI_API_KEY}",
        "+wandb.password=x",
    ],
)
def test_a_secret_is_found_and_not_shown(word: str) -> None:
    (problem,) = secrets_in([word])
    name, _, value = word.lstrip("+").partition("=")
    assert problem.startswith(f"{name}: looks like a secret")
    assert "key_env=NAME" in problem
    assert len(value) < 6 or value not in problem


@pytest.mark.parametrize(
    "word",
    [
        "llm.engine.key_env=OPENAI_API_KEY",
        "llm.engine.key_env=my_key",
        "llm.engine.key_env=null",
        "llm.engine.base_url=http://127.0.0.1:8000/v1?api-version=2024-10-21",
        "sampling.max_tokens=20",
        "llm.engine.tokenizer=tiktoken",
        "data.path=a:b@c.csv",
        "plm.name=sentence-transformers/all-MiniLM-L6-v2",
        "+llm.engine.api_key=null",
    ],
)
def test_what_is_no_secret(word: str) -> None:
    assert secrets_in([word]) == []


@pytest.mark.parametrize(
    "command",
    [
        ("label.py", "llm=gpt", "data=simulated"),
        ("label.py", "-m", "llm=gpt", "data=simulated", "seed=0,1"),
        ("train.py", "data=simulated", "llm=gpt"),
        ("sweep.py", "study=alpha", "llm=gpt"),
        ("predict.py", "model=m", "input=a.csv", "output=b.csv"),
    ],
)
def test_nothing_is_written(run, tmp_path: Path, command: tuple[str, ...]) -> None:
    """Not even by Hydra, which writes the configuration before it calls us."""
    done = run(*command, f"+llm.engine.api_key={KEY}")
    assert done.returncode == 2
    assert "llm.engine.api_key: looks like a secret" in done.stderr
    assert "Nothing was" in done.stderr
    assert KEY not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_secret_in_a_file_of_the_configuration_is_found(run, tmp_path: Path) -> None:
    (tmp_path / "more" / "llm").mkdir(parents=True)
    (tmp_path / "more" / "llm" / "mine.yaml").write_text(
        f"defaults: [gpt]\nengine: {{base_url: 'https://h/?key={KEY}'}}\n"
    )
    done = run("label.py", "--config-dir=more", "llm=mine", "data=simulated")
    assert done.returncode == 2
    assert done.stderr == (
        "llm.engine.base_url: looks like a secret, and settings are written into records. Put it into an environment "
        "variable, and name that variable with llm.engine.key_env=NAME\nNothing was started.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["more"]
