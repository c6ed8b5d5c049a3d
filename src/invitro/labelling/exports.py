"""Labels as a file in the format of published label files."""

from pathlib import Path

import pandas as pd

from invitro.files import suffix_of, whole_or_absent
from invitro.labels.labelset import LabelSet


def export(table: pd.DataFrame, path: Path) -> None:
    """Write labels; Parquet, CSV, TSV or JSONL by suffix."""
    suffix = suffix_of(path)
    with whole_or_absent(path) as temporary:
        if suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        elif suffix == ".jsonl":
            table.to_json(temporary, orient="records", lines=True, force_ascii=False)
        else:
            table.to_csv(temporary, index=False, sep="\t" if suffix == ".tsv" else ",")


def exported(table: pd.DataFrame, labels: LabelSet, construct: str, prefix: str) -> pd.DataFrame:
    """Return the exported rows: ids, ``llm_<construct>``, spread, item scores; one a text, blank without a label."""
    columns = [name for name in labels.labels.columns if name.startswith("llm_") and name != "llm_label"]
    of_texts = labels.labels.reindex(table["text_id"])
    out = pd.DataFrame({"text_id": (prefix + table["text_id"]).to_numpy()})
    out[f"llm_{construct}"] = of_texts["llm_label"].to_numpy()
    if of_texts["spread"].notna().any():
        out["spread"] = of_texts["spread"].to_numpy()
    for name in columns:
        if name not in out:  # an item may be called as the construct is
            out[name] = of_texts[name].to_numpy()
    return out
