"""Small artefacts that several tests need."""

from pathlib import Path

import pandas as pd

from cxr.core.files import sha256, write_json, write_table
from cxr.core.guard import SPLIT


def write_split(folder: Path, table: pd.DataFrame, by: str = "patient", **info) -> str:
    """A split's folder, as the split stage writes it; the sha256 of its table."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / SPLIT, table)
    digest = sha256(folder / SPLIT)
    write_json(folder / "split.json", {"by": by, "sha256": digest, **info})
    return digest
