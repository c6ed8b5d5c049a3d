"""Run a study: ``python sweep.py study=alpha`` launches its jobs and ends in a report; ``--help`` lists the studies."""

import sys
from pathlib import Path

from invitro import config

if __name__ == "__main__":
    config.sweep_command(sys.argv[1:], Path(__file__).resolve().parent)
