"""What a DCGAN learns: the findings of its name, their X-rays, the patients kept back.

A generator is named after what it learns: one slug (lung_lesion), or several joined by + where one net serves several
findings (pneumonia+consolidation). Its mode says what it does with them:
per_finding - one finding, and nothing but its positives (the default);
pooled - the positives of all its findings as one, without a label (paper 1's other reading, docs/papers.md E24);
conditional - as pooled, but nets that are given the findings of each image as a vector of 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cxr.core.findings import finding, in_view, slug


def members(generator: str) -> list[str]:
    """The slugs of a generator's findings, in the order of its label vector. Raises ValueError for an unknown finding
    and for one that stands twice.
    """
    slugs = [slug(finding(name)) for name in generator.split("+")]
    if len(set(slugs)) < len(slugs):
        raise ValueError(f"gan_runs.generators: {generator} names a finding twice; name each once")
    return slugs


def check(generator: str, mode: str) -> list[str]:
    """The generator's findings. Raises ValueError when its name and gan.mode don't fit each other."""
    slugs = members(generator)
    if mode == "per_finding" and len(slugs) > 1:
        raise ValueError(
            f"gan.mode = per_finding, but gan_runs.generators has {generator}: "
            f"list {', '.join(slugs)} one by one, or set gan.mode to pooled or conditional"
        )
    if mode != "per_finding" and len(slugs) == 1:
        raise ValueError(
            f"gan.mode = {mode}, but gan_runs.generators has {generator} alone: join the findings of one generator "
            f"by +, as [pneumonia+lung_lesion], or set gan.mode to per_finding"
        )
    return slugs


def positives(records: pd.DataFrame, names: Sequence[str], view: str) -> pd.DataFrame:
    """The records certainly positive (label 1) for at least one of the findings (slugs), in a view (all: any), sorted
    by image_id.
    """
    having = (records[[finding(name) for name in names]] == 1).any(axis=1)
    return in_view(records[having], view).sort_values("image_id", ignore_index=True)


def vectors(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Label vectors, float32 N x K in the order of `names` (slugs): 1 where certainly present, else 0. table: records,
    or a label table, whose truth it reads.
    """
    columns = [finding(name) if finding(name) in table else f"truth.{name}" for name in names]
    return np.array(table[columns] == 1, np.float32)


def kept_back(patients: Sequence[str], share: float, seed: int) -> np.ndarray:
    """Which images belong to the patients that a GAN is not trained on but selected by, bool N: `share` of the
    patients, whole, rounded; nobody for a share of 0.
    """
    patients = np.asarray(patients, dtype=object)
    names = np.unique(patients.astype(str))
    drawn = np.random.default_rng([seed, *b"holdout"]).permutation(names)
    return np.isin(patients.astype(str), drawn[: round(share * len(names))])
