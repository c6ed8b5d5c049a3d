"""A shared encoder: every run's head starts as if it had loaded the model itself, and the encoder stays as it is."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from invitro.models import PLM
from invitro.models.features import encoder_key, head_modules
from invitro.models.frozen import load_frozen
from invitro.models.loading import load_regressor

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.mark.parametrize("encoder", ["tiny_deberta", "tiny_roberta", MINILM])
@pytest.mark.parametrize("bias", [3.5, [3.5, 0.1]])
def test_the_head_starts_as_if_loaded_alone(
    encoder: str, bias: float | list[float], request: pytest.FixtureRequest
) -> None:
    plm = PLM(encoder if encoder == MINILM else str(request.getfixturevalue(encoder)), train="head", dropout=0.2)
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        alone, after = load_regressor(plm, bias).state_dict(), torch.random.get_rng_state()
        torch.manual_seed(seed)
        (model, tokenizer), key = load_frozen(plm, bias)
        assert torch.equal(torch.random.get_rng_state(), after)
        assert model.state_dict().keys() == alone.keys()
        assert all(torch.equal(value, alone[name]) for name, value in model.state_dict().items())
        assert key == encoder_key(model, tokenizer)
        with torch.no_grad():  # a run trains its head, which the next run must not find
            for module in head_modules(model):
                for parameter in module.parameters():
                    parameter.add_(1.0)


def test_the_encoder_is_shared_and_the_head_is_not(tiny_deberta: Path) -> None:
    plm = PLM(str(tiny_deberta), train="head")
    (one, _), _ = load_frozen(plm, 3.0)
    (other, _), _ = load_frozen(plm, 4.0)
    heads = {id(parameter) for module in head_modules(one) for parameter in module.parameters()}
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        assert (first is second) == (id(first) not in heads)
    one.train()
    assert not any(module.training for module in other.modules())


def test_changed_weights_are_read_anew(tiny_deberta: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    for file in tiny_deberta.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    plm = PLM(str(folder), train="head")
    _, before = load_frozen(plm, 3.0)
    weights = load_file(folder / "model.safetensors")
    weights = {name: value + 1 if "embeddings" in name else value for name, value in weights.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (model, tokenizer), after = load_frozen(plm, 3.0)
    assert after != before
    assert after == encoder_key(model, tokenizer)


def test_an_encoder_that_lacks_weights_is_not_shared(tiny_deberta: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    folder.mkdir()
    for file in tiny_deberta.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    kept = {name: value.clone() for name, value in weights.items() if "layer.0.attention.output.dense" not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    plm = PLM(str(folder), train="head")
    torch.manual_seed(3)
    alone = load_regressor(plm, 3.0).state_dict()
    torch.manual_seed(3)
    (model, tokenizer), key = load_frozen(plm, 3.0)
    assert key is None
    assert all(torch.equal(value, alone[name]) for name, value in model.state_dict().items())
    torch.manual_seed(4)
    (other, _), _ = load_frozen(plm, 3.0)
    assert encoder_key(other, tokenizer) != encoder_key(model, tokenizer)
