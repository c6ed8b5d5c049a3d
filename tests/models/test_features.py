"""Features of a frozen encoder: computed once, shared, and what its head makes of them."""

from pathlib import Path

import pytest
import torch

from invitro.errors import InputError
from invitro.models import PLM
from invitro.models.features import FeatureCache, check_head, head_modules
from invitro.models.loading import load_regressor, load_tokenizer

TEXTS = ["sad story", "i feel moved and warm and tender for this family", "news", "nothing " * 20]


def test_features_are_computed_once_and_shared(plm: PLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = load_regressor(plm, bias=3), load_tokenizer(plm)
    first = FeatureCache(tmp_path, model, tokenizer).features(TEXTS)
    again = FeatureCache(tmp_path, load_regressor(plm, bias=5), tokenizer)  # another head, the same encoder
    monkeypatch.setattr("invitro.models.features.embedded", lambda *_: pytest.fail("computed again"))
    torch.testing.assert_close(again.features(TEXTS[::-1]).flip(0), first, rtol=0, atol=0)
    assert first.shape == (4, 32)


def test_features_of_another_cut_are_others(plm: PLM, tmp_path: Path) -> None:
    model = load_regressor(plm, bias=3)
    folders = {FeatureCache(tmp_path, model, load_tokenizer(PLM(plm.name, max_length=n))).folder for n in (16, 32)}
    assert len(folders) == 2


def test_features_of_another_pooling_have_a_folder_of_their_own(tiny_roberta: Path, tmp_path: Path) -> None:
    settings = PLM(str(tiny_roberta))
    model, tokenizer = load_regressor(settings, 0.0), load_tokenizer(settings)
    folders = [FeatureCache(tmp_path, model, tokenizer, *more).folder for more in ((), ("first",), ("mean",))]
    assert folders[0] == folders[1] != folders[2]


def test_a_damaged_cache_file_is_replaced(plm: PLM, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, load_regressor(plm, bias=3), load_tokenizer(plm))
    first = cache.features(TEXTS)
    assert cache.folder is not None
    for file in cache.folder.iterdir():
        file.write_bytes(file.read_bytes()[:40])
    torch.testing.assert_close(cache.features(TEXTS), first)
    assert len(list(cache.folder.iterdir())) == 1


def test_the_head_on_features_is_the_model(plm: PLM) -> None:
    model, tokenizer = load_regressor(plm, bias=3), load_tokenizer(plm)
    check_head(model, tokenizer)
    trained = sum(p.numel() for module in head_modules(model) for p in module.parameters())
    assert trained == 32 * 32 + 32 + 32 + 1  # a dense layer and the output


def test_an_architecture_without_such_a_head_is_refused(tmp_path: Path, plm: PLM) -> None:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(vocab_size=300, dim=16, hidden_dim=16, n_layers=1, n_heads=2, num_labels=1)
    with pytest.raises(InputError, match=r"plm\.train=head: DistilBertForSequenceClassification"):
        check_head(DistilBertForSequenceClassification(config), load_tokenizer(plm))
