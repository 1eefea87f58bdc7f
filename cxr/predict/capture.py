"""DICOM for a PACS: of each predicted DICOM file a Secondary Capture in colour, of each study a Structured Report.

The picture shows the X-ray, its heat maps, and the findings with their probabilities. These files alone carry what a
PACS files by: name, identifiers and dates of patient and study, copied from the source by highdicom. Their UIDs are
made of the source's, of the models and the version, and of what the file shows: the same run gives the same UIDs, so
that a PACS does not keep it twice, and other content never has the UID of what a PACS keeps.
"""

from __future__ import annotations

import hashlib
import io
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cxr import __version__
from cxr.core.files import Progress, atomic
from cxr.data.picture import Picture
from cxr.data.sources.dicom_file import START, is_dicom
from cxr.predict import cards, heat, structured
from cxr.predict.model import Predictor
from cxr.predict.published import Published
from cxr.predict.source import Source
from cxr.predict.structured import uid
from cxr.predict.tables import Written

if TYPE_CHECKING:
    from pydicom import Dataset

SIDE, TILE, LINE = 512, 256, 24  # pixels: of the X-ray's square, of a heat map's, of a line of text
WIDEST = 105  # characters of a line of notes
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


class Made(NamedTuple):
    """What makes captures and reports, the same for every image. notes: lines below every picture; captures, reports:
    identities, on which their UIDs depend.
    """

    models: Sequence[Predictor]
    source: Source
    explainer: heat.Explainer | None
    known: cards.Known
    notes: Sequence[str]
    captures: str
    reports: str

    @classmethod
    def of(cls, models: Sequence[Predictor], source: Source, explainer: heat.Explainer | None) -> Made:
        """Of a run's models, files and heat maps."""
        simulated = any(model.calibration.data == "phantom" for model in models)
        notes = [SCREEN, *[PLACE] * bool(explainer), *[SIMULATED] * simulated]
        reports = "\0".join([*(model.identity for model in models), __version__])
        captures = f"{reports}\0{explainer.method if explainer else None}"
        return cls(models, source, explainer, cards.known(models), notes, captures, reports)


def write(folder: Path, rows: Published, made: Made, images: int) -> Written:
    """Write image-<number>.dcm for each predicted DICOM file and study-<number>.dcm for each of their studies into
    `folder`, which replaces one of an earlier run. images: number of predicted ones.

    Memory holds one study: the header of its first image, and what its report says of the others. Raises ValueError
    where highdicom is missing.
    """
    check_installed()
    name = ", ".join(model.name for model in made.models)
    captures = reports = studies = 0
    with atomic(folder) as temporary, Progress("dicom", images) as progress:
        temporary.mkdir()
        for study in rows.studies():
            reported: list[structured.Reported] = []
            for row in study:
                if one := _reported(row, made):
                    reported.append(one.brief() if reported else one)
                    if capture := _capture(row, made, one):
                        capture.save_as(temporary / f"image-{row['number'] + 1:06d}.dcm", enforce_file_format=True)
                        captures += 1
                progress.update()
            if reported and (report := structured.report(reported, made.reports, name, SERIES_NUMBER + 1)):
                report.save_as(temporary / f"study-{study[0]['study']:06d}.dcm", enforce_file_format=True)
                reports += 1
            studies += 1
    return Written(captures, reports, images - captures, studies - reports)


def _reported(row: dict, made: Made) -> structured.Reported | None:
    """What is said of a row's image; None where it is no DICOM that names its study."""
    header = _header(made.source, row["number"])
    if header is None:
        return None
    found = cards.bars(row, made.known.quantiles)
    return structured.Reported(header, found, cards.without(found, made.known.statuses))


def _capture(row: dict, made: Made, image: structured.Reported) -> Dataset | None:
    xray = cards.picture(made.source, row["number"], max([SIDE, *(model.size for model in made.models)]))
    if xray is None:
        return None
    heats, below = [], {}
    if made.explainer:
        heats = heat.heats(made.explainer, xray, cards.positive(image.bars), TILE)
        below = {one.name: heat.in_short(made.explainer.compared(one.name)) for one in heats}
    notes = [*made.notes]
    for status in dict.fromkeys(one.status for one in image.without):
        unknown = ", ".join(one.name for one in image.without if one.status == status)
        notes += textwrap.wrap(f"Not known ({status}): {unknown}.", WIDEST)
    return captured(image.header, sheet(xray, image.bars, heats, notes, below), made.captures)


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


def sheet(
    xray: Picture,
    found: Sequence[cards.Bar],
    heats: Sequence[heat.Heat],
    notes: Sequence[str],
    below: Mapping[str, str],
) -> np.ndarray:
    """The picture: X-ray at the left, heat maps at the right, findings and notes under them. below: finding -> words on
    its map. uint8 H x W x 3.
    """
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
        pen.text((x + 6, y + TILE - 2 * LINE), one.name, "white", text)
        pen.text((x + 6, y + TILE - LINE), below.get(one.name, ""), "white", text)
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


def captured(header: Dataset, pixels: np.ndarray, identity: str) -> Dataset | None:
    """The Secondary Capture of a picture, in the study of `header`; None where its elements can't be copied. Its UID
    depends on the pixels. identity: of what made them.
    """
    try:
        return _captured(header, pixels, identity)
    except Exception:  # highdicom and pydicom raise nearly every type on elements that break the standard
        return None


def _captured(header: Dataset, pixels: np.ndarray, identity: str) -> Dataset:
    import highdicom

    study, instance = str(header.StudyInstanceUID), str(header.SOPInstanceUID)
    shows = hashlib.sha256(pixels.tobytes()).hexdigest()
    number = str(header.get("InstanceNumber") or "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        capture = highdicom.sc.SCImage.from_ref_dataset(
            header, pixels, "RGB", 8, "PATIENT",
            series_instance_uid=uid(study, identity, "series"), series_number=SERIES_NUMBER,
            sop_instance_uid=uid(study, instance, identity, shows),
            instance_number=int(number) if number.isdecimal() and int(number) else 1,
            manufacturer="cxr", manufacturer_model_name="cxr predict", software_versions=__version__,
            series_description=SCREEN, patient_orientation=("L", "F"),
        )  # fmt: skip
    capture.PatientOrientation = None  # a sheet has none
    capture.BurnedInAnnotation = "NO"
    capture.LossyImageCompression = "00"
    return capture
