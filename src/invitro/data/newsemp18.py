"""NewsEmp18: 1,860 essays in reaction to news stories (Buechel et al., EMNLP 2018)."""

from dataclasses import dataclass
from pathlib import Path

from invitro.data.corpus import Corpus, checked
from invitro.data.reader import DataFolder, Split, refuse_other_construct
from invitro.files import numbers, read_table, require_columns
from invitro.scales import Scale

URL = "https://raw.githubusercontent.com/wwbp/empathic_reactions/3ddbf6b/data/responses/data/messages.csv"
SHA256 = "380d2670254565629f81616df57cc0729de96ac87c056d05e39c370624ae8f64"
LICENCE = "CC BY 4.0: name the authors"
CITATION = (
    "Buechel, Buffone, Slaff, Ungar, Sedoc: Modeling Empathy and Distress in Reaction to News Stories. EMNLP 2018"
)
CONSTRUCTS = ("empathy", "distress")
SCALES = "scale=batson_empathy or scale=batson_distress"


@dataclass(frozen=True)
class NewsEmp18:
    """Reads NewsEmp18, downloading its one file when the data folder does not have it.

    Args:
        split: the rule for training, validation and test; the corpus has no published single split.
        folder: the data folder; see `DataFolder`.
        name: the corpus's key, and the name of its subfolder.
    """

    split: Split
    folder: str | Path | None = None
    name: str = "newsemp18"

    def read(self, scale: Scale) -> Corpus:
        """Read the essays with the writers' own empathy or distress, whichever `scale` measures.

        ``group_id`` is the writer (``response_id``; 372 writers, five essays each).
        """
        refuse_other_construct(self.name, scale, CONSTRUCTS, SCALES)
        path = DataFolder(self.folder).fetch(self.name, "messages.csv", URL, SHA256, LICENCE)
        raw = read_table(path)
        require_columns(raw, ["message_id", "response_id", "essay", scale.construct], path)
        table = raw.rename(columns={"message_id": "text_id", "response_id": "group_id", "essay": "text"})
        table["crowd_label"] = numbers(raw[scale.construct], path)
        table = table.drop(columns=list(CONSTRUCTS), errors="ignore")
        table = checked(table, scale, str(path), published_splits=False, theirs={"crowd_label": scale.construct})
        table["split"] = self.split.assign(table)
        return Corpus(self.name, table, LICENCE, CITATION)
