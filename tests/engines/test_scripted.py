"""The scripted engine: faults are what they are called."""

import math

import pytest
from prompting import prompt, scale

from invitro.engines.base import Price, Readout, Request, Sampling
from invitro.engines.scripted import FAULT_NAMES, Scripted
from invitro.errors import InputError
from invitro.labelling.replies import parse


@pytest.mark.parametrize("fault", [fault for fault in FAULT_NAMES if fault != "error"])
@pytest.mark.parametrize("of", ["batson_empathy", "gad7", "single_item"])
@pytest.mark.parametrize("readout", list(Readout))
@pytest.mark.parametrize("name", ["scale_aware", "reasoned"])
def test_scripted_faults_are_what_they_are_called(fault: str, of: str, readout: Readout, name: str) -> None:
    wanted = prompt(name).form(scale(of), readout)
    sampling = Sampling(top_logprobs=20 if readout == Readout.EXPECTED else 0)
    asked = [Request(str(i), str(i), ({"role": "user", "content": f"story {i}"},), sampling, wanted.constraint)
             for i in range(3)]  # fmt: skip
    statuses = {parse(reply, wanted).status for reply in Scripted(faults={fault: 1.0}).replies(asked)}
    empty = fault == "missing_items" and of == "single_item" and readout == Readout.DIGITS
    assert statuses == {"unparseable" if empty else fault}


@pytest.mark.parametrize("faults", [{"tired": 0.1}, {"refused": 1.5}, {"refused": 0.6, "error": 0.6}])
def test_faulty_scripts_are_refused(faults: dict) -> None:
    with pytest.raises(InputError, match=r"llm\.engine\.faults"):
        Scripted(faults=faults)
    assert math.isclose(Price(1, 2).of(1_000_000, 500_000), 2)


@pytest.mark.parametrize("setting", ["concurrency", "delay"])
def test_scripts_of_the_wrong_kind_are_refused(setting: str) -> None:
    with pytest.raises(InputError, match=rf"llm\.engine\.{setting}: expected a .*, found 'abc'"):
        Scripted(**{setting: "abc"})
