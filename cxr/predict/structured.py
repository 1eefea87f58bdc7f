"""DICOM Structured Reports: one of each study, with every finding's probability and yes or no for each image.

The template is TID 1500 (PS3.16), by highdicom. A finding has a private code (scheme 99CXR, F and its place among the
fourteen), since what a network calls a finding is not what SNOMED CT defines. A report is neither complete, final nor
verified: no person has seen it. A finding without a probability has an answer of the same scheme that says why.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from cxr import __version__
from cxr.predict.cards import Bar, Without, private_code
from cxr.predict.formats import NOT_TRAINED

if TYPE_CHECKING:
    from pydicom import Dataset

SCHEME = "99CXR"
YES, NO = ("373066001", "SCT", "Yes"), ("373067005", "SCT", "No")


class Reported(NamedTuple):
    """One image. header: of its file; bars: its findings; without: those that have no probability."""

    header: Dataset
    bars: Sequence[Bar]
    without: Sequence[Without]

    def brief(self) -> Reported:
        """The same with no more of the header than a report needs of an image beside its first."""
        from pydicom import Dataset

        header = Dataset()
        for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
            if keyword in self.header:
                setattr(header, keyword, self.header[keyword].value)
        return self._replace(header=header)

    def content(self) -> list:
        """What a report says of the image."""
        bars = [[bar.name, round(bar.value, 6), bar.positive] for bar in self.bars]
        return [str(self.header.SOPInstanceUID), bars, list(map(list, self.without))]


def uid(*parts: str) -> str:
    """A UID under 2.25 (PS3.5 B.2) that depends on these parts alone."""
    number = int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:16], "big")
    return f"2.25.{number}"


def report(images: Sequence[Reported], identity: str, models: str, series: int) -> Dataset | None:
    """The report of a study's images; None where their elements can't be copied. Its UID depends on all that it says.

    identity: of what made it; models: their names; series: its number.
    """
    study = str(images[0].header.StudyInstanceUID)
    said = json.dumps([image.content() for image in images])
    uids = uid(study, identity, "reports"), uid(study, identity, "report", said)
    observer = uid(identity, "models"), models
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they may quote what they warn of
            return _report(images, uids, observer, series)
    except Exception:  # highdicom and pydicom raise nearly every type on elements that break the standard
        return None


def _report(images: Sequence[Reported], uids: tuple[str, str], observer: tuple[str, str], series: int) -> Dataset:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=observer[0], name="cxr predict", manufacturer_name="cxr", model_name=observer[1]
    )
    context = sr.ObservationContext(
        observer_device_context=sr.ObserverContext(codes.DCM.Device, observer_identifying_attributes=device)
    )
    groups = [_group(k, image, uids[1]) for k, image in enumerate(images, 1)]
    content = sr.MeasurementReport(
        observation_context=context,
        procedure_reported=codes.SCT.ChestImaging,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    return sr.ComprehensiveSR(
        evidence=[image.header for image in images], content=content[0], series_instance_uid=uids[0],
        series_number=series, sop_instance_uid=uids[1], instance_number=1, manufacturer="cxr",
        manufacturer_model_name="cxr predict", software_versions=__version__,
        series_description="Research only. Not a medical device. Not for diagnosis.",
    )  # fmt: skip


def _group(number: int, image: Reported, report_uid: str):
    from highdicom import sr

    unit = sr.CodedConcept("1", "UCUM", "no units")
    measurements, answers = [], []
    for bar in image.bars:
        code = private_code(bar)
        name = sr.CodedConcept(f"P{code}", SCHEME, f"Probability of {bar.name}")
        measurements.append(sr.Measurement(name=name, value=round(bar.value, 6), unit=unit))
        if bar.positive:
            answer = sr.CodedConcept(*(YES if bar.positive == "yes" else NO))
            answers.append(sr.QualitativeEvaluation(name=sr.CodedConcept(code, SCHEME, bar.name), value=answer))
    for one in image.without:
        answer = sr.CodedConcept("N1" if one.status == NOT_TRAINED else "N2", SCHEME, one.status.capitalize())
        name = sr.CodedConcept(private_code(one), SCHEME, one.name)
        answers.append(sr.QualitativeEvaluation(name=name, value=answer))
    header = image.header
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=uid(report_uid, str(number)), identifier=f"image {number}"),
        measurements=measurements,
        qualitative_evaluations=answers,
        source_images=[sr.SourceImageForMeasurementGroup(str(header.SOPClassUID), str(header.SOPInstanceUID))],
    )
