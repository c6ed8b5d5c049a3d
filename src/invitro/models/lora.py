"""LoRA: low-rank adapters beside the encoder's frozen linear layers, trained in their place and merged on export."""

from typing import TYPE_CHECKING

from torch import nn
from transformers import PreTrainedModel

from invitro.models.features import head_modules
from invitro.models.settings import PLM

if TYPE_CHECKING:
    from peft import LoraModel


def add_adapters(model: PreTrainedModel, plm: PLM) -> "LoraModel":
    """Put adapters into `model` and freeze the rest of its encoder; what follows the encoder stays trainable.

    A layer ``W`` becomes ``W + lora_alpha / lora_rank * B A`` (Hu et al. 2022, eq. 3), with ``B`` starting at 0: the
    first step sees the model as it was loaded.

    Args:
        model: a regressor; it is changed in place.
        plm: `lora_rank` and `lora_alpha`.

    Returns:
        the adapters; their ``merge_and_unload`` makes `model` an ordinary model again, with the weights that it learnt.
    """
    from peft import LoraConfig, LoraModel

    after = {id(module) for part in head_modules(model) for module in part.modules()}
    encoder = {
        f"{model.base_model_prefix}.{name}": module
        for name, module in model.base_model.named_modules()
        if isinstance(module, nn.Linear) and id(module) not in after
    }
    config = LoraConfig(r=plm.lora_rank, lora_alpha=plm.lora_alpha, target_modules=list(encoder))
    adapters = LoraModel(model, config, "default")
    encoder_prefix = f"{model.base_model_prefix}."
    for name, parameter in model.named_parameters():
        if not name.startswith(encoder_prefix):
            parameter.requires_grad_(True)
    for part in head_modules(model):
        part.requires_grad_(True)
    return adapters
