"""What corpus readers share: the folder of data files, and the interfaces of readers and split rules."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pandas as pd
import pooch

from invitro.data.corpus import DEMOGRAPHICS, Corpus
from invitro.errors import InputError, refuse_if_any
from invitro.scales import Scale

log = logging.getLogger(__name__)


def same_text(texts: "pd.Series[str]") -> "pd.Series[str]":
    """Return the form in which two texts are compared: the text without white space at its ends."""
    return texts.str.strip()


def refuse_shared_texts(training: pd.DataFrame, evaluation: pd.DataFrame, source: str) -> None:
    """Raise an error if a model could memorise texts in training and then be tested on them.

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
            "%s: %d training or pool texts are also validation or test texts, and are left out: %s%s",
            source, int(shared.sum()), ids, " ..." if shared.sum() > 5 else "",
        )  # fmt: skip
    return table.loc[~shared].reset_index(drop=True)


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
    """The one folder for data files: ``FOLDER/<corpus>/<file>``, or ``FOLDER/<file>``.

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
            "Put it there, or name another folder by data.folder= or INVITRO_DATA_DIR"
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
                "or name the folder that holds it by data.folder= or INVITRO_DATA_DIR"
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


@dataclass(frozen=True)
class Combination:
    """Reads several corpora into one.

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
    members: Sequence[Reader]
    split: SplitRule | None = None
    folder: str | Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", tuple(self.members))
        names = [member.name for member in self.members]
        problems = [
            "expected at least one corpus, found none" if not names else "",
            f"expected names that differ, found {', '.join(names)}" if len(set(names)) < len(names) else "",
            f"expected names without a colon, found {', '.join(names)}" if any(":" in name for name in names) else "",
        ]
        refuse_if_any(f"{self.name}: data.members: {problem}" for problem in problems if problem)

    def read(self, scale: Scale) -> Corpus:
        """Read all members with the crowd labels of `scale`'s construct.

        A text of another member that is also in the primary's validation or test is left out, and the log says how many
        there are: NewsEmp24 repeats essays of NewsEmp23.
        """
        primary, *others = [self._configured(member, first=not i).read(scale) for i, member in enumerate(self.members)]
        measured = set(same_text(primary.of_split("val", "test")["text"]))
        tables = [_prefixed(primary)]
        for corpus in others:
            table = _prefixed(corpus)
            leaking = same_text(table["text"]).isin(measured)
            if leaking.any():
                log.warning(
                    "%s: %d texts of %s are also validation or test texts of %s and are left out",
                    self.name,
                    int(leaking.sum()),
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
    """Return the corpus's table with its name before text and group ids."""
    ids = {name: f"{corpus.name}:" + corpus.table[name] for name in ("text_id", "group_id")}
    return corpus.table.assign(**ids)
