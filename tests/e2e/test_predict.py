"""``predict.py`` as a user runs it, on every kind of file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from invitro.data.corpus import is_blank
from invitro.errors import InputError
from invitro.models import PLM, TfIdfRidge, scoring
from invitro.models.closed_form import LinearModel, fitted_tfidf, ridge_of, save_linear
from invitro.models.encoder import Loaded, load_regressor, load_tokenizer
from invitro.models.features import FrozenEncoder
from invitro.models.folder import CardFacts, save_model, sealed
from invitro.models.outputs import Distribution, Gaussian
from invitro.models.scoring import ScoringJob, load_scorer, predict
from invitro.models.submission import read_submission
from invitro.scales import Item, Scale

SCALE = Scale("batson_empathy", "empathy", (Item("warm", "warm"),), 1, 7)
TEXTS = ['a sad, "quoted" story', "news\nin two lines", "", " \u200b ", "moved and tender " * 12, "bored"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_roberta: Path) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    plm = PLM(str(tiny_roberta), max_length=128)
    facts = CardFacts("base", "MIT", "corpus", "terms", "", "")
    save_model(folder, facts, Loaded(load_regressor(plm, 7.1), load_tokenizer(plm)), SCALE)
    return folder


def write(path: Path, rows: list[dict[str, str | None]]) -> None:
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")


def read(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".jsonl":
        return pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype={"id": str}, keep_default_na=True)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_same_rows_same_order_one_column_more(model: Path, tmp_path: Path, suffix: str) -> None:
    rows: list[dict[str, str | None]] = [{"id": f"00{i}", "text": text} for i, text in enumerate(TEXTS * 3)]
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    write(source, rows)
    summary = predict(ScoringJob(str(model), str(source), str(target), chunk=4))
    found = read(target)
    assert list(found.columns) == ["id", "text", "empathy"]
    assert found["id"].tolist() == [row["id"] for row in rows]
    expected = load_scorer(model).score(TEXTS).score
    for index, score in enumerate(found["empathy"]):
        if index % 6 not in (2, 3):
            assert score == pytest.approx(expected[index % 6], abs=1e-5)
        else:
            assert pd.isna(score)
    assert summary.without_text == [3, 4, 9, 10, 15, 16]
    assert "6 rows without a text have an empty score: data rows 3, 4, 9, 10, 15, 16" in str(summary)


def folder_of(kind: str, folder: Path, tiny_roberta: Path) -> Path:
    """Save a model of some kind."""
    facts = CardFacts("base", "MIT", "corpus", "terms", "", "")
    plm = PLM(str(tiny_roberta), max_length=128)
    if kind in ("gaussian", "distribution"):
        outputs = Gaussian.over(1, 7) if kind == "gaussian" else Distribution.over(1, 7, 5)
        bias = [7.1, 0.5] if kind == "gaussian" else [0.0, 1.0, 2.0, 1.0, 0.0]
        save_model(folder, facts, Loaded(load_regressor(plm, bias), load_tokenizer(plm)), SCALE, outputs)
        return folder
    if kind == "tfidf":
        features = fitted_tfidf([*TEXTS, *TEXTS], TfIdfRidge())
        size = len(features.vocabulary_)
    else:
        features, size = FrozenEncoder(plm), 32
    save_linear(folder, facts, LinearModel(features, ridge_of(np.linspace(-1, 1, size), 4.0)), SCALE)
    return folder


@pytest.mark.parametrize("kind", ["gaussian", "distribution", "tfidf", "embedding"])
def test_every_kind_of_model_scores(kind: str, tiny_roberta: Path, tmp_path: Path) -> None:
    folder = folder_of(kind, tmp_path / "model", tiny_roberta)
    write(tmp_path / "in.csv", [{"id": str(i), "text": text} for i, text in enumerate(TEXTS)])
    predict(ScoringJob(str(folder), str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), chunk=4, clip=True))
    found = read(tmp_path / "out.csv")
    has_sd = kind in ("gaussian", "distribution")
    assert list(found.columns) == ["id", "text", "empathy", *(["empathy_sd"] if has_sd else [])]
    filled = [index for index, text in enumerate(TEXTS) if not is_blank(text)]
    expected = load_scorer(folder).score([TEXTS[index] for index in filled])
    assert found["empathy"][filled].tolist() == pytest.approx(expected.score.clip(1, 7), abs=1e-5)
    assert found["empathy"].isna().sum() == 2
    if has_sd:
        assert found["empathy_sd"][filled].tolist() == pytest.approx(expected.sd, abs=1e-5)
        assert found["empathy_sd"][filled].min() > 0.5
        assert found["empathy_sd"].isna().sum() == 2


def test_a_column_of_the_uncertainty_s_name_is_refused_before_the_model_loads(
    tiny_roberta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of("gaussian", tmp_path / "model", tiny_roberta)
    monkeypatch.setattr(scoring, "_loaded", lambda *_: pytest.fail("the model was loaded"))
    write(tmp_path / "in.csv", [{"warm_sd": "1", "text": "a story"}])
    with pytest.raises(InputError, match=r"in\.csv: already has a column warm_sd; choose another with score=COLUMN"):
        predict(ScoringJob(str(folder), str(tmp_path / "in.csv"), str(tmp_path / "out.csv"), score="warm"))


def test_a_folder_of_an_older_version_scores(model: Path, tmp_path: Path) -> None:
    older = tmp_path / "model"
    shutil.copytree(model, older)
    meaning = json.loads((older / "scale.json").read_text())
    assert set(meaning) == {"outputs", "minimum", "maximum", "scale", "scripts", "files", "checksum"}
    known = {name: meaning[name] for name in ("outputs", "minimum", "maximum", "scale")}  # no hashes
    (older / "scale.json").write_text(json.dumps(known))
    write(tmp_path / "in.csv", [{"text": "a sad story"}])
    predict(ScoringJob(str(older), str(tmp_path / "in.csv"), str(tmp_path / "out.csv")))
    assert list(read(tmp_path / "out.csv").columns) == ["text", "empathy"]


def test_outputs_of_a_newer_version_are_refused(model: Path, tmp_path: Path) -> None:
    newer = tmp_path / "model"
    shutil.copytree(model, newer)
    meaning = json.loads((newer / "scale.json").read_text())
    (newer / "scale.json").write_text(json.dumps(sealed(meaning | {"outputs": ["votes"]})))
    with pytest.raises(InputError, match=r"outputs: expected \[score\]"):
        load_scorer(newer)


def test_scores_are_clipped_only_on_request(model: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    write(source, [{"text": f"story {i} {'sad ' * (i % 7)} {i * 'x'}"} for i in range(30)])
    kept = predict(ScoringJob(str(model), str(source), str(tmp_path / "kept.csv")))
    assert kept.outside > 0
    assert "clip=true moves them" in str(kept)
    predict(ScoringJob(str(model), str(source), str(tmp_path / "clipped.csv"), clip=True))
    raw, clipped = (read(tmp_path / name)["empathy"] for name in ("kept.csv", "clipped.csv"))
    assert raw.max() > 7
    assert clipped.max() == 7
    assert clipped.tolist() == raw.clip(1, 7).tolist()


def test_the_command(run, model: Path, tmp_path: Path) -> None:
    write(tmp_path / "essays.csv", [{"id": "007", "essay": text} for text in TEXTS])
    command = ["predict.py", f"model={model}", "input=essays.csv", "output=scores.csv", "text=essay", "score=warmth"]
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert "4 of 6 rows scored" in done.stdout
    assert done.stdout.strip().splitlines()[-1] == "Scores: scores.csv"
    assert read(tmp_path / "scores.csv")["id"].tolist() == ["007"] * 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["essays.csv", "scores.csv"]
    again = run(*command)
    assert again.returncode == 2
    assert "scores.csv: already exists" in again.stderr


def test_bad_input_is_reported_together(run, model: Path, tmp_path: Path) -> None:
    write(tmp_path / "in.csv", [{"id": "1", "body": "x"}])
    done = run("predict.py", f"model={model.parent}/none", "input=in.csv", "output=out.xlsx")
    assert done.returncode == 2
    for part in ("no such folder", "out.xlsx: expected a file ending in", "found id, body"):
        assert part in done.stderr
    wrong = run("predict.py", f"model={model}", "input=in.csv", "output=out.csv", "batch_size=0", "clip=perhaps")
    assert "batch_size: expected a whole number of at least 1, found 0\nclip: expected true or false" in "\n".join(
        sorted(wrong.stderr.splitlines())
    )
    assert "Traceback" not in done.stderr
    missing = run("predict.py", "input=in.csv")
    assert missing.returncode == 2
    assert "model: expected a value" in missing.stderr
    assert "output: expected a value" in missing.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_submission(run, model: Path, tiny_roberta: Path, tmp_path: Path) -> None:
    distress = Scale("batson_distress", "distress", (Item("upset", "upset"),), 1, 7)
    facts = CardFacts("base", "MIT", "corpus", "terms", "", "")
    plm = PLM(str(tiny_roberta), max_length=128)
    other = tmp_path / "run" / "model"
    save_model(other, facts, Loaded(load_regressor(plm, 2.5), load_tokenizer(plm)), distress)
    texts = [f"story {n} {'sad ' * (n % 4)}".strip() for n in range(9)]
    (tmp_path / "newsemp22").mkdir()
    rows = pd.DataFrame({"message_id": [f"R_{9 - n}" for n in range(9)], "essay": texts})
    rows.to_csv(tmp_path / "newsemp22" / "messages_test_features_ready_for_WS_2022.tsv", sep="\t", index=False)
    command = ["predict.py", "submission=predictions.zip", "data=newsemp22", f"data.folder={tmp_path}"]
    alone = run(*command, f"model={model}")
    assert alone.returncode == 2
    assert "distress_model: expected a model of distress, found none" in alone.stderr
    assert not (tmp_path / "predictions.zip").exists()

    done = run(*command, f"model={model}", f"distress_model={other}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "Submission: predictions.zip"
    assert "WARNING" not in done.stderr
    found = read_submission(tmp_path / "predictions.zip", 9)
    for column, folder in enumerate((model, other)):
        assert found[:, column] == pytest.approx(load_scorer(folder).score(texts).score, abs=1e-5)

    command.append("force=true")
    flagged = run(*command, f"distress_model={other}", "missing=constant", env={"INVITRO_DATA_DIR": str(tmp_path)})
    assert flagged.returncode == 0, flagged.stderr
    assert "WARNING: The column empathy holds 4 in all 9 rows. It is NOT A PREDICTION" in flagged.stderr
    assert read_submission(tmp_path / "predictions.zip", 9)[:, 0].tolist() == [4.0] * 9


def test_settings_of_files_and_of_submissions_do_not_mix(run, model: Path) -> None:
    done = run("predict.py", f"model={model}", "submission=p.zip", "data=newsemp22", "input=in.csv")
    assert done.returncode == 2
    assert "input: is for files; a submission scores the test set of data=" in done.stderr
    done = run("predict.py", f"model={model}", "input=in.csv", "output=out.csv", f"distress_model={model}")
    assert done.returncode == 2
    assert "distress_model: is for submissions only" in done.stderr


def test_a_fault_in_a_late_row_leaves_no_output(run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,text\n" + "1,a story\n" * 20 + "2,a story,too much\n")
    done = run("predict.py", f"model={model}", "input=in.csv", "output=out.csv", "chunk=5")
    assert done.returncode == 2
    assert "data row 21 (line 22): expected 2 cells, found 3" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", "id,text\n1,I don’t know, zebra\n".encode("cp1252"), "line 2: not readable as UTF-8: byte 0x92"),
        ("in.csv", "id,text\n1,zebra\n".encode("utf-16")[:-1], "not readable as UTF-16"),
        ("in.jsonl", rb'{"text": "zebra \ud83d"}', "line 1: found half a character"),
        ("in.jsonl", b'{"text": 1}\n{"text": ["zebra"]}', "data row 2, column text: expected a text or a number"),
        ("in.jsonl", b'{"text": 1}\n{"text": true}', "data row 2, column text: expected a text or a number"),
        ("in.tsv", b'id\ttext\n1\t"zebra\n2\t"zebra\n', "lines 2 to 3: not readable as TSV"),
        ("in.parquet", b"PAR1zebraPAR1", "not readable as Parquet (ArrowInvalid)"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read_show_no_text(
    run, model: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    done = run("predict.py", f"model={model}", f"input={name}", "output=out.csv")
    assert done.returncode == 2
    assert f"{name}: {message}" in done.stderr
    assert done.stderr.endswith("\nNothing was scored.\n")
    assert "zebra" not in done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_disk_that_refuses_the_output_is_named(run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text\na story\n")
    (tmp_path / "file").write_text("")
    done = run("predict.py", f"model={model}", "input=in.csv", "output=file/out.csv")
    assert done.returncode == 1
    assert "Nothing was scored: File exists: 'file'" in done.stderr
    assert "Traceback" not in done.stderr
