"""``predict.py`` as a user runs it, on every kind of file."""

import json
from pathlib import Path

import pandas as pd
import pytest

from invitro.models import PLM
from invitro.models.folder import CardFacts, load_model, save_model
from invitro.models.loading import load_regressor, load_tokenizer
from invitro.models.predict import Prediction, predict
from invitro.models.scoring import score_texts
from invitro.scales import Item, Scale

SCALE = Scale("batson_empathy", "empathy", (Item("warm", "warm"),), 1, 7)
TEXTS = ['a sad, "quoted" story', "news\nin two lines", "", "  ", "moved and tender " * 12, "bored"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_roberta: Path) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    plm = PLM(str(tiny_roberta), max_length=128)
    facts = CardFacts("base", "MIT", "corpus", "terms", "", "", {"val": None, "test": None})
    save_model(folder, load_regressor(plm, 7.1), load_tokenizer(plm), SCALE, facts)
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
    summary = predict(Prediction(str(model), str(source), str(target), chunk=4))
    found = read(target)
    assert list(found.columns) == ["id", "text", "empathy"]
    assert found["id"].tolist() == [row["id"] for row in rows]
    (loaded, tokenizer), _ = load_model(model)
    expected = score_texts(loaded, tokenizer, TEXTS)
    for index, score in enumerate(found["empathy"]):
        if TEXTS[index % 6].strip():
            assert score == pytest.approx(expected[index % 6], abs=1e-5)
        else:
            assert pd.isna(score)
    assert summary.without_text == [3, 4, 9, 10, 15, 16]
    assert "6 rows have no text and an empty score: data rows 3, 4, 9, 10, 15, 16" in str(summary)


def test_scores_are_clipped_only_on_request(model: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    write(source, [{"text": f"story {i} {'sad ' * (i % 7)} {i * 'x'}"} for i in range(30)])
    kept = predict(Prediction(str(model), str(source), str(tmp_path / "kept.csv")))
    assert kept.outside > 0
    assert "clip=true moves them" in str(kept)
    predict(Prediction(str(model), str(source), str(tmp_path / "clipped.csv"), clip=True))
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
    assert "scores.csv: exists already" in again.stderr


def test_bad_input_is_reported_together(run, model: Path, tmp_path: Path) -> None:
    write(tmp_path / "in.csv", [{"id": "1", "body": "x"}])
    done = run("predict.py", f"model={model.parent}/none", "input=in.csv", "output=out.xlsx", "batch_size=0")
    assert done.returncode == 2
    for part in ("no such folder", "out.xlsx: expected a file ending in", "batch_size: expected", "found id, body"):
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    missing = run("predict.py", "input=in.csv")
    assert missing.returncode == 2
    assert "model: expected a value" in missing.stderr
    assert "output: expected a value" in missing.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]


def test_a_fault_in_a_late_row_leaves_no_output(run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,text\n" + "1,a story\n" * 20 + "2,a story,too much\n")
    done = run("predict.py", f"model={model}", "input=in.csv", "output=out.csv", "chunk=5")
    assert done.returncode == 2
    assert "data row 21 (line 22): expected 2 cells, found 3" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]
