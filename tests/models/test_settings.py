"""Settings of models: all problems at once, and identities of weights."""

from pathlib import Path

import pytest

from invitro.errors import InputError
from invitro.models import PLM, EmbeddingRidge, TfIdfRidge


def test_settings_report_all_problems_at_once() -> None:
    with pytest.raises(InputError) as refused:
        PLM("", train="half", max_length=1, dropout=1.5, lr=0)  # type: ignore[arg-type]
    assert len(refused.value.problems) == 5


def test_settings_of_baselines_report_all_problems_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        TfIdfRidge(ngrams=0, min_texts=True, penalties=[1, -1], folds=1)  # type: ignore[arg-type]
    assert len(refused.value.problems) == 4
    with pytest.raises(InputError) as refused:
        EmbeddingRidge("", max_length=1, folds=1, penalties=[])  # type: ignore[arg-type]
    assert len(refused.value.problems) == 4
    with pytest.raises(InputError, match=r"plm\.name=.*/none/here: no such folder"):
        EmbeddingRidge(f"{tmp_path}/none/here")


def test_the_fingerprint_of_a_folder_is_its_content(tiny_roberta: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(tiny_roberta, tmp_path / "copy")
    assert PLM(str(tmp_path / "copy")).fingerprint == PLM(str(tiny_roberta)).fingerprint
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"other")
    assert PLM(str(tmp_path / "copy")).fingerprint != PLM(str(tiny_roberta)).fingerprint
    assert PLM("org/name", revision="abc").fingerprint == "org/name@abc"


def test_the_fingerprint_of_an_embedding_is_its_encoder_s(tiny_roberta: Path) -> None:
    settings = EmbeddingRidge(str(tiny_roberta))
    assert settings.fingerprint == PLM(str(tiny_roberta)).fingerprint
    assert settings.licence == "see the base model's own card"
