"""Texts with crowd labels: one canonical table, a reader per corpus, splits, the simulator."""

from invitro.data.combination import Combination
from invitro.data.corpus import COLUMNS, DEMOGRAPHICS, SPLITS, Corpus, checked
from invitro.data.newsemp18 import NewsEmp18
from invitro.data.newsemp22 import NewsEmp22
from invitro.data.newsemp23 import NewsEmp23
from invitro.data.newsemp24 import NewsEmp24
from invitro.data.reader import DataFolder, Reader, Split, refuse_shared_texts
from invitro.data.simulator.corpus import Simulator
from invitro.data.splits import Holdout, KFold, Published, Undivided
from invitro.data.table import Table

__all__ = [
    "COLUMNS",
    "DEMOGRAPHICS",
    "SPLITS",
    "Combination",
    "Corpus",
    "DataFolder",
    "Holdout",
    "KFold",
    "NewsEmp18",
    "NewsEmp22",
    "NewsEmp23",
    "NewsEmp24",
    "Published",
    "Reader",
    "Simulator",
    "Split",
    "Table",
    "Undivided",
    "checked",
    "refuse_shared_texts",
]
