"""The heat maps on a card: where the networks' scores of what is positive rest, in colour over the X-ray.

An X-ray is explained alone, when its card is made, so that memory does not grow. With several models a map is the mean
of their maps, each with a largest value of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from cxr.core.findings import FINDINGS, SLUGS
from cxr.core.resize import resize
from cxr.data.picture import Picture
from cxr.explain.formats import Explained, Measured
from cxr.explain.maps import Layer, Method, feature_maps, heat_maps, scaled
from cxr.explain.overlay import coloured, enlarged
from cxr.predict.model import Predictor
from cxr.report import page

MOST = 4  # maps on a card; those of the most conspicuous findings
LONGEST = 200  # pixels of a map's longer side on the page


class Heat(NamedTuple):
    """A finding's heat map. image: None where nothing speaks for the finding."""

    name: str
    image: Image.Image | None

    @property
    def picture(self) -> page.Picture | None:
        """The map for a page."""
        return page.xray(self.image, LONGEST) if self.image else None


class Compared(NamedTuple):
    """What one model's maps of one finding are worth on boxes. known: of which boxes; hit: how often the strongest
    place lies in one; both None where they were not compared.
    """

    model: str
    known: Explained | None
    hit: Measured | None


def in_short(compared: Sequence[Compared]) -> str:
    """What they are worth together, in words for a narrow place: no better than the worst of the models."""
    if any(one.hit is None for one in compared):
        return "not compared with boxes"
    beats = all(one.hit and one.hit.beats for one in compared)
    return "better than the mean box" if beats else "no better than the mean box"


class Explainer(NamedTuple):
    """What makes heat maps. layers: each model's feature maps, which Grad-CAM reads; None for a method of pixels."""

    models: Sequence[Predictor]
    method: Method
    layers: Sequence[Layer | None]

    @property
    def cells(self) -> int | None:
        """Cells per side of the coarsest model's feature maps; None for a method of pixels."""
        return min((layer.cells for layer in self.layers if layer), default=None)

    def maps(self, xray: Picture, findings: Sequence[int]) -> np.ndarray:
        """Mean maps of an X-ray, M x S x S of the largest model's size, 0 to 1; findings: their M places."""
        size, total = max(model.size for model in self.models), 0
        for model, layer in zip(self.models, self.layers, strict=True):
            image = resize(xray.pixels, model.size, xray.filled)
            maps = scaled(heat_maps(model.net, image[None], findings, self.method, layer and layer.module))
            total = total + np.stack([enlarged(one, (size, size)) for one in maps])
        return scaled(total)

    def compared(self, finding: str) -> list[Compared]:
        """What the maps of a finding (its name) are worth on boxes, for each model."""
        slug, result = SLUGS[FINDINGS.index(finding)], []
        for model in self.models:
            known = model.calibration.explained
            worth = known.methods.get(self.method) if known and known.finding == slug else None
            result.append(Compared(model.name, known if worth else None, worth.hit if worth else None))
        return result


def explainer(models: Sequence[Predictor], method: Method | None) -> tuple[Explainer | None, str | None]:
    """(what makes heat maps, or None; why it can't, or None). method: None for no heat maps."""
    if method is None:
        return None, None
    if method != "grad_cam":
        return Explainer(models, method, [None] * len(models)), None
    try:
        layers = [feature_maps(model.net, model.size) for model in models]
    except ValueError as error:
        return None, str(error)
    return Explainer(models, method, layers), None


def heats(
    explainer: Explainer, xray: Picture, findings: Sequence[tuple[int, str]], longest: int = LONGEST
) -> list[Heat]:
    """The heat maps of an X-ray. findings: place and name of each, the most conspicuous first; MOST of them count.
    longest: pixels of a map's longer side, at most.
    """
    findings = findings[:MOST]
    if not findings:
        return []
    maps = explainer.maps(xray, [place for place, _ in findings])
    images = [overlay(xray, one, longest) if one.any() else None for one in maps]
    return [Heat(name, image) for (_, name), image in zip(findings, images, strict=True)]


def gray(xray: Picture, longest: int) -> Image.Image:
    """An X-ray in its own proportions, no larger than it is."""
    width, height = xray.filled
    scale = min(1.0, longest / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(xray.pixels).resize(size, Image.Resampling.BILINEAR, (0, 0, width, height))


def overlay(xray: Picture, heat: np.ndarray, longest: int = LONGEST) -> Image.Image:
    """An X-ray in gray with a map (S x S, 0 to 1) of the squashed image over it, in the X-ray's own proportions."""
    return Image.fromarray(coloured(np.asarray(gray(xray, longest)), heat))
