"""An encoder by name or folder, with or without a regression head; its tokens, and batches of texts of similar
length.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from invitro.errors import InputError
from invitro.models.settings import PLM
from invitro.stats import Floats

if TYPE_CHECKING:
    from peft import LoraModel


log = logging.getLogger(__name__)


class MixtureConfig(PreTrainedConfig):
    """Configuration of a `LayerMixture`; `encoder` is that of its encoder, as a mapping."""

    model_type = "layer_mixture"

    def __init__(self, encoder: dict[str, Any] | None = None, dropout: float = 0.0, **other: Any) -> None:
        super().__init__(**other)
        self.encoder, self.dropout = encoder, dropout

    @property
    def inner(self) -> PreTrainedConfig:
        """The encoder's configuration."""
        inner: PreTrainedConfig = AutoConfig.for_model(**(self.encoder or {}))
        return inner


class LayerMixture(PreTrainedModel):
    """A regression head on a learned mixture of all layers, instead of on the last layer's first token.

    ``logits = W sum_l softmax(a)_l mean_t(norm(h_lt)) + b`` with h_lt the state of token t in layer l, from the
    embeddings (l = 0) to the last, and ``norm`` to mean 0 and variance 1 over dimensions, without which the layer with
    the largest values would dominate (Peters et al. 2018, "Deep contextualized word representations", eq. 1). At the
    start all layers have the same weight.
    """

    config_class = MixtureConfig
    base_model_prefix = "encoder"

    def __init__(self, config: MixtureConfig) -> None:
        super().__init__(config)
        inner = config.inner
        self.encoder = _without_pooler(AutoModel.from_config(inner))
        self.mixture = nn.Parameter(torch.zeros(inner.num_hidden_layers + 1))
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(inner.hidden_size, int(config.num_labels or 1))
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SequenceClassifierOutput:
        """Return ``logits``, (batch, outputs), for token ids and their mask, both (batch, tokens)."""
        states = self.encoder(input_ids, attention_mask, output_hidden_states=True).hidden_states
        share = self.mixture.softmax(dim=0)
        mixed = sum(part * F.layer_norm(state, state.shape[-1:]) for part, state in zip(share, states, strict=True))
        mask = attention_mask[..., None].to(mixed.dtype)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout((mixed * mask).sum(1) / mask.sum(1))))


def _without_pooler(encoder: PreTrainedModel) -> PreTrainedModel:
    """Remove the pooler, a layer on the first token that means over tokens do not use."""
    if getattr(encoder, "pooler", None) is not None:
        encoder.register_module("pooler", None)
    return encoder


AutoConfig.register("layer_mixture", MixtureConfig)
AutoModelForSequenceClassification.register(MixtureConfig, LayerMixture)


class Loaded(NamedTuple):
    """A model and the tokenizer that belongs to it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def check_available(plm: PLM) -> PreTrainedConfig:
    """Return the encoder's configuration; nothing else is read. A hub name needs the hub or its cache.

    Raises:
        InputError: the name is neither a folder nor available from the hub, it is not an encoder that Transformers
            knows, or it is a folder with float16 weights.
    """
    if plm.absent:
        raise InputError(plm.absent)
    with _explained(plm):
        config: PreTrainedConfig = AutoConfig.from_pretrained(**_place(plm))
    folder = Path(plm.name).expanduser()
    if folder.is_dir() and str(config.dtype).removeprefix("torch.") == "float16":
        raise InputError(
            f"PLM {folder}: config.json says that its weights are float16, as in a copy for scoring: small values "
            "become 0 in it, and large ones infinite. Training needs the original model, or a copy in "
            f"float32: AutoModel.from_pretrained({str(folder)!r}, dtype=torch.float32).save_pretrained(COPY), with "
            "the tokenizer's files next to it, and plm.name=COPY"
        )
    return config


def load_tokenizer(plm: PLM) -> PreTrainedTokenizerBase:
    """Load the encoder's tokenizer; `max_length` is limited to the encoder's number of positions.

    Raises:
        InputError: it has no padding token, has tokens without an embedding, or belongs to another encoder.
    """
    config = check_available(plm)
    config = config.inner if isinstance(config, MixtureConfig) else config
    with _explained(plm):
        tokenizer = AutoTokenizer.from_pretrained(**_place(plm))
    if tokenizer.pad_token_id is None and reads_forwards(config):
        tokenizer.pad_token = tokenizer.eos_token  # it is masked, so any token will do
    if len(tokenizer) < (getattr(config, "vocab_size", None) or 0) / 2 or tokenizer.pad_token_id is None:
        raise InputError(
            f"PLM {plm.name}: expected a tokenizer with padding and about {config.vocab_size} tokens, found one "
            f"with {len(tokenizer)}; are the tokenizer's files in the folder? Its save_pretrained writes them"
        )
    with _explained(plm), torch.device("meta"):  # modules without weights
        outline = AutoModel.from_config(config)
    rows = len(outline.get_input_embeddings().weight)
    if unknown := [token for token, number in tokenizer.get_vocab().items() if number >= rows]:
        raise InputError(
            f"PLM {plm.name}: its tokenizer has {len(unknown)} tokens without an embedding, such as "
            f"{min(unknown)!r}: expected ids below {rows}. Call model.resize_token_embeddings(len(tokenizer)) and "
            "save_pretrained again, or save the tokenizer without these tokens"
        )
    tokenizer.model_max_length = min(plm.max_length, tokenizer.model_max_length, *_positions(outline))
    return tokenizer


def _positions(outline: nn.Module) -> Iterator[int]:
    """Yield the maximum length in tokens, if the number of positions is limited.

    Position embeddings with a padding index, as in RoBERTa and its relatives, start after that index.
    """
    limit = getattr(outline.config, "max_position_embeddings", None) or 0
    if limit > 0:  # XLNet, whose positions are unlimited, has -1
        padded = [
            module.padding_idx
            for name, module in outline.named_modules()
            if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
        ]
        yield limit - max(padded, default=-1) - 1


def reads_forwards(config: PreTrainedConfig) -> bool:
    """Whether a model is a decoder, in which a token sees only the tokens before it."""
    kind = config.model_type
    return kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def load_encoder(plm: PLM) -> Loaded:
    """Load an encoder or decoder without a head, in float32, and its tokenizer.

    Raises:
        InputError: it cannot be loaded, or needs an input besides the text, as translation models do.
    """
    config = check_available(plm)
    if config.is_encoder_decoder:
        raise InputError(f"PLM {plm.name}: expected an encoder or a decoder, found both ({config.model_type})")
    return Loaded(_loaded(AutoModel, plm, config), load_tokenizer(plm))


def load_regressor(plm: PLM, bias: float | Sequence[float] | None) -> PreTrainedModel:
    """Load the encoder with Transformers' own head on the first token, or on a mixture of its layers, in float32.

    Args:
        plm: the encoder.
        bias: initial bias of each output. With the mean training label, training starts from the prediction
            "everybody is average" instead of 0. None loads a trained regressor as it was saved.
    """
    config = check_available(plm)
    if bias is None:
        return _loaded(AutoModelForSequenceClassification, plm, config)
    bias = [bias] if isinstance(bias, (int, float)) else list(bias)
    config.num_labels, config.problem_type = len(bias), "regression"
    _set_dropout(config, plm)
    _cut(config, plm)
    if plm.pooling == "mixture":
        rate = getattr(config, "hidden_dropout_prob", 0.0) if plm.dropout is None else plm.dropout
        encoder = {name: value for name, value in config.to_dict().items() if name != "_name_or_path"}
        model: PreTrainedModel = LayerMixture(MixtureConfig(encoder, rate, num_labels=len(bias)))
        model.encoder = _without_pooler(_loaded(AutoModel, plm, config))
    else:
        model = _loaded(AutoModelForSequenceClassification, plm, config)
    if (parameter := output_layer(model).bias) is None:
        raise InputError(f"PLM {plm.name}: {type(model).__name__} has a head without bias; choose an encoder")
    with torch.no_grad():
        parameter.copy_(torch.tensor(bias))
    return model


def _loaded(kind: type[Any], plm: PLM, config: PreTrainedConfig) -> PreTrainedModel:
    """Load weights in float32.

    Safetensors are preferred; from an old checkpoint without them only tensors are read, so that no pickled code runs.
    """
    options = {**_place(plm), "config": config, "dtype": torch.float32}
    model: PreTrainedModel
    with _explained(plm):
        try:
            model = kind.from_pretrained(use_safetensors=True, **options)
        except OSError:
            log.warning("%s has no safetensors; its older weight file is read, tensors only", plm.name)
            model = kind.from_pretrained(use_safetensors=False, weights_only=True, **options)
    damaged = [name for name, weights in model.named_parameters() if not bool(weights.isfinite().all())]
    if damaged:
        raise InputError(
            f"PLM {plm.name}: {len(damaged)} of its tensors hold weights that are not finite, such as {damaged[0]}; "
            "float16 is limited to 65504. Save the model in float32 or bfloat16, or copy it again"
        )
    return model


def head_modules(model: PreTrainedModel) -> list[nn.Module]:
    """Return the modules that follow the encoder's layers, in order.

    BERT and DeBERTa have a pooler, dropout and a linear classifier; RoBERTa's classifier has all of these inside.
    """
    pooler = getattr(model.base_model, "pooler", None) or getattr(model, "pooler", None)
    modules = (pooler, getattr(model, "dropout", None), getattr(model, "classifier", None))
    return [module for module in modules if isinstance(module, nn.Module)]


def _cut(config: PreTrainedConfig, plm: PLM) -> None:
    """Keep the first layers only, if `plm` says so; the weights of the others are not read."""
    if plm.layers is None:
        return
    if plm.layers > config.num_hidden_layers:
        raise InputError(f"plm.layers: expected at most {plm.name}'s {config.num_hidden_layers}, found {plm.layers}")
    config.num_hidden_layers = plm.layers
    if getattr(config, "layer_types", None):  # one entry per layer, if there are several kinds of layers
        config.layer_types = config.layer_types[: plm.layers]


def _set_dropout(config: PreTrainedConfig, plm: PLM) -> None:
    """Set the dropout rates of `plm`, under the names that the architecture uses."""
    attention = plm.dropout if plm.attention_dropout is None else plm.attention_dropout
    rates = dict.fromkeys(("hidden_dropout_prob", "classifier_dropout", "cls_dropout"), plm.dropout)
    rates |= dict.fromkeys(("attention_probs_dropout_prob", "attention_dropout"), attention)
    for name, rate in rates.items():
        if rate is not None and hasattr(config, name):
            setattr(config, name, rate)


def add_adapters(model: PreTrainedModel, plm: PLM) -> "LoraModel":
    """Add LoRA's low-rank adapters to `model` and freeze the rest of its encoder; the head stays trainable.

    A linear layer ``W`` becomes ``W + lora_alpha / lora_rank * B A`` (Hu et al. 2022, "LoRA: Low-Rank Adaptation of
    Large Language Models", eq. 3), with ``B`` starting at 0, so that the first step sees the model as loaded.

    Args:
        model: a regressor; it is changed in place.
        plm: `lora_rank` and `lora_alpha`.

    Returns:
        The adapters; their ``merge_and_unload`` makes `model` an ordinary model again, with the learned weights.
    """
    from peft import LoraConfig, LoraModel

    prefix = f"{model.base_model_prefix}."
    head = {id(module) for part in head_modules(model) for module in part.modules()}
    layers = [
        prefix + name
        for name, module in model.base_model.named_modules()
        if isinstance(module, nn.Linear) and id(module) not in head
    ]
    config = LoraConfig(r=plm.lora_rank, lora_alpha=plm.lora_alpha, target_modules=layers)
    adapters = LoraModel(model, config, "default")
    for name, parameter in model.named_parameters():
        if not name.startswith(prefix):
            parameter.requires_grad_(True)
    for part in head_modules(model):
        part.requires_grad_(True)
    return adapters


def output_layer(model: PreTrainedModel) -> nn.Linear:
    """Return the last linear layer of a regression model's head: the one with the outputs."""
    encoder = {id(module) for module in model.base_model.modules()}  # CamemBERT defines its encoder after its head
    layers = [module for module in model.modules() if isinstance(module, nn.Linear) and id(module) not in encoder]
    return layers[-1]


def _place(plm: PLM) -> dict[str, Any]:
    """Return the arguments that say where Transformers loads from; code in model folders is never run."""
    return {
        "pretrained_model_name_or_path": plm.source,
        "revision": plm.revision or "main",
        "trust_remote_code": False,
    }


@contextmanager
def _explained(plm: PLM) -> Iterator[None]:
    """Turn Transformers' many errors about a missing model into one message."""
    try:
        yield
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        if Path(plm.name).expanduser().is_dir():
            fix = "Check that this folder was saved by save_pretrained, with config.json, weights and tokenizer files."
        else:
            fix = "Neither the model hub nor its cache provided it; name a folder that holds it with plm.name="
        raise InputError(f"PLM {plm.name}: cannot be loaded ({type(error).__name__}: {reason}). {fix}") from error


TokenIds = npt.NDArray[np.int32]


class Tokenised(NamedTuple):
    """Texts as tokens.

    Args:
        ids: token ids of each text, including special tokens.
        cut: the rows of the texts that had to be cut.
        known: share of each whole text's characters that are in tokens known to the tokenizer, 0 to 1, (texts,).
    """

    ids: list[TokenIds]
    cut: list[int]
    known: Floats


def tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Tokenised:
    """Tokenise texts, cutting each at ``tokenizer.model_max_length`` tokens."""
    if not len(texts):
        return Tokenised([], [], np.empty(0))
    longest = tokenizer.model_max_length
    encoded = tokenizer(
        list(texts), truncation=False, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )
    cut = [row for row, ids in enumerate(encoded["input_ids"]) if len(ids) > longest]
    ids = [np.asarray(row, dtype=np.int32) for row in encoded["input_ids"]]
    known_share = np.ones(len(texts))
    if tokenizer.unk_token_id is not None:
        with_unknown = [row for row, tokens in enumerate(ids) if (tokens == tokenizer.unk_token_id).any()]
        known_share[with_unknown] = [_share_known(tokenizer, texts[row]) for row in with_unknown]
    if cut:
        again = tokenizer([texts[row] for row in cut], truncation=True, max_length=longest)
        for row, short in zip(cut, again["input_ids"], strict=True):
            ids[row] = np.asarray(short, dtype=np.int32)
    return Tokenised(ids, cut, known_share)


def _share_known(tokenizer: PreTrainedTokenizerBase, text: str) -> float:
    """Return the share of a text's characters, without blanks, that are in known tokens.

    If the tokenizer does not report the positions of its tokens, this is the share of tokens.
    """
    if not tokenizer.is_fast:
        ids: list[int] = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        return 1 - ids.count(tokenizer.unk_token_id) / max(len(ids), 1)
    encoded = tokenizer(text, return_offsets_mapping=True, add_special_tokens=False, truncation=False, verbose=False)
    pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    unknown = sum(
        len("".join(text[start:end].split())) for token, (start, end) in pairs if token == tokenizer.unk_token_id
    )
    return 1 - unknown / max(len("".join(text.split())), 1)


def pad(tokenizer: PreTrainedTokenizerBase, rows: Sequence[TokenIds]) -> dict[str, Tensor]:
    """Stack rows of token ids into ``input_ids`` and ``attention_mask``, both (batch, longest row), int64."""
    longest = max(len(row) for row in rows)
    ids = np.full((len(rows), longest), tokenizer.pad_token_id, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def length_batches(lengths: Sequence[int], size: int, rng: np.random.Generator | None = None) -> list[list[int]]:
    """Cut rows into batches of `size` rows of similar length.

    With `rng`, rows are shuffled, sorted within windows of 50 batches, and the batches are shuffled: composition and
    order differ every epoch while little is spent on padding (2 % of the tokens on essays, instead of 41 % with random
    batches). Without it, rows are sorted from long to short, so that a batch too large for memory fails at once.

    Returns:
        Batches of row numbers; each row is in exactly one.
    """
    order = np.arange(len(lengths)) if rng is None else rng.permutation(len(lengths))
    window = len(lengths) if rng is None else size * 50
    length = np.asarray(lengths)
    pieces = [order[start : start + window] for start in range(0, len(order), max(window, 1))]
    ordered = [piece[np.argsort(-length[piece], kind="stable")] for piece in pieces]
    batches = [piece[start : start + size].tolist() for piece in ordered for start in range(0, len(piece), size)]
    return batches if rng is None else [batches[index] for index in rng.permutation(len(batches))]
