"""Whom the initial weights of a training have seen: by their name, or by the model.json beside a file.

A file's own training may have started from another file, so each training records those before it (model.json,
`earlier`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cxr.classifier.formats import Earlier, Model
from cxr.core.files import read_json
from cxr.training import pretrained


def earlier(start: Path, split_sha256: str, known: Mapping[str, str]) -> list[Earlier]:
    """The trainings behind a file of weights, the file's own first. split_sha256: of the training that starts there;
    known: data sets of data.extra, by name, and the split that each was read for.

    Raises ValueError, with the cure, where nothing says what the weights were trained on, where that was another split,
    and where a data set that they were trained on is no longer in data.extra, or was read for another split.
    """
    what, file = f"classifier.weights = {start}", start.with_suffix(".json")
    if not start.is_file():
        raise ValueError(f"{what}: no such file")
    if not file.is_file():
        raise ValueError(
            f"{what}: {file.name} beside it is missing, so that nothing says which patients these weights have seen: "
            f"copy the training's whole folder (models/final/0, models/baseline/0/...)"
        )
    meta = read_json(file, None, Model)
    if meta.split_sha256 != split_sha256:
        raise ValueError(
            f"{what}: these weights were trained under another split, so that they may have seen validation or test "
            f"patients of this one: train them again under this split, or choose imagenet"
        )
    found = [Earlier(weights=meta.weights, extra=meta.extra), *_recorded(meta, str(start))]
    for name in sorted({name for one in found for name in one.extra}):
        if known.get(name) != split_sha256:
            raise ValueError(
                f"{what}: these weights were trained on the data set {name} as well, and data.extra has none of that "
                f"name for this split, so that nothing says which patients they have seen: add it to data.extra"
            )
    return found


def starts(meta: Model, what: str) -> list[str]:
    """classifier.weights of a training and of those before it. what: names the model in the message. Raises ValueError
    where they are a file's and model.json does not say what that was trained on.
    """
    return [meta.weights, *(one.weights for one in _recorded(meta, what))]


def extras(meta: Model) -> list[str]:
    """The data sets of data.extra that a training and those before it were trained on."""
    return list(dict.fromkeys([*meta.extra, *(name for one in meta.earlier for name in one.extra)]))


def _recorded(meta: Model, what: str) -> list[Earlier]:
    if pretrained.is_file(meta.weights) and not meta.earlier:
        raise ValueError(
            f"{what}: it started from {meta.weights}, and its model.json does not say what these weights were trained "
            f"on: train it again"
        )
    return meta.earlier


def check(started: Sequence[str], dataset: str, official: Mapping[str, Sequence[str]]) -> None:
    """Raises ValueError where weights have seen validation or test images of the data set. started: their names.

    official: part of the split -> the data set's own parts that its images are of. torchxrayvision trained on parts of
    CheXpert's train.csv, and on neither of its official parts.
    """
    for start in started:
        seen = [part for part in ("valid", "test") if "train" in official.get(part, ())]
        if dataset in pretrained.trained_on(start) and seen:
            raise ValueError(
                f"classifier.weights = {start}: these weights were trained on images of {dataset}'s train.csv, from "
                f"which this split draws its {' and '.join(seen)} images: choose {pretrained.unseen(dataset)[0]}, or "
                "set " + " and ".join(f"split.{part}" for part in seen) + " to official"
            )
