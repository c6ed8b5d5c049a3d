"""NewsEmp24: the essays of the WASSA 2024 shared task, whose test labels are public to participants."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from invitro.data import wassa
from invitro.data.corpus import Corpus
from invitro.data.reader import DataFolder, Split, about_author, refuse_other_construct, without_unknown
from invitro.data.splits import Published
from invitro.files import read_table, require_columns
from invitro.scales import Scale

log = logging.getLogger(__name__)

CITATION = (
    "Giorgi, Sedoc, Barriere, Tafreshi: Findings of WASSA 2024 Shared Task on Empathy and Personality Detection "
    "in Interactions. WASSA 2024"
)
FILES = {"train": "trac3_EMP_train.csv", "dev": "trac3_EMP_dev.csv", "test": "goldstandard_EMP.csv"}
PEOPLE = ("trac4_PER_train.csv", "trac4_PER_dev.csv", "goldstandard_PER.csv")
"""Who the authors are; these files are optional."""
DIALECT = {"quotechar": '"', "escapechar": "\\"}
LAYOUT = wassa.Layout(
    ids=("conversation_id", "person_id"),
    group="person_id",
    text="person_essay",
    labels=("person_empathy", "person_distress"),
)


@dataclass(frozen=True)
class NewsEmp24:
    """Reads NewsEmp24 from the shared task's files.

    Args:
        split: the rule for training, validation and test; as published, dev is validation.
        folder: the data folder; see `DataFolder`.
        name: the corpus's key, and the name of its subfolder.
    """

    split: Split = field(default_factory=Published)
    folder: str | Path | None = None
    name: str = "newsemp24"

    def read(self, scale: Scale) -> Corpus:
        """Read the essays of train, dev and test with their authors' empathy or distress.

        ``text_id`` is ``<conversation_id>_<person_id>``, ``group_id`` the ``person_id``. Extra columns:
        ``official_split`` (train, dev, test), ``conversation_id``, ``article_id`` and, from the personality task's
        files when they are there, demographics, personality and IRI scores.

        Raises:
            InputError: a file is missing, or not as published.
        """
        refuse_other_construct(self.name, scale, wassa.CONSTRUCTS, wassa.SCALES)
        folder = DataFolder(self.folder)
        paths = folder.need_all(self.name, list(FILES.values()), wassa.obtain(2024))
        parts = []
        for official, path in zip(FILES, paths, strict=True):
            raw = read_table(path, **DIALECT)
            # The dev file was first given out without labels; such a copy can still be predicted for.
            labelled = official != "dev" or any(name in raw for name in LAYOUT.labels)
            labels = wassa.own_labels(raw, LAYOUT, scale.construct, path) if labelled else None
            parts.append(wassa.part(raw, official, LAYOUT, labels, path, scale))
        corpus = wassa.corpus(self.name, parts, scale, self.split, CITATION)
        return Corpus(self.name, self._with_authors(corpus.table, folder), corpus.licence, corpus.citation)

    def _with_authors(self, table: pd.DataFrame, folder: DataFolder) -> pd.DataFrame:
        """Add what the personality task's files say about the authors, by ``person_id``."""
        found = [path for file in PEOPLE if (path := folder.find(self.name, file)) is not None]
        if not found:
            log.info("%s: no demographics, since none of %s is there", self.name, ", ".join(PEOPLE))
            return table
        files = []
        for path in found:
            raw = read_table(path, **DIALECT)
            require_columns(raw, ["person_id"], path)
            files.append(raw)
        # One author stands in a file once for each essay.
        people = (
            without_unknown(pd.concat(files, ignore_index=True)).drop_duplicates("person_id").set_index("person_id")
        )
        described = people[[name for name in about_author(people) if name not in table]]
        return table.join(described, on="group_id")
