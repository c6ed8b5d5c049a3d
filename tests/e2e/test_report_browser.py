"""A report in a real browser, on a wide and a narrow screen: it fetches nothing, sorts, answers to the mouse, fits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies.reported import Reported, reported

from invitro.studies.health import findings
from invitro.studies.report.page import write_report
from invitro.writing.charts import Figure
from invitro.writing.words import number

pytestmark = pytest.mark.browser
CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
SCREENS = {"wide": (1280, 900), "narrow": (400, 844)}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    return reported("alpha", tmp_path_factory.mktemp("browser") / "runs")


@pytest.fixture(scope="module")
def path(study: Reported) -> Path:
    made = findings(study.study, study.runs, study.summary)
    return write_report(study.study, study.runs, study.summary, made, study.figures, study.runs.root.parent / "report")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.is_file():
        pytest.fail(
            f"{CHROMIUM} is missing, and these tests open reports in it; install it with: apt-get install chromium"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        yield chromium
        chromium.close()


class Opened:
    """A report on a screen, with what the browser said and asked for meanwhile."""

    def __init__(self, browser: Any, path: Path, screen: str, **options: Any) -> None:
        width, height = SCREENS[screen]
        context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **options)
        self.page, self.said, self.asked = context.new_page(), [], []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        from playwright.sync_api import expect

        expect(self.page.locator(".chart:empty")).to_have_count(0)
        self.page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")

    def column(self, table: str, key: str) -> list[str]:
        """Return the cells of a column, from top to bottom."""
        return list(
            self.page.evaluate(
                """([table, key]) => {
                    const head = document.querySelector(`#table-${table} th[data-key="${key}"]`);
                    return [...document.querySelectorAll(`#table-${table} tbody tr`)]
                        .map(row => row.cells[head.cellIndex].innerText.replace(/\\s+/g, " ").trim());
                }""",
                [table, key],
            )
        )

    def head(self, table: str, key: str) -> Any:
        return self.page.locator(f'#table-{table} th[data-key="{key}"]')

    def tooltip(self, figure: str, mark: str) -> dict[str, str]:
        """Point at a mark, found by its description, and return what the tooltip says."""
        place = self.page.locator(f'#figure-{figure} svg path[aria-label*="{mark}"]').first
        place.scroll_into_view_if_needed()
        place.hover(force=True)
        shown = self.page.locator("#vg-tooltip-element.visible")
        shown.wait_for(state="visible")
        return dict(
            zip(shown.locator("td.key").all_inner_texts(), shown.locator("td.value").all_inner_texts(), strict=True)
        )


@pytest.fixture(scope="module", params=SCREENS)
def opened(request: pytest.FixtureRequest, browser: Any, path: Path) -> Iterator[Opened]:
    page = Opened(browser, path, request.param)
    yield page
    page.page.context.close()


def test_every_chart_is_drawn(opened: Opened, study: Reported) -> None:
    assert opened.page.locator(".chart svg").count() == len(study.figures) == 9
    for one in study.figures:
        box = opened.page.locator(f"#figure-{one.name} .chart svg").bounding_box()
        assert box["width"] > 300
        assert box["height"] > 100
        described = opened.page.locator(f"#figure-{one.name} .chart [aria-label]").first.get_attribute("aria-label")
        assert described
    assert opened.page.title() == study.study.title


def test_a_heading_sorts_numbers_as_numbers(opened: Opened, study: Reported) -> None:
    groups = study.summary.groups
    opened.head("metrics_test", "ccc_mean").locator("button").click()
    means = [number(mean) for mean in sorted(groups["test_ccc_mean"])]
    assert [cell.split(" ")[0] for cell in opened.column("metrics_test", "ccc_mean")] == means
    assert opened.head("metrics_test", "ccc_mean").get_attribute("aria-sort") == "ascending"
    opened.head("metrics_test", "ccc_mean").locator("button").click()
    assert [cell.split(" ")[0] for cell in opened.column("metrics_test", "ccc_mean")] == means[::-1]
    assert opened.head("metrics_test", "ccc_mean").get_attribute("aria-sort") == "descending"


def test_infinity_is_the_largest_and_the_keyboard_sorts_too(opened: Opened, study: Reported) -> None:
    opened.head("metrics_test", "alpha").locator("button").focus()
    opened.page.keyboard.press("Enter")
    shown = [cell.split(" ")[0] for cell in opened.column("metrics_test", "alpha")]
    assert shown == ["0", "1.5", "3", "4", "6", "∞"]
    assert opened.head("metrics_test", "ccc_mean").get_attribute("aria-sort") == "none"  # one column at a time
    opened.page.keyboard.press("Space")
    assert [cell.split(" ")[0] for cell in opened.column("metrics_test", "alpha")] == shown[::-1]
    assert np.isinf(study.summary.groups["alpha"]).sum() == 1


def test_what_is_missing_is_last_whichever_way(opened: Opened, study: Reported) -> None:
    known = sorted(study.runs.table["test_ccc"].dropna())
    for expected in (known, known[::-1]):
        opened.head("runs", "test_ccc").locator("button").click()
        assert opened.column("runs", "test_ccc") == [*map(number, expected), "–"]


def test_text_sorts_as_text(opened: Opened, study: Reported) -> None:
    opened.head("differences", "metric").locator("button").click()
    assert opened.column("differences", "metric") == sorted(
        {"pcc": "PCC", "ccc": "CCC", "rmse": "RMSE"}[metric] for metric in study.summary.differences["metric"]
    )


def test_groups_of_people_sort_by_what_was_measured(opened: Opened) -> None:
    opened.head("groups_truth", "ccc").locator("button").click()
    shown = [cell.split(" ")[0].replace("\N{MINUS SIGN}", "-") for cell in opened.column("groups_truth", "ccc")]
    assert len(shown) > 20
    assert shown == sorted(shown, key=float)
    assert "race Black or African American" in opened.page.locator("#groups").inner_text()
    columns = (opened.column("groups_truth", name) for name in ("attribute", "group"))
    assert {" ".join(one) for one in zip(*columns, strict=True)} >= {"gender male", "race White", "age 30–39"}


def test_pointing_at_a_mark_shows_its_values(opened: Opened, study: Reported) -> None:
    row = study.summary.groups.query("alpha == 4").iloc[0]
    shown = opened.tooltip("metrics_over_alpha_val", f"CCC: {row['val_ccc_mean']:.3f}")
    assert shown == {
        "alpha (scale points)": "4",
        "CCC": number(row["val_ccc_mean"]),
        "95 % from": number(row["val_ccc_low"]),
        "95 % to": number(row["val_ccc_high"]),
        "runs": "3",
    }


def test_a_text_is_told_by_its_id(opened: Opened, study: Reported) -> None:
    tables = [study.runs.predictions(row) for row in study.runs.table.query("alpha == 4").index]
    rows = [table.query("split == 'test'").sort_values("prediction").set_index("text_id") for table in tables]
    text_id = rows[0].index[-1]  # predicted highest: nothing lies on top of it
    shown = opened.tooltip("predicted_against_labelled", f"text: {text_id}; ")
    mean = sum(table.loc[text_id, "prediction"] for table in rows) / len(rows)
    baseline = [study.runs.predictions(row).set_index("text_id").loc[text_id] for row in (0, 1, 2)]
    assert shown["text"] == text_id
    assert shown["crowd label"] == f"{rows[0].loc[text_id, 'crowd_label']:.2f}"
    means = (mean, sum(row["prediction"] for row in baseline) / 3)  # the panel of the chosen, or of the baseline
    assert shown["predicted"] in [f"{value:.2f}" for value in means]
    assert "essay" not in opened.page.content()


def test_the_page_is_no_wider_than_the_screen(opened: Opened) -> None:
    width, inner = opened.page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= inner
    boxes = opened.page.evaluate(
        """[...document.querySelectorAll('.scroll')].map((box) => [
            box.scrollWidth > box.clientWidth + 1, box.clientWidth, box.classList.contains("stacked")])"""
    )
    assert not any(scrolls or box > inner for scrolls, box, _ in boxes)  # nothing is cut off
    if inner == SCREENS["narrow"][0]:
        assert any(stacked for _, _, stacked in boxes)  # wide tables are lists of their rows
        assert not opened.page.locator("#table-overview").evaluate("table => table.closest('.stacked')")


def test_the_verdict_comes_first_and_the_rest_is_folded(browser: Any, path: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    page.goto(path.as_uri())
    assert page.locator("main > :first-child").get_attribute("id") == "verdict"
    assert page.locator("#figure-differences .chart svg").is_visible()
    assert page.locator("#table-overview").is_visible()
    for part in ("results", "figures", "validation", "groups", "health", "runs", "commands", "sources", "method"):
        assert not page.locator(f"#{part}").is_visible(), part
    assert set(page.locator("#warnings li").evaluate_all("all => all.map((one) => one.className)")) <= {"warning"}
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    context.close()


def test_nothing_was_fetched_and_nothing_went_wrong(opened: Opened, path: Path) -> None:
    """Runs last on each screen: whatever the other tests caused is in here."""
    outside = [url for url in opened.asked if url != path.as_uri() and not url.startswith(("data:", "blob:"))]
    assert outside == []
    assert opened.said == []


def test_the_policy_keeps_other_code_out(browser: Any, path: Path) -> None:
    page = Opened(browser, path, "wide")
    page.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            const image = document.createElement("img");
            image.src = "https://example.org/pixel.png";
            document.body.append(image);
        }"""
    )
    assert page.page.evaluate("window.ran === undefined")
    assert any("Content Security Policy" in line for line in page.said)
    page.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_legible_by_day_and_by_night(browser: Any, path: Path, scheme: str) -> None:
    """WCAG asks for a contrast of 4.5 between text and what is behind it."""
    page = Opened(browser, path, "wide", color_scheme=scheme)
    colours = page.page.evaluate(
        """() => ["body", ".question", ".hint", "figcaption", "summary", ".verdict h2", ".findings strong", "td",
                  "th button"]
            .map(name => document.querySelector(name)).filter(Boolean).map(element => {
                let behind = element;
                const ground = () => getComputedStyle(behind).backgroundColor;
                while (behind !== document.body && ground() === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
                return [getComputedStyle(element).color, ground()];
            })"""
    )
    assert len(colours) == 9
    for text, ground in colours:
        assert contrast(text, ground) >= 4.5, (text, ground)
    chart = page.page.evaluate("getComputedStyle(document.querySelector('.chart')).backgroundColor")
    assert chart == "rgb(255, 255, 255)"  # charts keep their ground
    page.page.context.close()


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two CSS colours, from 1 to 21."""

    def luminance(colour: str) -> float:
        values = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_a_chart_that_cannot_be_drawn_says_so(browser: Any, study: Reported, tmp_path: Path) -> None:
    broken = Figure("learning_curves", "Learning curves", "None.", study.figures[-1].chart)
    path = write_report(study.study, study.runs, study.summary, [], [broken], tmp_path)
    text = path.read_text("utf-8")
    path.write_text(text.replace('"vconcat": [', '"vconcatenated": ['), "utf-8")
    page = Opened(browser, path, "narrow")
    assert page.page.locator(".chart").inner_text().startswith("This chart could not be drawn: ")
    assert any(line.startswith("error: ") for line in page.said)
    page.page.context.close()
