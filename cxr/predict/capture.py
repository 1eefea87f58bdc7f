"""DICOM Secondary Captures for a PACS: of each predicted DICOM file one picture in colour, in the patient's own study.

The picture shows the X-ray, its heat maps, and the findings with their probabilities. These files alone carry what a
PACS files by: name, identifiers and dates of patient and study, copied from the source by highdicom. Their UIDs are
made of the source's and the models', so the same run gives the same UIDs, and a PACS does not keep it twice.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxr import __version__
from cxr.core.files import atomic
from cxr.data.picture import Picture
from cxr.data.sources.dicom_file import START, is_dicom
from cxr.predict import cards, heat
from cxr.predict.model import Predictor
from cxr.predict.source import Source

if TYPE_CHECKING:
    from pydicom import Dataset

SIDE, TILE, LINE = 512, 256, 24  # pixels: of the X-ray's square, of a heat map's, of a line of text
SERIES_NUMBER = 9901  # beyond those of a modality
SCREEN = "Research only. Not a medical device. Not for diagnosis."
PLACE = "Colour shows where the network's score rests. It is no evidence of where a finding lies."
SIMULATED = "The model was trained on simulated patients. What it says of a real one means nothing."
MISSING = "--dicom needs highdicom: pip install 'cxr[secondary]'"


def write(
    folder: Path,
    rows: Iterable[dict],
    models: Sequence[Predictor],
    source: Source,
    explainer: heat.Explainer | None,
) -> tuple[int, int]:
    """Write <folder>/image-<number>.dcm for each predicted DICOM file of the rows (as published).

    Returns how many were written, and how many predicted files got none: those that are no DICOM, have text burned
    into them, name no study, or have a header that can't be copied. Raises ValueError where highdicom is missing.
    """
    check_installed()
    quantiles, identity = cards.population(models), "".join(model.identity for model in models)
    simulated = any(model.calibration.data == "phantom" for model in models)
    notes = [SCREEN, *[PLACE] * bool(explainer), *[SIMULATED] * simulated]
    written = without = 0
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        if row["reason"]:
            continue
        header = _header(source, row["number"])
        xray = cards.picture(source, row["number"], max([SIDE, *(model.size for model in models)])) if header else None
        if xray is None:
            without += 1
            continue
        found = cards.bars(row, quantiles)
        heats = heat.heats(explainer, xray, cards.positive(found), TILE) if explainer else []
        capture = captured(header, sheet(xray, found, heats, notes), identity, row["number"])
        if capture is None:
            without += 1
            continue
        with atomic(folder / f"image-{row['number'] + 1:06d}.dcm") as temporary:
            capture.save_as(temporary, enforce_file_format=True)
        written += 1
    return written, without


def check_installed() -> None:
    """Raises ValueError where highdicom is missing."""
    try:
        import highdicom  # noqa: F401
    except ImportError:
        raise ValueError(MISSING) from None


def _header(source: Source, number: int) -> Dataset | None:
    """The elements before the pixels of a DICOM file that names its study, or None."""
    import pydicom

    try:
        data = source.tree.read(source.names[number])
        if not is_dicom(data[:START]):
            return None
        with pydicom.config.disable_value_validation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they may quote what they warn of
            header = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True)
            return header if header.get("StudyInstanceUID") and header.get("SOPInstanceUID") else None
    except Exception:  # pydicom raises nearly every type; such a file gets no capture
        return None


def sheet(xray: Picture, found: Sequence[cards.Bar], heats: Sequence[heat.Heat], notes: Sequence[str]) -> np.ndarray:
    """The picture: X-ray at the left, heat maps at the right, findings and notes below. uint8 H x W x 3."""
    text = ImageFont.load_default(18)
    rows = (len(found) + 1) // 2
    height = SIDE + LINE * (rows + len(notes) + 1)
    whole = Image.new("RGB", (2 * SIDE, height))
    pen = ImageDraw.Draw(whole)
    whole.paste(_fitted(heat.gray(xray, SIDE), SIDE), (0, 0))
    for k, one in enumerate(heats):
        x, y = SIDE + TILE * (k % 2), TILE * (k // 2)
        if one.image is not None:
            whole.paste(_fitted(one.image, TILE), (x, y))
        pen.text((x + 6, y + TILE - LINE), one.name, "white", text)
    for k, bar in enumerate(found):
        mark = {"yes": "  yes", "no": "  no", None: ""}[bar.positive]
        colour = "orange" if bar.positive == "yes" else "lightgray"
        x, y = SIDE * (k % 2) + 6, SIDE + 6 + LINE * (k // 2)
        pen.text((x, y), f"{bar.name}: {100 * bar.value:.1f} %{mark}", colour, text)
    for k, note in enumerate(notes):
        pen.text((6, SIDE + LINE * (rows + k) + 18), note, "yellow", text)
    return np.asarray(whole)


def _fitted(image: Image.Image, side: int) -> Image.Image:
    """An image on black, as large as the square allows."""
    scale = side / max(image.size)
    small = image.resize(tuple(max(1, round(v * scale)) for v in image.size), Image.Resampling.BILINEAR)
    square = Image.new("RGB", (side, side))
    square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return square


def uid(*parts: str) -> str:
    """A UID under 2.25 (PS3.5 B.2) that depends on these parts alone."""
    number = int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:16], "big")
    return f"2.25.{number}"


def captured(header: Dataset, pixels: np.ndarray, identity: str, number: int) -> Dataset | None:
    """The Secondary Capture of a picture, in the study of `header`; None where its elements can't be copied."""
    try:
        return _captured(header, pixels, identity, number)
    except Exception:  # highdicom and pydicom raise nearly every type on elements that break the standard
        return None


def _captured(header: Dataset, pixels: np.ndarray, identity: str, number: int) -> Dataset:
    import highdicom

    study, instance = str(header.StudyInstanceUID), str(header.SOPInstanceUID)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        capture = highdicom.sc.SCImage.from_ref_dataset(
            header, pixels, "RGB", 8, "PATIENT",
            series_instance_uid=uid(study, identity, "series"), series_number=SERIES_NUMBER,
            sop_instance_uid=uid(study, instance, identity), instance_number=number + 1,
            manufacturer="cxr", manufacturer_model_name="cxr predict", software_versions=__version__,
            series_description=SCREEN, patient_orientation=("L", "F"),
        )  # fmt: skip
    capture.PatientOrientation = None  # a sheet has none
    capture.BurnedInAnnotation = "NO"
    capture.LossyImageCompression = "00"
    return capture
