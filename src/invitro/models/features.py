"""Features of the frozen encoder: computed once per text, kept on disk, shared by all later runs."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from invitro.errors import InputError
from invitro.files import whole_or_absent
from invitro.models.tokens import pad, token_batches, tokenise

log = logging.getLogger(__name__)

KEY_BYTES = 16


def head(model: PreTrainedModel, features: Tensor) -> Tensor:
    """Apply the layers after the encoder to the first token's features: (batch, hidden) to (batch, outputs).

    Pooler (where the architecture has one), dropout and classifier are the model's own modules, so a model whose
    head was trained on features is an ordinary Hugging Face model.
    """
    outputs = features[:, None, :]
    for module in head_modules(model):
        outputs = module(outputs)
    return outputs


def head_modules(model: PreTrainedModel) -> list[nn.Module]:
    """Return the modules that follow the encoder's layers, in order: those that head mode trains.

    BERT and DeBERTa have a pooler, dropout and a linear classifier; RoBERTa's classifier has all of these inside.
    """
    pooler = getattr(model.base_model, "pooler", None) or getattr(model, "pooler", None)
    modules = (pooler, getattr(model, "dropout", None), getattr(model, "classifier", None))
    return [module for module in modules if isinstance(module, nn.Module)]


def check_head(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse an architecture whose forward pass is not `head` of the first token's last hidden state."""
    batch = pad(tokenizer, tokenise(tokenizer, ["a short text", "another one that is a little longer"]).ids)
    model.eval()
    try:
        with torch.inference_mode():
            through_head = head(model, model.base_model(**batch).last_hidden_state[:, 0])
            same = torch.allclose(through_head, model(**batch).logits, atol=1e-5)
    except (AttributeError, RuntimeError, TypeError):
        same = False
    if not same:
        raise InputError(
            f"plm.train=head: {type(model).__name__} does not regress on the first token's last hidden state; "
            "use plm.train=full, or an encoder such as BERT, RoBERTa or DeBERTa"
        )


def pooled(model: PreTrainedModel, batch: Mapping[str, Tensor], pooling: str) -> Tensor:
    """Return features of a batch of tokens on the model's device, (batch, hidden), float32, on the CPU.

    `pooling` is ``first``, the first token's last hidden state, or ``mean``, the mean over all tokens but padding.
    """
    hidden = model.base_model(**batch).last_hidden_state
    if pooling == "mean":
        mask = batch["attention_mask"][..., None].to(hidden.dtype)
        hidden = (hidden * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True)
    features: Tensor = hidden[:, 0].float().cpu()
    return features


def embedded(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pooling: str = "first",
    batch_size: int = 32,
) -> Tensor:
    """Return `pooled` features of texts in their order, (texts, hidden), float32, on the CPU."""
    features = torch.empty(len(texts), model.config.hidden_size)
    model.eval()
    with torch.inference_mode():
        for rows, batch in token_batches(model, tokenizer, texts, batch_size):
            features[rows] = pooled(model, batch, pooling)
    return features


class FeatureCache:
    """Features by text, in one folder per frozen encoder and pooling.

    Every call writes what it had to compute as one new file (keys and features), so parallel writers never touch
    each other's files: at worst a text is computed twice.

    Args:
        folder: the cache; None keeps nothing.
        model: a regressor whose encoder is frozen and whose device is used.
        tokenizer: its tokenizer.
        pooling: ``first`` token, or ``mean`` of all.
    """

    def __init__(
        self, folder: Path | None, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pooling: str = "first"
    ) -> None:
        self.model, self.tokenizer, self.pooling = model, tokenizer, pooling
        suffix = "" if pooling == "first" else f"-{pooling}"
        self.folder = folder / f"{encoder_key(model, tokenizer)}{suffix}" if folder is not None else None

    def features(self, texts: Sequence[str], batch_size: int = 32) -> Tensor:
        """Return features of shape (texts, hidden), float32, on the CPU."""
        if not len(texts):
            return torch.empty(0, self.model.config.hidden_size)
        keys = [hashlib.sha256(text.encode()).digest()[:KEY_BYTES] for text in texts]
        known = self._read()
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if new:
            log.info("features: computing %d of %d texts; the others are cached", len(new), len(set(keys)))
            computed = embedded(self.model, self.tokenizer, list(new.values()), self.pooling, batch_size)
            self._write(list(new), computed)
            known |= dict(zip(new, computed, strict=True))
        return torch.stack([known[key] for key in keys])

    def _read(self) -> dict[bytes, Tensor]:
        known: dict[bytes, Tensor] = {}
        for file in sorted(self.folder.glob("*.safetensors")) if self.folder else ():
            try:
                known |= _part(file)
            except SafetensorError:
                log.warning("%s is damaged and was removed; its features are computed again", file)
                file.unlink(missing_ok=True)
        return known

    def _write(self, keys: list[bytes], features: Tensor) -> None:
        if self.folder is None:
            return
        stacked = torch.from_numpy(np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY_BYTES).copy())
        with whole_or_absent(self.folder / f"{uuid4().hex}.safetensors") as temporary:
            save_file({"keys": stacked, "features": features}, temporary)


@lru_cache(maxsize=64)
def _part(file: Path) -> dict[bytes, Tensor]:
    """Read one file of the cache, once per process; files never change."""
    part = load_file(file)
    return dict(zip((key.tobytes() for key in part["keys"].numpy()), part["features"], strict=True))


def encoder_key(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash what determines a text's features: the encoder's weights without the head, the vocabulary, the limit."""
    digest = hashlib.sha256(f"{type(model).__name__} {tokenizer.model_max_length}".encode())
    trained = {id(parameter) for module in head_modules(model) for parameter in module.parameters()}
    for name, parameter in model.base_model.named_parameters():
        if id(parameter) not in trained:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    digest.update(repr(sorted(tokenizer.get_vocab().items())).encode())
    return digest.hexdigest()[:32]
