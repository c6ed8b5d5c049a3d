"""The studies of fusion, noise, shift, prompts and constructs: their jobs, and what they find on simulated texts."""

import re
from pathlib import Path

import pytest

from invitro.commands.plans import SweepRequest, request
from invitro.errors import InputError
from invitro.studies import read_runs
from invitro.studies.summary import summarise

TINY = ["experiment=demo", "seed=0", "data.texts=150", "trainer.enable_progress_bar=false"]
FUSION = (
    "none", "correction_3.5", "correction_4.0", "correction_4.5", "drop", "blend", "precision", "calibrated", "weight",
    "ensemble", "auto",
)  # fmt: skip
ROBUST = (
    "mse", "huber", "mae", "ccc", "nll", "beta_nll", "ldl", "small_loss", "cleanlab", "tfidf", "ridge", "correction",
    "both",
)  # fmt: skip
APPLICATIONS = ("none", "correction", "both")
CASES: list[tuple[str, list[str], list[str]]] = [
    ("fusion", ["baseline=tfidf"], [f"row=fusion/{row}" for row in FUSION]),
    ("noise_robust", [], [f"row=noise_robust/{row}" for row in ROBUST]),
    (
        "distribution_shift",
        ["baseline=tfidf"],
        [f"alpha={alpha}" for alpha in ("0.0", "1.0", "2.0", "3.0", "3.5", "4.0", "4.5", "5.0", "inf")],
    ),
    ("reasoning", ["baseline=tfidf"], ["prompt=scale_aware", "prompt=reasoned"]),
    ("multilingual", ["plm=minilm", "data.language=de"], ["prompt=scale_aware", "prompt=multilingual"]),
    ("fairness", ["baseline=tfidf"], ["prompt=scale_aware", "prompt=demographic"]),
    (
        "prompt_sensitivity",
        ["baseline=tfidf"],
        [f"prompt={prompt}" for prompt in ("plain", "scale_aware", "reasoned", "few_shot", "both")],
    ),
    (
        "constructs",
        ["baseline=tfidf"],
        [
            f"scale={scale} application={application}"
            for scale in ("batson_empathy", "batson_distress", "gad7", "phq9")
            for application in APPLICATIONS
        ],
    ),
]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INVITRO_DATA_DIR", raising=False)


def asked(*arguments: str) -> SweepRequest:
    return request([*arguments, "dry_run=true"])


MANY = ("fusion", "noise_robust", "distribution_shift", "constructs", "fairness", "prompt_sensitivity")
"""Studies of so many jobs that composing them takes seconds."""


@pytest.mark.parametrize(
    ("study", "settings", "expected"),
    [pytest.param(*case, id=case[0], marks=[pytest.mark.slow] if case[0] in MANY else []) for case in CASES],
)
def test_a_study_s_jobs(study: str, settings: list[str], expected: list[str]) -> None:
    plan = asked(f"study={study}", *TINY, *settings).plan
    assert plan is not None
    assert plan.jobs is not None
    varied = re.compile("row|alpha=|prompt|scale|application=")
    told = [" ".join(filter(varied.match, job)) for job in plan.jobs]
    fixed = {"distribution_shift": "application=correction"}
    both = ("reasoning", "multilingual", "fairness", "prompt_sensitivity")
    same = fixed.get(study, "application=both" if study in both else "")
    assert [one.replace(same, "").strip() if same else one for one in told] == expected
    # The simulator has one LLM: what needs the labels of two is not run, and everything else is.
    not_run = [plan.jobs[number] for number in plan.not_run]
    assert [[one for one in job if one.startswith("row")] for job in not_run] == (
        [["row=fusion/ensemble"]] if study == "fusion" else []
    )
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["study=fusion", "alpha=3.0"], "alpha=3.0: the rows of this study differ in alpha, which fusion/"),
        (["study=fusion", "row=fusion/auto", "application=both"], "differ in application, which fusion/auto sets"),
        (
            ["study=noise_robust", "fit.loss=mae"],
            "the rows of this study differ in fit.loss, which noise_robust/ldl sets",
        ),
        (
            ["study=noise_robust", "baseline=ridge"],
            "the rows of this study differ in baseline, which noise_robust/ridge sets",
        ),
        (["study=reasoning", "baseline=xgboost"], "baseline: expected one of ridge, tfidf or null, found 'xgboost'"),
        (["study=reasoning", "experiment=prompt_check"], "check: prompts are compared by label.py"),
        (["study=reasoning", "data.prompts={reasoned: {noise: 1}}"], "data.prompts.reasoned: expected any of bias"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_would_make_rows_alike_or_cannot_be_meant_is_refused(arguments: list[str], problem: str) -> None:
    with pytest.raises(InputError) as caught:
        asked(*[one for one in TINY if "experiment=prompt_check" not in arguments or one == "seed=0"], *arguments)
    assert problem in str(caught.value)


@pytest.mark.slow
def test_what_differs_between_rows_only_elsewhere_may_be_set(tmp_path: Path) -> None:
    rows = "row=fusion/none,fusion/drop"
    plan = asked("study=fusion", *TINY, "baseline=tfidf", rows, "application.augmentation=true").plan
    assert plan is not None
    assert len(plan.jobs or ()) == 2


@pytest.mark.slow
def test_a_planted_difference_between_prompts_is_found(run, tmp_path: Path) -> None:
    planted = "data.prompts={scale_aware: {text_noise: 0.6, bias: 0.2}, reasoned: {text_noise: 0.05}}"
    done = run(
        "sweep.py", "study=reasoning", *TINY[:2], "data.texts=600", "data.authors=600", "baseline=tfidf",
        "alpha=0.0", planted, "directory=study", "resamples=300",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "study" / "report" / "report.html").read_text("utf-8")
    study = asked("study=reasoning", *TINY).study
    summary = summarise(study, read_runs(tmp_path / "study", study.factors), resamples=300)
    truth = summary.differences.loc[summary.differences["split"] == "truth_test"].set_index("metric")
    assert set(truth["prompt"]) == {"reasoned"}
    assert truth.loc["rmse", "difference"] < -0.2
    assert (truth["p_holm"] < 0.05).all(), truth
    assert "CCC is better than the baseline&#39;s for prompt reasoned" in page


@pytest.mark.slow
def test_rows_run_and_those_without_labels_are_told(run, tmp_path: Path) -> None:
    done = run(
        "sweep.py", "study=fusion", *TINY, "plm=tfidf", "row=fusion/none,fusion/drop,fusion/ensemble",
        "directory=study", "resamples=100",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "skipped: row=fusion/ensemble seed=0: application.spread_share=0.5 needs the LLM's spread" in done.stderr
    table = read_runs(tmp_path / "study", ("row",)).table
    assert table["row"].tolist() == ["fusion/none", "fusion/drop", "fusion/ensemble"]
    assert table["outcome"].tolist() == ["finished", "finished", "skipped"]
    assert table["size"][1] < table["size"][0]
    page = (tmp_path / "study" / "report" / "report.html").read_text("utf-8")
    assert "row = fusion/drop was chosen" in page


def test_a_prompt_check_is_label_py_s(run, tmp_path: Path) -> None:
    done = run("train.py", "experiment=prompt_check")
    assert done.returncode == 2
    assert "python label.py experiment=prompt_check" in done.stderr
    assert "Traceback" not in done.stderr
