"""What happens when the site is built: pages of other files, folders for tutorials, and nothing foreign."""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
FOREIGN = re.compile(
    r"<(?:script|img|iframe)[^>]+src=\"?(?:https?:)?//|<link[^>]+rel=\"?(?:stylesheet|preconnect)[^>]*//"
    r"|url\([\"']?(?:https?:)?//|@import\s+[\"'](?:https?:)?//"
)


def on_startup(command: str, dirty: bool) -> None:
    """Let tutorials find the commands of this environment, and keep them from fetching or logging elsewhere."""
    strict = Path(tempfile.mkdtemp(prefix="invitro-docs-")) / "strict.sh"
    strict.write_text("set -euo pipefail\n", "utf-8")
    os.environ.update(
        BASH_ENV=str(strict),  # a failing command of a pipe stops the build too
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", HF_HUB_OFFLINE="1", WANDB_MODE="offline",
        TQDM_DISABLE="1", NO_COLOR="1",
    )  # fmt: skip


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of other files."""
    files.append(File.generated(config, "changelog.md", content=(ROOT / "CHANGELOG.md").read_text("utf-8")))
    files.append(File.generated(config, "configuration.md", content=reference.page()))
    for path in NOTEBOOKS:
        files.append(File.generated(config, f"{path.stem}.md", content=notebook(path)))
    return files


def notebook(path: Path) -> str:
    """Return a notebook with its stored output in Markdown; tests execute it and compare the two."""
    parts = [f"The notebook is `examples/{path.name}`; this is its output as stored."]
    for cell in nbformat.read(path, as_version=4).cells:
        parts.append(cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/svg+xml" in data:
                parts.append(re.sub(r"\n\s*\n", "\n", data["image/svg+xml"]))
            else:
                parts.append(f"```text\n{(output.get('text') or data['text/plain']).rstrip()}\n```")
    title = next(index for index, part in enumerate(parts) if part.startswith("# "))
    return "\n\n".join([parts.pop(title), *parts]) + "\n"


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> None:
    """Give each page's commands a folder of their own, which holds the tables of examples/."""
    os.chdir(tempfile.mkdtemp(prefix="invitro-docs-"))
    for path in (ROOT / "examples").glob("*.csv"):
        shutil.copy(path, ".")


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> None:
    """Leave the page's folder, and remove it."""
    folder = Path.cwd()
    os.chdir(ROOT)
    shutil.rmtree(folder)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site that fetches fonts, scripts, styles or pictures from elsewhere."""
    for path in Path(config.site_dir).rglob("*"):
        if path.suffix in (".html", ".css") and (found := FOREIGN.search(path.read_text("utf-8"))):
            raise PluginError(f"{path}: fetches from elsewhere: {found[0]}")
