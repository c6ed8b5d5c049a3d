"""NewsEmp22: the essays of the WASSA 2022 shared task; its training texts are those of NewsEmp18."""

from dataclasses import dataclass, field
from pathlib import Path

from invitro.data import wassa
from invitro.data.corpus import Corpus
from invitro.data.reader import DataFolder, Split, refuse_other_construct
from invitro.data.splits import Published
from invitro.scales import Scale

CITATION = (
    "Barriere, Tafreshi, Sedoc, Alqahtani: WASSA 2022 Shared Task: Predicting Empathy, Emotion and Personality "
    "in Reaction to News Stories. WASSA 2022"
)
FILES = (
    "messages_train_ready_for_WS.tsv",
    "messages_dev_features_ready_for_WS_2022.tsv",
    "goldstandard_dev_2022.tsv",
    "messages_test_features_ready_for_WS_2022.tsv",
)
LAYOUT = wassa.Layout(ids=("message_id",), group="response_id", text="essay")


@dataclass(frozen=True)
class NewsEmp22:
    """Reads NewsEmp22 from the shared task's files.

    Args:
        split: the rule for training, validation and test. As published, dev is validation and no test text has a
            label: the official test texts are ``unlabelled``, with ``official_split`` test.
        folder: the data folder; see `DataFolder`.
        name: the corpus's key, and the name of its subfolder.
    """

    split: Split = field(default_factory=Published)
    folder: str | Path | None = None
    name: str = "newsemp22"

    def read(self, scale: Scale) -> Corpus:
        """Read the essays of train, dev and test with the empathy or distress of train and dev.

        ``text_id`` is the ``message_id``, ``group_id`` the ``response_id``. Extra columns: ``official_split``
        (train, dev, test), ``article_id``, personality and IRI scores.

        Raises:
            InputError: a file is missing, or not as published.
        """
        refuse_other_construct(self.name, scale, wassa.CONSTRUCTS, wassa.SCALES)
        paths = DataFolder(self.folder).need_all(self.name, FILES, wassa.obtain(2022))
        return wassa.corpus_with_gold(self.name, paths, LAYOUT, scale, self.split, CITATION)
