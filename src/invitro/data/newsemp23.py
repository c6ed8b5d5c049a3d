"""NewsEmp23: the essays of the WASSA 2023 shared task, written before two people talked about a news story."""

from dataclasses import dataclass, field
from pathlib import Path

from invitro.data import wassa
from invitro.data.corpus import Corpus
from invitro.data.reader import DataFolder, Split, refuse_other_construct
from invitro.data.splits import Published
from invitro.scales import Scale

CITATION = (
    "Barriere, Sedoc, Tafreshi, Giorgi: Findings of WASSA 2023 Shared Task on Empathy, Emotion and Personality "
    "Detection in Conversation and Reactions to News Articles. WASSA 2023"
)
FILES = (
    "WASSA23_essay_level_with_labels_train.tsv",
    "WASSA23_essay_level_dev.tsv",
    "goldstandard_dev.tsv",
    "WASSA23_essay_level_test.tsv",
)
# Not essay_id: it starts anew at 0 in the test file, so that test essays would pass for training essays.
LAYOUT = wassa.Layout(ids=("conversation_id", "speaker_id"), group="speaker_id", text="essay")


@dataclass(frozen=True)
class NewsEmp23:
    """Reads NewsEmp23 from the shared task's files.

    Args:
        split: the rule for training, validation and test. As published, dev is validation and no test text has a
            label: the official test texts are ``unlabelled``, with ``official_split`` test.
        folder: the data folder; see `DataFolder`.
        name: the corpus's key, and the name of its subfolder.
    """

    split: Split = field(default_factory=Published)
    folder: str | Path | None = None
    name: str = "newsemp23"

    def read(self, scale: Scale) -> Corpus:
        """Read the essays of train, dev and test with the empathy or distress of train and dev.

        ``text_id`` is ``<conversation_id>_<speaker_id>``, ``group_id`` the ``speaker_id``. Extra columns:
        ``official_split`` (train, dev, test), ``essay_id``, ``conversation_id``, ``article_id``, personality and IRI
        scores.

        Raises:
            InputError: a file is missing, or not as published.
        """
        refuse_other_construct(self.name, scale, wassa.CONSTRUCTS, wassa.SCALES)
        paths = DataFolder(self.folder).need_all(self.name, FILES, wassa.obtain(2023))
        return wassa.corpus_with_gold(self.name, paths, LAYOUT, scale, self.split, CITATION)
