"""An encoder that stays as it is: loaded once a process, and shared by all runs that train a head on its features."""

from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from typing import NamedTuple

import torch

from invitro.models.features import check_head, encoder_key, head_modules
from invitro.models.loading import Loaded, load_regressor, load_tokenizer, set_bias
from invitro.models.settings import PLM

DRAWN = "_is_hf_initialized"
"""Transformers' own mark of modules and parameters that its initialisation leaves as they are."""


class Frozen(NamedTuple):
    """What all runs on one encoder share; nobody trains or moves it.

    Args:
        loaded: the model and its tokenizer, as they were loaded.
        key: `encoder_key` of both.
        missing: names of the parameters that the checkpoint does not have, and that each run therefore draws.
    """

    loaded: Loaded
    key: str
    missing: frozenset[str]


def load_frozen(plm: PLM, bias: float | Sequence[float]) -> tuple[Loaded, str | None]:
    """Return a regressor whose head is this run's own and whose encoder is shared, and the encoder's key.

    The head starts as `load_regressor` would let it start: what the checkpoint lacks is drawn by the architecture's
    own initialisation, from torch's generator where it stands. An encoder that itself lacks weights is not shared,
    since every run draws other ones; it has no key then.

    Args:
        plm: which encoder.
        bias: where the bias of each output starts, one number an output.

    Raises:
        InputError: the encoder cannot be loaded, or does not regress on its first token.
    """
    outputs = 1 if isinstance(bias, (int, float)) else len(bias)
    shared = _shared(plm, plm.fingerprint, outputs)
    if shared is None:
        loaded = Loaded(load_regressor(plm, bias), load_tokenizer(plm))
        check_head(*loaded)
        return loaded, None
    original = shared.loaded.model
    own = {id(parameter) for module in head_modules(original) for parameter in module.parameters()}
    model = deepcopy(original, {id(one): one for one in original.parameters() if id(one) not in own})
    for name in shared.missing:
        for part in (model.get_submodule(name.rpartition(".")[0]), model.get_parameter(name)):
            setattr(part, DRAWN, False)
    model.initialize_weights()
    set_bias(plm, model, bias)
    return Loaded(model, shared.loaded.tokenizer), shared.key


@lru_cache(maxsize=1)
def _shared(plm: PLM, fingerprint: str, outputs: int) -> Frozen | None:
    """Load what can be shared, leaving torch's generator as it is; None if nothing can.

    `fingerprint` is that of the weights' files, so that a changed file is read anew.
    """
    with torch.random.fork_rng(devices=[]):
        missing: set[str] = set()
        loaded = Loaded(load_regressor(plm, [0.0] * outputs, missing), load_tokenizer(plm))
        model = loaded.model
        own = {id(parameter) for module in head_modules(model) for parameter in module.parameters()}
        if any(id(model.get_parameter(name)) not in own for name in missing):
            return None
        check_head(*loaded)
        for part in (*model.parameters(), *model.modules()):
            setattr(part, DRAWN, True)
    return Frozen(loaded, encoder_key(*loaded), frozenset(missing))
