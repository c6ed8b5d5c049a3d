"""Score texts with a trained model: ``python predict.py model=RUN_DIR/model input=essays.csv output=scores.csv``.

A shared task's test set for a submission: ``python predict.py submission=predictions.zip data=newsemp22
model=RUN_DIR/model distress_model=RUN_DIR2/model``.
"""

from invitro import commands

if __name__ == "__main__":
    commands.predict()
