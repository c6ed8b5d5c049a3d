"""Charts: one look, the same picture every time, and a script that needs no network."""

import re
from pathlib import Path

import altair as alt
import pytest

from invitro.errors import InputError
from invitro.writing import charts


def scatter(size: int = 3) -> alt.Chart:
    """Return a chart with a gradient, a clip, and translucent marks."""
    rows = [{"a": i, "b": i * i, "name": f"clip{i} gradient_{i}"} for i in range(size)]
    return (
        alt.Chart({"values": rows})
        .mark_point(clip=True, opacity=0.5)
        .encode(alt.X("a:Q"), alt.Y("b:Q"), alt.Color("b:Q"), alt.Shape("name:N", title="|"))
        .properties(width=120, height=60, description="squares")
    )


def test_the_same_chart_gives_the_same_picture(tmp_path: Path) -> None:
    first = charts.save(scatter(), tmp_path / "a")
    charts.save(scatter(5), tmp_path / "between")
    second = charts.save(scatter(), tmp_path / "b")
    assert [path.name for path in first] == ["a.png", "a.svg", "a.pdf"]
    assert charts.specification(scatter()) == charts.specification(scatter())
    assert first[0].read_bytes() == second[0].read_bytes()
    svg = first[1].read_text("utf-8")
    assert "clip1 gradient_1" in svg
    for name in re.findall(r"url\(#(\w+)\)", svg):
        assert f'id="{name}"' in svg


def test_sizes_are_points_and_dots_300_an_inch(tmp_path: Path) -> None:
    png, svg, pdf = charts.save(scatter(), tmp_path / "a")
    head = svg.read_text("utf-8").splitlines()[1][:300]
    width, height = (float(value) for value in re.findall(r' (?:width|height)="([\d.]+)pt"', head)[:2])
    assert f"MediaBox [0 0 {width:g} {height:g}]".encode() in pdf.read_bytes()
    assert int.from_bytes(png.read_bytes()[16:20], "big") == pytest.approx(width / 72 * charts.DPI, abs=2)


def test_a_charts_own_word_counts() -> None:
    spec = charts.specification(scatter().configure_axis(labelFontSize=11))
    assert spec["config"]["axis"]["labelFontSize"] == 11
    assert spec["config"]["axis"]["titleFontSize"] == charts.STYLE["axis"]["titleFontSize"]
    assert spec["config"]["view"]["stroke"] is None


def test_the_script_names_no_place_to_fetch_from() -> None:
    script = charts.script()
    assert "vegaEmbed" in script
    assert "</script" not in script
    assert not re.search(r"https?://(?!www\.w3\.org/|vega\.github\.io/|github\.com/vega/)", script)
    assert not re.search(r"""(?:import|importScripts)\s*\(\s*["']""", script)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"altair and vl_convert.*pip install .invitro\[report\]."):
        charts.save(scatter(), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
