"""The rater that counts words: out of fold, by authors, whatever the order of the rows."""

import numpy as np
import pytest
from support import small_corpus

from invitro.data.splits import author_folds
from invitro.errors import InputError
from invitro.raters.precision import fitted, out_of_fold, word_counts


def test_folds_keep_authors_whole_and_cover_all_rows_once() -> None:
    groups = np.array([f"a{number % 7}" for number in range(40)])
    seen = []
    for rest, left_out in author_folds(groups, "test", 3):
        assert not set(groups[rest]) & set(groups[left_out])
        seen += left_out.tolist()
    assert sorted(seen) == list(range(40))
    assert len(list(author_folds(groups[:3], "test"))) == 3  # no more folds than authors


def test_predictions_are_out_of_fold_informative_and_in_any_order_the_same() -> None:
    corpus = small_corpus(300, authors=60)
    counts = word_counts(corpus["essay"].tolist())
    crowd, authors = corpus["empathy"].to_numpy(), corpus["author"].to_numpy()
    found = out_of_fold(counts, crowd, authors, "test")
    assert np.corrcoef(found, crowd)[0, 1] > 0.4
    own = authors == "a3"
    changed = out_of_fold(counts, np.where(own, 8 - crowd, crowd), authors, "test")
    assert (changed[own] == found[own]).all()
    assert (changed != found).any()
    order = np.random.default_rng(0).permutation(len(crowd))
    np.testing.assert_allclose(
        out_of_fold(counts[order], crowd[order], authors[order], "test"), found[order], atol=1e-3
    )


def test_a_weight_of_two_is_a_text_that_stands_twice() -> None:
    corpus = small_corpus(40)
    counts, labels = word_counts(corpus["essay"].tolist()), corpus["empathy"].to_numpy()
    rows = np.append(np.arange(40), np.arange(10))
    twice = fitted(counts[rows], labels[rows]).predict(counts)
    weighted = fitted(counts, labels, np.where(np.arange(40) < 10, 2.0, 1.0)).predict(counts)
    np.testing.assert_allclose(weighted, twice, atol=2e-3)
    assert not np.allclose(weighted, fitted(counts, labels).predict(counts), atol=2e-2)


def test_texts_without_common_words_and_a_single_author_are_refused() -> None:
    with pytest.raises(InputError, match="no words in common"):
        word_counts(["one", "two"])
    with pytest.raises(InputError, match=r"application=auto is fitted out of fold, by authors.*found 1"):
        list(author_folds(["a", "a"], "application=auto"))
