"""``describe.py``: the page of a corpus, from a line of ``train.py``; and the same of a DataFrame."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import invitro


def essays() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    crowd = rng.uniform(1, 7, 200).round(1)
    table = pd.DataFrame({"text_id": [f"t{row}" for row in range(200)], "text": [f"essay {n} <b>" for n in range(200)]})
    table = table.assign(crowd_label=crowd, gpt=8 - crowd)
    table.loc[1, "text"] = "ESSAY 0  <b>"
    table.loc[table.index[:20], "crowd_label"] = np.nan
    return table


@pytest.mark.slow
def test_a_page_of_200_rows(run, tmp_path: Path) -> None:
    essays().to_csv(tmp_path / "essays.csv", index=False)
    done = run("describe.py", "data=table", "data.path=essays.csv", "llm.column=gpt", "plm=tfidf")
    assert done.returncode == 0, done.stderr
    said = dict(re.findall(r"^(\S.*?)  +(.+)$", done.stdout, re.M))
    assert said["texts"].startswith("200 (")
    assert said["missing"] == "crowd_label 20"
    assert (said["repeated texts"], said["r of LLM and crowd"], said["texts with both labels"]) == ("1", "-1.00", "180")
    assert "WARNING: table/gpt: LLM and crowd labels correlate at -1.00 on 180 texts" in done.stdout
    page = next((tmp_path / "runs" / "describe").rglob("report.html"))
    html = page.read_text("utf-8")
    assert all(f'id="figure-{name}"' in html for name in ("crowd_labels", "lengths", "llm_and_crowd"))
    assert "The corpus essays.csv" in html
    assert "Commands" not in html
    assert "table.tex" not in html
    assert "essay 7" not in html
    assert {path.name for path in page.parent.iterdir()} >= {"report.html", "table.md", "figures"}


@pytest.mark.slow
def test_wrong_input_is_one_line_and_leaves_nothing(run, tmp_path: Path) -> None:
    essays().to_csv(tmp_path / "essays.csv", index=False)
    (tmp_path / "runs").mkdir()
    done = run("describe.py", "data=table", "data.path=essays.csv", "llm.column=gbt", "plm=tfidf")
    assert done.returncode == 2
    refused = [line for line in done.stderr.splitlines() if "gbt" in line]
    assert len(refused) == 1
    assert "did you mean gpt?" in refused[0]
    assert "Nothing was described." in done.stderr
    assert not list((tmp_path / "runs").iterdir()), "a folder that was there stays, as it was"


@pytest.mark.parametrize(
    ("factor", "bias", "told"),
    [(1, "+0.00", []), (10, None, ["lie outside the scale, 1 to 7"])],
)
def test_a_frame_is_described(factor: float, bias: str | None, told: list[str]) -> None:
    frame = essays().rename(columns={"gpt": "llm_label"})
    frame["llm_label"] = frame["crowd_label"].fillna(4) * factor
    found = invitro.describe(frame, "batson_empathy")
    assert found.page is None
    assert found.facts["r of LLM and crowd"] == "1.00"
    assert bias is None or found.facts["bias (LLM minus crowd)"] == bias
    assert len(found.doubts) == len(told)
    assert all(part in line for part, line in zip(told, found.doubts, strict=True))
