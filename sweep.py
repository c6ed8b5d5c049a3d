"""Run a study: ``python sweep.py study=alpha`` launches its jobs and ends in a report; ``--help`` lists the studies."""

import sys
from pathlib import Path

from invitro import commands

if __name__ == "__main__":
    commands.sweep_command(sys.argv[1:], Path(__file__).resolve().parent)
