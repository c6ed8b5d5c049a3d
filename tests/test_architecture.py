"""The house: a floor imports only floors below it, no circle of imports, and what is heavy is imported in one place."""

import ast
import re
from pathlib import Path

import pytest
from support import ROOT

SOURCE = ROOT / "src" / "invitro"
FLOORS = [
    {"errors", "files", "tables", "scales", "metrics", "weights", "settings", "formats", "foreign"}
    | {"stats", "writing"},
    {"data", "labels"},
    {"raters"},
    {"application", "models", "engines"},
    {"labelling", "training"},
    {"reliability", "studies"},
    {"commands"},
    {"api"},
]
RANK = {room: rank for rank, rooms in enumerate(FLOORS) for room in rooms}
GROUND = FLOORS[0]
MOST_FILES, MOST_MODULES, MOST_LINES = 12, 131, 435
ONLY_IN = {
    "wandb": {"training/loggers.py"},
    "vllm": {"engines/vllm.py"},
    "ray": {"engines/ray.py"},
    "hydra": {path.relative_to(SOURCE).as_posix() for path in (SOURCE / "commands").glob("*.py")},
}
MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    return ".".join(("invitro", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


def imports_of(path: Path) -> list[str]:
    """What a module imports, wherever in it; of what a package's folder holds, the module itself."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            named = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in NAMES else str(node.module) for name in named]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


NAMES = {name_of(path) for path in MODULES}
PATHS = pytest.mark.parametrize("path", [path for path in MODULES if path.parent != SOURCE or path.stem != "__init__"],
                                ids=name_of)  # fmt: skip


@PATHS
def test_a_floor_imports_only_floors_below(path: Path) -> None:
    room = room_of(path)
    assert room in RANK, f"{room} has no floor; give it one in this test and in CONTRIBUTING.md"
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "invitro" or len(parts) == 1 or parts[1] == room:
            continue
        below = RANK[parts[1]] < RANK[room] or (parts[1] in GROUND and room in GROUND)
        assert below, f"{path} imports {name}: not from a floor below"


def test_no_circle_of_imports_anywhere() -> None:
    """Imports inside functions count too: a circle that is broken by postponing an import is still one.

    A package's `__init__` is left out, since what it offers to others is not what its own modules import.
    """
    edges = {name_of(path): set(imports_of(path)) for path in MODULES if path.stem != "__init__"}
    done: set[str] = set()
    while ready := {name for name, below in edges.items() if name not in done and below & edges.keys() <= done}:
        done |= ready
    assert done == set(edges), f"these import each other: {sorted(set(edges) - done)}"


def test_folders_are_small_enough_to_hold_in_the_head() -> None:
    folders = {path.parent for path in MODULES}
    for folder in folders:
        assert len(list(folder.glob("*.py"))) <= MOST_FILES, f"{folder} has more than {MOST_FILES} files"
    assert len(MODULES) <= MOST_MODULES
    for path in MODULES:
        assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES, path


def test_a_name_means_one_thing() -> None:
    """Public classes and constants; a type variable and a module's logger mean nothing outside."""
    homes: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text("utf-8")).body:
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            names = (
                [node.name] if isinstance(node, ast.ClassDef) else [t.id for t in targets if isinstance(t, ast.Name)]
            )
            for name in names:
                if not name.startswith("_") and name not in ("T", "log"):
                    homes.setdefault(name, []).append(name_of(path))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


@pytest.mark.parametrize("library", ONLY_IN)
def test_some_libraries_are_imported_in_one_place(library: str) -> None:
    users = {
        path.relative_to(SOURCE).as_posix()
        for path in MODULES
        if library in {n.split(".")[0] for n in imports_of(path)}
    }
    assert users <= ONLY_IN[library]


def test_entry_points_are_short() -> None:
    for script in ("train.py", "describe.py", "label.py", "sweep.py", "predict.py"):
        assert len((ROOT / script).read_text("utf-8").splitlines()) < 40


def test_contributing_names_the_rooms_and_modules_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and (path / "__init__.py").is_file()}
    assert set(re.findall(r"`src/invitro/(\w+)/`", text)) == rooms
    for name in re.findall(r"`([\w/]+\.(?:py|yaml|txt))`", text):
        assert any((folder / name).is_file() for folder in (ROOT, SOURCE)), f"CONTRIBUTING.md names {name}"
    for name in re.findall(r"`(\w+/)`", text):
        assert any(folder.is_dir() for folder in (ROOT / name, SOURCE / name, *SOURCE.glob(f"*/{name}"))), name
