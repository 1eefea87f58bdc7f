"""predictions.html: a card for each X-ray, with its probabilities beside those of the test images, and heat maps.

The picture is decoded once more for the card, and for no more images than there are cards. A picture whose header says
that text is burned into it is left out, and its heat maps with it, as is a refused file's.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from cxr.core.files import Progress, atomic
from cxr.core.findings import FINDINGS, SLUGS
from cxr.data.picture import Picture
from cxr.predict import heat
from cxr.predict.formats import CALIBRATED, LEVELS
from cxr.predict.header import read
from cxr.predict.model import Predictor
from cxr.predict.source import Source
from cxr.predict.worth import statuses
from cxr.report import page

LONGEST = 320  # pixels of a picture's longer side
FEW = "too few test images"
NONE = "No Finding"  # an absence has no place


class Bar(NamedTuple):
    """One finding of an X-ray. value: its probability; population: the test images' 5, 25, 50, 75 and 95 % quantiles;
    above: share of the test images below the value. All are shares of 1. positive: yes, no or None.
    """

    name: str
    value: float
    population: tuple[float, ...]
    above: float
    positive: str | None


class Without(NamedTuple):
    """A finding that has no probability, and why (formats.py's status)."""

    name: str
    status: str


def private_code(finding: Bar | Without) -> str:
    """The finding's code in reports: F and its place among the fourteen."""
    return f"F{FINDINGS.index(finding.name):02d}"


class Card(NamedTuple):
    """One X-ray. picture: None where it must not or can't be shown; row: of predictions.csv; without: the findings that
    have no probability, each with why; heats: of what is positive; more: number of positive findings without a heat
    map because the card has enough of them.
    """

    row: dict
    picture: page.Picture | None
    bars: list[Bar]
    without: list[Without]
    heats: list[heat.Heat]
    more: int


class Known(NamedTuple):
    """What is known of each finding: quantiles of the test images' probabilities, 14 x (LEVELS + 1); slug -> status."""

    quantiles: np.ndarray
    statuses: Mapping[str, str]


def known(models: Sequence[Predictor]) -> Known:
    """What the models know."""
    return Known(population(models), statuses(models))


def population(models: Sequence[Predictor]) -> np.ndarray:
    """14 x (LEVELS + 1) quantiles of the calibrated probability on test images, a mean over the models; NaN for a
    finding without.
    """
    result = np.full((len(models), len(SLUGS), LEVELS + 1), np.nan)
    for m, model in enumerate(models):
        for k, slug in enumerate(SLUGS):
            if levels := model.calibration.findings[slug].quantiles:
                result[m, k] = levels
    return result.mean(axis=0)


def bars(row: dict, quantiles: np.ndarray) -> list[Bar]:
    """The findings that have a probability, the most conspicuous first: those far above the test images."""
    result = []
    for slug, name, levels in zip(SLUGS, FINDINGS, quantiles, strict=True):
        value = row.get(f"probability.{slug}")
        if value is None or np.isnan(levels).any():
            continue
        above = float(np.interp(value, levels, np.linspace(0, 1, LEVELS + 1), left=0, right=1))
        five = tuple(float(levels[round(q * LEVELS)]) for q in (0.05, 0.25, 0.5, 0.75, 0.95))
        result.append(Bar(name, value, five, above, row.get(f"positive.{slug}")))
    return sorted(result, key=lambda bar: -bar.above)


def without(found: Sequence[Bar], statuses: Mapping[str, str]) -> list[Without]:
    """The findings that are not among an X-ray's bars. statuses: slug -> status."""
    shown = {bar.name for bar in found}
    return [Without(name, statuses[slug]) for slug, name in zip(SLUGS, FINDINGS, strict=True) if name not in shown]


def picture(source: Source, number: int, at_least: int) -> Picture | None:
    """A file of the source; None where it can't be decoded, or text is burned into it. at_least: pixels of a side."""
    from cxr.data.decode import decode

    name = source.names[number]
    try:
        data = source.tree.read(name)
        if read(io.BytesIO(data), b"").burned:
            return None
        return decode(data, name, at_least)
    except (ValueError, OSError):
        return None


def positive(found: Sequence[Bar]) -> list[tuple[int, str]]:
    """Place and name of the findings with a yes that have a place in the body, in the order of the bars."""
    return [(FINDINGS.index(bar.name), bar.name) for bar in found if bar.positive == "yes" and bar.name != NONE]


def card(row: dict, source: Source, known: Known, explainer: heat.Explainer | None) -> Card:
    """The card of a row as published. A refused file may be anything, a scanned letter too, so it has no picture."""
    if row["reason"]:
        return Card(row, None, [], [], [], 0)
    sizes = [model.size for model in explainer.models] if explainer else []
    xray, found = picture(source, row["number"], max([LONGEST, *sizes])), bars(row, known.quantiles)
    heats = heat.heats(explainer, xray, positive(found)) if explainer and xray else []
    small = page.xray(Image.fromarray(xray.pixels), LONGEST) if xray else None
    return Card(
        row, small, found, without(found, known.statuses), heats, len(positive(found)) - len(heats) if heats else 0
    )


def _why(status: str) -> str:
    """Why a finding has no sensitivity or no specificity."""
    return FEW if status == CALIBRATED else status


def write_page(
    file: Path,
    rows: Iterable[dict],
    models: Sequence[Predictor],
    source: Source,
    counts,
    table: pd.DataFrame,
    most: int,
    explained: tuple[heat.Explainer | None, str | None],
) -> None:
    """Write the page. rows: as published; counts: of the run; table: findings.csv; most: cards; explained: what
    makes heat maps, and why it can't. Memory holds one card.
    """
    explainer, no_heat = explained
    shown = min(most, counts.images)
    worth = [
        {
            "model": row["model"], "finding": row["finding"], "positives": row["test_positives"],
            **{rate: page.Estimate(row[rate], row[f"{rate}_low"], row[f"{rate}_high"], _why(row["status"]))
               for rate in ("sensitivity", "specificity")},
        }
        for row in table.to_dict("records")
    ]  # fmt: skip
    context = {
        "shown": shown,
        "counts": counts,
        "models": [model.name for model in models],
        "phantom": any(model.calibration.data == "phantom" for model in models),
        "calibration": models[0].calibration,
        "worth": page.Table("findings", worth),
        "left_out": source.left_out,
        "names": dict(zip(SLUGS, FINDINGS, strict=True)),
        "heat": explainer,
        "no_heat": no_heat,
    }
    with atomic(file) as temporary, Progress("cards", shown) as progress:
        what = known(models)

        def cards() -> Iterator[Card]:
            for row in itertools.islice(rows, shown):
                yield card(row, source, what, explainer)
                progress.update()

        page.write(temporary, context | {"cards": cards()}, "predict/page.html.j2")
