"""Texts with crowd labels: one canonical table, a reader for each corpus, splits and the simulator."""

from invitro.data.corpus import CANONICAL_COLUMNS, DEMOGRAPHICS, SPLITS, Corpus, canonical
from invitro.data.newsemp import NewsEmp
from invitro.data.reader import Combination, DataFolder, Leaks, Reader, SplitRule, leaks, refuse_shared_texts
from invitro.data.simulator.corpus import Simulator
from invitro.data.splits import DevAsTest, Holdout, KFold, Published, Undivided
from invitro.data.table import TableFile

__all__ = [
    "CANONICAL_COLUMNS", "DEMOGRAPHICS", "SPLITS", "Combination", "Corpus", "DataFolder", "DevAsTest", "Holdout",
    "KFold", "Leaks", "NewsEmp", "Published", "Reader", "Simulator", "SplitRule", "TableFile", "Undivided", "canonical",
    "leaks", "refuse_shared_texts",
]  # fmt: skip
