"""Whom an RSNA image shows: the mapping that RSNA publishes beside the challenge, from its images to NIH's files.

A JSON list of objects, one per image. `subset_img_id` is the challenge's patientId, which names an image. `img_id` is
NIH's file, such as 00000013_005.png: what stands before the last _ is the patient. Other keys are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from cxr.data.sources.archive import Tree
from cxr.data.sources.label_csv import first_few

MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
IMAGE, FILE = "subset_img_id", "img_id"
_NIH = re.compile(r"([\w.-]+)_\d+(?:\.\w+)?")


class Patients(NamedTuple):
    """The patient of each image. name: of the file that says so, for messages."""

    name: str
    of_image: dict[str, str]

    def of(self, images: Iterable[str], table: str) -> list[str]:
        """The patients of these images. Raises ValueError, naming the first ones, for images that the mapping lacks."""
        images = list(images)
        if lacking := [image for image in images if image not in self.of_image]:
            raise ValueError(
                f"{self.name} lacks {len(lacking):,} of the {len(images):,} patientIds in {table} "
                f"({first_few(lacking)}): give the mapping that belongs to these images (data.rsna_patients)"
            )
        return [self.of_image[image] for image in images]


def parse(data: bytes, name: str) -> Patients:
    """The mapping in a file's bytes.

    Raises ValueError, naming the file, the entry, the value and the cure: no JSON, no list of objects, an entry
    without its two texts, an img_id without a patient, an image of two patients.
    """
    cure = f"download {MAPPING} again"
    try:
        entries = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no readable JSON ({error}): {cure}") from error
    if not (isinstance(entries, list) and entries and all(isinstance(entry, dict) for entry in entries)):
        raise ValueError(f"{name} is no list of objects with {IMAGE} and {FILE}: {cure}")
    of_image: dict[str, str] = {}
    for number, entry in enumerate(entries, 1):
        where = f"{name} entry {number}"
        for key in (IMAGE, FILE):
            if not isinstance(entry.get(key), str):
                raise ValueError(f"{where}: {key} is {entry.get(key, 'missing')!r}, must be a text: {cure}")
        image, file = entry[IMAGE].strip(), entry[FILE].strip()
        if not (match := _NIH.fullmatch(file)):
            raise ValueError(
                f"{where}: {FILE} is {file!r}, must be <patient>_<number>.png as 00000013_005.png: correct it"
            )
        if of_image.setdefault(image, match[1]) != match[1]:
            raise ValueError(
                f"{where}: {IMAGE} {image} is of patient {match[1]}, of {of_image[image]} in an earlier entry: "
                f"keep one of them"
            )
    return Patients(name, of_image)


def beside(tree: Tree, table: str) -> str | None:
    """The name of the mapping that lies in the folder of this table, or in the nearest folder above it, or None."""
    for folder in PurePosixPath(table).parents:
        if (name := (folder / MAPPING).as_posix()) in tree.names():
            return name
    return None


def within(tree: Tree) -> str:
    """The name of a source's only mapping, at most two levels below its root. Raises ValueError for none or several."""
    folders = tree.folder_of(MAPPING)
    if len(folders) != 1:
        problem = f"several folders with {MAPPING} ({first_few(folders)})" if folders else f"no {MAPPING}"
        raise ValueError(f"data.rsna_patients: {tree.root} holds {problem}: give the place of that file itself")
    return folders[0] + MAPPING
