"""The row of one image: its study and view, why it is refused, or what the models say of it.

Columns, for one model and for the mean of several: file, study, view, view_from, reason, then for each finding
probability.<slug> and positive.<slug> (yes, no, or blank without an operating point). Of each model also
score.<slug>, the network's own output. With several models each one's columns begin with its name and a slash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cxr.core.findings import SLUGS
from cxr.predict.decoding import Decoded
from cxr.predict.header import PROJECTIONS, Header
from cxr.predict.model import Judged

HEAD = ("file", "study", "view", "view_from", "reason")
SEVERAL = "two patients in one study"


class Studies:
    """Numbers for studies in the order of their first image, and which of them hold images of two patients.

    Memory: some 200 bytes for each study.
    """

    def __init__(self) -> None:
        self._numbers: dict[bytes, tuple[int, bytes | None]] = {}
        self._count = 0
        self.mixed: set[int] = set()

    def number(self, header: Header, known: int | None = None) -> int:
        """The study's number, from 1. An image that names no study is one of its own.

        known: the number that an interrupted run gave it. Then studies keep their numbers, also where a file of theirs
        can't be read any more.
        """
        found = self._numbers.get(header.study) if header.study is not None else None
        number = known or (found[0] if found else self._count + 1)
        self._count = max(self._count, number)
        if header.study is None:
            return number
        patient = found[1] if found and found[0] == number else None
        if None not in (patient, header.patient) and patient != header.patient:
            self.mixed.add(number)
        self._numbers[header.study] = (number, patient or header.patient)
        return number


class Asked(NamedTuple):
    """What the models take. name: of each model; views: that each was trained on; limits: models x 14, the operating
    points as probabilities."""

    names: tuple[str, ...]
    views: tuple[str, ...]
    limits: np.ndarray


def columns(names: Sequence[str]) -> list[str]:
    """The columns of predictions.csv, of models with these names."""
    result = [*HEAD, *(f"{kind}.{slug}" for slug in SLUGS for kind in ("probability", "positive"))]
    for name in names:
        own = [f"{kind}.{slug}" for slug in SLUGS for kind in ("probability", "positive", "score")]
        result += [f"{name}/{column}" for column in own] if len(names) > 1 else [f"score.{slug}" for slug in SLUGS]
    return result


def row(file: Decoded, place: int, judged: Sequence[Judged], study: int, asked: Asked) -> dict:
    """The row of a file, without its name. place: of the image in what each model judged; unused if it was refused."""
    view, origin = file.header.view or file.named, "header" if file.header.view else "name" if file.named else None
    result: dict = {"number": file.number, "study": study, "view": view, "view_from": origin, "reason": file.reason}
    if file.reason:
        return result
    if view and (reason := _wrong(view, asked)):
        return result | {"reason": reason}
    ratio = float(np.mean([one.ratio[place] for one in judged]))
    if not ratio <= 1:  # a guess at its view would mean nothing
        return result | {
            "reason": f"out of distribution: {ratio:.2f} times the largest accepted distance from the training images"
        }
    if view is None:
        guesses = [one.view[place] for one in judged]
        view = max(sorted(set(guesses)), key=guesses.count)
        result |= {"view": view, "view_from": "guessed", "reason": _wrong(view, asked)}
        if result["reason"]:
            return result
    return result | _findings(place, judged, asked)


def _wrong(view: str, asked: Asked) -> str | None:
    """Why a view is refused, or None."""
    projection = PROJECTIONS.get(view, view)
    others = [wanted for wanted in asked.views if wanted not in ("all", projection)]
    return f"{projection} view: the model was trained on {others[0]} ones alone" if others else None


def _findings(place: int, judged: Sequence[Judged], asked: Asked) -> dict:
    probability = np.stack([one.probability[place] for one in judged])
    mean = probability.mean(axis=0)
    limit = asked.limits.mean(axis=0)
    several = len(judged) > 1
    result: dict = {}
    for k, slug in enumerate(SLUGS):
        called = judged[0].positive[place, k]
        if several:
            called = np.nan if np.isnan(mean[k] + limit[k]) else float(mean[k] >= limit[k])
        result |= {f"probability.{slug}": _number(mean[k]), f"positive.{slug}": _word(called)}
    for name, one in zip(asked.names, judged, strict=True):
        head = f"{name}/" if several else ""
        for k, slug in enumerate(SLUGS):
            if several:
                result[f"{head}probability.{slug}"] = _number(one.probability[place, k])
                result[f"{head}positive.{slug}"] = _word(one.positive[place, k])
            result[f"{head}score.{slug}"] = float(one.scores[place, k])
    return result


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _word(called: float) -> str | None:
    return None if np.isnan(called) else "yes" if called else "no"
