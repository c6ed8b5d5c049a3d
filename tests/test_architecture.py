"""The house: a floor imports only floors below it, and what is heavy is imported in one place."""

import ast
from pathlib import Path

import pytest
from support import ROOT

SOURCE = ROOT / "src" / "invitro"
FLOORS = [
    {"errors", "files", "streams", "scales", "metrics", "charts"},
    {"data", "labels"},
    {"application", "models"},
    {"labelling", "training"},
    {"studies"},
    {"config"},
]
RANK = {room: rank for rank, rooms in enumerate(FLOORS) for room in rooms}
GROUND = FLOORS[0]
CONFIG = (
    "common", "help", "inference", "labelling", "overrides", "plans", "predicting", "settings", "studies", "training",
    "trials",
)  # fmt: skip
ONLY_IN = {
    "wandb": {"training/loggers.py"},
    "vllm": {"labelling/vllm.py"},
    "ray": {"labelling/ray.py"},
    "hydra": {f"config/{name}.py" for name in CONFIG},
}
MODULES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.append(str(node.module))
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return found


def test_there_is_a_house() -> None:
    assert {room_of(path) for path in MODULES} >= {
        "scales",
        "metrics",
        "data",
        "labels",
        "application",
        "models",
        "training",
    }


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.name != "__init__.py" or path.parent != SOURCE], ids=str
)
def test_a_floor_imports_only_floors_below(path: Path) -> None:
    room = room_of(path)
    assert room in RANK, f"{room} has no floor; give it one in this test and in the design"
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "invitro" or len(parts) == 1 or parts[1] == room:
            continue
        below = RANK[parts[1]] < RANK[room] or (parts[1] in GROUND and room in GROUND)
        assert below or room == "config", f"{path} imports {name}: not from a floor below"


@pytest.mark.parametrize("library", ONLY_IN)
def test_some_libraries_are_imported_in_one_place(library: str) -> None:
    users = {
        path.relative_to(SOURCE).as_posix()
        for path in MODULES
        if library in {n.split(".")[0] for n in imports_of(path)}
    }
    assert users <= ONLY_IN[library]


def test_the_ground_floor_has_no_cycle() -> None:
    edges = {
        room: {n.split(".")[1] for n in imports_of(SOURCE / f"{room}.py") if n.startswith("invitro.")}
        for room in GROUND
    }
    done: set[str] = set()
    while ready := {room for room in edges if room not in done and edges[room] <= done}:
        done |= ready
    assert done == set(edges)


def test_entry_points_are_short() -> None:
    for script in ("train.py", "label.py", "sweep.py", "predict.py"):
        assert len((ROOT / script).read_text("utf-8").splitlines()) < 40
