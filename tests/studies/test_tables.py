"""Tables: what is first, what is best, what is missing; as LaTeX, Markdown and CSV."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from invitro.studies.report.page import study_tables, write_tables
from invitro.studies.report.tables import differences_table, metrics_table, published_table, runs_table
from invitro.studies.runs import Runs
from invitro.studies.study import Study
from invitro.studies.summary import Summary
from invitro.writing.tables import ReportTable

STUDY = Study("alpha", "Alpha & co", "Which?", metrics=("ccc", "rmse"), choose="alpha", baseline={"alpha": "inf"})
NAN = float("nan")


def group(alpha: float, ccc: tuple[float, float], rmse: tuple[float, float], seeds: int = 2) -> dict[str, Any]:
    """Return a configuration's row from (median, peak) of two metrics; the mean is the median less a hundredth."""
    row: dict[str, Any] = {
        "alpha": alpha, "runs": seeds, "seeds": seeds, "failed": 0,
        "size": 1200.0, "replaced": 30.0, "replaced_share": 0.025,
        "augmented": 0.0,
    }  # fmt: skip
    for metric, (median, peak) in (("ccc", ccc), ("rmse", rmse)):
        for split in ("val", "test"):
            own = {"median": median, "peak": peak, "mean": median - 0.01, "sd": 0.02 if seeds > 1 else NAN}
            row |= {f"{split}_{metric}_{part}": value for part, value in own.items()}
            row |= {f"{split}_{metric}_low": median - 0.1, f"{split}_{metric}_high": median + 0.1}
    return row


def summary(*groups: dict[str, Any], **more: Any) -> Any:
    known = {
        "unpaired": (),
        "differences": pd.DataFrame(),
        "baseline": {"alpha": float("inf")},
        "chosen": {"alpha": 4.0},
    }
    return Summary(groups=pd.DataFrame(groups), **(known | {"published": None, "plateau": None} | more))


def runs_of(**columns: list[Any]) -> Runs:
    return Runs(Path(), ("alpha",), ("seed",), pd.DataFrame(columns), ())


RUNS = runs_of(
    alpha=[4.0, float("inf")], seed=[0, 0], record=["r/0", "r/1"], outcome=["finished", "failed"],
    error=[None, "ValueError: a|b"], shared=[False, False], fingerprint=["x", None], test_ccc=[0.5, NAN],
    test_rmse=[1.2, NAN], epochs=[7, NAN], seconds=[61.23, NAN],
)  # fmt: skip
SUMMARY = summary(
    group(3.0, (0.40, 0.45), (1.5, 1.4)),
    group(4.0, (0.4504, 0.5), (1.3, 1.2)),
    group(5.0, (0.4496, 0.6), (1.4, 1.3)),
    group(float("inf"), (0.3, 0.3), (1.6, 1.6), seeds=1),
)


def texts(table: ReportTable, key: str) -> list[str]:
    place = [column.key for column in table.columns].index(key)
    return [row[place].text + (f" ({row[place].tag})" if row[place].tag else "") for row in table.rows]


def bold(table: ReportTable, key: str) -> list[str]:
    place = [column.key for column in table.columns].index(key)
    return [row[place].text for row in table.rows if row[place].best]


def test_the_chosen_comes_first_and_the_baseline_second() -> None:
    table = metrics_table(STUDY, RUNS, SUMMARY, "test")
    assert texts(table, "alpha") == ["4 (chosen)", "∞ (baseline)", "3", "5"]
    assert texts(table, "ccc_median") == ["0.450 (0.500)", "0.300", "0.400 (0.450)", "0.450 (0.600)"]
    assert texts(table, "ccc_mean") == ["0.440 ± 0.020", "0.290", "0.390 ± 0.020", "0.440 ± 0.020"]
    assert texts(table, "rmse_interval")[0] == "[1.200, 1.400]"
    assert texts(table, "replaced")[0] == "30 (2.5\N{NO-BREAK SPACE}%)"
    assert "augmented" not in [column.key for column in table.columns]  # nothing was added


def test_the_best_of_a_column_is_bold_and_ties_are() -> None:
    table = metrics_table(STUDY, RUNS, SUMMARY, "test")
    assert bold(table, "ccc_median") == ["0.450 (0.500)", "0.450 (0.600)"]  # equal as written
    assert bold(table, "rmse_median") == ["1.300 (1.200)"]  # the lowest
    alone = metrics_table(STUDY, RUNS, summary(group(4.0, (0.4, 0.5), (1.3, 1.2))), "test")
    assert bold(alone, "ccc_median") == []


def test_what_was_not_run_has_no_number() -> None:
    missing = group(3.0, (NAN, NAN), (NAN, NAN), seeds=0) | {"size": NAN, "replaced": NAN, "replaced_share": NAN}
    table = metrics_table(STUDY, RUNS, summary(group(4.0, (0.4, 0.5), (1.3, 1.2)), missing), "test")
    assert texts(table, "alpha")[1] == "3 (no result)"
    for key in ("size", "replaced", "ccc_median", "ccc_mean", "rmse_interval"):
        assert texts(table, key)[1] == "–", key
        assert table.rows[1][[one.key for one in table.columns].index(key)].value is None


def test_published_numbers_stand_in_their_own_column() -> None:
    paper = pd.DataFrame(
        [
            {"label": "corrected", "alpha": 4.0, "metric": "ccc", "median": 0.435, "peak": 0.455},
            {"label": "another encoder", "alpha": NAN, "metric": "ccc", "median": 0.9, "peak": NAN},
        ]
    )
    known = summary(*SUMMARY.groups.to_dict("records"), published=paper)
    table = metrics_table(STUDY, RUNS, known, "test")
    assert texts(table, "ccc_paper") == ["0.435 (0.455)", "–", "–", "–"]
    assert bold(table, "ccc_paper") == []
    assert "rmse_paper" not in [column.key for column in table.columns]
    assert "ccc_paper" not in [column.key for column in metrics_table(STUDY, RUNS, known, "val").columns]
    everything = published_table(known, STUDY, RUNS)
    assert everything is not None
    assert texts(everything, "label") == ["corrected", "another encoder"]
    assert texts(everything, "ccc") == ["0.435 (0.455)", "0.900"]
    assert published_table(SUMMARY, STUDY, RUNS) is None


def test_differences_say_p_before_and_after_correction() -> None:
    rows = [
        {"alpha": alpha, "split": "test", "metric": "ccc", "difference": d, "low": d - 0.1, "high": d + 0.1, "p": p,
         "p_holm": 2 * p, "effect": d, "seeds": 5, "texts": 1200,
         "authors": 600, "left": d / 2, "left_low": d / 2 - 0.01, "left_high": d / 2 + 0.01}
        for alpha, d, p in ((3.0, -0.02, 0.4), (4.0, 0.15, 0.0004))
    ]  # fmt: skip
    table = differences_table(STUDY, RUNS, summary(*SUMMARY.groups.to_dict("records"), differences=pd.DataFrame(rows)))
    assert table is not None
    assert texts(table, "alpha") == ["4 (chosen)", "3"]
    assert texts(table, "difference") == ["+0.150", "−0.020"]
    assert texts(table, "interval") == ["[+0.050, +0.250]", "[−0.120, +0.080]"]
    assert texts(table, "p") == ["< 0.001", "0.400"]
    assert texts(table, "p_holm") == ["< 0.001", "0.800"]
    assert differences_table(STUDY, RUNS, SUMMARY) is None


def test_every_job_has_a_row() -> None:
    table = runs_table(STUDY, RUNS)
    assert texts(table, "outcome") == ["finished", "failed"]
    assert texts(table, "test_ccc") == ["0.500", "–"]
    assert texts(table, "seconds") == ["61.2", "–"]
    assert texts(table, "record") == ["r/0", "r/1"]


def test_latex_as_a_paper_prints_it() -> None:
    table = metrics_table(STUDY, RUNS, SUMMARY, "test")
    lines = table.latex("tab:alpha").splitlines()
    assert lines[0] == r"% needs \usepackage{booktabs}"
    assert r"\label{tab:alpha}" in lines
    assert r"\begin{tabular}{rrrrrrr}" in lines
    assert r" &  & \multicolumn{1}{c}{training} & \multicolumn{2}{c}{CCC} & \multicolumn{2}{c}{RMSE} \\" in lines
    assert r"\cmidrule(lr){3-3} \cmidrule(lr){4-5} \cmidrule(lr){6-7}" in lines
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert body[0] == (
        r"4 (chosen) & 2 & 30 (2.5~\%) & \textbf{0.450 (0.500)} & \textbf{0.440 $\pm$ 0.020} & "
        r"\textbf{1.300 (1.200)} & \textbf{1.290 $\pm$ 0.020} \\"
    )
    assert len(body) == 4
    assert all(line.count("&") == 6 for line in body)
    assert not any("interval" in line for line in lines if line.startswith(" "))


def test_markdown_is_a_table_whatever_stands_in_it() -> None:
    table = metrics_table(STUDY, RUNS, SUMMARY, "test")
    lines = table.markdown().splitlines()
    assert len(lines) == 2 + 4
    assert {line.count("|") for line in lines} == {len(table.columns) + 1}
    assert lines[2].startswith("| 4 (chosen) | 2 | 1200 |")
    assert "**0.450 (0.500)**" in lines[2]
    odd = runs_of(
        alpha=["a|b", "c*d"], seed=[0, 1], record=["r_0", "r_1"], outcome=["finished"] * 2, error=[None] * 2,
        shared=[False] * 2, fingerprint=["x"] * 2,
    )  # fmt: skip
    assert runs_table(STUDY, odd).markdown().splitlines()[2].startswith(r"| 0 | a\|b |")


def test_files(tmp_path: Path) -> None:
    for _ in range(2):  # a report that is made again replaces the first
        paths = write_tables(STUDY, RUNS, study_tables(STUDY, RUNS, SUMMARY), [], tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["runs.csv", "table.md", "table.tex"]
    csv = pd.read_csv(paths[2])
    assert csv.columns.tolist() == RUNS.table.columns.tolist()
    assert csv["alpha"].tolist() == [4.0, np.inf]
    assert csv["error"].tolist()[1] == "ValueError: a|b"
    told = paths[1].read_text("utf-8")
    assert told.startswith("# Alpha & co\n\nWhich?\n\n## Metrics on test\n")
    assert "## Metrics on validation\n" in told
    assert r"\textbf{0.450 (0.500)}" in paths[0].read_text("utf-8")


def test_a_study_without_results_has_files_that_say_so(tmp_path: Path) -> None:
    empty = summary(group(4.0, (NAN, NAN), (NAN, NAN), seeds=0), chosen=None, baseline=None)
    write_tables(STUDY, RUNS, study_tables(STUDY, RUNS, empty), [], tmp_path)
    assert (tmp_path / "table.tex").read_text("utf-8") == "% alpha: no run has finished\n"
    assert len(pd.read_csv(tmp_path / "runs.csv")) == 2


def test_only_scores_of_one_questionnaire_are_ranked() -> None:
    scores = {"batson_empathy": (0.3, 0.4), "batson_distress": (0.6, 0.5)}
    groups = [
        group(0.0, (ccc, ccc), (1.0 - ccc, 1.0 - ccc)) | {"scale": scale, "application": name}
        for scale, both in scores.items()
        for name, ccc in zip(("none", "both"), both, strict=True)
    ]
    runs = Runs(Path(), ("scale", "application"), ("seed",), RUNS.table, ())
    table = metrics_table(Study("constructs", "", "?", metrics=("ccc", "rmse")), runs, summary(*groups), "test")
    assert table is not None
    named = [dict(zip((column.key for column in table.columns), row, strict=True)) for row in table.rows]
    best = [row for row in named if row["ccc_mean"].best and row["rmse_mean"].best]
    assert {(row["scale"].text, row["application"].text) for row in best} == {
        ("batson_empathy", "both"),
        ("batson_distress", "none"),
    }
