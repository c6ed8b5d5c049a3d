"""Several corpora as one: models are tested on the first, the others add to its training texts."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from invitro.data.corpus import Corpus
from invitro.data.reader import Reader, SplitRule, same_text
from invitro.errors import refuse_if_any
from invitro.scales import Scale

log = logging.getLogger(__name__)


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
