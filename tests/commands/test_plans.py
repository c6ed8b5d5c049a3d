"""What ``sweep.py`` makes of its command line: the study, its jobs, its folder; and what it refuses before a start."""

import re
import shlex
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from hydra import compose
from support import ROOT, table_overrides

from invitro.commands.common import first_lines
from invitro.commands.plans import SweepRequest, request
from invitro.commands.studies import checked_worth, weigh
from invitro.commands.typed import configured
from invitro.errors import InputError
from invitro.files import write_json
from invitro.studies import Study


@pytest.fixture
def given(corpus_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the overrides of a small corpus, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INVITRO_DATA_DIR", raising=False)
    return table_overrides(corpus_csv)


def asked(*arguments: str) -> SweepRequest:
    return request(arguments)


def jobs(one: SweepRequest) -> list[dict[str, str]]:
    assert one.plan is not None
    assert one.plan.jobs is not None
    return [dict(override.split("=", 1) for override in job) for job in one.plan.jobs]


def test_keys_of_its_own_and_keys_of_the_jobs(given: list[str]) -> None:
    one = asked("study=alpha", "fail_fast=true", "seed=0,1", "alpha=4.0,inf", "hydra/launcher=joblib", *given)
    assert one.study.params == {"alpha": "4.0,inf", "seed": "0,1"}
    assert [(job["alpha"], job["seed"]) for job in jobs(one)] == [
        ("4.0", "0"),
        ("4.0", "1"),
        ("inf", "0"),
        ("inf", "1"),
    ]
    assert {(job["application"], job["application.pool"], job["fail_fast"]) for job in jobs(one)} == {
        ("correction", "none", "True")
    }
    assert one.plan is not None
    assert one.plan.fail_fast
    assert one.plan.hydra == ("hydra/launcher=joblib",)
    assert one.plan.command[1] == str(ROOT / "train.py")
    assert shlex.split(one.plan.asked)[:3] == ["python", "sweep.py", "study=alpha"]


def test_the_command_line_goes_before_the_study(given: list[str]) -> None:
    ours = ["study=alpha_quick", "seed=7", "application=both", "application.pool=set_aside", "plm=minilm,roberta"]
    one = asked(*ours, *given)
    assert one.study.factors == ("alpha", "plm")
    assert {job["seed"] for job in jobs(one)} == {"7"}
    assert {job["application"] for job in jobs(one)} == {"both"}
    assert {job["plm"] for job in jobs(one)} == {"minilm", "roberta"}
    assert len(jobs(one)) == 12


def test_all_swept_keys_but_the_seeds_are_factors_where_none_are_named(given: list[str]) -> None:
    assert asked("study=baseline", "seed=0,1", *given).study.factors == ()
    assert asked("study=grid", "seed=0,1", "application=none,both", *given).study.factors == ("application",)


def test_all_launches_of_a_study_have_one_folder_and_one_group(given: list[str]) -> None:
    few = asked("study=alpha", "seed=0", "alpha=inf", "plm.train=frozen", *given)
    more = asked("study=alpha", "seed=0,1,2", "alpha=3.0,inf", "plm.train=frozen", "logger=csv", *given[:4], *given[5:])
    assert few.root == more.root
    assert few.plan is not None
    assert more.plan is not None
    assert few.plan.folder(1) != more.plan.folder(1)
    assert few.plan.folder(2) == few.plan.folder(1).with_name(f"{few.plan.stamp}-again01")
    assert jobs(few)[0]["group"].strip("'") == few.root.name
    assert jobs(few)[0]["launch"] == few.plan.stamp


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        pytest.param(["study=demo"], "runs/study/demo", marks=pytest.mark.slow),
        (["study=demo", "prompt=plain", "plm.lr=1e-3"], "runs/study/demo-plain-plm.lr_1e-3"),
        pytest.param(
            ["study=demo", "seed=3", "alpha=1.0,2.0", "logger=csv", "store=a/b.sqlite"],
            "runs/study/demo",
            marks=pytest.mark.slow,
        ),
        pytest.param(["study=demo", "runs=elsewhere"], "elsewhere/study/demo", marks=pytest.mark.slow),
        pytest.param(["study=demo", "directory=here"], "here", marks=pytest.mark.slow),
    ],
)
def test_the_folder_is_readable(given: list[str], arguments: list[str], folder: str) -> None:
    assert asked("alpha=4.0", "seed=0", *arguments).root == Path(folder)


@pytest.mark.slow
def test_what_does_not_fit_into_a_name_stands_in_a_hash(given: list[str]) -> None:
    one = asked("study=demo", "seed=0", "alpha=4.0", "data.llm.bias={warm: 0.1}")
    other = asked("study=demo", "seed=0", "alpha=4.0", "data.llm.bias={warm: 0.2}")
    assert one.root != other.root
    assert one.root.name.startswith("demo-")
    assert len(one.root.name) < 90


SLOW = pytest.mark.slow
REFUSED = [
    ([], "study: expected one of alpha, alpha_quick, applications, baseline"),
    (["study=nonsense"], "Could not find 'study/nonsense'"),
    (["study=alpha", "nokey=1"], "nokey: there is no such setting"),
    (["study=alpha", "plm=nonsense"], "Could not find 'plm/nonsense'"),
    (["study=alpha", "alpha=4.0,-1,inf"], "alpha: expected a number from 0 to inf in the scale's units, found -1"),
    pytest.param(
        ["study=alpha", "fit.epochs=0"], "fit.epochs: expected a whole number of at least 1, found 0", marks=SLOW
    ),
    pytest.param(["study=alpha", "seed=0,x"], "seed: expected a whole number", marks=SLOW),
    (["study=alpha", "data.path=nothing.csv"], "nothing.csv: no such file"),
    (["study=alpha", "llm.column=claude"], "expected column claude"),
    (["study=alpha", "alpha=[1"], "alpha: cannot be read; is a bracket"),
    (["study=alpha", "-m"], "-m: expected key=value"),
    (["study=alpha", "fail_fast=maybe"], "fail_fast: expected true or false, found 'maybe'"),
    (["study=alpha", "hydra/launcher=nonsense"], 'pip install "invitro[joblib]", [slurm] or [ray]'),
    (["study=alpha", "hydra/launcher=submitit_slurm"], "there is no srun on this machine"),
    (["study=alpha", "hydra.sweeper.n_trials=3"], "this study's jobs are a grid; a search is study=hparams"),
    (["study=alpha", "study.metrics=[mae]"], "study.metrics: expected a list, each pcc, ccc or rmse"),
    (["study=alpha", "study.job=nonsense"], "expected an entry point or a script; there is no"),
    pytest.param(["study=alpha", "trainer=ddp"], "would each repeat the whole multirun", marks=SLOW),
    pytest.param(
        ["study=alpha", "logger=wandb", "logger.mode=x"], "logger.mode: expected auto, online or offline", marks=SLOW
    ),
    (["report_only=true"], "report_only=true: expected runs=FOLDER"),
    (["report_only=true", "runs=nowhere"], "nowhere: no such folder of runs"),
]


@pytest.mark.parametrize(
    ("arguments", "problem"), REFUSED, ids=lambda value: " ".join(value) if type(value) is list else ""
)
def test_what_a_job_would_refuse_is_refused_before_any_starts(
    given: list[str], arguments: list[str], problem: str
) -> None:
    ours = [] if "report_only=true" in arguments or not arguments else ["seed=0", "alpha=4.0,inf", *given]
    with pytest.raises(InputError) as caught:
        asked(*ours, *arguments)
    assert problem in str(caught.value)
    assert not Path("runs").exists()


def test_problems_of_several_values_are_told_together_and_once(given: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        asked("study=alpha", *given, "alpha=-1,-2", "fit.epochs=0")
    assert len(caught.value.problems) == 3


@pytest.mark.slow
def test_one_job_without_labels_does_not_stop_the_others(given: list[str]) -> None:
    one = asked("study=grid", *given, "application=none,both", "llm.column=gpt,claude")
    assert len(jobs(one)) == 4
    assert one.plan is not None
    assert not one.plan.not_run


def test_each_missing_label_set_is_a_line_with_its_price_and_command(given: list[str]) -> None:
    ours = ["llm=gpt", "llm.column=null", "llm.engine.tokenizer=approximate", "application=both"]
    data = [one for one in given if not one.startswith(("llm", "application"))]
    with pytest.raises(InputError) as caught:
        asked("study=grid", *data, *ours, "prompt=plain,reasoned", "seed=0,1")
    plain, reasoned = caught.value.problems
    assert re.match(
        r"no labels by llm=gpt with prompt=plain on scale=batson_empathy for data=table "
        r"\(60 requests, about \$0\.\d\d, at most \$\d\.\d\d\): python label\.py llm=gpt prompt=plain ", plain
    )  # fmt: skip
    assert " prompt=reasoned " in reasoned
    command = shlex.split(reasoned.partition("): ")[2])
    assert {"llm.engine.tokenizer=approximate", *(one for one in data if one.startswith("data.path"))} <= set(command)


@pytest.mark.slow
def test_examples_of_prompts_that_a_split_evaluates_on_are_told_before_any_job(given: list[str], run) -> None:
    data = ["llm=scripted", "prompt=few_shot", *(one for one in given if one.startswith("data"))]
    done = run("label.py", *data, "data/split=holdout", "readout=digits")
    assert done.returncode == 0, done.stderr
    ours = ["study=applications", *data, "plm=tfidf", "seed=0"]
    for split, where in {
        "data/split=kfold data.split.folds=3": r"[4-8] texts that a split of this study \(3 of 3\) evaluates on",
        "data/split=holdout data.split.seed=42,1,2": r"\d texts? that a split of this study \([12] of 3\) evaluates on",
        "data/split=holdout data.split.seed=1": r"\d texts? that this split evaluates on",
    }.items():
        with pytest.raises(
            InputError, match=rf"showed the LLM the crowd labels of {where}.*=scale_aware, or "
        ) as caught:
            asked(*ours, *split.split())
        assert len(caught.value.problems) == 1
    assert len(jobs(asked(*ours, "data/split=holdout"))) == 4
    with configured("worth"):
        cfg = compose("worth", overrides=data)
    with pytest.raises(InputError, match=r"\d texts that one of the folds of a learning curve evaluates on"):
        weigh(cfg, checked_worth(cfg), 10)


@pytest.mark.slow
def test_rows_whose_data_are_not_there_are_not_run(
    given: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("INVITRO_DATA_DIR", str(tmp_path))
    one = asked("study=table_v", "seed=0,1")
    assert one.plan is not None
    assert len(jobs(one)) == 20
    assert set(one.plan.not_run) == set(range(20))
    assert "newsemp24: the file trac3_EMP_train.csv is neither in" in one.plan.not_run[0]
    assert jobs(one)[-1]["experiment"] == "table_v/24_23_22_roberta_llama"


def test_a_report_of_what_is_there(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    one = asked("report_only=true", "runs=some")
    assert (one.plan, one.root, one.report) == (None, Path("some"), Path("some/report"))
    assert (one.study.name, one.study.title) == ("grid", "Runs: some")
    named = asked("report_only=true", "runs=some", "study=applications", "directory=there")
    assert (named.study.name, named.report) == ("applications", Path("there"))
    write_json(tmp_path / "some" / "study.json", asdict(Study("x", "X", "What?", factors=("alpha",))))
    assert asked("report_only=true", "runs=some").study.factors == ("alpha",)
    with pytest.raises(InputError, match="seed=1: nothing is started, so this has no effect"):
        asked("report_only=true", "runs=some", "seed=1")


def test_a_study_s_folder_is_found_again_by_its_settings(given: list[str]) -> None:
    launched = asked("study=alpha", "alpha=4.0,inf", "seed=0", *given)
    launched.root.mkdir(parents=True)
    one = asked("study=alpha", "report_only=true", *given)
    assert (one.root, one.plan) == (launched.root, None)


def test_a_script_of_one_s_own_gets_its_own_settings_only(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    one = asked("study=grid", "study.job=mine.py", "colour=red,blue")
    assert jobs(one) == [{"colour": "red"}, {"colour": "blue"}]
    assert one.plan is not None
    assert one.plan.command[1] == "mine.py"


@pytest.mark.slow
def test_a_study_s_own_hydra_settings_are_the_launcher_s(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    monkeypatch.setattr("invitro.commands.typed.conf_folder", lambda: tmp_path / "conf")
    file = tmp_path / "conf" / "study" / "demo.yaml"
    file.write_text(file.read_text().replace("overrides:", "overrides:\n  - +hydra.job.env_set.OMP_NUM_THREADS=1"))
    one = request(["study=demo", "seed=0", "alpha=4.0", "hydra/launcher=joblib", "dry_run=true"])
    assert one.plan is not None
    assert one.plan.hydra == ("+hydra.job.env_set.OMP_NUM_THREADS=1", "hydra/launcher=joblib")
    assert not any("hydra" in key for key in jobs(one)[0])
    assert "+hydra.job.env_set.OMP_NUM_THREADS=1" in one.study.overrides


def test_every_study_says_what_it_is() -> None:
    found = first_lines(ROOT / "conf" / "study")
    assert {"demo", "baseline", "alpha", "alpha_quick", "applications", "portion", "plms", "llms", "prompts"} < set(
        found
    )
    assert {"cross_validation", "table_v", "hparams", "grid"} < set(found)
    assert all(len(text) > 20 for text in found.values())


@pytest.mark.slow
def test_with_a_cross_validation_all_folds_are_replicates(given: list[str]) -> None:
    folds = asked("study=applications", "seed=0", "plm.train=full", "data/split=kfold", "data.split.folds=3", *given)
    assert folds.study.factors == ("application",)
    assert folds.study.replicates == ("data.split.fold", "seed")
    assert {(job["application"], job["data.split.fold"]) for job in jobs(folds)} == {
        (name, fold) for name in ("none", "correction", "augmentation", "both") for fold in "012"
    }
    assert [job["data.split.fold"] for job in jobs(folds)] == [*"000011112222"]  # jobs on the same texts in a row
    assert "all 3 folds are run" in folds.notes[0]
    assert "data.split.grouped=true keeps them in one fold" in folds.notes[1]
    for name in ("cross_validation", "demo"):
        theirs = [job["data.split.fold"] for job in jobs(asked(f"study={name}", *(given if name != "demo" else [])))]
        assert theirs == sorted(theirs)
    one = asked("study=applications", "data/split=kfold", "data.split.fold=1", "data.split.grouped=true", *given)
    assert {job["data.split.fold"] for job in jobs(one)} == {"1"}


@pytest.mark.parametrize(
    ("model", "seeds"),
    [
        (["baseline=tfidf"], 1),
        (["plm.train=frozen"], 1),
        (["plm.train=frozen", "fit.clean=cleanlab"], 5),
        pytest.param(["plm.train=full"], 5, marks=pytest.mark.slow),
    ],
)
def test_models_in_closed_form_have_one_seed(given: list[str], model: list[str], seeds: int) -> None:
    study = asked(
        "study=applications", "application=none", *(one for one in given if not one.startswith("seed=")), *model
    )
    assert len(jobs(study)) == seeds
    assert [note.startswith("seed=0 is run for all 5 seeds") for note in study.notes] == [True] * (seeds == 1)
