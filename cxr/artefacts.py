"""What the other stages left, read for the report: where each file lies, and which stage makes it when it is absent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image


@dataclass(frozen=True)
class Artefacts:
    """The folders of a run, and the lists that drove it. params: section -> key -> value, as run."""

    explore: Path
    chexpert: Path
    rsna: Path
    splits: Path
    stores: Path
    history: Path
    gan: Path
    balanced: Path
    adgm: Path
    models: Path
    evaluate: Path
    metrics: Path
    policies: list[str]
    findings: list[str]
    classes: list[int]
    labels: list[int]
    final_policy: str
    params: dict

    def __post_init__(self) -> None:
        if self.final_policy not in self.policies:
            choices = ", ".join(self.policies)
            raise ValueError(
                f"final_policy {self.final_policy!r} is none of the policies trained ({choices}): add it to them"
            )

    @property
    def level(self) -> str:
        """The confidence of evaluate's intervals, in words: '95 %'."""
        return f"{100 * self.params.get('evaluate', {}).get('confidence', 0.95):g} %"

    def dataset(self, name: str) -> Path:
        """The folder of a dataset's records: chexpert or rsna."""
        return {"chexpert": self.chexpert, "rsna": self.rsna}[name]

    def adgm_run(self, classes: int, labels: int) -> tuple[Path, Path]:
        """The folders of one ADGM: its reports, its model."""
        name = f"{classes}-{labels}"
        return self.adgm / name, self.models / "adgm" / name


def csv(path: Path, stage: str, columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """A stage's CSV.

    Raises ValueError, naming the stage that makes it, when it is absent, no table, or lacks one of `columns`.
    """
    try:
        table = pd.read_csv(path)
    except FileNotFoundError as error:
        raise ValueError(_absent(path, stage)) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no readable CSV; `dvc repro -f {stage}` makes it again") from error
    if lacking := [c for c in columns if c not in table]:
        raise ValueError(f"{path}: column {lacking[0]!r} is missing; `dvc repro -f {stage}` makes the file again")
    return table


def parquet(path: Path, stage: str) -> pd.DataFrame:
    """A stage's parquet table. Raises ValueError as `csv` does."""
    try:
        return pd.read_parquet(path)
    except FileNotFoundError as error:
        raise ValueError(_absent(path, stage)) from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no readable parquet file; `dvc repro -f {stage}` makes it again") from error


def read_json(path: Path, stage: str) -> dict:
    """A stage's JSON. Raises ValueError as `csv` does."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(_absent(path, stage)) from error
    except ValueError as error:
        raise ValueError(f"{path}: no readable JSON; `dvc repro -f {stage}` makes it again") from error


def image(path: Path, stage: str) -> Image.Image:
    """A stage's picture, decoded. Raises ValueError as `csv` does."""
    try:
        with Image.open(path) as opened:
            opened.load()
            return opened
    except FileNotFoundError as error:
        raise ValueError(_absent(path, stage)) from error
    except OSError as error:
        raise ValueError(f"{path}: no readable picture; `dvc repro -f {stage}` makes it again") from error


def _absent(path: Path, stage: str) -> str:
    return f"{path}: no such file, and the report needs it; `dvc repro {stage}` makes it"
