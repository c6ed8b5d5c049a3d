"""Look at a corpus before training: ``python describe.py data=table data.path=essays.csv llm.column=gpt``."""

from invitro import commands

if __name__ == "__main__":
    commands.describe()
