"""The policies that turn four-valued labels into training targets, and the label tables that hold them.

Irvin et al. 2019 (CheXpert, section 3) name U-Ignore, U-Zeroes, U-Ones, U-SelfTrained and U-MultiClass. Pham et al.
2021 (Interpreting chest X-rays via CNNs that exploit hierarchical disease dependencies and uncertainty labels) smooth
U-Zeroes and U-Ones (label smoothing regularisation, LSR): an uncertain label becomes a random number, drawn once.
Policies differ only in what they make of an uncertain label. Blank counts as negative under all of them, as in Irvin et
al.; the records keep blank and 0 apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from cxr.core.findings import SLUGS, UNCERTAIN, matrix, truth, with_probabilities

if TYPE_CHECKING:
    import pandas as pd


class Policy(NamedTuple):
    """What an uncertain label becomes: a target drawn from uniform(low, high) with this weight, or a class of its own
    beside negative and positive.
    """

    low: float
    high: float
    weight: float
    own_class: bool = False


POLICIES = {
    "u_zeroes": Policy(0.0, 0.0, 1.0),
    "u_ones": Policy(1.0, 1.0, 1.0),
    "u_ignore": Policy(0.0, 0.0, 0.0),
    "u_zeroes_lsr": Policy(0.0, 0.3, 1.0),  # Pham et al.
    "u_ones_lsr": Policy(0.55, 0.85, 1.0),  # Pham et al.
    "u_multiclass": Policy(0.0, 0.0, 0.0, own_class=True),
}
TEACHER, SELFTRAINED = "u_ignore", "u_selftrained"


def all_policies(policies: Sequence[str], selftrained: Sequence[str]) -> list[str]:
    """Every policy that has a baseline: those of labels alone, then those of a teacher's predictions.

    Raises ValueError for an unknown one, and for self-training without its teacher.
    """
    for policy in policies:
        if policy == SELFTRAINED:
            raise ValueError(f"{SELFTRAINED} is trained on another model's predictions: move it to arms.selftrained")
        if policy not in POLICIES:
            raise ValueError(f"unknown policy {policy!r}: choose from {', '.join(POLICIES)}")
    for policy in selftrained:
        if policy != SELFTRAINED:
            raise ValueError(f"unknown policy {policy!r} in arms.selftrained: it is [] or [{SELFTRAINED}]")
    if selftrained and TEACHER not in policies:
        raise ValueError(
            f"arms.selftrained = [{SELFTRAINED}] needs its teacher, but arms.policies = [{', '.join(policies)}]: add "
            f"{TEACHER} to them"
        )
    return [*policies, *selftrained]


def uniforms(image_ids: Sequence[str], seed: int) -> np.ndarray:
    """N x 14 numbers in [0, 1). Each depends on (seed, image_id) alone, not on the other images."""
    words = (f"{seed} {name}".encode() for name in image_ids)
    digests = b"".join(hashlib.blake2b(word, digest_size=4 * len(SLUGS)).digest() for word in words)
    return np.frombuffer(digests, "<u4").reshape(-1, len(SLUGS)) / 2**32


def apply(policy: str, labels: np.ndarray, uniform: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(target, weight), N x 14 float32 each, of labels N x 14 (1, 0, -1, NaN); weight 0 masks a label out.

    uniform: N x 14 in [0, 1), which a policy with low < high draws its targets by.
    """
    chosen = POLICIES[policy]
    uncertain = labels == -1
    spread = (chosen.high - chosen.low) * uniform if chosen.low < chosen.high else 0.0
    target = np.where(uncertain, chosen.low + spread, labels == 1).astype(np.float32)
    return target, np.where(uncertain, chosen.weight, 1.0).astype(np.float32)


def table(records: pd.DataFrame, split: pd.DataFrame, policy: str, seed: int = 0) -> pd.DataFrame:
    """One row per split image: image_id, patient_id, split, projection, then target., weight. and truth.<slug> for the
    14 findings; where uncertain is a class of its own, also uncertain.<slug>, 1 or 0.

    records: canonical CheXpert records; split: image_id, patient_id, split; seed: of targets that are drawn. Images
    without a place in the split (rejected ones) are left out. Raises ValueError for an unknown policy.
    """
    import pandas as pd

    all_policies([policy], [])
    rows = split.merge(records.drop(columns="patient_id"), on="image_id", how="left", validate="one_to_one")
    assert rows["path"].notna().all(), "the split names images that the records lack"
    labels = matrix(rows)
    target, weight = apply(policy, labels, uniforms(rows["image_id"], seed))
    columns = {}
    for kind, values in (("target", target), ("weight", weight), ("truth", truth(labels))):
        columns |= {f"{kind}.{name}": values[:, k] for k, name in enumerate(SLUGS)}
    if POLICIES[policy].own_class:
        columns |= {name: (labels[:, k] == -1).astype(np.float32) for k, name in enumerate(UNCERTAIN)}
    return pd.concat([rows[["image_id", "patient_id", "split", "projection"]], pd.DataFrame(columns)], axis=1)


def relabelled(table: pd.DataFrame, image_ids: pd.Series, scores: np.ndarray) -> pd.DataFrame:
    """U-SelfTrained: U-Ignore's label table. The teacher's probabilities, scores N x 14, replace the uncertain labels
    of N images, at weight 1. Certain labels and other images do not change.

    "We do not replace any instances of 1 or 0s" (Irvin et al., section 3).
    """
    place = table.reset_index().set_index("image_id")["index"].loc[image_ids].to_numpy()
    return with_probabilities(table, place, scores, SLUGS)


def summary(table: pd.DataFrame) -> str:
    """'edema 1,234, fracture 56, ...': positive training images by finding; a target between 0 and 1 counts as that
    part of one.
    """
    train = table[table["split"] == "train"]
    return ", ".join(f"{name} {float(train[f'target.{name}'].sum()):,.0f}" for name in SLUGS)
