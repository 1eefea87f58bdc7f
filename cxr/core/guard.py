"""The leak guard: reads a split and refuses to train on its validation and test patients."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import pandas as pd
from pydantic import Field

from cxr.core.files import read_json, read_table, sha256
from cxr.core.formats import Format

SPLIT = "split.parquet"  # in a split's folder, beside split.json


class SplitId(Format, extra="ignore"):
    """What every training reads of split.json. cxr/cohort/formats.py has the whole."""

    by: str = Field(description="what was drawn: patient, image or file_order")
    sha256: str = Field(description="SHA-256 of split.parquet, hexadecimal")


Id = TypeVar("Id", bound=SplitId)


def read_split(
    folder: Path,
    dataset: str,
    model: type[Id] = SplitId,  # type: ignore[assignment]  # mypy 3737: a default for a type variable
) -> tuple[pd.DataFrame, Id]:
    """A split's table (image_id, patient_id, split) and its split.json.

    Raises ValueError, naming the file and the cure, when a file is missing or damaged, or split.json describes another
    table.
    """
    stage, file = f"split@{dataset}", folder / SPLIT
    table = read_table(file, stage, ("image_id", "patient_id", "split"))
    info = read_json(folder / "split.json", stage, model)
    if sha256(file) != info.sha256:
        raise ValueError(f"{file} is not the split that split.json describes; `dvc repro -f {stage}` makes both again")
    return table, info


def on_the_cut(split: pd.DataFrame) -> pd.Index:
    """The images with rows in the training part and in another one."""
    parts = split.groupby("image_id")["split"].agg(lambda names: "train" in set(names) and names.nunique() > 1)
    return parts.index[parts.to_numpy(bool)]


def guard(rows: pd.DataFrame, split: pd.DataFrame, *, by: str, what: str) -> None:
    """Refuse training rows (image_id, patient_id) with a validation or test image or patient.

    Under by='image' patients are shared by design, so only images are checked. Under by='file_order' the images on the
    cut have rows on both sides and are allowed. `what` names the rows in the message. Raises ValueError.
    """
    held_out = split[split["split"] != "train"]
    if by == "file_order":
        held_out = held_out[~held_out["image_id"].isin(on_the_cut(split))]
    images = rows["image_id"].isin(held_out["image_id"])
    if images.any():
        raise ValueError(
            f"{what}: {int(images.sum())} validation or test images would be trained on, the first is "
            f"{rows.loc[images, 'image_id'].iloc[0]!r}; run the split and everything after it again"
        )
    patients = rows["patient_id"].isin(held_out["patient_id"])
    if by != "image" and patients.any():
        raise ValueError(
            f"{what}: images of {rows.loc[patients, 'patient_id'].nunique()} validation or test "
            f"patients would be trained on, "
            f"the first is {rows.loc[patients, 'image_id'].iloc[0]!r}; run the split and everything after it again"
        )


def check_held_out(train: pd.DataFrame, split: pd.DataFrame, by: str, what: str) -> None:
    """Refuse training images that are held out, or whose patient is. Raises ValueError as `guard` does.

    The slices of file_order share patients, as paper 2's do (docs/papers.md, E72): there images alone are kept apart.
    """
    if by == "file_order":
        train, split = (table.assign(patient_id=table["image_id"]) for table in (train, split))
    guard(train, split, by=by, what=what)
