"""The progress bar: as it counts, and as a person sees it on a terminal, killed and begun again."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import ROOT

from invitro.engines.base import Usage
from invitro.labelling.job import Progress

BAR = re.compile(
    r"(?P<n>\d+)/(?P<total>\d+) \[(?P<spent>[\d:]+)<(?P<left>[\d:?]+),\s+(?P<rate>[\d.?]+)(label/s|s/label), "
    r"(?P<speed>\d+) tokens/s, \$(?P<cost>\d+\.\d\d)"
)


def test_what_was_there_before_counts_for_the_bar_and_not_for_the_speed(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(1000, True) as progress:
        progress.found(900)
        time.sleep(0.2)
        progress.answered(1, Usage(1, 100, 20, 1.234))
        bar = progress._bar
        assert (bar.n, bar.total, bar.initial) == (901, 1000, 900)
        assert bar.format_dict["elapsed"] >= 0.2
        shown = BAR.search(str(bar))
        assert shown is not None
        assert 1 <= int(shown["speed"]) <= 100  # 20 tokens in at least 0.2 s
        assert shown["cost"] == "1.23"
        mean = (bar.n - bar.initial) / bar.format_dict["elapsed"]
        assert mean <= 5
    assert "901/1000" in capsys.readouterr().err


def test_without_a_bar_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(10, False) as progress:
        progress.found(3)
        progress.answered(1, Usage())
    assert capsys.readouterr().err == ""


class Terminal:
    """A process on a pseudo terminal, which does not say how wide it is."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.seen = ""
        self._master, slave = pty.openpty()
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)

    def read(self, until: int | None = None, seconds: float = 60) -> list[re.Match[str]]:
        """Read until the bar shows at least `until` labels, or to the end; return every state of the bar so far."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            shown = list(BAR.finditer(self.seen))
            if until is not None and shown and int(shown[-1]["n"]) >= until:
                return shown
            if select.select([self._master], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self._master, 65536).decode("utf-8", "replace")
                except OSError:  # the other side is closed: the process has ended
                    break
        return list(BAR.finditer(self.seen))

    def kill(self) -> None:
        """Kill the process as a machine does that runs out of memory."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self._master)


def test_the_bar_on_a_terminal_killed_and_begun_again(tmp_path: Path) -> None:
    texts = 200
    command = [
        sys.executable, str(ROOT / "label.py"), "llm=scripted", "data=simulated", f"data.texts={texts}",
        "readout=digits", "llm.engine.concurrency=4", "llm.engine.delay=0.03",
        "+llm.engine.price={_target_: invitro.engines.base.Price, prompt: 1000, completion: 1000}",
    ]  # fmt: skip
    first = Terminal(command, tmp_path)
    shown = first.read(until=60)
    assert shown, first.seen
    assert {int(one["total"]) for one in shown} == {texts}
    counts = [int(one["n"]) for one in shown]
    assert counts == sorted(counts)
    costs = [float(one["cost"]) for one in shown]
    assert costs == sorted(costs)
    assert costs[-1] > 1
    assert any(one["left"] != "?" and int(one["speed"]) > 0 for one in shown)
    first.kill()

    again = Terminal(command, tmp_path)
    shown = again.read()
    assert again.process.wait(timeout=60) == 0, again.seen
    assert int(shown[0]["n"]) >= 60  # what is stored is there from the start
    assert float(shown[0]["cost"]) < costs[-1]  # and the cost is this run's
    assert int(shown[-1]["n"]) == texts
    assert "texts labelled   200 of 200" in again.seen
