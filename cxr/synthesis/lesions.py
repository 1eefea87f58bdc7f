"""Where a finding lies on a film of the phantom, for the arm copy_paste.

A film is drawn twice, with the finding's sign and without it. The outline is where the two differ. No real data set
knows it so well.
"""

from __future__ import annotations

import functools
import re
from dataclasses import replace

import cv2
import numpy as np

from cxr.core.findings import finding
from cxr.core.resize import resize
from cxr.data.decode import decode
from cxr.data.phantom.cohort import frontal_film
from cxr.data.phantom.patients import Patient, patient

LEVEL = 0.3  # of the largest difference between the two films: where the outline lies
FAINTEST = 4  # gray levels; a sign that changes the film by less is not seen
EDGE = 1 / 48  # width of the outline's soft edge as a share of the size
FILM = re.compile(r"patient(\d+)/study(\d+)/")


@functools.cache
def outline(image_id: str, name: str, size: int, seed: int) -> np.ndarray:
    """Where a finding lies on a frontal film of the phantom's cohort, float32 size x size in [0, 1]; 0 everywhere where
    it is not seen.

    name: slug; seed: the cohort's. Raises ValueError for an image that the cohort does not have.
    """
    if not (found := FILM.search(image_id)):
        raise ValueError(f"{image_id}: is no film of the phantom; take copy_paste out of study.arms")
    number, s = map(int, found.groups())
    person = patient(seed, number, radiologist=False)
    if finding(name) not in person.studies[s - 1].signs:
        return np.zeros((size, size), np.float32)
    bright, dark = (_film(seed, p, s, size) for p in (person, _without(person, s, finding(name))))
    change = cv2.GaussianBlur(bright - dark, (0, 0), 1.0)
    change = np.abs(change - np.median(change))  # a sign changes the exposure of the whole film a little
    if change.max() < FAINTEST:
        return np.zeros((size, size), np.float32)
    inside = (change > LEVEL * change.max()).astype(np.float32)
    return cv2.GaussianBlur(inside, (0, 0), max(EDGE * size, 0.5))


def _film(seed: int, person: Patient, s: int, size: int) -> np.ndarray:
    picture = decode(frontal_film(seed, person, s), "phantom", size)
    return resize(picture.pixels, size, picture.filled).astype(np.float32)


def _without(person: Patient, s: int, name: str) -> Patient:
    """The patient with study s drawn without the sign of a finding."""
    studies = list(person.studies)
    signs = {key: sign for key, sign in studies[s - 1].signs.items() if key != name}
    studies[s - 1] = replace(studies[s - 1], signs=signs)
    return replace(person, studies=studies)
