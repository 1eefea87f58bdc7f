"""What the report reads: where each file of the other stages lies, and how its rows are looked up."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from PIL import Image

from cxr.adgm.variants import Run
from cxr.core.files import read_table, unreadable
from cxr.core.findings import finding


@dataclass(frozen=True)
class Artefacts:
    """The folders of a run and the lists that drove it. params: section -> key -> value, as run."""

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
    predictions: Path
    store: Path  # of the classifier's size
    evaluate: Path
    explain: Path
    policies: list[str]
    findings: list[str]
    arms: list[str]
    seeds: list[int]
    generators: list[str]  # DCGANs
    classes: list[int]
    labels: list[int]
    variants: list[str]
    draws: list[int]
    final_policy: str
    params: dict
    extra_data: Path | None = None  # of other hospitals' training data; needed where classifier.extra names some
    error_images: str = "phantom"  # phantom, always or never
    samplers: list[str] = field(default_factory=list)  # generators that balance the table; default: the DCGANs
    diffusion_seeds: list[int] = field(default_factory=list)
    projection_seeds: list[int] = field(default_factory=list)
    editing_seeds: list[int] = field(default_factory=list)
    verdict_p: float = 0.005  # largest p of a verdict on trained networks
    trainers: dict[str, str] = field(default_factory=dict)  # policy -> the stage instance that trains its baseline

    def __post_init__(self) -> None:
        if self.final_policy not in self.policies:
            choices = ", ".join(self.policies)
            raise ValueError(f"final.policy is {self.final_policy!r}: choose one of the policies trained ({choices})")

    def _evaluate(self, name: str, default):
        return self.params.get("evaluate", {}).get(name, default)

    @property
    def level(self) -> str:
        """The confidence of evaluate's intervals: '95 %'."""
        return f"{100 * self._evaluate('confidence', 0.95):g} %"

    @property
    def alpha(self) -> float:
        """The level of a test: 1 less evaluate's confidence."""
        return round(1 - self._evaluate("confidence", 0.95), 6)

    @property
    def power(self) -> float:
        """The power that evaluate's detectable differences are for."""
        return self._evaluate("power", 0.8)

    @property
    def sensitivity(self) -> str:
        """The sensitivity that the operating points were set at on validation: '90 %'."""
        return f"{100 * self._evaluate('sensitivity', 0.9):g} %"

    @property
    def thresholds(self) -> list[float]:
        """The probabilities at which evaluate gives the net benefit."""
        return sorted(set(self._evaluate("thresholds", [0.05, 0.1, 0.2, 0.3])))

    @property
    def endpoint(self) -> str:
        """What the study's primary claim is about: rare, macro or the name of a finding."""
        chosen = self._evaluate("endpoint", "rare")
        return chosen if chosen in ("rare", "macro") else finding(chosen)

    @property
    def study_view(self) -> str:
        """The view of the study's test X-rays: AP or PA; all where they are of every view."""
        return self._evaluate("study_view", "all")

    @property
    def study_scores(self) -> str:
        """What a study's score is of its images': max or mean."""
        return self._evaluate("study_scores", "max")

    def dataset(self, name: str) -> Path:
        """The folder of a data set's records: chexpert or rsna."""
        return {"chexpert": self.chexpert, "rsna": self.rsna}[name]

    def adgm_run(self, run: Run) -> tuple[Path, Path]:
        """The folders of one ADGM: its reports, its model."""
        return self.adgm / run.name, self.models / "adgm" / run.name

    def table(self, name: str, *columns: str) -> pd.DataFrame:
        """One of evaluate's tables, with at least these columns."""
        return read_table(self.evaluate / f"{name}.csv", "evaluate", columns)

    def rows(self, name: str, *keys: str) -> Rows:
        """One of evaluate's tables by its keys."""
        return Rows(self.table(name, *keys), self.evaluate / f"{name}.csv", "evaluate", *keys)


class Rows(dict):
    """A table's rows as dicts, each under the value of its key, or under the tuple of its keys.

    Raises ValueError, naming the file and the stage that makes it, for a key that is there twice or is absent.
    """

    def __init__(self, table: pd.DataFrame, path: Path, stage: str, *keys: str) -> None:
        super().__init__()
        self.path, self.stage = path, stage
        for row in table.to_dict("records"):
            key = row[keys[0]] if len(keys) == 1 else tuple(row[k] for k in keys)
            if key in self:
                raise ValueError(f"{path}: two rows of {key}; `dvc repro -f {stage}` makes it again")
            self[key] = row

    def __missing__(self, key):
        raise ValueError(f"{self.path}: no row of {key}; `dvc repro -f {self.stage}` makes it again")


def image(path: Path, stage: str) -> Image.Image:
    """A stage's picture, decoded. Raises ValueError, naming the stage, when it is missing or unreadable."""
    try:
        with Image.open(path) as opened:
            opened.load()
            return opened
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise unreadable(path, "picture", stage, error) from error
