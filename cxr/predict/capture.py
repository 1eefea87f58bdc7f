"""DICOM for a PACS: of each predicted DICOM file a Secondary Capture in colour, of each study a Structured Report.

The picture shows the X-ray, its heat maps, and the findings with their probabilities. These files alone carry what a
PACS files by: name, identifiers and dates of patient and study, copied from the source by highdicom. Their UIDs are
made of the source's and the models', so the same run gives the same UIDs, and a PACS does not keep it twice.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxr import __version__
from cxr.core.files import atomic
from cxr.data.picture import Picture
from cxr.data.sources.dicom_file import START, is_dicom
from cxr.predict import cards, heat, structured
from cxr.predict.model import Predictor
from cxr.predict.source import Source
from cxr.predict.structured import uid
from cxr.predict.tables import Written

if TYPE_CHECKING:
    from pydicom import Dataset

SIDE, TILE, LINE = 512, 256, 24  # pixels: of the X-ray's square, of a heat map's, of a line of text
SERIES_NUMBER = 9901  # beyond those of a modality
SCREEN = "Research only. Not a medical device. Not for diagnosis."
PLACE = "Colour shows where the network's score rests. It is no evidence of where a finding lies."
SIMULATED = "The model was trained on simulated patients. What it says of a real one means nothing."
# Elements of type 2: a file without them breaks the standard, and highdicom asks for them.
EMPTY = tuple(
    "PatientID PatientName PatientBirthDate PatientSex AccessionNumber StudyID StudyDate StudyTime "
    "ReferringPhysicianName".split()
)
MISSING = "--dicom needs highdicom: pip install 'cxr[pacs]'"


def write(
    folder: Path,
    rows: Callable[[], Iterable[dict]],
    models: Sequence[Predictor],
    source: Source,
    explainer: heat.Explainer | None,
) -> Written:
    """Write <folder>/image-<number>.dcm for each predicted DICOM file, study-<number>.dcm for each of their studies.

    rows: gives the rows as published, in order, each time. Memory holds the headers of studies whose last image is
    still to come. Raises ValueError where highdicom is missing.
    """
    check_installed()
    quantiles, identity = cards.population(models), "".join(model.identity for model in models)
    simulated = any(model.calibration.data == "phantom" for model in models)
    notes = [SCREEN, *[PLACE] * bool(explainer), *[SIMULATED] * simulated]
    observer = uid(identity, "models"), ", ".join(model.name for model in models)
    last = {row["study"]: row["number"] for row in rows() if not row["reason"]}
    open_studies: dict[int, list[structured.Reported]] = {}
    captures = reports = without = 0
    folder.mkdir(parents=True, exist_ok=True)
    for row in (row for row in rows() if not row["reason"]):
        header, found = _header(source, row["number"]), cards.bars(row, quantiles)
        capture = None
        if header:
            open_studies.setdefault(row["study"], []).append(structured.Reported(header, found))
            capture = _capture(row, source, models, found, explainer, notes, header, identity)
        if capture:
            _save(folder / f"image-{row['number'] + 1:06d}.dcm", capture)
        captures, without = captures + bool(capture), without + (not capture)
        if row["number"] == last[row["study"]] and (images := open_studies.pop(row["study"], None)):
            study = str(images[0].header.StudyInstanceUID)
            uids = uid(study, identity, "reports"), uid(study, identity, "report")
            if report := structured.report(images, uids, observer, SERIES_NUMBER + 1):
                _save(folder / f"study-{row['study']:06d}.dcm", report)
                reports += 1
    return Written(captures, reports, without)


def _capture(row, source, models, found, explainer, notes, header, identity) -> Dataset | None:
    xray = cards.picture(source, row["number"], max([SIDE, *(model.size for model in models)]))
    if xray is None:
        return None
    heats = heat.heats(explainer, xray, cards.positive(found), TILE) if explainer else []
    return captured(header, sheet(xray, found, heats, notes), identity, row["number"])


def _save(path: Path, made: Dataset) -> None:
    with atomic(path) as temporary:
        made.save_as(temporary, enforce_file_format=True)


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
            for keyword in EMPTY:
                if keyword not in header:
                    setattr(header, keyword, None)
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
