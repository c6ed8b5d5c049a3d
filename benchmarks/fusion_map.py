"""The map of `fusion.py`: which way to use LLM labels wins where, as a figure and as Markdown.

A cell is a crowd (one fault of the simulator's, or none) and an LLM. Its colour is the CCC against the truth that the
best policy's model gains over one trained on crowd labels alone. The cell shows that policy and its alpha, and a star
where it is better than the paper's correction at its best alpha (paired 95 % interval above 0). Both are chosen
on the first half of the seeds and measured on the second.

    python benchmarks/fusion_map.py docs/fusion_map      # writes docs/fusion_map.png, .svg and .pdf, prints the table
"""

import argparse
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
from fusion import RESULTS, SETTING, half_width

from invitro.writing.charts import INK, PAGE, save

NOT_CHOSEN = ("none", "truth", "auto")
SHORT = {"moment": "mom", "moment, precision": "mom+p", "moment, weight": "mom+w"}


def main() -> None:
    """Draw the map and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="path of the figure, without suffix")
    parser.add_argument("--results", type=Path, default=RESULTS / "fusion.csv.gz")
    args = parser.parse_args()
    found = pd.read_csv(args.results)
    cells = [_cell(cell) for _, cell in found.groupby(["fault", "rate", "llm"], sort=False)]
    save(_map(cells), args.out)
    print(_markdown(cells))


def _cell(cell: pd.DataFrame) -> dict[str, Any]:
    """Return a cell's best policy, its gain in CCC, and how far it is from the paper's correction."""
    seeds = sorted(cell["seed"].unique())
    choosing = cell["seed"].isin(seeds[: len(seeds) // 2])
    # a policy without alpha (none) has infinity, auto and truth have NaN; groupby would drop the latter
    of = cell[~choosing].set_index([*SETTING, "seed"])["model_ccc"].sort_index()
    mean = cell[choosing & ~cell["policy"].isin(NOT_CHOSEN)].groupby(SETTING)["model_ccc"].mean()
    best = mean.idxmax()
    paper = mean[mean.index.get_level_values("policy") == "replace"].idxmax()
    crowd = of.xs("none", level="policy").droplevel("alpha")
    over_paper = (of.loc[best] - of.loc[paper]).to_numpy()
    half = half_width(over_paper)
    fault, rate = cell["fault"].iloc[0], cell["rate"].iloc[0]
    return {
        "crowd": "no fault" if fault == "none" else f"{fault.replace('_', '-')} {100 * rate:.0f} %",
        "llm": cell["llm"].iloc[0],
        "policy": f"{SHORT.get(best[0], best[0])} {best[1]:g}",
        "paper": f"{paper[1]:g}",
        "gain": float((of.loc[best] - crowd).mean()),
        "paper_gain": float((of.loc[paper] - crowd).mean()),
        "over_paper": float(over_paper.mean()),
        "half": half,
        "better": "*" if over_paper.mean() - half > 0 else "",
    }


def _map(cells: list[dict[str, Any]]) -> alt.LayerChart:
    """Return the map: crowds down, LLMs across."""
    crowds = list(dict.fromkeys(cell["crowd"] for cell in cells))
    llms = list(dict.fromkeys(cell["llm"] for cell in cells))
    most = max(abs(cell["gain"]) for cell in cells)
    base = alt.Chart({"values": cells}).encode(
        x=alt.X("llm:N", sort=llms, title="LLM", axis=alt.Axis(orient="top", labelAngle=0, domain=False, ticks=False)),
        y=alt.Y(
            "crowd:N", sort=crowds, title="the crowd's fault and its rate", axis=alt.Axis(domain=False, ticks=False)
        ),
    )
    colour = alt.Color(
        "gain:Q",
        title="CCC gained over crowd labels alone",
        scale=alt.Scale(scheme="blueorange", domain=[-most, most], reverse=True),
        legend=alt.Legend(orient="bottom", format="+.2f", gradientLength=180, gradientThickness=7),
    )
    text = base.transform_calculate(words="datum.policy + datum.better + '  ' + format(datum.gain, '+.3f')")
    chart: alt.LayerChart = alt.layer(
        base.mark_rect(stroke="white").encode(color=colour),
        text.mark_text(fontSize=6.5).encode(
            text="words:N", color=alt.condition("datum.gain > 0.13", alt.value("white"), alt.value(INK))
        ),
    ).properties(width=PAGE - 80, height=15 * len(crowds))
    return chart


def _markdown(cells: list[dict[str, Any]]) -> str:
    """Return the table, one row per crowd and LLM."""
    lines = [
        "| crowd | LLM | best policy | CCC gained | the paper's correction, alpha | CCC gained | difference |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for cell in cells:
        low, high = cell["over_paper"] - cell["half"], cell["over_paper"] + cell["half"]
        lines.append(
            f"| {cell['crowd']} | {cell['llm']} | {cell['policy']} | {cell['gain']:+.3f} | {cell['paper']} "
            f"| {cell['paper_gain']:+.3f} | {cell['over_paper']:+.3f} [{low:+.3f}, {high:+.3f}] |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
