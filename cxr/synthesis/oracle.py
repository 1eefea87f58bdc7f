"""The oracle: new phantom patients in place of a generator's X-rays, with the labels of their reports.

No generator can add more than real X-rays of new patients would. Where even these do not lift the classifier, the
question whether a generator helps cannot be answered at this size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from cxr.cohort.policies import table
from cxr.core.findings import FINDINGS, finding
from cxr.core.resize import resize
from cxr.data.decode import decode
from cxr.data.phantom.cohort import FIRST_VALID, frontal_film
from cxr.data.phantom.patients import patient

APART = 1_000_003  # between the cohort's seed and those of the oracle's patients


def draw(counts: Mapping[str, tuple[int, int]], policy: str, seed: int) -> tuple[pd.DataFrame, list[tuple[int, int]]]:
    """(label rows, (patient, study) of each) of frontal films of new patients: for each finding (slug) as many certain
    positives, then as many certain negatives, as `counts` says; no study twice. policy: of uncertain labels; seed: of
    the new patients, who must not be those of the cohort.

    Raises ValueError where the phantom's patients are too few.
    """
    records, drawn, used = [], [], set()
    for name, numbers in counts.items():
        for wanted, kind in zip(numbers, (1, 0), strict=True):
            found = 0
            for number, s, row in _studies(seed):
                if found == wanted:
                    break
                label = row[finding(name)]
                if (number, s) in used or (label == 1) != bool(kind) or label == -1:
                    continue
                used.add((number, s))
                drawn.append((number, s))
                image_id = f"oracle/{name}/{len(drawn) - 1:06d}"
                records.append({"image_id": image_id, "patient_id": f"oracle/{number:05d}", "path": image_id, **row})
                found += 1
            if found < wanted:
                raise ValueError(
                    f"{name}: the phantom has {found} new films of this kind, not {wanted}; lower balance.dose"
                )
    rows = pd.DataFrame(records, columns=["image_id", "patient_id", "path", "projection", *FINDINGS])
    split = rows[["image_id", "patient_id"]].assign(split="train")
    return table(rows, split, policy), drawn


def _studies(seed: int) -> Iterator[tuple[int, int, dict]]:
    """(patient, study from 1, its labels) of a phantom's training patients, in order; nothing is drawn."""
    for number in range(1, FIRST_VALID):
        for s, study in enumerate(patient(seed, number, radiologist=False).studies, 1):
            yield number, s, {"projection": "frontal", **study.labels}


def films(drawn: list[tuple[int, int]], size: int, seed: int) -> Iterator[np.ndarray]:
    """The films, uint8 size x size, as the resize stage makes them."""
    for number, s in drawn:
        picture = decode(frontal_film(seed, patient(seed, number, radiologist=False), s), "oracle", size)
        yield resize(picture.pixels, size, picture.filled)
