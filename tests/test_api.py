"""What a notebook calls: `import invitro`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from studies.records import Arm, Texts, write_records
from support import ROOT, small_corpus

import invitro
from invitro.commands.direct import composed
from invitro.commands.training import train_configured

NAN = float("nan")
COLUMNS = {"text_id": "id", "text": "essay", "crowd_label": "empathy", "llm_label": "gpt", "group_id": "author"}
QUICK = ["trainer=cpu", "trainer.enable_progress_bar=false", "fit.epochs=1", "fit.start_epoch=0", "plm.max_length=32"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change into an empty folder, as a notebook of its own would stand in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INVITRO_DATA_DIR", raising=False)
    return tmp_path


def refused(call: Any) -> str:
    with pytest.raises(invitro.InputError) as caught:
        call()
    return str(caught.value)


def test_importing_invitro_loads_nothing_heavy() -> None:
    code = "import invitro, sys; dir(invitro); print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["torch", "transformers", "lightning", "pandas", "numpy", "hydra", "pydantic", "invitro.api"]
    out = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"


def test_what_is_offered() -> None:
    offered = {"scale", "label", "correct", "augment", "agreement", "describe", "train", "load", "study", "worth"}
    offered |= {"next_texts"}
    assert offered | {"InputError"} == set(invitro.__all__)
    assert offered <= set(dir(invitro))
    for name in offered:
        text = getattr(invitro, name).__doc__
        assert all(f"\n    {part}\n    {'-' * len(part)}\n" in text for part in ("Parameters", "Returns", "Raises")), (
            name
        )
    with pytest.raises(AttributeError, match="module 'invitro' has no attribute 'nonsense'"):
        _ = invitro.nonsense


def test_a_scale_by_name_file_or_itself(folder: Path) -> None:
    scale = invitro.scale("phq9")
    assert (len(scale.items), scale.minimum, scale.maximum) == (9, 0, 27)
    (folder / "mine.yaml").write_text((ROOT / "conf/scale/gad7.yaml").read_text("utf-8"), "utf-8")
    assert invitro.scale(folder / "mine.yaml") == invitro.scale("gad7") == invitro.scale(invitro.scale("gad7"))


def test_scales_that_are_none(folder: Path) -> None:
    assert "scale: expected one of batson_distress, batson_empathy, gad7" in refused(lambda: invitro.scale("nonsense"))
    assert "no such file" in refused(lambda: invitro.scale("mine.yaml"))
    (folder / "mine.yaml").write_text("low: 1")
    assert "expected _target_: invitro.scales.Scale" in refused(lambda: invitro.scale("mine.yaml"))


def test_labels_stand_on_the_index_of_the_texts() -> None:
    texts = pd.Series(["I feel sad", "just news", "I feel sad"], index=["c", "a", "b"])
    labels = invitro.label(texts, "batson_empathy", llm="scripted")
    items = ["sympathetic", "moved", "compassionate", "tender", "warm", "softhearted"]
    assert list(labels.columns) == ["score", *items, "status"]
    assert labels.index.tolist() == ["c", "a", "b"]
    assert labels.loc["c"].equals(labels.loc["b"].rename("c"))
    assert labels["score"].to_numpy() == pytest.approx(labels[items].mean(axis=1).to_numpy())
    assert labels["score"].between(1, 7).all()
    assert set(labels["status"]) == {"ok"}


def test_a_text_is_asked_about_once(folder: Path) -> None:
    def ask(*texts: str) -> pd.DataFrame:
        log = ["llm.engine.log=asked.jsonl"]
        return invitro.label(texts, "single_item", llm="scripted", store=folder / "my labels.sqlite", overrides=log)

    first, second = ask("I feel sad", "just news"), ask("other words", "just news", "other words")
    assert len((folder / "asked.jsonl").read_text("utf-8").splitlines()) == 3
    assert first["score"].iloc[1] == second["score"].iloc[1]
    assert second["score"].equals(second["empathy"].rename("score"))


def test_a_text_without_a_score_says_why() -> None:
    faults = ["llm.engine.faults.refused=1.0"]
    labels = invitro.label(["I feel sad"], "gad7", llm="scripted", overrides=faults)
    assert labels["status"].tolist() == ["refused"]
    assert labels.drop(columns="status").isna().all(axis=None)


@pytest.mark.parametrize(
    ("texts", "settings", "problem"),
    [
        ("one text", {}, "texts: expected a list or a Series of texts, found str"),
        ([], {}, "texts: expected at least one text, found none"),
        (["a", " "], {}, "texts: expected a text that is not blank at position 1, found ' '"),
        (["a", None], {}, "texts: expected a text at position 1, found NoneType"),
        (["a"], {"llm": "nobody"}, "Could not find 'llm/nobody'"),
        (["a"], {"readout": "words"}, "readout: expected"),
        (["a"], {"prompt": "few_shot"}, "texts: the prompt shows"),
        (["a"], {"overrides": ["nokey=1"]}, "nokey: there is no such setting"),
        (["a"], {"overrides": ["samples=0"]}, "samples: expected a whole number of at least 1"),
    ],
)
def test_what_cannot_be_labelled(texts: Any, settings: dict[str, Any], problem: str) -> None:
    assert problem in refused(lambda: invitro.label(texts, "batson_empathy", **{"llm": "scripted"} | settings))


def test_correction_and_augmentation_are_arrays_in_arrays_out() -> None:
    crowd, llm = pd.Series([1.0, 6.0, NAN, NAN]), pd.Series([6.0, 5.0, 4.0, NAN])
    fixed = invitro.correct(crowd, llm, alpha=4.0)
    assert fixed.replaced.tolist() == [True, False, False, False]
    more = invitro.augment(fixed.label, llm)
    np.testing.assert_array_equal(more.label, [6.0, 6.0, 4.0, NAN])
    assert more.added.tolist() == [False, False, True, False]
    assert invitro.correct([1, 5], [3, 5], alpha=2).replaced.tolist() == [False, False]
    assert invitro.correct([1, 5], [3, 5], alpha=float("inf")).label.tolist() == [1, 5]


@pytest.mark.parametrize(
    ("crowd", "llm", "alpha", "problem"),
    [
        ([1.0], [2.0], -1, "alpha: expected a number from 0 to inf"),
        ([1.0], [2.0], "much", "alpha: expected a number from 0 to inf"),
        ([1.0, 2.0], [2.0], 1, "crowd and llm: expected one label per text in each, found 2 in crowd, 1 in llm"),
        (["low"], [2.0], 1, "crowd: expected numbers, with NaN for missing ones"),
        ([1.0], [[2.0]], 1, "llm: expected finite numbers of shape (n,), found shape (1, 1)"),
        (pd.Series([1.0], index=["a"]), pd.Series([1.0], index=["b"]), 1, "align them, as in llm.reindex(crowd.index)"),
    ],
)
def test_labels_that_do_not_fit(crowd: Any, llm: Any, alpha: Any, problem: str) -> None:
    assert problem in refused(lambda: invitro.correct(crowd, llm, alpha))
    if not problem.startswith("alpha"):
        assert problem in refused(lambda: invitro.augment(crowd, llm))


def test_agreement_is_a_table() -> None:
    corpus = small_corpus()
    report = invitro.agreement(
        {"crowd": corpus["empathy"], "llm": corpus["gpt"].sample(frac=1, random_state=0), "low": corpus["gpt"] - 1},
        groups=corpus["author"],
    )
    assert [(pair.a, pair.b) for pair in report.pairs] == [("crowd", "llm"), ("crowd", "low"), ("llm", "low")]
    crowd_llm = report.table.iloc[0]
    assert crowd_llm["pcc"] == pytest.approx(np.corrcoef(corpus["empathy"], corpus["gpt"])[0, 1])
    assert crowd_llm["ccc_low"] < crowd_llm["ccc"] < crowd_llm["ccc_high"]
    assert report.table["bias"].iloc[2] == pytest.approx(-1)
    header, *rows = repr(report).splitlines()
    assert header.split() == ["raters", "n", "krippendorff", "pcc", "ccc", "rmse", "bias"]
    assert len(rows) == 4 + 3  # and the crowd's reliability
    assert rows[3].split()[:2] == ["all", "60"]


@pytest.mark.parametrize(
    ("ratings", "settings", "problem"),
    [
        ({"crowd": [1.0]}, {}, "ratings: expected at least two raters by name"),
        ([[1.0], [2.0]], {}, "ratings: expected at least two raters by name"),
        ({"a": [1.0, 2.0], "b": [1.0]}, {}, "expected one label per text in each"),
        ({"a": ["x"], "b": [1.0]}, {}, "ratings['a']: expected numbers"),
        ({"a": [NAN, 1.0], "b": [1.0, NAN]}, {}, "ratings: expected texts that two raters scored, found none"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0]}, {"groups": ["x"]}, "groups: expected one for each of 2 texts, found 1"),
        ({"a": [1.0, 2.0], "b": [1.0, 2.0]}, {"resamples": 0}, "resamples: expected a whole number of at least 1"),
    ],
)
def test_ratings_that_cannot_be_compared(ratings: Any, settings: dict[str, Any], problem: str) -> None:
    assert problem in refused(lambda: invitro.agreement(ratings, **settings))


def test_a_run_on_a_frame_is_the_run_of_train_py_on_its_file(corpus_csv: Path) -> None:
    frame = small_corpus().rename(columns={"gpt": "GPT's label"})
    named = COLUMNS | {"llm_label": "GPT's label"}
    run = invitro.train(frame, "batson_empathy", plm="tfidf", alpha=1.0, columns=named)
    columns = ",".join(f"{key}: {name}" for key, name in COLUMNS.items() if key != "llm_label")
    overrides = ["data=table", f"data.path={corpus_csv}", f"data.columns={{{columns}}}", "llm.column=gpt", "plm=tfidf"]
    with composed("train", [*overrides, "application=both", "alpha=1.0", "logger=none"]) as cfg:
        record, _, metrics = train_configured(cfg, Path("from-the-file"))
    assert run.metrics["train"]["replaced"] > 0
    assert run.metrics["fingerprint"] == metrics["fingerprint"]
    assert (run.record / "labels.csv").read_bytes() == (record / "labels.csv").read_bytes()
    assert (run.record / "predictions.csv").read_bytes() == (record / "predictions.csv").read_bytes()
    assert run.metrics == json.loads((run.record / "metrics.json").read_text("utf-8"))
    assert str(run.record).startswith("runs/train/")
    assert f"Record: {run.record}" in repr(run)


def test_several_raters_are_columns_of_the_frame() -> None:
    frame = small_corpus()
    frame = frame.assign(anna=frame["empathy"].clip(2, 6) - 1, ben=frame["empathy"].clip(2, 6) + 1)
    raters = {key: name for key, name in COLUMNS.items() if key != "crowd_label"} | {"raters": ["anna", "ben"]}
    found = invitro.train(frame, "batson_empathy", plm="tfidf", application="none", columns=raters)
    mean = frame.assign(empathy=frame["empathy"].clip(2, 6))
    expected = invitro.train(mean, "batson_empathy", plm="tfidf", application="none", columns=COLUMNS)
    assert found.metrics["test"]["pcc"] == pytest.approx(expected.metrics["test"]["pcc"])
    with pytest.raises(invitro.InputError, match=r"frame: .*carla"):
        invitro.train(frame, "batson_empathy", plm="tfidf", application="none", columns=raters | {"raters": ["carla"]})


def test_an_encoder_is_trained_loaded_and_scores(tiny_roberta: Path, folder: Path) -> None:
    frame = small_corpus().rename(columns={"essay": "text", "empathy": "crowd_label", "author": "group_id"})
    frame = frame.drop(columns=["gpt", "id"]).set_axis([f"essay {n}" for n in range(len(frame))])
    run = invitro.train(
        frame, invitro.scale("batson_empathy"), plm="minilm", application="none", directory=folder / "run",
        overrides=[f"plm.name={tiny_roberta}", "fit.loss=beta_nll", *QUICK],
    )  # fmt: skip
    assert (run.record, run.model) == (folder / "run", folder / "run" / "model")
    assert set(run.predictions["text_id"]) < set(frame.index)
    model = invitro.load(run.record)
    assert model.scale == invitro.scale("batson_empathy")
    texts = frame["text"].loc[run.predictions["text_id"]]
    scores = model.predict(texts)
    assert scores.index.equals(texts.index)
    np.testing.assert_allclose(scores["score"], run.predictions["prediction"], atol=1e-4)
    assert (scores["uncertainty"] > 0).all()
    assert model.predict(["I feel sad"], clip=True)["score"].between(1, 7).all()
    assert "texts: expected a text that is not blank at position 0" in refused(lambda: model.predict([""]))
    assert "batch_size: expected a whole number" in refused(lambda: model.predict(["sad"], batch_size=0))


def test_a_model_warns_of_what_it_cannot_read(corpus_csv: Path) -> None:
    columns = {"text_id": "id", "text": "essay", "crowd_label": "empathy"}
    run = invitro.train(pd.read_csv(corpus_csv), "batson_empathy", plm="tfidf", application="none", columns=columns)
    with pytest.warns(UserWarning, match="number 2") as told:
        scores = invitro.load(run.record).predict(["sad text", "Мне жаль", "moved"])
    assert len(scores) == 3
    assert [str(one.message) for one in told] == [
        "1 text with hardly any words that the model knows: number 2",
        "1 text in another script than the training texts: number 2",
    ]


def test_a_column_split_decides(folder: Path) -> None:
    frame = small_corpus().assign(split=["train"] * 40 + ["val"] * 10 + ["test"] * 10)
    run = invitro.train(frame, "batson_empathy", plm="tfidf", application="none", columns=COLUMNS)
    assert run.predictions["text_id"].tolist() == frame["id"].iloc[40:].tolist()
    kept = invitro.train(
        frame, "batson_empathy", plm="tfidf", application="none", columns=COLUMNS, overrides=["save_model=false"]
    )
    assert kept.model is None
    assert kept.record != run.record


@pytest.mark.parametrize(
    ("changes", "settings", "problem"),
    [
        ({}, {"columns": {"texts": "essay"}}, "columns: expected any of text_id, text, group_id"),
        ({}, {"columns": {"text": "words"}}, "frame: expected columns words, crowd_label; found id, essay, author"),
        (
            {"empathy": 9.0},
            {},
            "frame: column empathy: 60 of 60 rated rows lie outside 1 to 7 (batson_empathy)",
        ),
        ({"essay": " "}, {}, "expected a text that is not blank"),
        ({}, {"columns": COLUMNS | {"llm_label": "claude"}}, "frame: expected column claude"),
        ({}, {"columns": {k: v for k, v in COLUMNS.items() if k != "llm_label"}}, "invitro.label makes them"),
        ({}, {"alpha": -1}, "alpha: expected a number from 0 to inf"),
        ({}, {"seed": -1, "overrides": ["force=maybe"]}, "force"),
        ({}, {"plm": "nonsense"}, "Could not find 'plm/nonsense'"),
    ],
)
def test_what_cannot_be_trained(changes: dict[str, Any], settings: dict[str, Any], problem: str, folder: Path) -> None:
    frame = small_corpus().assign(**changes)
    arguments = {"plm": "tfidf", "columns": COLUMNS} | settings
    assert problem in refused(lambda: invitro.train(frame, "batson_empathy", **arguments))
    assert not (folder / "runs").exists()


def test_a_file_is_no_frame(corpus_csv: Path) -> None:
    path: Any = str(corpus_csv)
    assert "frame: expected a DataFrame" in refused(lambda: invitro.train(path, "batson_empathy"))


def test_folders_without_a_model(folder: Path) -> None:
    assert "no such folder" in refused(lambda: invitro.load("nowhere"))
    assert "expected a trained model, found no config.json and no scale.json" in refused(lambda: invitro.load(folder))


def test_a_study_ends_in_results_and_a_report(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("invitro.studies.figures.figures", lambda *_: [])  # they take seconds
    arms = [Arm({"application": name, "alpha": "4.0"}, skill=skill) for name, skill in (("none", 0.4), ("both", 0.7))]
    write_records(folder / "there", arms, seeds=(0, 1), texts=Texts(train=40, val=30, test=60))
    done = invitro.study("applications", overrides=["report_only=true", "runs=there", "resamples=100"])
    assert (done.directory, done.report, done.failed) == (Path("there"), Path("there/report/report.html"), 0)
    assert done.report.is_file()
    assert done.results["application"].tolist() == ["none", "both"]
    assert done.results["seeds"].tolist() == [2, 2]
    assert set(done.differences["application"]) == {"both"}


@pytest.mark.slow
def test_studies_that_do_not_start(folder: Path) -> None:
    assert "Could not find 'study/nonsense'" in refused(lambda: invitro.study("nonsense"))
    wrong = ["data=simulated", "llm=simulated", "plm=minilm", "alpha=-1"]
    assert "alpha: expected a number from 0 to inf" in refused(lambda: invitro.study("demo", overrides=wrong))
    assert not (folder / "runs").exists()


def test_agreement_of_a_crowd_is_the_same_long_and_wide() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(4, 1, (60, 1))
    scores = truth + rng.normal(size=(60, 5)) * 0.7
    scores[rng.random(scores.shape) < 0.4] = np.nan
    wide = pd.DataFrame(scores, index=[f"t{i:02}" for i in range(60)], columns=list("abcde"))
    long = wide.rename_axis("text_id").reset_index().melt("text_id", var_name="rater_id", value_name="score")
    first = invitro.agreement(wide, resamples=50)
    second = invitro.agreement(long.sample(frac=1, random_state=1), resamples=50)
    assert second.crowd == first.crowd
    assert second.krippendorff == first.krippendorff
    pd.testing.assert_frame_equal(second.raters, first.raters)
    assert second.table.equals(first.table)
    assert first.crowd.icc1.value == pytest.approx(1 / (1 + 0.49), abs=0.12)
    assert first.crowd.icck.value > first.crowd.icc1.value
    assert f"ICC(1), one rating: {first.crowd.icc1}" in repr(first)


def test_agreement_of_very_many_raters_compares_no_pairs() -> None:
    long = pd.DataFrame({"text_id": [f"t{i % 50}" for i in range(200)], "rater_id": [f"w{i}" for i in range(200)],
                         "score": [float(i % 7) for i in range(200)]})  # fmt: skip
    report = invitro.agreement(long, resamples=20)
    assert report.pairs == ()
    assert report.crowd.raters == 200
    assert len(report.raters) == 200
