"""The images and the numbers of one finding's fidelity: which real images are compared, the test that tells them from
generated ones, measures and copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.findings import in_view
from cxr.core.picture import grid
from cxr.fidelity import copies, measures, two_sample
from cxr.fidelity.formats import EVERY
from cxr.fidelity.two_sample import Sample
from cxr.gan import generators

PAIRS = 10  # pairs of images in the picture


class Made(NamedTuple):
    """Generated images, uint8 N x S x S. sources: the patients of those that are edits, N; None: not edited."""

    images: np.ndarray
    sources: np.ndarray | None = None


class Judged(NamedTuple):
    """One finding: the numbers of fidelity.json, the rows of halves.csv, and the most similar pairs as a picture."""

    numbers: dict
    halves: list[dict]
    picture: np.ndarray


def real_rows(
    records: pd.DataFrame, findings: Sequence[str], view: str, splits: pd.DataFrame, whole: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(training rows, held-out rows) of the records that show one of the findings (slugs), sorted by image_id.

    whole: for a generator of all training images, the rows of all. Held-out patients are only those that the generator
    never saw: under split.by = image a patient may be on both sides. Raises ValueError for a finding with fewer than
    two training images.
    """
    rows = in_view(records, view) if whole else generators.positives(records, findings, view)
    rows = rows.merge(splits[["image_id", "split"]], on="image_id").sort_values("image_id", ignore_index=True)
    train, held_out = rows[rows["split"] == "train"], rows[rows["split"] != "train"]
    held_out = held_out[~held_out["patient_id"].isin(train["patient_id"])]
    for name, present in zip(findings, generators.vectors(train, findings).T, strict=True):
        if present.sum() < 2:
            raise ValueError(f"{name}: {int(present.sum())} real training images; take it out of rare.findings")
    return train.reset_index(drop=True), held_out.reset_index(drop=True)


def parts(
    findings: Sequence[str], train: pd.DataFrame, held_out: pd.DataFrame, whole: bool, most: int, seed: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """What is judged: (name, places in train, places in held_out): each finding, and of a generator of all training
    images EVERY as well, at most `most` of both, drawn by the seed.
    """
    present, absent = generators.vectors(train, findings), generators.vectors(held_out, findings)
    for k, name in enumerate(findings):
        beside = absent[:, k] == 1 if whole else np.ones(len(held_out), bool)
        yield name, np.flatnonzero(present[:, k] == 1), np.flatnonzero(beside)
    if whole:
        rng = np.random.default_rng([seed, *EVERY.encode()])
        yield EVERY, *(np.sort(rng.permutation(len(table))[:most]) for table in (train, held_out))


def judge_findings(
    names: Iterable[tuple[str, np.ndarray, np.ndarray]],
    train: pd.DataFrame,
    held_out: pd.DataFrame,
    trained_on: np.ndarray,
    real: Mapping[str, np.ndarray],
    generate: Callable[..., Made],
    features: Callable[[np.ndarray], np.ndarray],
    replicates: int,
    permutations: int,
    seed: int,
) -> Iterator[Judged]:
    """Judge as many generated images as there are real training images, for each of `names` (of `parts`).

    real: part (train, held_out) -> uint8 N x S x S; generate(rows of train, the findings that they are judged by, *key)
    -> as many images; features(images) -> N x D; the others as in `judge_finding`.
    """
    names = list(names)
    seen = {part: features(images) for part, images in real.items()}
    for k, (name, rows, others) in enumerate(names):
        judged_by = [name] if name != EVERY else [other for other, *_ in names if other != EVERY]
        made, sources = generate(train.iloc[rows], judged_by, seed, 5, *([k] if len(names) > 1 else []))
        beside = {
            kind: {**parts, "held_out": parts["held_out"][others], "made": new}
            for kind, parts, new in (("images", real, made), ("features", seen, features(made)))
        }
        yield judge_finding(
            name, rows, trained_on, train, held_out.iloc[others], beside["images"], beside["features"], replicates,
            permutations, seed, sources,
        )  # fmt: skip


def judge_finding(
    name: str,
    positive: np.ndarray,
    trained_on: np.ndarray,
    train: pd.DataFrame,
    held_out: pd.DataFrame,
    images: Mapping[str, np.ndarray],
    features: Mapping[str, np.ndarray],
    replicates: int,
    permutations: int,
    seed: int,
    sources: np.ndarray | None = None,
) -> Judged:
    """Compare one finding's generated images with real ones.

    images and features: part (train, held_out, made) -> uint8 N x S x S and N x D. They are compared with the
    finding's own training images (positive: their places in `train`), copies with all that the generator was trained on
    (trained_on: bool over `train`), since no copy can be of the patients that only selected its epoch. sources: of
    edited images, their patients, whose real images are left out: both would be one background.
    """
    made, patients = images["made"], train["patient_id"].to_numpy(object)
    if sources is not None:
        positive = positive[~np.isin(patients[positive].astype(str), sources.astype(str))]
    rng = np.random.default_rng([seed, *name.encode()])
    rows = measures.compare(
        features["train"][positive], features["made"][: len(positive)], images["train"][positive],
        made[: len(positive)], patients[positive],
        replicates=replicates, rng=rng,
    )  # fmt: skip
    held_out_patients = held_out["patient_id"].to_numpy(object)
    apart = two_sample.judge(
        Sample(images["train"][positive], features["train"][positive], patients[positive]),
        Sample(made, features["made"], np.arange(len(made)) if sources is None else sources),
        Sample(images["held_out"], features["held_out"], held_out_patients),
        permutations=permutations, rng=np.random.default_rng([seed, 1, *name.encode()]),
    )  # fmt: skip
    images = {**images, "train": images["train"][trained_on]}
    features = {**features, "train": features["train"][trained_on]}
    spaces = {part: {"features": features[part], "pixels": copies.pixels(x)} for part, x in images.items()}
    mirrored = copies.pixels(images["train"][:, :, ::-1])
    spaces["train"]["pixels"] = np.concatenate([spaces["train"]["pixels"], mirrored])
    parts = spaces["train"], spaces["held_out"], spaces["made"]
    memorisation, pairs = copies.judge(*parts, patients[trained_on], held_out_patients, rng, sources)
    closest = pairs[:, :PAIRS]
    picture = grid(np.concatenate([made[closest[0]], images["train"][closest[1]]]), closest.shape[1])
    numbers = {
        "finding": name,
        "real": len(positive),
        "patients": int(train["patient_id"].iloc[positive].nunique()),
        "generated": len(made),
        "held_out": len(held_out),
        "held_out_patients": int(held_out["patient_id"].nunique()),
        "half": min((row["n"] for row in rows), default=0),
        "replicates": len(rows) // 2,
        "quality": measures.summary(rows),
        "two_sample": apart,
        "memorisation": memorisation,
    }
    return Judged(numbers, rows, picture)
