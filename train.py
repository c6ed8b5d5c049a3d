"""Train one model: ``python train.py plm=deberta application=both alpha=4.0``; ``--help`` lists every choice."""

from invitro import commands

if __name__ == "__main__":
    commands.train()
