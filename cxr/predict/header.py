"""What predict asks a DICOM header, and what stays of it: nothing that names a person, an institution or a day.

The ids of study and patient become keyed digests, which live as long as the process and are in no output. The view and
the body part count only where they are one of the words listed here.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple

from cxr.data.sources.dicom_file import START, is_dicom, read_dicom

TAGS = ("StudyInstanceUID", "PatientID", "ViewPosition", "BodyPartExamined", "Modality", "BurnedInAnnotation")
PROJECTIONS = {"AP": "frontal", "PA": "frontal", "LL": "lateral", "RL": "lateral", "LATERAL": "lateral"}
# Of DICOM PS3.16 annex L: parts that are no chest. Another word says nothing.
NOT_CHEST = frozenset(
    "ABDOMEN ANKLE ARM CALCANEUS CALF CSPINE ELBOW EXTREMITY FINGER FOOT FOREARM HAND HEAD HIP HUMERUS JAW KNEE LEG "
    "LSPINE NECK PELVIS SKULL TOE WRIST".split()
)
OTHER_MODALITIES = frozenset("CT MG MR NM OPT PT US XA".split())


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
    """The header of a file at its start; an empty one where it is no DICOM or can't be parsed. key: of digests."""
    if not is_dicom(stream.read(START)):
        return Header()
    import pydicom

    stream.seek(0)
    try:
        data = read_dicom(stream, [pydicom.tag.Tag(tag) for tag in TAGS], pixels=False)
        with pydicom.config.disable_value_validation():
            values = {tag: str(data.get(tag) or "").strip() for tag in TAGS}
    except Exception:  # pydicom raises nearly every type; decode says what is wrong with the file
        return Header()
    view, part, modality = (values[tag].upper() for tag in TAGS[2:5])
    refused = f"modality {modality}, not a radiograph" if modality in OTHER_MODALITIES else None
    if part.replace(" ", "") in NOT_CHEST:
        refused = f"body part {part.replace(' ', '')}, not a chest"
    return Header(
        digest(values["StudyInstanceUID"], key),
        digest(values["PatientID"], key),
        view if view in PROJECTIONS else None,
        refused,
        values["BurnedInAnnotation"].upper() == "YES",
    )


def view_in(name: str) -> str | None:
    """The view that a file's name states as a word: frontal or lateral (view1_frontal.jpg), or None."""
    words = set(re.findall(r"[a-z]+", PurePosixPath(name).stem.lower())) & {"frontal", "lateral"}
    return words.pop() if len(words) == 1 else None


def study_in(name: str) -> str | None:
    """The folder of one study that a name lies in, where the folder is called so (patient00001/study1/), or None."""
    folder = PurePosixPath(name).parent
    return str(folder) if re.fullmatch(r"study[\W_]?\w*", folder.name.lower()) else None
