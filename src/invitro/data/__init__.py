"""Texts with crowd labels: one canonical table, a reader per corpus, splits, the simulator."""

from invitro.data.corpus import COLUMNS, DEMOGRAPHICS, SPLITS, Corpus, checked
from invitro.data.newsemp18 import NewsEmp18
from invitro.data.reader import DataFolder, Reader, Split

__all__ = ["COLUMNS", "DEMOGRAPHICS", "SPLITS", "Corpus", "DataFolder", "NewsEmp18", "Reader", "Split", "checked"]
