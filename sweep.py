"""Run a study: ``python sweep.py study=alpha`` launches its jobs and ends in a report; ``--help`` lists the studies."""

from invitro import commands

if __name__ == "__main__":
    commands.sweep()
