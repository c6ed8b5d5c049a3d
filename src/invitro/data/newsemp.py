"""Reactions to news stories: NewsEmp18 and the corpora of the WASSA shared tasks of 2022, 2023 and 2024.

One reader serves all years; `YEARS` lists how they differ. NewsEmp18 is downloaded. The others need registration and
must not be redistributed, so they are read from the data folder.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from invitro.data.corpus import Corpus, canonical, is_blank
from invitro.data.reader import DataFolder, SplitRule, about_author, without_shared_texts, without_unknown
from invitro.data.splits import DevAsTest, Published
from invitro.errors import InputError
from invitro.scales import Scale
from invitro.settings import checked
from invitro.tables import numbers, read_table, require_columns
from invitro.writing.words import count

log = logging.getLogger(__name__)

CONSTRUCTS = ("empathy", "distress")
ROLES = {"all": "train", "train": "train", "dev": "val", "test": "test"}
"""The split of each official part; texts without a crowd label are ``unlabelled`` in any part."""


@dataclass(frozen=True)
class Year:
    """What is specific to one year's corpus.

    Args:
        citation: the publication to cite.
        files: the file of each official part, a key of `ROLES`.
        labelled: the parts whose file must have labels; labels of other parts are read if they have any.
        ids: the columns that form a text's id, joined by ``_``.
        group: the column with the author.
        text: the column with the essay.
        labels: the columns with empathy and distress, in files that have them.
        gold: the file with the labels of ``dev``, row by row, without ids or header: empathy, then distress.
        people: optional files that describe the authors, by `group`.
        escapechar: the character that escapes a quote inside an essay.
        licence: the terms under which the data may be used.
        url: the address of its only file; None if it may not be downloaded.
        sha256: the SHA-256 of that file.
    """

    citation: str
    files: Mapping[str, str]
    labelled: tuple[str, ...]
    ids: tuple[str, ...]
    group: str
    text: str = "essay"
    labels: tuple[str, str] = CONSTRUCTS
    gold: str | None = None
    people: tuple[str, ...] = ()
    escapechar: str | None = None
    licence: str = "for registered participants of the shared task; redistribution is not allowed"
    url: str | None = None
    sha256: str = ""


YEARS = {
    18: Year(
        "Buechel, Buffone, Slaff, Ungar, Sedoc: Modeling Empathy and Distress in Reaction to News Stories. EMNLP 2018",
        files={"all": "messages.csv"},
        labelled=("all",),
        ids=("message_id",),
        group="response_id",
        licence="CC BY 4.0: name the authors",
        url="https://raw.githubusercontent.com/wwbp/empathic_reactions/3ddbf6b/data/responses/data/messages.csv",
        sha256="380d2670254565629f81616df57cc0729de96ac87c056d05e39c370624ae8f64",
    ),
    22: Year(
        "Barriere, Tafreshi, Sedoc, Alqahtani: WASSA 2022 Shared Task: Predicting Empathy, Emotion and Personality "
        "in Reaction to News Stories. WASSA 2022",
        files={
            "train": "messages_train_ready_for_WS.tsv",
            "dev": "messages_dev_features_ready_for_WS_2022.tsv",
            "test": "messages_test_features_ready_for_WS_2022.tsv",
        },
        labelled=("train",),
        gold="goldstandard_dev_2022.tsv",
        ids=("message_id",),
        group="response_id",
    ),
    23: Year(
        "Barriere, Sedoc, Tafreshi, Giorgi: Findings of WASSA 2023 Shared Task on Empathy, Emotion and Personality "
        "Detection in Conversation and Reactions to News Articles. WASSA 2023",
        files={
            "train": "WASSA23_essay_level_with_labels_train.tsv",
            "dev": "WASSA23_essay_level_dev.tsv",
            "test": "WASSA23_essay_level_test.tsv",
        },
        labelled=("train",),
        gold="goldstandard_dev.tsv",
        # Not essay_id: it starts again at 0 in the test file, so test essays would be taken for training essays.
        ids=("conversation_id", "speaker_id"),
        group="speaker_id",
    ),
    24: Year(
        "Giorgi, Sedoc, Barriere, Tafreshi: Findings of WASSA 2024 Shared Task on Empathy and Personality Detection "
        "in Interactions. WASSA 2024",
        files={"train": "trac3_EMP_train.csv", "dev": "trac3_EMP_dev.csv", "test": "goldstandard_EMP.csv"},
        labelled=("train", "test"),  # the dev file was first released without labels
        ids=("conversation_id", "person_id"),
        group="person_id",
        text="person_essay",
        labels=("person_empathy", "person_distress"),
        people=("trac4_PER_train.csv", "trac4_PER_dev.csv", "goldstandard_PER.csv"),
        escapechar="\\",
    ),
}
"""How the corpora differ. The test sets of 2022 and 2023 have no labels; that of 2024 does."""

TASKS = {f"newsemp{year}": year for year, about in YEARS.items() if "test" in about.files}
"""The corpora that have the test set of a shared task, by name."""


@checked("data")
@dataclass(frozen=True)
class NewsEmp:
    """Reads the essays of one year with their authors' own empathy or distress, depending on the scale.

    Args:
        year: 18, 22, 23 or 24.
        split: the rule for training, validation and test. As published, dev is validation. NewsEmp18 has no published
            split; NewsEmp22 and 23 have no labelled test set, so their test texts are ``unlabelled``, and `DevAsTest`
            makes dev the test. With either, training texts that are also in validation or test are left out.
        folder: the data folder; see `DataFolder`.
        name: the corpus's key, and the name of its subfolder; ``newsemp<year>`` if empty.
    """

    year: Literal[18, 22, 23, 24]
    split: SplitRule = field(default_factory=Published)
    folder: str | Path | None = None
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or f"newsemp{self.year}")

    def read(self, scale: Scale) -> Corpus:
        """Read the essays of all official parts.

        ``text_id`` is formed from the year's `Year.ids`, ``group_id`` is the author. The files' other columns are kept:
        ``article_id`` and, if there are any, demographics, personality and IRI scores; ``official_split`` (train,
        dev, test) is added if the corpus has such parts. Rows without a text are left out with a warning.

        Raises:
            InputError: the scale measures another construct, or a file is missing or not as published.
        """
        if scale.construct not in CONSTRUCTS:
            raise InputError(
                f"{self.name}: has crowd labels of {' and '.join(CONSTRUCTS)}, not of {scale.construct!r} (scale "
                f"{scale.name}); choose scale=batson_empathy or scale=batson_distress"
            )
        about, folder = YEARS[self.year], DataFolder(self.folder)
        if about.url is not None:
            (file,) = about.files.values()
            paths = [folder.fetch(self.name, file, about.url, about.sha256, about.licence)]
        else:
            files = [*about.files.values(), *([about.gold] if about.gold else [])]
            paths = folder.need_all(self.name, files, _how_to_obtain(self.year))
        gold = paths.pop() if about.gold else None
        parts = [_part(about, official, path, gold, scale) for official, path in zip(about.files, paths, strict=True)]
        table = canonical(pd.concat(parts, ignore_index=True), scale, f"{self.name} (its files together)")
        table["split"] = self.split.assign(table)
        if isinstance(self.split, (Published, DevAsTest)):  # other rules keep identical texts together
            table = without_shared_texts(table, self.name)
        renamed = {about.ids[0]: "text_id"} if len(about.ids) == 1 else {}
        names = dict.fromkeys([*about.ids, about.group, "article_id"])
        ids = {name: (renamed | {about.group: "group_id"}).get(name, name) for name in names}
        table = self._with_authors(table, folder)
        published = {self.name: {name: column for name, column in ids.items() if column in table}}
        return Corpus(self.name, table, about.licence, about.citation, published_ids=published)

    def _with_authors(self, table: pd.DataFrame, folder: DataFolder) -> pd.DataFrame:
        """Add what the year's optional files say about the authors."""
        about = YEARS[self.year]
        paths = [path for file in about.people if (path := folder.find(self.name, file)) is not None]
        if about.people and not paths:
            log.info("%s: no demographics, since none of %s was found", self.name, ", ".join(about.people))
        if not paths:
            return table
        files = [read_table(path, escapechar=about.escapechar) for path in paths]
        for path, raw in zip(paths, files, strict=True):
            require_columns(raw, [about.group], path)
        # An author has one row per essay.
        people = without_unknown(pd.concat(files)).drop_duplicates(about.group).set_index(about.group)
        return table.join(people[[name for name in about_author(people) if name not in table]], on="group_id")


def _part(about: Year, official: str, path: Path, gold: Path | None, scale: Scale) -> pd.DataFrame:
    """Read one official part: the canonical columns and the file's other columns."""
    raw = read_table(path, escapechar=about.escapechar)
    column = about.labels[CONSTRUCTS.index(scale.construct)]
    from_gold = official == "dev" and gold is not None
    has_labels = not from_gold and (official in about.labelled or any(name in raw for name in about.labels))
    require_columns(raw, dict.fromkeys([*about.ids, about.group, about.text, *([column] if has_labels else [])]), path)
    table = raw.drop(columns=list(about.labels), errors="ignore").rename(columns={about.text: "text"})
    table["text_id"] = raw[about.ids[0]].str.cat(raw[list(about.ids[1:])], sep="_")
    table["group_id"] = raw[about.group]
    if from_gold:
        assert gold is not None
        table["crowd_label"] = _gold_labels(gold, scale.construct, len(raw), path)
    else:
        table["crowd_label"] = numbers(raw[column], path) if has_labels else float("nan")
    table["split"] = table["crowd_label"].notna().map({True: ROLES[official], False: "unlabelled"})
    if len(about.files) > 1:
        table["official_split"] = official
    blank = table["text"].fillna("").map(is_blank).astype("bool")
    if blank.any():
        log.warning("%s: left out: %s without a text", path, count(int(blank.sum()), "row"))
    if (has_labels or from_gold) and (missing := int((table["crowd_label"].isna() & ~blank).sum())):
        log.warning("%s: unlabelled: %s with a blank crowd label", path, count(missing, "text"))
    renamed = list({about.group, *about.ids} - {"conversation_id"})
    names_in_file = {"crowd_label": column} if has_labels else None
    return canonical(
        without_unknown(table[~blank]).drop(columns=renamed), scale, str(path), names_in_file=names_in_file
    )


def _gold_labels(gold: Path, construct: str, texts: int, source: Path) -> "pd.Series[float]":
    """Read labels from a gold file, one row for each text of the file `source`, which has `texts` of them."""
    labels = read_table(gold, header=False)
    if len(labels) != texts:
        raise InputError(
            f"{gold}: expected one line, without a header, for each of the {texts} texts of {source.name}, found "
            f"{len(labels)} lines. The two are joined by row order, so both must be as published"
        )
    if labels.shape[1] < len(CONSTRUCTS):
        raise InputError(f"{gold}: expected empathy and distress in the first two columns, found one column; use tabs")
    return numbers(labels.iloc[:, CONSTRUCTS.index(construct)].rename(construct), gold)


@dataclass(frozen=True)
class TaskTexts:
    """The texts of a test set, one per row of `path`, in its order; a blank text is read as an empty one."""

    path: Path
    texts: tuple[str, ...]


def task_texts(corpus: str, folder: str | Path | None = None) -> TaskTexts:
    """Read the test set of `corpus`, a key of `TASKS`; `folder` is the data folder, see `DataFolder`.

    Raises:
        InputError: the corpus has no test set of a shared task, or its file is missing or has no texts.
    """
    if corpus not in TASKS:
        raise InputError(
            f"data={corpus}: is not a corpus of a WASSA shared task; a submission is for one of {', '.join(TASKS)}"
        )
    about = YEARS[TASKS[corpus]]
    path = DataFolder(folder).need(corpus, about.files["test"], _how_to_obtain(TASKS[corpus]))
    raw = read_table(path, escapechar=about.escapechar)
    require_columns(raw, [about.text], path)
    if raw.empty:
        raise InputError(f"{path}: expected texts, found a header only")
    return TaskTexts(path, tuple("" if is_blank(text) else text for text in raw[about.text].fillna("").str.strip()))


def _how_to_obtain(year: int) -> str:
    return (
        f"It belongs to the WASSA 20{year} shared task on empathy in reactions to news stories, whose data may not be "
        f"redistributed: register on the task's page, linked from the WASSA 20{year} workshop's site, and download it "
        "there."
    )
