"""Let an LLM score a corpus: ``python label.py llm=llama prompt=scale_aware data=newsemp18``; ``--help`` lists all."""

from invitro import commands

if __name__ == "__main__":
    commands.label()
