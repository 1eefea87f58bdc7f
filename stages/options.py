"""Options that several stages share, each declared once: `seed: Seed = 0` in a stage's function."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

# Inputs
Records = Annotated[Path, Option(help="the data set's records.parquet")]
Stores = Annotated[Path, Option(help="the data set's stores, one folder a size")]
SplitFolder = Annotated[Path, Option(help="the split's folder: split.parquet and split.json")]
Generators = Annotated[
    list[str], Option(help="one slug for each generator, or several joined by + where findings share one")
]
View = Literal["frontal", "lateral", "all"]  # each stage says what it takes the projections for

# Trainings
Seed = Annotated[int, Option(min=0)]
Repeat = Annotated[int, Option(min=0, help="added to the seed: number of the training among its repeats")]
Precision = Annotated[
    Literal["auto", "32-true", "bf16-mixed"], Option(help="auto: bf16-mixed where the device computes it natively")
]
CheckpointMinutes = Annotated[
    float, Option(min=0.0, envvar="CXR_CHECKPOINT_MINUTES", help="minutes between two saves of the training state")
]
State = Annotated[Path | None, Option(help="folder that keeps the training state; default: .checkpoints")]
