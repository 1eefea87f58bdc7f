"""What the other stages left, read for the report: where each file lies, and which stage makes it when it is absent."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cxr.adgm.variants import Run
from cxr.core.files import read_table, unreadable


@dataclass(frozen=True)
class Artefacts:
    """The folders of a run, and the lists that drove it. params: section -> key -> value, as run."""

    explore: Path
    audit: Path
    chexpert: Path
    rsna: Path
    splits: Path
    stores: Path
    history: Path
    gan: Path
    fidelity: Path
    balanced: Path
    adgm: Path
    models: Path
    evaluate: Path
    metrics: Path
    policies: list[str]
    findings: list[str]
    arms: list[str]
    seeds: list[int]
    generators: list[str]
    classes: list[int]
    labels: list[int]
    variants: list[str]
    draws: list[int]
    final_policy: str
    params: dict
    trainers: dict[str, str] = field(default_factory=dict)  # policy -> the stage instance that trains its baseline

    def __post_init__(self) -> None:
        if self.final_policy not in self.policies:
            choices = ", ".join(self.policies)
            raise ValueError(
                f"final_policy {self.final_policy!r} is none of the policies trained ({choices}): add it to them"
            )

    @property
    def confidence(self) -> float:
        """Of evaluate's intervals."""
        return self.params.get("evaluate", {}).get("confidence", 0.95)

    @property
    def level(self) -> str:
        """The confidence of evaluate's intervals, in words: '95 %'."""
        return f"{100 * self.confidence:g} %"

    @property
    def alpha(self) -> float:
        """Below which p is significant: what evaluate's confidence leaves."""
        return round(1 - self.confidence, 6)

    @property
    def power(self) -> float:
        """With which evaluate's detectable differences would be found."""
        return self.params.get("evaluate", {}).get("power", 0.8)

    @property
    def sensitivity(self) -> str:
        """That the operating points were set at on validation: '90 %'."""
        return f"{100 * self.params.get('evaluate', {}).get('sensitivity', 0.9):g} %"

    def dataset(self, name: str) -> Path:
        """The folder of a dataset's records: chexpert or rsna."""
        return {"chexpert": self.chexpert, "rsna": self.rsna}[name]

    def adgm_run(self, run: Run) -> tuple[Path, Path]:
        """The folders of one ADGM: its reports, its model."""
        return self.adgm / run.name, self.models / "adgm" / run.name


TEXT = (
    "model", "finding", "split", "which", "true", "predicted", "class_name", "remark", "dataset", "check", "severity",
    "examples", "advice", "image_id", "path", "reason", "place", "quantity", "stated", "needs", "says", "recomputed",
    "verdict", "kind", "why", "attribute", "group", "form", "view", "policy",
    "arm", "reference", "control", "variant", "score",
)  # fmt: skip
SHARES = (
    "auc",
    "accuracy",
    "balanced_accuracy",
    "majority_share",
    "macro_auc",
    "valid_auc",
    "macro_f1",
    "p",
    "p_holm",
    "baseline",
    "final",
    "floor",
)


def csv(path: Path, stage: str, columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """A stage's CSV. The `columns` not in TEXT hold finite numbers or blanks, those in SHARES from 0 to 1.

    Raises ValueError, naming the stage that makes it, when it is absent, no table, or not so.
    """
    table = read_table(path, stage, columns)
    for name in columns:
        if name in TEXT:
            continue
        values = pd.to_numeric(table[name], errors="coerce")
        wrong = table[name].notna() & ~np.isfinite(values)
        if name in SHARES:
            wrong |= (values < 0) | (values > 1)
        if wrong.any():
            raise ValueError(
                f"{path} line {wrong.idxmax() + 2}: {name} is {table[name][wrong.idxmax()]!s}; "
                f"`dvc repro -f {stage}` makes it again"
            )
    return table


class Rows(dict):
    """A table's rows, as dicts, each under the value of its key, or the tuple of them.

    Raises ValueError, naming the file and the stage that makes it, for a key that stands twice or is asked for and
    lacking.
    """

    def __init__(self, table: pd.DataFrame, path: Path, stage: str, *keys: str) -> None:
        super().__init__()
        self.path, self.stage = path, stage
        for row in table.to_dict("records"):
            key = row[keys[0]] if len(keys) == 1 else tuple(row[k] for k in keys)
            if key in self:
                raise ValueError(f"{path}: the row of {key} stands twice; `dvc repro -f {stage}` makes it again")
            self[key] = row

    def __missing__(self, key):
        raise ValueError(f"{self.path}: no row of {key}; `dvc repro -f {self.stage}` makes it again")


def image(path: Path, stage: str) -> Image.Image:
    """A stage's picture, decoded. Raises ValueError as `csv` does."""
    try:
        with Image.open(path) as opened:
            opened.load()
            return opened
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise unreadable(path, "picture", stage, error) from error
