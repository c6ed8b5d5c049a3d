"""Command lines as people type them: what is meant is read, and what is wrong is named in one line."""

import shlex
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from hydra import compose
from omegaconf import OmegaConf
from support import ROOT, small_corpus, table_overrides

from invitro.commands.common import misnamed, with_own_labels_named
from invitro.commands.typed import _unknown, configured, speak_unicode, understood
from invitro.errors import InputError


def test_paths_and_names_need_no_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    words = {
        "data.path=Größe (1)/e.csv": r"data.path='Größe (1)/e.csv'",
        "data.path=~/e.csv": "data.path='/home/ada/e.csv'",
        "data.path=it's.csv": r"data.path='it\'s.csv'",
        "data.columns.text=Wie sehr (1-7)?": "data.columns.text='Wie sehr (1-7)?'",
        "data.path=plain.csv": "data.path=plain.csv",
        r"data.path=\\nas\lab\e.csv": r"data.path='\\nas\lab\e.csv'",  # of which Hydra would leave one backslash
    }
    for word, expected in words.items():
        assert understood("train", ["-m", "data=table", word]) == ["-m", "data=table", expected]


def test_what_is_printed_is_utf_8_whatever_the_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = TextIOWrapper(raw := BytesIO(), encoding="cp1252", newline="")
    monkeypatch.setattr("sys.stdout", stream)
    speak_unicode()
    print("−0.1 漢", end="", flush=True)
    assert raw.getvalue().decode("utf-8") == "−0.1 漢"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["aplha=1"], "^aplha: there is no such setting; did you mean alpha"),
        (["+aplha=1"], "^aplha: there is no such setting; did you mean alpha"),
        (["engine=batch"], "^engine: this command or study has no such choice"),
        (["++fitt.epochs=1"], "^fitt: there is no such setting; did you mean fit"),
        (["data=table", "data.column.text=x"], r"^data.column.text: .* did you mean data.columns.text\?$"),
        (["plm=tfidff"], "Could not find 'plm/tfidff'"),
        (["plm=[tfidf,ridge]"], "^plm: expected one choice, found a list"),
        (["plm=tfidf,ridge"], "^plm=tfidf,ridge: several values need -m"),
        (["~application"], "^~application: settings cannot be removed"),
        (
            ["llm=qwen", "llm.engine.options={block_size: 32}"],
            r"^llm.engine.options: has no block_size yet; to add it, write \+llm.engine.options.block_size=32$",
        ),
        (["data.path=[a.csv"], "^data.path: cannot be read; is a bracket"),
        (["seed"], "^seed: expected key=value"),
        (["file"], "^file: expected key=value; to read it, write data=table data.path=file$"),
        (["llm.api_key=1234"], "looks like a secret"),
        (["runs=file/below"], r"^runs=file/below: nothing can be written there \(Not a directory"),
        (["--config-dir=nowhere"], "^--config-dir=nowhere: no such folder"),
    ],
)
def test_mistakes_are_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=message):
        understood("train", words)


def test_what_was_probably_meant_is_compared_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slips = {
        "data=table data.column.text": "data.columns.text",
        "data=table data.colums.text": "data.columns.text",
        "data=table data.columns.txt": "data.columns.text",
        "data=table data.text": "data.columns.text",
        "data=table data.columns.crowdlabel": "data.columns.crowd_label",
        "data=table data.pth": "data.path",
        "data.column.text": "data.columns.text (data=table has it)",
        "path": "data.path (data=table has it)",
        "data/splitt": "data/split",
        "data.split.group": "data.split.grouped",
        "llm.colum": "llm.column",
        "plm.trian": "plm.train",
        "scale.hihg": "scale.high",
        "epochs": "fit.epochs",
        "optimiser.lr": "optimizer.lr",
        "application.alpha": "alpha",
        "plmm": "plm",
    }
    with configured("train"):
        known = {words: compose("train", overrides=list(words)) for words in ((), ("data=table",))}
        for slip, meant in slips.items():
            *words, key = slip.split()
            assert _unknown(key, known[tuple(words)]) == f"{key}: there is no such setting; did you mean {meant}?"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.csv").write_text("")
    for named, word in {"input=": "texts.csv", "model=": str(tmp_path)}.items():
        with pytest.raises(InputError, match=f"to read it, write {named}{word}$"):
            understood("predict", [word])


def test_what_hydra_only_shows_is_left_to_it() -> None:
    assert understood("train", ["--cfg", "job", "aplha=1"]) == ["--cfg", "job", "aplha=1"]


@pytest.mark.slow
def test_a_study_of_one_s_own_folder(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "mine/study").mkdir(parents=True)
    (tmp_path / "mine/scale").mkdir()
    (tmp_path / "mine/study/ours.yaml").write_text((ROOT / "conf/study/alpha_quick.yaml").read_text("utf-8"))
    (tmp_path / "mine/scale/ours.yaml").write_text((ROOT / "conf/scale/batson_empathy.yaml").read_text("utf-8"))
    small_corpus().to_csv(tmp_path / "essays.csv", index=False)
    words = [
        "study=ours",
        "scale=ours",
        "alpha=1.0,inf",
        "seed=0",
        *table_overrides(tmp_path / "essays.csv"),
        "plm=tfidf",
        "logger=csv",
        "runs=here",
        "cache=features",
    ]
    quick = [word for word in words if not word.startswith(("plm.", "fit."))]
    done = run("sweep.py", "--config-dir=mine", *quick)
    assert done.returncode == 0, done.stderr
    told, line, report = done.stdout.strip().splitlines()[-3:]
    assert report.endswith("report.html")
    assert told == "To train and save the configuration with the best CCC on validation:"
    keys = {word.partition("=")[0] for word in shlex.split(line)}
    assert {"logger", "runs", "cache"} <= keys
    assert not {"save_model", "group", "launch"} & keys
    assert run(*shlex.split(line)[1:]).returncode == 0


def test_labels_of_a_column_or_a_file_are_called_by_it() -> None:
    def named(**llm: Any) -> Any:
        return with_own_labels_named(OmegaConf.create({"llm": llm})).llm

    llama = {"name": "llama", "model": "meta/llama", "revision": None, "engine": {"model": "x"}}
    assert named(**llama) == llama
    assert named(**llama, column="gpt4")["name"] == "gpt4"
    assert named(**llama, column="gpt4")["model"] is None
    assert named(**llama, labels="mine/gpt5.csv")["name"] == "gpt5.csv"
    both = named(name="ensemble", model=None, members=["llama", "gpt"], column="gpt4")
    assert (both["name"], both["members"]) == ("gpt4", [])
    assert named(name="simulated", model=None, column="llm_label")["name"] == "simulated"


def test_columns_that_the_file_does_not_have_are_named_from_its_header(tmp_path: Path) -> None:
    path = tmp_path / "stories.csv"
    path.write_text("participant,story,compassion,gpt4o\n", "utf-8")
    own = {"text": "stroy", "crowd_label": "compasion", "group_id": "participant", "text_id": "text_id", "age": "Age"}
    data = {"_target_": "invitro.data.TableFile", "path": str(path), "columns": own}
    found = "found participant, story, compassion, gpt4o"
    cfg = OmegaConf.create({"data": data, "llm": {"column": "gpt4", "by_prompt": False}})
    assert list(misnamed(cfg)) == [
        f"{path}: expected column stroy (data.columns.text); {found}; did you mean story?",
        f"{path}: expected column compasion (data.columns.crowd_label); {found}; did you mean compassion?",
        f"{path}: expected column Age (data.columns.age); {found}",
        f"{path}: expected column gpt4 (llm.column); {found}; did you mean gpt4o?",
    ]
    cfg.data.columns = {"text": "story", "crowd_label": "crowd_label", "raters": ["gpt4o", "anna"]}
    cfg.llm.column = "text"
    assert list(misnamed(cfg)) == [f"{path}: expected column anna (data.columns.raters[1]); {found}"]
    cfg.data.ratings = "ratings.csv"
    assert not list(misnamed(cfg))
