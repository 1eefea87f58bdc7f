"""Which state of a GAN was kept, for the report: in words, and the epoch for the figures."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from cxr.core.files import read_json
from cxr.gan.formats import Kept
from cxr.report.inputs import csv

COLUMNS = ("epoch", "loss_d", "loss_g", "d_real", "d_fake", "kid", "diversity")
MODES = {
    "pooled": "One net learnt the X-rays of all its findings as one kind: none of its X-rays is of a known finding. ",
    "conditional": "One net learnt all its findings and was told those of each X-ray. ",
}


def kept(folder: Path, stage: str) -> tuple[int, str, pd.DataFrame]:
    """The epoch whose generator was kept, what there is to say of it, and the history by epoch. Raises ValueError,
    naming the stage, when the files are missing, torn or not each other's.
    """
    state = read_json(folder / "kept.json", stage, Kept).model_dump()
    history = csv(folder / "history.csv", stage, COLUMNS)
    rows = history[history["epoch"] == state["epoch"]].to_dict("records")
    if len(rows) != 1:
        raise ValueError(
            f"{folder / 'kept.json'}: history.csv has no epoch {state['epoch']}; "
            f"`dvc repro -f {stage}` makes both again"
        )
    row, text = rows[0], MODES.get(state["mode"], "")
    text += f"Kept: the generator after epoch {state['epoch']:,} of {len(history):,}"
    if state["select"] == "kid":
        text += (
            f", which has the least KID ({row['kid']:.3g}) of those looked at, against {state['kept_back']:,} X-rays "
            "of training patients that it was not trained on, in the features of a net that nobody trained"
        )
    else:
        text += ", the last"
    text += "; a running average of the weights. " if state["average"] else ". "
    if state["stopped_at"]:
        text += f"Training stopped after epoch {state['stopped_at']:,} of {state['epochs']:,}: {state['why']}. "
    if not math.isnan(row["diversity"]):
        text += f"Two of its X-rays differ {row['diversity']:.2f} times as much as two real ones, in the same features."
    return state["epoch"], text.strip(), history
