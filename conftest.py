"""Examples in docstrings run in an empty folder, as `pytest --doctest-modules src/invitro` finds them."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def empty_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Change into an empty folder before a docstring's examples."""
    if isinstance(request.node, pytest.DoctestItem):
        folder: Path = tmp_path_factory.mktemp("doctest")
        request.getfixturevalue("monkeypatch").chdir(folder)
