"""Features of a frozen encoder: every layer's mean, computed once and shared."""

from pathlib import Path

import numpy as np
import pytest
import torch

from invitro.errors import InputError
from invitro.models import PLM
from invitro.models.encoder import load_encoder, reads_forwards
from invitro.models.features import FeatureCache, FrozenEncoder

TEXTS = ["sad story", "i feel moved and warm and tender for this family", "news", "nothing " * 80]


def test_features_are_computed_once_and_shared(plm: PLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = FeatureCache(tmp_path, FrozenEncoder(plm)).features(TEXTS)
    assert first.features.shape == (4, 3, 32)
    assert first.cut.tolist() == [False, False, False, True]
    again = FeatureCache(tmp_path, FrozenEncoder(plm))
    monkeypatch.setattr(FrozenEncoder, "loaded", property(lambda _: pytest.fail("the encoder was loaded again")))
    turned = again.features(TEXTS[::-1])
    assert (turned.features[::-1] == first.features).all()
    assert turned.cut.tolist() == [True, False, False, False]
    assert again.features([]).features.shape == (0, 3, 32)


def test_new_texts_join_those_in_the_cache(plm: PLM, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, FrozenEncoder(plm))
    one, both = cache.features(TEXTS[:2]), cache.features(TEXTS)
    assert (both.features[:2] == one.features).all()
    assert cache.folder is not None
    assert len(list(cache.folder.iterdir())) == 2
    apart = FeatureCache(None, FrozenEncoder(plm)).features(TEXTS)
    np.testing.assert_allclose(both.features, apart.features, atol=1e-5)


def test_features_of_another_cut_are_others(plm: PLM, tmp_path: Path) -> None:
    folders = {FeatureCache(tmp_path, FrozenEncoder(PLM(plm.name, max_length=n))).folder for n in (16, 32)}
    assert len(folders) == 2


def test_a_damaged_cache_file_is_replaced(plm: PLM, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, FrozenEncoder(plm))
    first = cache.features(TEXTS)
    assert cache.folder is not None
    for file in cache.folder.iterdir():
        file.write_bytes(file.read_bytes()[:40])
    np.testing.assert_allclose(cache.features(TEXTS).features, first.features, atol=1e-6)
    assert len(list(cache.folder.iterdir())) == 1


@pytest.mark.parametrize("name", ["tiny_deberta", "tiny_roberta", "tiny_llama"])
def test_a_layer_s_feature_is_its_mean_over_tokens(request: pytest.FixtureRequest, name: str) -> None:
    plm = PLM(str(request.getfixturevalue(name)), max_length=64)
    model, tokenizer = load_encoder(plm)
    decoder = reads_forwards(model.config)
    assert decoder == (name == "tiny_llama")
    features = FrozenEncoder(plm).embed(TEXTS, batch_size=2).features
    with torch.inference_mode():  # one text at a time, so that nothing is padded
        for text, found in zip(TEXTS, features, strict=True):
            ids = tokenizer(text, return_tensors="pt", truncation=True, return_token_type_ids=False)
            layers = torch.stack(model.eval()(**ids, output_hidden_states=True).hidden_states)[:, 0]
            seen = layers[:, 1:] if decoder and layers.shape[1] > 1 else layers  # a decoder's first token says nothing
            np.testing.assert_allclose(found, seen.mean(dim=1), atol=1e-5)


def test_a_model_that_translates_is_refused(tmp_path: Path) -> None:
    from transformers import T5Config

    T5Config(vocab_size=300, d_model=16, num_layers=1, num_heads=2).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"expected an encoder or a decoder, found both \(t5\)"):
        load_encoder(PLM(str(tmp_path)))
