"""Options that several stages share, each declared once, and those that a training's Settings declare.

`seed: Seed = 0` in a stage's function is a shared option. `settings: Settings` under @takes_settings is an option for
each field of Settings.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

# Inputs
Records = Annotated[Path, Option(help="the data set's records.parquet")]
Stores = Annotated[Path, Option(help="the data set's stores, one folder a size")]
SplitFolder = Annotated[Path, Option(help="the split's folder: split.parquet and split.json")]
Generators = Annotated[
    list[str], Option(help="one slug for each generator, or several joined by + where findings share one")
]
Samplers = Annotated[
    list[str],
    Option(help="the generators whose X-rays balance the table: DCGANs by their names, or one of all training X-rays"),
]

# A data set, the papers' or an entry of params.yaml that names another hospital's (cxr/data/sources/entry.py)
EntryName = Annotated[str, Option(help="what the page calls it")]
DatasetName = Annotated[str, Option(help="chexpert, rsna, nih, mimic, padchest, vindr, table, or auto")]
Source = Annotated[
    str,
    Option(help="phantom | folder | .zip | http(s):// or s3:// of a .zip | s3://.../ of a folder | kaggle:<handle>"),
]
PackedSize = Annotated[int, Option(min=16, max=2048, help="side of the packed images, pixels: the model's")]
LabelTable = Annotated[str, Option(help="which of its label tables counts; '': the usual one")]
Columns = Annotated[list[str], Option(help="table: <key>=<column of the CSV>; may be repeated")]
Part = Annotated[Literal["all", "train", "valid", "test"], Option(help="which official part is read")]
Mapping = Annotated[str, Option(help="rsna: the mapping of images to patients; '': beside the tables")]
Site = Annotated[int, Option(min=1, help="phantom: which hospital it simulates; 1 is the training's")]
Patients = Annotated[int, Option(min=20, help="phantom: patients")]
Downloads = Annotated[Path | None, Option(help="folder that keeps downloads; default .checkpoints")]
MaxRejected = Annotated[float, Option(min=0, max=1, help="largest share of unreadable images")]
Processes = Annotated[int | None, Option(min=1, envvar="CXR_PROCESSES", help="worker processes; default one per core")]

# Who does the work of a stage that also runs on a cluster
Engine = Annotated[
    Literal["local", "spark"],
    Option(envvar="CXR_ENGINE", help="which engine does the work; the result has the same bytes"),
]
Master = Annotated[
    str | None, Option(envvar="CXR_SPARK_MASTER", help="spark: where, such as local[2]; default spark-submit's")
]

RARE = ("pneumonia", "lung_lesion", "consolidation")  # the first paper's rare findings

# Trainings
Seed = Annotated[int, Option(min=0)]
Repeat = Annotated[int, Option(min=0, help="added to the seed: number of the training among its repeats")]
Precision = Annotated[
    Literal["auto", "32-true", "bf16-mixed", "16-mixed"],
    Option(help="auto: bf16-mixed where the device computes it natively; 16-mixed: for a GPU that has no bf16"),
]
CheckpointMinutes = Annotated[
    float, Option(min=0.0, envvar="CXR_CHECKPOINT_MINUTES", help="minutes between two saves of the training state")
]
State = Annotated[Path | None, Option(help="folder that keeps the training state; default: .checkpoints")]

EDGES = {"ge": "min", "le": "max"}  # of a field's range: pydantic's name and Typer's


def takes_settings(command: Callable) -> Callable:
    """The command with an option for each field of its parameter `settings` in place of it.

    A field's type, range, default and description are the option's. Raises ValueError, naming the option, for a value
    that the command line lets through and the field does not, such as infinity.
    """
    signature = inspect.signature(command, eval_str=True)
    model = signature.parameters["settings"].annotation

    def parameters() -> Iterator[inspect.Parameter]:
        for name, parameter in signature.parameters.items():
            if name == "settings":
                yield from (_option(field_name, field) for field_name, field in model.model_fields.items())
            else:
                yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)

    @functools.wraps(command)
    def run(**values) -> None:
        from pydantic import ValidationError

        from cxr.core.files import wrong_key

        fields = {name: values.pop(name) for name in model.model_fields.keys() & values.keys()}
        try:
            settings = model(**fields)
        except ValidationError as error:
            raise ValueError(wrong_key(error.errors(include_url=False)[0])) from None
        command(settings=settings, **values)

    run.__signature__ = signature.replace(parameters=list(parameters()))  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in parameters()}
    return run


def _option(name: str, field: "FieldInfo") -> inspect.Parameter:
    """A field as a command's parameter."""
    bounds = {edge: getattr(rule, key) for rule in field.metadata for key, edge in EDGES.items() if hasattr(rule, key)}
    kind = Annotated[field.annotation, Option(help=field.description, **bounds)]  # type: ignore[valid-type]
    default = inspect.Parameter.empty if field.is_required() else field.default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
