"""What predict asks a DICOM header, and what stays of it: nothing that names a person, an institution or a day.

The ids of study and patient become keyed digests, which live as long as the process and are in no output. The view and
the body part count only where they are one of the words listed here.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from cxr.data.sources.dicom_file import START, is_dicom, read_dicom

if TYPE_CHECKING:
    from pydicom import Dataset

TAGS = ("StudyInstanceUID", "PatientID", "ViewPosition", "BodyPartExamined", "Modality", "BurnedInAnnotation")
TAGS += ("ManufacturerModelName", "ViewCodeSequence")
MADE_HERE = "cxr predict"  # as ManufacturerModelName, in what predict writes for a PACS
# The words of ViewPosition (PS3.3 C.8.1.2), and some that devices write. A decubitus is a frontal image of a person who
# lies on one side.
PROJECTIONS = {
    **dict.fromkeys(("AP", "PA", "LLD", "RLD", "FRONTAL"), "frontal"),
    **dict.fromkeys(("LL", "RL", "LAT", "LATERAL"), "lateral"),
    **dict.fromkeys(("LLO", "RLO", "LAO", "RAO", "LPO", "RPO", "OBLIQUE"), "oblique"),
}
# Of PS3.16 CID 4010, DX View: SNOMED CT, and the codes of SNOMED RT that older devices write.
CODES = {
    **dict.fromkeys("399348003 R-10206".split(), "AP"),
    **dict.fromkeys("272479007 R-40888 R-10214".split(), "PA"),
    **dict.fromkeys("399033003 R-10202".split(), "FRONTAL"),
    **dict.fromkeys("399173006 R-10236".split(), "LL"),
    **dict.fromkeys("399198007 R-10232".split(), "RL"),
    **dict.fromkeys("399067008 399352003 399260004 R-102CD R-10224 R-10228".split(), "LATERAL"),
    **dict.fromkeys("399135007 R-10220".split(), "LAO"),
    **dict.fromkeys("399356000 R-40985".split(), "RAO"),
    **dict.fromkeys("399006002 R-10212".split(), "LPO"),
    **dict.fromkeys("399038007 R-10210".split(), "RPO"),
    **dict.fromkeys("399182000 399184004 399236003 260427002 R-40783 R-102C1 R-10238 R-10234".split(), "OBLIQUE"),
}
# The defined terms of PS3.16 annex L, but for those of which a chest X-ray may be: the chest itself and regions that
# hold it, the whole body, and organs and bones in it. Another word says nothing.
NOT_CHEST = frozenset(
    "ABDOMEN ABDOMENPELVIS ADRENAL ANKLE ARM AXILLA BACK BLADDER BRAIN BREAST BUTTOCK CALCANEUS CALF CAROTID "
    "CEREBELLUM CERVIX CHEEK CIRCLEOFWILLIS CLAVICLE COCCYX COLON CORNEA CSPINE CTSPINE DUODENUM EAR ELBOW "
    "EXTREMITY EYE EYELID FACE FEMUR FINGER FOOT GALLBLADDER HAND HEAD HEADNECK HIP HUMERUS IAC ILEUM ILIUM JAW "
    "JEJUNUM KIDNEY KNEE LARYNX LEG LIVER LSPINE LSSPINE MAXILLA MOUTH NECK NOSE ORBIT OVARY PANCREAS PAROTID "
    "PATELLA PELVIS PENIS PHARYNX PROSTATE RADIUS RADIUSULNA RECTUM SCALP SCAPULA SCLERA SCROTUM SHOULDER SKULL "
    "SPINE SPLEEN SSPINE STOMACH SUBMANDIBULAR TESTIS THIGH THUMB THYROID TIBIA TIBIAFIBULA TLSPINE TMJ TOE "
    "TONGUE TSPINE ULNA URETER URETHRA UTERUS VAGINA VULVA WRIST ZYGOMA".split()
)
# Of PS3.3 C.7.3.1.1.1: no projection X-ray of a body, or no image.
OTHER_MODALITIES = frozenset(
    "BI BMD CT DG DOC ECG EPS ES GM HD IO IVOCT IVUS KER KO LEN LP MG MR NM OAM OCT OP OPM OPT OPV OSS PR PT PX "
    "REG RESP RTDOSE RTPLAN RTRECORD RTSTRUCT RWV SEG SM SMR SR SRF STAIN TG US VA XA XC".split()
)


class Header(NamedTuple):
    """study, patient: digests or None; view: a key of PROJECTIONS or None; refused: why it is no chest radiograph, or
    None; burned: whether text is burned into the pixels, as the header says.
    """

    study: bytes | None = None
    patient: bytes | None = None
    view: str | None = None
    refused: str | None = None
    burned: bool = False


def digest(text: str, key: bytes) -> bytes | None:
    return hashlib.blake2b(text.encode(), digest_size=16, key=key).digest() if text else None


def read(stream: BinaryIO, key: bytes) -> Header:
    """The header of a file at its start; an empty one where it is no DICOM or can't be read. key: of digests."""
    try:
        if not is_dicom(stream.read(START)):
            return Header()
        import pydicom

        stream.seek(0)
        data = read_dicom(stream, [pydicom.tag.Tag(tag) for tag in TAGS], pixels=False)
        with pydicom.config.disable_value_validation():
            study, patient, position, part, modality, burned, maker = (
                str(data.get(tag) or "").strip() for tag in TAGS[:-1]
            )
            view = next((word for word in (position.upper(), _coded(data)) if word in PROJECTIONS), None)
    except Exception:  # pydicom and damaged members of a .zip raise nearly every type; decode says what is wrong
        return Header()
    return Header(
        digest(study, key), digest(patient, key), view, _refused(part, modality, maker), burned.upper() == "YES"
    )


def _coded(data: Dataset) -> str | None:
    """The view as its code says it, or None."""
    items = data.get("ViewCodeSequence") or [None]
    return CODES.get(str(items[0].get("CodeValue") or "").strip()) if items[0] is not None else None


def _refused(part: str, modality: str, maker: str) -> str | None:
    """Why a file is no chest radiograph, or None. Only words of the tables above are quoted."""
    part, modality = re.sub(r"[\s_-]", "", part.upper()), modality.upper()
    if maker == MADE_HERE:
        return "made by cxr predict, no radiograph"
    if part in NOT_CHEST:
        return f"body part {part}, not a chest"
    return f"modality {modality}, not a radiograph" if modality in OTHER_MODALITIES else None


def view_in(name: str) -> str | None:
    """The view that a file's name states as a word: frontal or lateral (view1_frontal.jpg), or None."""
    words = set(re.findall(r"[a-z]+", PurePosixPath(name).stem.lower())) & {"frontal", "lateral"}
    return words.pop() if len(words) == 1 else None


def study_in(name: str) -> str | None:
    """The folder of one study that a file lies in, where folders are called as those of CheXpert (patient00001/study1/)
    or MIMIC-CXR (p10000032/s50414267/), or None. name: with the folders above it, posix.
    """
    folder = PurePosixPath(name).parent
    return str(folder) if re.search(r"(?:^|/)(?:patient\d+/study|p\d+/s)\d+$", str(folder), re.IGNORECASE) else None
