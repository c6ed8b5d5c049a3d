"""Submissions: the test file's order, two constructs, and nothing that passes for a prediction without being one."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from invitro.errors import InputError
from invitro.models import TfIdfRidge
from invitro.models.closed_form import LinearModel, fitted_tfidf, ridge_of, save_linear
from invitro.models.folder import CardFacts
from invitro.models.scoring import load_scorer
from invitro.models.submission import MEMBER, Submission, read_submission, submit, write_archive
from invitro.scales import Item, Scale

TEXTS = ["sad and moved", "bored by news", "tender and warm", "nothing at all", "moved moved news", "warm sad bored"]


def model(folder: Path, construct: str, turn: float = 1.0, intercept: float = 4.0) -> Path:
    """Save a small TF-IDF model of a construct."""
    counter = fitted_tfidf(TEXTS * 2, TfIdfRidge())
    coefficients = turn * np.linspace(-1, 1, len(counter.vocabulary_))
    scale = Scale(f"batson_{construct}", construct, (Item("warm", "warm"),), 1, 7)
    facts = CardFacts("", "", "corpus", "terms", "", "")
    save_linear(folder, facts, LinearModel(counter, ridge_of(coefficients, intercept)), scale)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with a test file, ``empathy`` and ``distress`` models."""
    write_test(tmp_path, TEXTS)
    model(tmp_path / "empathy", "empathy")
    model(tmp_path / "distress", "distress", -0.5, 3.0)
    return tmp_path


def write_test(folder: Path, texts: list[str]) -> None:
    path = folder / "newsemp22" / "messages_test_features_ready_for_WS_2022.tsv"
    path.parent.mkdir(exist_ok=True)
    rows = "".join(f"R_{99 - n}\tr\t{text}\n" for n, text in enumerate(texts))  # ids fall: sorting would turn all round
    path.write_text(f"message_id\tresponse_id\tessay\n{rows}")


def job(place: Path, **changes: Any) -> Submission:
    given = {"model": str(place / "empathy"), "distress_model": str(place / "distress")} | changes
    return Submission(str(place / "predictions.zip"), "newsemp22", place, **given)


def test_both_columns_in_the_order_of_the_file(place: Path) -> None:
    done = submit(job(place))
    with zipfile.ZipFile(place / "predictions.zip") as archive:
        assert archive.namelist() == [MEMBER] == ["predictions_EMP.tsv"]
        lines = archive.read(MEMBER).decode().splitlines()
    found = np.array([[float(cell) for cell in line.split("\t")] for line in lines])
    for column, name in enumerate(("empathy", "distress")):
        assert found[:, column] == pytest.approx(load_scorer(place / name).score(TEXTS).score, abs=1e-6)
    assert not np.allclose(found[:, 0], found[:, 1])
    assert (done.rows, done.warnings) == (6, ())
    assert read_submission(place / "predictions.zip", 6).tolist() == found.tolist()
    assert "6 rows of empathy and distress, in the order of" in str(done)


def test_equal_predictions_make_equal_bytes(place: Path) -> None:
    submit(job(place))
    first = (place / "predictions.zip").read_bytes()
    submit(job(place, force=True))
    assert (place / "predictions.zip").read_bytes() == first


def test_a_missing_model_is_refused_and_then_flagged(place: Path) -> None:
    with pytest.raises(InputError, match=r"distress_model: expected a model of distress, found none.*missing=constant"):
        job(place, distress_model=None)
    done = submit(job(place, distress_model=None, missing="constant"))
    (warning,) = done.warnings
    assert warning.startswith("The column distress holds 4 in all 6 rows. It is NOT A PREDICTION")
    found = read_submission(place / "predictions.zip", 6)
    assert found[:, 1].tolist() == [4.0] * 6
    assert np.ptp(found[:, 0]) > 0
    (warning,) = submit(job(place, model=None, missing="constant", force=True)).warnings
    assert "The column empathy holds 4 in all 6 rows" in warning
    with pytest.raises(InputError, match="expected at least one of them"):
        job(place, model=None, distress_model=None, missing="constant")


def test_a_model_in_the_wrong_place_is_refused(place: Path) -> None:
    with pytest.raises(InputError) as refused:
        job(place, model=str(place / "distress"), distress_model=str(place / "empathy"))
    first, second = refused.value.problems
    assert first.endswith("expected a model of empathy, found one of distress; it belongs to distress_model=")
    assert second.startswith(f"distress_model={place / 'empathy'}: expected a model of distress, found one of empathy")
    model(place / "anxiety", "anxiety")
    with pytest.raises(InputError, match=r"expected a model of empathy, found one of anxiety$"):
        job(place, model=str(place / "anxiety"))


def test_settings_are_refused_together(place: Path) -> None:
    (place / "old.zip").write_text("mine")
    with pytest.raises(InputError) as refused:
        Submission(str(place / "p.tsv"), None, missing="zero", batch_size=0)  # type: ignore[arg-type]
    assert refused.value.problems == (
        "missing: expected refuse or constant, found 'zero'",
        "batch_size: expected a whole number of at least 1, found 0",
    )
    with pytest.raises(InputError) as refused:
        Submission(str(place / "p.tsv"), None, place, str(place / "none"))
    told = "\n".join(refused.value.problems)
    for part in ("p.tsv: expected a file ending in .zip", "data: expected the corpus", "model=", "no such folder"):
        assert part in told
    with pytest.raises(InputError, match=r"old\.zip: already exists"):
        Submission(str(place / "old.zip"), "newsemp22", place, str(place / "empathy"), str(place / "distress"))


def test_a_blank_text_is_refused_and_then_flagged(place: Path) -> None:
    write_test(place, [*TEXTS[:2], " ", *TEXTS[2:]])
    with pytest.raises(InputError, match=r"2022\.tsv: 1 row \(3\) without a text, .*missing=constant"):
        submit(job(place))
    assert not (place / "predictions.zip").exists()
    done = submit(job(place, missing="constant"))
    assert [warning.split(" holds")[0] for warning in done.warnings] == ["The column empathy", "The column distress"]
    assert "1 row (3) without a text: it is NOT A PREDICTION" in done.warnings[0]
    found = read_submission(place / "predictions.zip", 7)
    assert found[2] == pytest.approx(np.delete(found, 2, axis=0).mean(axis=0), abs=1e-6)


def test_scores_that_are_no_numbers_leave_nothing_behind(place: Path) -> None:
    model(place / "broken", "empathy", intercept=float("inf"))
    with pytest.raises(InputError, match=r"model=.*broken: 6 of 6 scores are not finite"):
        submit(job(place, model=str(place / "broken")))
    assert sorted(path.name for path in place.iterdir()) == ["broken", "distress", "empathy", "newsemp22"]


def test_scores_outside_the_scale_are_counted_or_clipped(place: Path) -> None:
    model(place / "high", "empathy", intercept=9.0)
    assert submit(job(place, model=str(place / "high"))).outside == 6
    assert submit(job(place, model=str(place / "high"), clip=True, force=True)).outside == 0
    assert (read_submission(place / "predictions.zip", 6)[:, 0] == 7).all()


def test_a_model_that_tells_nothing_is_flagged(place: Path) -> None:
    model(place / "flat", "empathy", turn=0.0)
    (warning,) = submit(job(place, model=str(place / "flat"))).warnings
    assert warning.startswith("The column empathy holds the same number in all rows")


def test_texts_that_the_models_cannot_read_are_counted(place: Path) -> None:
    write_test(place, [*TEXTS[:-1], "Мне очень жаль"])
    empathy, distress = submit(job(place)).warnings
    rest = "1 text with hardly any words that the model knows: data row 6"
    assert (empathy, distress) == (f"The column empathy: {rest}", f"The column distress: {rest}")


def archive(path: Path, content: bytes, member: str = MEMBER) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(member, content)
    return path


def test_a_submission_is_read_back(tmp_path: Path) -> None:
    for content in (b"1\t2\n3\t4\n", b"1\t2\r\n3\t4"):
        assert read_submission(archive(tmp_path / "p.zip", content), 2).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    "content",
    [b"empathy\tdistress\n1\t2\n", b"1\t2\n", b"1,2\n3,4\n", b"1\t2\t3\n4\t5\t6\n", b"1\tnan\n3\t4\n", b"1\t\n3\t4\n"],
)
def test_what_is_no_submission_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match=r"p\.zip: .*predictions_EMP\.tsv"):
        read_submission(archive(tmp_path / "p.zip", content), 2)


def test_other_archives_are_refused(tmp_path: Path) -> None:
    (tmp_path / "q.zip").write_text("{}")
    nested = archive(tmp_path / "p.zip", b"1\t2\n", f"predictions/{MEMBER}")
    for path in (nested, tmp_path / "q.zip", tmp_path / "none.zip"):
        with pytest.raises(InputError, match=f"{path}: expected a ZIP file with numbers in {MEMBER}"):
            read_submission(path, 1)


def test_an_archive_holds_six_decimals_and_no_time_of_day(tmp_path: Path) -> None:
    write_archive(tmp_path / "p.zip", np.array([[1 / 3, 7.0], [-0.5, 1e-9]]))
    with zipfile.ZipFile(tmp_path / "p.zip") as file:
        assert file.read(MEMBER) == b"0.333333\t7.000000\n-0.500000\t0.000000\n"
        assert file.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)
