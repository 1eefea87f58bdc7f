"""Reads sex, age and view from DICOM headers.

No other element is parsed, so no name, number or birth date can reach a result or a warning.
"""

from __future__ import annotations

import math
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from cxr.core.files import usable_cores
from cxr.data.sources.archive import Tree
from cxr.data.sources.dicom_file import read_dicom

CHUNK = 128  # headers per task of a worker process
TAGS = ("PatientSex", "PatientAge", "ViewPosition")

Header = tuple[str | None, float, str | None]


def read_headers(tree: Tree, names: list[str], processes: int | None = None) -> list[Header]:
    """Sex (F, M or None), age (years or NaN) and view (as written, or None) of each image.

    An unreadable header gives (None, NaN, None). processes: default one per core.
    """
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    processes = min(processes or usable_cores(), len(chunks) // 4)
    if processes <= 1:
        return headers(tree, names)
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        return [header for part in pool.map(headers, [tree] * len(chunks), chunks) for header in part]


def headers(tree: Tree, names: list[str]) -> list[Header]:
    """As read_headers, in this process."""
    return [_header(tree, name) for name in names]


def _header(tree: Tree, name: str) -> Header:
    import pydicom

    try:
        with tree.open(name) as stream, pydicom.config.disable_value_validation():
            header = read_dicom(stream, [pydicom.tag.Tag(tag) for tag in TAGS], pixels=False)
            sex, age, view = (str(header.get(tag) or "").strip().upper() for tag in TAGS)
    except Exception:  # pydicom raises nearly every type; the resize stage rejects a damaged file
        return None, math.nan, None
    return sex if sex in ("F", "M") else None, years(age), view or None


def years(age: str) -> float:
    """A DICOM age (PS3.5, AS: 051Y, 006M, 003W, 010D) in years; digits alone are years, as the challenge wrote them."""
    if not (parts := re.fullmatch(r"(\d{1,4})([YMWD]?)", age)):
        return math.nan
    return int(parts[1]) / {"": 1, "Y": 1, "M": 12, "W": 52.18, "D": 365.25}[parts[2]]
