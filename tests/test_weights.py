"""Weights from packages: parts are joined in order, checked, unpacked once, and nothing of the packages is imported."""

import hashlib
import io
import os
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

from invitro import weights
from invitro.errors import InputError
from invitro.models import PLM
from invitro.weights import WEIGHT_PACKAGES, Packaged, packaged

WEIGHTS = bytes(range(256)) * 40


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as members:
        members.writestr("tiny-model/config.json", "{}")
        members.writestr("tiny-model/1_Pooling/config.json", "{}")
        members.writestr("tiny-model/model.safetensors", WEIGHTS)
    return content.getvalue()


def install(site: Path, name: str, files: dict[str, bytes], version: str = "0.1") -> None:
    """Install a package whose import would fail."""
    module = name.replace("-", "_")
    files = {f"{module}/__init__.py": b"raise AssertionError('nothing here is to be imported')"} | files
    for path, content in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(content)
    about = site / f"{module}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (about / "RECORD").write_text("".join(f"{path},,\n" for path in files))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where packages are installed; the cache is empty, and a model comes in three parts."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(weights.pooch, "os_cache", lambda name: tmp_path / "cache")
    model = Packaged(
        ("tiny-part-1", "tiny-part-2", "tiny-part-10"), "input/tiny.zip.*", "CC0", "make tiny",
        hashlib.sha256(WEIGHTS).hexdigest(),
    )  # fmt: skip
    monkeypatch.setitem(WEIGHT_PACKAGES, "some/tiny", model)
    return tmp_path / "site"


def install_parts(site: Path, content: bytes, versions: tuple[str, ...] = ("0.1", "0.1", "0.1")) -> None:
    third = len(content) // 3
    parts = content[:third], content[third : 2 * third], content[2 * third :]
    for number, part, version in zip((1, 2, 10), parts, versions, strict=True):
        install(site, f"tiny-part-{number}", {f"tiny-part_{number}/input/tiny.zip.{number:03}": part}, version)


def test_parts_are_joined_checked_and_unpacked_once(site: Path) -> None:
    install_parts(site, archive())
    model = packaged("some/tiny", None)
    assert model is not None
    assert model.revision == "tiny-part-1 to tiny-part-10==0.1 tiny.zip.001"
    folder = model.folder()
    assert sorted(file.name for file in folder.iterdir()) == ["1_Pooling", "config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert [path.name for path in folder.parent.iterdir()] == ["tiny_part_1-0.1"]
    written = (folder / "config.json").stat().st_mtime_ns
    assert model.folder() == folder
    assert (folder / "config.json").stat().st_mtime_ns == written
    plm = PLM("some/tiny")
    assert (plm.source, plm.fingerprint.count("model.safetensors:")) == (str(folder), 1)


@pytest.mark.parametrize("versions", [("0.1", "0.1", "0.2")])
def test_parts_of_different_versions_do_not_belong_together(site: Path, versions: tuple[str, ...]) -> None:
    install_parts(site, archive(), versions)
    assert packaged("some/tiny", None) is None


def test_a_missing_part_or_a_named_revision_means_the_hub(site: Path) -> None:
    assert packaged("some/tiny", None) is None
    install_parts(site, archive())
    assert packaged("some/tiny", "0123abc") is None
    assert packaged("some/other", None) is None
    assert PLM("some/tiny", "0123abc").source == "some/tiny"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive().replace(WEIGHTS[:64], WEIGHTS[1:65]), "the parts do not form an archive|expected weights"),
        (archive()[:-30], "the parts do not form an archive .*make tiny"),
    ],
)
def test_other_weights_are_refused_and_nothing_is_left(site: Path, content: bytes, message: str) -> None:
    install_parts(site, content)
    with pytest.raises(InputError, match=message):
        WEIGHT_PACKAGES["some/tiny"].folder()
    assert list((site.parent / "cache").iterdir()) == []


def test_weights_of_another_hash_are_refused(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_parts(site, archive())
    known = WEIGHT_PACKAGES["some/tiny"]
    other = Packaged(known.packages, known.file, known.licence, known.install, "0" * 64)
    with pytest.raises(InputError, match=r"expected weights with SHA-256 0{64}, found [0-9a-f]{64}; .* with make tiny"):
        other.folder()


def test_a_folder_in_one_package_is_used_where_it_lies(site: Path) -> None:
    install(site, "whole-model", {"whole_model/model/config.json": b"{}", "whole_model/model/vocab.txt": b""})
    model = Packaged(("whole-model",), "whole_model/model/config.json", "CC0", "make whole")
    assert model.folder() == site / "whole_model" / "model"
    lost = Packaged(("whole-model",), "model/other.json", "CC0", "make whole")
    with pytest.raises(InputError, match=r"package whole-model 0\.1: expected a file model/other.json, found none"):
        lost.folder()


@pytest.mark.parametrize("model", WEIGHT_PACKAGES)
def test_every_model_has_a_licence_and_a_way_to_install_it(model: str) -> None:
    known = WEIGHT_PACKAGES[model]
    assert known.licence
    assert known.install.split()[1] in Path(__file__).parents[1].joinpath("Makefile").read_text()
    assert known.sha256 or len(known.packages) == 1


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Return an empty cache of a hub that may be asked, though nobody answers there."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    weights._hub_answers.cache_clear()
    yield tmp_path
    weights._hub_answers.cache_clear()


def test_a_model_that_is_nowhere_is_known_at_once(hub: Path) -> None:
    started = time.monotonic()
    assert weights.absent("nobody/has-this", None) == (
        "It is neither a folder nor in the local cache, and the model hub does not answer: go online once, or name a "
        "folder"
    )
    assert time.monotonic() - started < 5
    assert constants.HF_HUB_OFFLINE
    assert os.environ["HF_HUB_OFFLINE"] == "1"  # for the processes that this one starts
    assert weights.absent(str(hub), None) is None
    for file in ("refs/main", "snapshots/abc/config.json"):
        path = hub / "models--somebody--has-this" / file
        path.parent.mkdir(parents=True)
        path.write_text("abc")
    assert weights.absent("somebody/has-this", None) is None
    assert weights.absent("somebody/has-this", "v2") is not None
    assert weights.absent("no/name/on/the/hub", None) is not None


def test_a_hub_that_answers_is_asked_for_the_model(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # answers that it knows no HEAD
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.handle_request)
        thread.start()
        assert weights.absent("nobody/has-this", None) is None
        thread.join()
    assert not constants.HF_HUB_OFFLINE
