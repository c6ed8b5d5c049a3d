"""A DataFrame in the place of a table file."""

from dataclasses import dataclass, field

import pandas as pd

from invitro.data.corpus import Corpus
from invitro.data.table import TableFile
from invitro.files import as_text
from invitro.scales import Scale


@dataclass(frozen=True)
class Frame(TableFile):
    """Reads a DataFrame as `TableFile` reads a file; `path` is what errors call it.

    Args:
        rows: the DataFrame; its index counts for nothing.
    """

    rows: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)

    def read(self, scale: Scale) -> Corpus:
        """Read the rows with crowd labels on `scale`.

        Raises:
            InputError: as for `TableFile`.
        """
        return self.of(as_text(self.rows.reset_index(drop=True)), scale)
