"""What corpus readers share: the folder of data files, and the interfaces of readers and split rules."""

import html
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable
from unicodedata import normalize

import numpy as np
import pandas as pd
import pooch
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer

from invitro.data.corpus import DEMOGRAPHICS, Corpus
from invitro.errors import InputError, refuse_if_any
from invitro.scales import Scale
from invitro.settings import checked
from invitro.stats import Bools, Floats
from invitro.writing.words import count

log = logging.getLogger(__name__)


UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb]"
)
"""Control characters other than white space, and zero-width characters."""
STRAIGHT = str.maketrans("\u2018\u2019\u201a\u201c\u201d\u201e", "'''\"\"\"")
SIMILAR, RUN = 0.7, 5
"""Texts at least this similar, by runs of this many characters, are near copies: 7 pairs of NewsEmp18's essays are, all
above .8; no other pair is above .5.
"""
RARE, ROWS = 0.01, 512
"""The largest share of texts that a rare run occurs in; rows of texts that are compared at a time."""
ODD = np.uint64(0x9E3779B97F4A7C15)
MOST_CHARACTERS = 100_000_000
"""Near copies are searched for in up to this many characters of text, 200,000 essays: 5 GB of memory."""


@lru_cache(maxsize=1 << 16)
def text_form(text: str) -> str:
    r"""Return the form in which texts are compared, so that copies made by other programs count as the same text.

    HTML entities are resolved; letters are in Unicode's compatibility form (NFKC) and in lower case, quotation marks
    straight; white space becomes single blanks; zero-width characters and full stops at the end are removed.

    Example:
        >>> text_form("I&rsquo;m \u200bSAD \r\n for  them."), text_form("I'm sad for them")
        ("i'm sad for them", "i'm sad for them")
    """
    while (plain := html.unescape(text)) != text:  # entities of entities too; each pass is shorter
        text = plain
    text = normalize("NFKC", normalize("NFKC", UNSEEN.sub("", text)).casefold())
    return " ".join(text.translate(STRAIGHT).split()).rstrip(" .\u3002\u0964")


def same_text(texts: "pd.Series[str]") -> "pd.Series[str]":
    """Return the `text_form` of each text: equal for copies of one text."""
    return texts.map(text_form)


class NearCopy(NamedTuple):
    """A training and an evaluation text that are nearly the same: ids, and a similarity from `SIMILAR` to 1."""

    trained: str
    measured: str
    similarity: float


@dataclass(frozen=True)
class Leaks:
    """What training and evaluation texts share, which may flatter the evaluation.

    Args:
        near_copies: training texts that are nearly evaluation texts, the most similar first.
        authors: number of authors with texts of both kinds.
        texts: number of evaluation texts by these authors.
        measured: number of evaluation texts.
        looked: whether near copies were searched for: not in more than `MOST_CHARACTERS`.
    """

    near_copies: tuple[NearCopy, ...]
    authors: int
    texts: int
    measured: int
    looked: bool = True

    def lines(self) -> Iterator[str]:
        """Yield a line for people on each kind of leak."""
        if pairs := self.near_copies:
            examples = ", ".join(f"{pair.trained} ~ {pair.measured} ({pair.similarity:.2f})" for pair in pairs[:5])
            yield (
                f"{count(len(pairs), 'near copy', 'near copies')} in training and evaluation (similarity of at "
                f"least {SIMILAR:g}, by runs of {RUN} characters): {examples}{', ...' if len(pairs) > 5 else ''}; "
                "remove one of each pair"
            )
        if not self.looked:
            yield (
                "near copies in training and evaluation were not searched for, as the texts have more than "
                f"{MOST_CHARACTERS:,} characters; equal texts were"
            )
        if self.authors:
            yield (
                f"{count(self.authors, 'author')} on both sides: of training texts and of {self.texts} of "
                f"{self.measured} evaluation texts, so a model can recognise the writer; data/split=kfold and "
                "data/split=holdout with data.split.grouped=true keep an author's texts together"
            )


def leaks(training: pd.DataFrame, corpus: Corpus) -> Leaks:
    """Return the near copies and authors that training and evaluation share.

    Texts are compared by the cosine of TF-IDF weights of all runs of `RUN` characters in their `text_form`.

    Args:
        training: ``text_id``, ``text`` and ``group_id`` of the training texts.
        corpus: has the evaluation texts, those of validation and test; runs are counted in all of its texts.
    """
    evaluation = corpus.of_split("val", "test")
    shared = evaluation["group_id"].isin(training["group_id"])
    authors = evaluation["group_id"][shared].nunique(), int(shared.sum()), len(evaluation)
    ours, theirs = [same_text(table["text"]).tolist() for table in (training, evaluation)]
    if not ours or max(map(len, theirs), default=0) < RUN:
        return Leaks((), *authors)
    if sum(map(len, ours)) + sum(map(len, theirs)) > MOST_CHARACTERS:
        return Leaks((), *authors, looked=False)
    vectors, rows = _vectors(tuple(sorted({*ours, *theirs, *same_text(corpus.table["text"])})))
    trained, measured = training["text_id"].tolist(), evaluation["text_id"].tolist()
    near = _near(vectors[[rows[form] for form in ours]], vectors[[rows[form] for form in theirs]])
    pairs = [NearCopy(trained[mine], measured[other], round(min(1.0, cosine), 3)) for mine, other, cosine in near]
    return Leaks(tuple(sorted(pairs, key=lambda pair: (-pair.similarity, pair))), *authors)


@lru_cache(maxsize=2)  # the jobs of a multirun compare the same texts in different splits
def _vectors(forms: tuple[str, ...]) -> tuple[Any, dict[str, int]]:
    """Return the weights of all runs of characters, (texts, runs), sparse, and the row of each text.

    They equal those of scikit-learn's TfidfVectorizer, which takes five times as long to read the characters.
    """
    characters = np.frombuffer("\0".join(forms).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    ends = characters == 0
    keys = np.zeros(len(characters) - RUN + 1, dtype=np.uint64)
    inside = np.ones(len(keys), dtype=bool)
    for offset in range(RUN):
        part = slice(offset, len(keys) + offset)
        keys = keys * ODD + characters[part]  # a hash of 64 bits
        inside &= ~ends[part]
    texts = np.cumsum(ends, dtype=np.int32)[: len(keys)][inside]
    runs, names = pd.factorize(keys[inside])
    shape = len(forms), len(names)
    counts = csr_matrix((np.ones(len(runs), dtype=np.float32), (texts, runs.astype(np.int32))), shape=shape)
    return TfidfTransformer().fit_transform(counts), {form: row for row, form in enumerate(forms)}


def _near(ours: Any, theirs: Any) -> Iterator[tuple[int, int, float]]:
    """Yield all pairs of rows of `ours` and `theirs` whose cosine is `SIMILAR` or more, and the cosine.

    With each text x divided into its rare runs r and its frequent ones f, ``x y <= x_r y_r + |x_f| |y_f|``: most pairs
    are ruled out by their rare runs alone, which few texts share. Texts of frequent runs are compared whole.
    """
    texts = ours.getnnz(axis=0) + theirs.getnnz(axis=0)
    rare = texts <= RARE * (ours.shape[0] + theirs.shape[0])
    plain, also_plain = (_length(rows, ~rare) >= SIMILAR**0.5 for rows in (ours, theirs))
    every, all_ours = np.ones_like(rare), np.ones_like(plain)
    parts = ((~plain, ~also_plain, rare), (plain, ~also_plain, every), (all_ours, also_plain, every))
    for left, right, chosen in parts:
        mine, others = np.flatnonzero(left), np.flatnonzero(right)
        for row, other, cosine in _nearly(ours[mine], theirs[others], chosen):
            yield int(mine[row]), int(others[other]), cosine


def _nearly(ours: Any, theirs: Any, chosen: Bools) -> Iterator[tuple[int, int, float]]:
    """Yield pairs as `_near`, given that ``|x_f| |y_f|`` is below `SIMILAR` for all, f the runs not `chosen`."""
    rests = _length(ours, ~chosen), _length(theirs, ~chosen)
    columns = np.flatnonzero(chosen)
    weights = ours[:, columns].T.tocsr()
    for start in range(0, theirs.shape[0] if ours.shape[0] else 0, ROWS):
        block = theirs[start : start + ROWS]
        shared = (block[:, columns] @ weights).tocoo()
        likely = shared.data >= SIMILAR - rests[0].max() * rests[1][start : start + ROWS].max() - 1e-6
        row, column = shared.row[likely], shared.col[likely]
        likely = shared.data[likely] >= SIMILAR - rests[1][start + row] * rests[0][column] - 1e-6
        row, column = row[likely], column[likely]
        alike = np.asarray(block[row].multiply(ours[column]).sum(axis=1)).ravel()
        for pair in np.flatnonzero(alike >= SIMILAR):
            yield int(column[pair]), start + int(row[pair]), float(alike[pair])


def _length(rows: Any, chosen: Bools) -> Floats:
    """Return the Euclidean length of each sparse row in the `chosen` columns."""
    squares: Floats = np.asarray(rows.power(2) @ chosen.astype(np.float64))
    return np.sqrt(squares)


def refuse_shared_texts(training: pd.DataFrame, evaluation: pd.DataFrame, source: str) -> None:
    """Raise an error if a model could memorise texts in training and then be tested on them.

    Texts are the same if they have the same `text_form`.

    Args:
        training: ``text_id`` and ``text`` of all texts trained on: training texts and pool.
        evaluation: ``text_id`` and ``text`` of validation and test.
        source: the corpus or file named in the error.

    Raises:
        InputError: a text occurs in both; the message has up to five pairs of ids.
    """
    learnt = training.assign(key=same_text(training["text"])).drop_duplicates("key").set_index("key")["text_id"]
    keys = same_text(evaluation["text"])
    shared = keys.isin(learnt.index)
    if shared.any():
        pairs = zip(keys[shared].map(learnt).head(5), evaluation["text_id"][shared].head(5), strict=True)
        more = f" and {int(shared.sum()) - 5} more" if shared.sum() > 5 else ""
        raise InputError(
            f"{source}: expected every text either in training (or its pool) or in validation and test, "
            f"found {int(shared.sum())} in both: {', '.join(f'{mine} = {other}' for mine, other in pairs)}{more}. "
            "Choose a split that keeps identical texts together (data/split=holdout, or data/split=kfold "
            "data.split.grouped=true), remove one of each pair, or set allow_shared_texts=true"
        )


def without_shared_texts(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return a table without the training and unlabelled texts that are also in validation or test; log their ids."""
    measured = table["split"].isin(["val", "test"])
    keys = same_text(table["text"])
    shared = ~measured & keys.isin(keys[measured])
    if shared.any():
        ids = ", ".join(table["text_id"][shared].head(5))
        log.warning(
            "%s: left out: %s of training or pool also in validation or test: %s%s",
            source, count(int(shared.sum()), "text"), ids, " ..." if shared.sum() > 5 else "",
        )  # fmt: skip
    return table.loc[~shared].reset_index(drop=True)


@runtime_checkable
class Reader(Protocol):
    """Anything that can read a corpus."""

    @property
    def name(self) -> str:
        """The corpus's key."""

    def read(self, scale: Scale) -> Corpus:
        """Read the corpus with the crowd labels of `scale`'s construct and with its splits assigned."""


@runtime_checkable
class SplitRule(Protocol):
    """A rule that says which texts are for training, validation and test."""

    def assign(self, table: pd.DataFrame) -> "pd.Series[str]":
        """Return the split of each row of a canonical table, with the same index."""


@dataclass(frozen=True)
class DataFolder:
    """The folder for data files: ``FOLDER/<corpus>/<file>``, or ``FOLDER/<file>``.

    Args:
        path: the folder, as named by the configuration or ``INVITRO_DATA_DIR``; None is the user's cache folder.
    """

    path: str | Path | None = None

    @property
    def root(self) -> Path:
        """The folder in use."""
        # An empty INVITRO_DATA_DIR names no folder; it does not mean the current directory.
        return Path(self.path).expanduser() if self.path not in (None, "") else Path(pooch.os_cache("invitro"))

    def find(self, corpus: str, file: str) -> Path | None:
        """Return the path of `file` of `corpus`, or None."""
        for candidate in (self.root / corpus / file, self.root / file):
            if candidate.is_file():
                return candidate
        return None

    def need(self, corpus: str, file: str, obtain: str) -> Path:
        """Return the path of `file`, or raise an error that says where it was looked for and how to `obtain` it."""
        return self.need_all(corpus, [file], obtain)[0]

    def need_all(self, corpus: str, files: Sequence[str], obtain: str) -> list[Path]:
        """Return the path of each of `files`, or raise an error that names all missing ones."""
        paths = [(file, self.find(corpus, file)) for file in files]
        refuse_if_any(
            f"{corpus}: the file {file} is neither in {self.root / corpus} nor in {self.root}. {obtain} "
            "Put it there, or set another folder with data.folder= or INVITRO_DATA_DIR"
            for file, path in paths
            if path is None
        )
        return [path for _, path in paths if path is not None]

    def fetch(self, corpus: str, file: str, url: str, sha256: str, licence: str) -> Path:
        """Return the path of `file`, downloading it if it is missing; its hash is checked either way.

        Raises:
            InputError: the file has different content, or cannot be downloaded.
        """
        target = self.find(corpus, file) or self.root / corpus / file
        if target.is_file() and pooch.file_hash(str(target)) != sha256:
            raise InputError(
                f"{target}: expected SHA-256 {sha256}, found {pooch.file_hash(str(target))}; "
                f"this is not the published file. Move it away to download {url} again"
            )
        try:
            pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=target.name, path=target.parent, progressbar=False)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors, pooch's for a wrong hash a ValueError
            raise InputError(
                f"{corpus}: {file} is not in {self.root / corpus} and could not be downloaded from {url} "
                f"({type(error).__name__}). Download it by hand ({licence}; SHA-256 {sha256}) into {target.parent}, "
                "or set the folder that holds it with data.folder= or INVITRO_DATA_DIR"
            ) from error
        return target


def without_unknown(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` with "unknown" and blank cells as NA in the columns that describe the author."""
    table = table.copy()
    for name in about_author(table):
        text = table[name].str.strip()
        table[name] = text.mask(text.str.lower().isin(["", "unknown"]))
    return table


def about_author(table: pd.DataFrame) -> list[str]:
    """Return the columns that describe the author: demographics, personality and the empathy questionnaire (IRI)."""
    return [name for name in table.columns if name in DEMOGRAPHICS or name.startswith(("personality_", "iri_"))]


@checked("data")
@dataclass(frozen=True)
class Combination:
    """Combines several corpora into one.

    The first member is the primary: it keeps its splits. The training and validation texts of the others join its
    training texts (their dev sets are more useful there); their test and unlabelled texts become ``unlabelled``, and
    their crowd labels are not used. Ids are prefixed with the member's name: ``newsemp22:R_1``.

    Args:
        name: the combination's key.
        members: the corpora's readers, the primary first; their names must differ.
        split: the rule for the primary's texts; None uses the primary's own.
        folder: the data folder of all members; None uses each member's own.
    """

    name: str
    members: tuple[Reader, ...]
    split: SplitRule | None = None
    folder: str | Path | None = None

    def contradictions(self) -> Iterator[str]:
        """Yield what is wrong with the members' names."""
        names = [member.name for member in self.members]
        if not names:
            yield "data.members: expected at least one corpus, found none"
        if len(set(names)) < len(names):
            yield f"data.members: expected names that differ, found {', '.join(names)}"
        if any(":" in name for name in names):
            yield f"data.members: expected names without a colon, found {', '.join(names)}"

    def read(self, scale: Scale) -> Corpus:
        """Read all members with the crowd labels of `scale`'s construct.

        A text of another member that is also in the primary's validation or test is left out, and the log gives their
        number: NewsEmp24 repeats essays of NewsEmp23.
        """
        primary, *others = [self._configured(member, first=not i).read(scale) for i, member in enumerate(self.members)]
        measured = set(same_text(primary.of_split("val", "test")["text"]))
        tables = [_prefixed(primary)]
        for corpus in others:
            table = _prefixed(corpus)
            leaking = same_text(table["text"]).isin(measured)
            if leaking.any():
                log.warning(
                    "%s: left out: %s of %s also in validation or test of %s",
                    self.name,
                    count(int(leaking.sum()), "text"),
                    corpus.name,
                    primary.name,
                )
            table["split"] = table["split"].isin(["train", "val"]).map({True: "train", False: "unlabelled"})
            tables.append(table[~leaking])
        corpora = [primary, *others]
        return Corpus(
            self.name,
            pd.concat(tables, ignore_index=True),
            licence="; ".join(dict.fromkeys(corpus.licence for corpus in corpora)),
            citation="; ".join(dict.fromkeys(corpus.citation for corpus in corpora)),
            label_corpora=tuple(member.name for member in self.members),
            published_ids={name: ids for corpus in corpora for name, ids in corpus.published_ids.items()},
        )

    def _configured(self, member: Reader, first: bool) -> Reader:
        """Return `member` with the combination's folder and, for the primary, its split."""
        changes: dict[str, Any] = {}
        if self.folder is not None and hasattr(member, "folder"):
            changes["folder"] = self.folder
        if self.split is not None and first:
            changes["split"] = self.split
        reader: Any = member
        return replace(reader, **changes) if changes else member


def _prefixed(corpus: Corpus) -> pd.DataFrame:
    """Return the corpus's table with its name as a prefix of text and group ids."""
    ids = {name: f"{corpus.name}:" + corpus.table[name] for name in ("text_id", "group_id")}
    return corpus.table.assign(**ids)
