"""No message of the decoder quotes what a DICOM file says in words of its own: it may be a name, wherever it stands."""

import itertools

import numpy as np
import pytest
from pydicom import Dataset, Sequence

from cxr.data import dicom as module
from cxr.data.decode import decode
from tests.data.pictures import baseline, dicom, planted, smooth

META = (
    "MediaStorageSOPClassUID MediaStorageSOPInstanceUID TransferSyntaxUID ImplementationClassUID "
    "ImplementationVersionName SourceApplicationEntityTitle"
).split()
TEXT_VRS = ("CS", "DS", "IS", "LO", "PN", "UI")


def said(data: bytes) -> str:
    try:
        decode(data, "x", 32)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("make", [dicom, baseline])
def test_no_element_that_the_decoder_reads_is_quoted(make):
    good = make(smooth(56, 48), WindowCenter=100, WindowWidth=50)
    keywords = [keyword for keyword in module.TAGS.split() if keyword != "PixelData"]
    messages = {
        (keyword, vr): said(planted(good, keyword, vr, "JANE PLANTED"))
        for keyword, vr in itertools.product([*keywords, *META], TEXT_VRS)
    }
    assert sum(map(bool, messages.values())) > 80
    assert {key: message for key, message in messages.items() if "PLANTED" in message} == {}


@pytest.mark.parametrize("meaning", ["MONOCHROME PLANTED", "RGB PLANTED", "YBR PLANTED", "PLANTED"])
@pytest.mark.parametrize("bits", [8, 16])
def test_an_unknown_photometric_interpretation_is_not_quoted(meaning, bits):
    pixels = smooth(56, 48).astype(f"u{bits // 8}")
    for shape in (pixels, np.stack([pixels] * 3, -1)):
        samples = {"SamplesPerPixel": shape.ndim * 2 - 3, "PlanarConfiguration": 0}
        message = said(dicom(shape, PhotometricInterpretation=meaning, **samples))
        assert "PLANTED" not in message
    assert "photometric interpretation HSV and" in said(dicom(pixels, PhotometricInterpretation="HSV"))


@pytest.mark.parametrize("keyword", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("nested", ["LUTDescriptor", "LUTData", "LUTExplanation"])
def test_a_table_of_words_is_not_quoted(keyword, nested):
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [256, 0, 8], list(range(256))
    for name in ("LUTDescriptor", "LUTData"):
        item[name].VR = "US"
    good = item.to_json_dict()
    item = Dataset.from_json(good)
    item.add_new(nested, "LO", ["PLANTED", "JANE", "DOE"] if nested == "LUTDescriptor" else "PLANTED")
    message = said(dicom(smooth(56, 48), **{keyword: Sequence([item])}))
    assert "PLANTED" not in message and bool(message) == (nested != "LUTExplanation")


def test_numbers_are_needed_where_numbers_belong():
    good = dicom(smooth(56, 48))
    assert said(planted(good, "Rows", "LO", "JANE")) == "DICOM whose Rows is no number"
    assert said(dicom(smooth(56, 48), WindowCenter=9, WindowWidth=9, VOILUTFunction="JANE")) == (
        "DICOM with a VOI LUT function that is none of LINEAR, LINEAR_EXACT, SIGMOID"
    )
