"""``sweep.py study=worth`` as a user runs it."""

import html
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from support import ROOT

SMALL = ["data=simulated", "llm=simulated", "data.texts=150", "resamples=50"]


@pytest.mark.slow
def test_worth_from_one_command_to_its_report_and_the_training_that_it_names(run, tmp_path: Path) -> None:
    settings = ["worth.first=40", "worth.folds=2", "worth.draws=1", "worth.label_price=0.01"]
    done = run("sweep.py", "study=worth", *SMALL, *settings, "directory=out")
    assert done.returncode == 0, done.stderr
    *_, sentence, report = done.stdout.strip().splitlines()
    assert re.match(
        r"The labels of simulated are worth .* human ratings.*; added to all \d+ ratings of a fold's training texts, "
        "they change",
        sentence,
    )
    assert re.search(r"The \d+ labels cost \$0\.\d\d", sentence)
    assert report == "out/report/report.html"
    folder = tmp_path / "out" / "report"
    assert {path.name for path in folder.iterdir()} == {"report.html", "table.md", "table.tex", "worth.csv", "figures"}
    assert {path.name for path in (folder / "figures").iterdir()} == {
        f"worth_simulated.{form}" for form in ("png", "svg", "pdf")
    }
    rows = pd.read_csv(folder / "worth.csv")
    assert rows["ratings"].iloc[[0, -1]].tolist() == [40, rows["ratings"].max()]
    assert rows["pcc"].between(-1, 1).all()
    page = (folder / "report.html").read_text("utf-8")
    assert "study=worth data=simulated" in page
    short = page[page.index("At a glance") : page.index("What to do next")]
    rows_of_it = (
        "trained on all human ratings|trained on the LLM's labels|trained on both|the LLM itself|guessing the mean"
    )
    assert [*dict.fromkeys(re.findall(rows_of_it, html.unescape(short)))] == rows_of_it.split("|")
    ends = rows.loc[[rows["ratings"].iloc[:-1].idxmax(), rows.index[rows["ratings"] == 0][0], rows.index[-1]]]
    assert all(f"{pcc:.3f}".replace("-", "−") in short for pcc in ends["pcc"])
    assert not re.search(r"(?:src|href)=\"https?:", page)
    (following,) = re.findall(r"python (train\.py [^<]*plm\.train=frozen application=\w+)", page)
    trained = run(*shlex.split(html.unescape(following)), "logger=none")
    assert trained.returncode == 0, trained.stderr


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["worth.first=5"], "worth.first: expected a whole number of at least 20"),
        (["plm=tfidf"], "expected an encoder, such as plm=minilm"),
        (["worth.seed=0,1"], "expected one job per LLM"),
        (["hydra/launcher=joblib"], "learning curves are made in this process"),
        (["report_only=true", "runs=."], "leave no runs"),
    ],
)
def test_what_cannot_be_weighed_is_refused(run, tmp_path: Path, overrides: list[str], says: str) -> None:
    of_jobs = [] if "runs=." in overrides else SMALL
    done = run("sweep.py", "study=worth", *of_jobs, *overrides)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("report.html"))


@pytest.mark.slow
def test_labels_of_a_column_are_called_by_it(run, tmp_path: Path) -> None:
    essays = pd.read_csv(ROOT / "examples" / "essays.csv").head(150).rename(columns={"llm": "gpt 4/mean"})
    essays.to_csv(tmp_path / "essays.csv", sep=";", decimal=",", index=False)
    columns = "data.columns={text: essay, group_id: author, crowd_label: empathy}"
    settings = ["worth.first=40", "worth.folds=2", "worth.draws=1", "resamples=50", "directory=out"]
    done = run(
        "sweep.py", "study=worth", "data=table", "data.path=essays.csv", columns, "llm.column=gpt 4/mean", *settings
    )
    assert done.returncode == 0, done.stderr
    assert "The labels of gpt 4/mean are worth " in done.stdout
    assert "llama" not in (tmp_path / "out" / "report" / "report.html").read_text("utf-8").lower()
    assert (tmp_path / "out" / "report" / "figures" / "worth_gpt-4-mean.svg").is_file()
