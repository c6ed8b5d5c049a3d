"""An encoder of each of two architectures."""

import pytest

from invitro.models import PLM


@pytest.fixture(params=["tiny_deberta", "tiny_roberta"])
def plm(request: pytest.FixtureRequest) -> PLM:
    """Return the settings of a tiny encoder that takes 64 tokens."""
    return PLM(str(request.getfixturevalue(request.param)), max_length=64)
