"""Where a run's LLM labels come from: a column, a file of the user's, or what was published."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from invitro.errors import InputError, refuse_if_any
from invitro.files import numbers, require_columns
from invitro.labels.labelset import LabelSet, joined, label_set
from invitro.labels.published import Folder, published, read_labels
from invitro.scales import Scale


@dataclass(frozen=True)
class LabelSource:
    """Says whose labels are wanted, and finds them.

    Args:
        name: the LLM, as a choice of the group ``llm``.
        model: the model behind the name.
        labels: a label file of the user's, instead of the published ones.
        column: a column of the corpus's own table that holds the LLM labels; excludes `labels`.
        columns: for `labels`: ``text_id`` and ``llm_label`` name the file's columns.

    Raises:
        InputError: both `labels` and `column` are given.
    """

    name: str
    model: str | None = None
    labels: str | None = None
    column: str | None = None
    columns: dict[str, str] = field(default_factory=lambda: {"text_id": "text_id", "llm_label": "llm_label"})

    def __post_init__(self) -> None:
        problems = []
        if self.labels and self.column:
            problems.append(
                f"llm.labels={self.labels} and llm.column={self.column} exclude each other: "
                "labels come from a file or from a column of the corpus; set one of them to null"
            )
        if {"text_id", "llm_label"} - set(self.columns):
            problems.append(f"llm.columns needs the keys text_id and llm_label, found {sorted(self.columns)}")
        refuse_if_any(problems)

    def find(self, corpora: Sequence[str], table: pd.DataFrame, scale: Scale, prompt: str, folder: Folder) -> LabelSet:
        """Return the one label set that covers the texts of `table`.

        Args:
            corpora: the corpora the texts come from; of several, each one's ids carry its name as a prefix.
            table: a canonical table, with `column` when that is where the labels are.
            scale: the scale of the labels.
            prompt: the prompt they were made with, as a choice of the group ``prompt``.
            folder: where data files lie.

        Raises:
            InputError: no such labels, with what there is instead; or labels that cannot be used.
        """
        whole = "+".join(corpora)
        if self.column:
            require_columns(table, [self.column], f"corpus {whole}", "llm.column names a column of the corpus's table")
            table = table.assign(llm_label=numbers(table[self.column], whole))[["text_id", "llm_label"]]
            return label_set(f"{whole}/{self.name}:{self.column}", table, scale, f"column {self.column} of {whole}")
        if self.labels:
            read = read_labels(self.labels, [self.columns["text_id"]], self.columns["llm_label"])
            return label_set(f"{whole}/{self.labels}", read, scale, self.labels)
        prefixes = [f"{corpus}:" for corpus in corpora] if len(corpora) > 1 else [""]
        try:
            sets = [published(corpus, self.name, prompt, scale.name).read(scale, folder) for corpus in corpora]
        except InputError as error:
            raise InputError(*error.problems, *_hint(table)) from error
        return joined(sets, prefixes)


def _hint(table: pd.DataFrame) -> list[str]:
    """Point to LLM labels that the corpus itself carries, as the simulator's does."""
    return ["The corpus carries a column llm_label: choose llm=simulated to use it"] if "llm_label" in table else []
