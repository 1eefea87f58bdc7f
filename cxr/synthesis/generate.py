"""X-rays of one finding from its generator, and their label rows, for `balance` and for the arm gan_untrained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.files import Progress
from cxr.core.findings import in_view
from cxr.core.resize import resize
from cxr.synthesis import balance
from cxr.synthesis.agreement import ROUNDS, Ensemble, agreed, soft
from cxr.synthesis.samplers import Sampler

APART = 1_000_003  # between the seeds of two rounds of candidates
BLOCK = 1024  # images that are drawn at a time: each block has its own key


class Wanted(NamedTuple):
    """Numbers of images of one finding: with it, and from a generator of all training images also without it."""

    positives: int
    negatives: int = 0


class Real(NamedTuple):
    """What labels and conditions are drawn from. train: the real training rows of the label table; records: of the same
    images, by image_id, which a generator of all training images needs. views: of balance.VIEWS; kept: an X-ray has the
    view of the row whose labels are drawn; independent: the view of any training row, so that it says nothing of a
    finding.
    """

    train: pd.DataFrame
    records: pd.DataFrame | None = None
    views: str = "kept"


def synthesise(
    sampler: Sampler, name: str, wanted: Wanted, labels: str, real: Real, seed: int
) -> tuple[Iterator[np.ndarray], pd.DataFrame]:
    """(iterator over the images of a finding, uint8 S x S, positives first; their label rows).

    name: slug of the finding; labels: of balance.LABELLINGS.
    """
    rng = np.random.default_rng([seed, *name.encode()])
    drawn = []
    if sampler.edits:
        drawn = _edits(sampler, name, wanted, real.train, rng)
    elif sampler.conditional or labels == "sampled":
        drawn = [balance.sources([name] if sampler.certain else sampler.findings, wanted.positives, real.train, rng)]
        if wanted.negatives:
            drawn.append(balance.negatives(name, wanted.negatives, real.train, rng))
    views = np.random.default_rng([seed, *name.encode(), *b"views"])
    encoded = _conditions(sampler, pd.concat(drawn), real, views) if sampler.conditional else None
    key = (seed, 4) if len(sampler.findings) == 1 else (seed, 4, sampler.findings.index(name))  # no X-ray twice
    total = sum(wanted)

    def images() -> Iterator[np.ndarray]:
        for start in range(0, total, BLOCK):
            part = None if encoded is None else encoded[start : start + BLOCK]
            yield from sampler.sample(min(BLOCK, total - start), part, *key, start)

    rows = balance.synthetic_rows(
        name, wanted.positives, labels, real.train, sampler.meta.view, drawn[0] if drawn else None,
        made_for_finding=sampler.certain,
    )  # fmt: skip
    if wanted.negatives:
        without = balance.synthetic_rows(
            name, wanted.negatives, labels, real.train, sampler.meta.view, drawn[1], present=False,
            first=wanted.positives,
        )  # fmt: skip
        rows = pd.concat([rows, without], ignore_index=True)
    return images(), rows


def _edits(sampler: Sampler, name: str, wanted: Wanted, train: pd.DataFrame, rng: np.random.Generator) -> list:
    """The label rows of sources that lack the finding, as they are with it and as they are without it.

    Both begin with the same sources: a patient then says nothing of the finding.
    """
    absent = train[train[f"truth.{name}"] == 0]
    edits = sampler.draw([name], max(wanted), rng, absent["image_id"])
    rows = absent.set_index("image_id").loc[edits["image_id"]].reset_index().assign(added=name)
    present = rows[: wanted.positives].assign(present=True, **{"target.no_finding": np.float32(0)})
    return [present, rows[: wanted.negatives].assign(present=False)]


def _conditions(sampler: Sampler, drawn: pd.DataFrame, real: Real, rng: np.random.Generator) -> np.ndarray:
    if sampler.edits or not sampler.whole:
        return sampler.encode(drawn)
    assert real.records is not None
    records = real.records.loc[drawn["image_id"]]
    if real.views == "independent":
        every = real.records.loc[in_view(real.train, sampler.meta.view)["image_id"], ["projection", "view"]]
        others = every.iloc[rng.integers(len(every), size=len(records))]
        records = records.assign(**{column: others[column].to_numpy() for column in others})
    return sampler.encode(records)


def _filtered(
    name: str,
    wanted: Wanted,
    candidates: Callable[[int], tuple[Iterator[np.ndarray], pd.DataFrame]],
    seed: int,
    ensemble: Ensemble | None,
    filter: str,
) -> tuple[Iterable[np.ndarray], pd.DataFrame]:
    """The images and rows that the filter leaves. candidates: seed -> as many as are wanted."""
    if filter == "none" or not any(wanted):
        return candidates(seed)
    assert ensemble is not None
    if filter == "agree":
        return agreed(name, wanted, (candidates(seed + APART * k) for k in range(ROUNDS)), ensemble)
    images, rows = candidates(seed)
    drawn = list(images)
    return drawn, soft(drawn, rows, ensemble)


def enrich(
    samplers: Mapping[str, Sampler],
    rows: pd.DataFrame,
    real: Real,
    counts: Mapping[str, Wanted],
    labels: str,
    size: int,
    seed: int,
    ensemble: Ensemble | None = None,
    filter: str = "none",
) -> tuple[pd.DataFrame, Iterator[np.ndarray]]:
    """(rows with the synthetic rows after them, iterator over the synthetic images at `size`, in the same order).

    Without a filter an image is drawn when the iterator comes to it; a filter holds a finding's images, at the
    generator's size. samplers: finding -> that of its X-rays; counts: finding -> number of images; filter: of
    agreement.FILTERS, all but none need the ensemble; the others as in `synthesise`.
    """
    blocks, parts = [rows], []
    for name, wanted in counts.items():
        candidates = partial(synthesise, samplers[name], name, wanted, labels, real)
        generated, generated_rows = _filtered(name, wanted, candidates, seed, ensemble, filter)
        blocks.append(generated_rows)
        parts.append(generated)
    return pd.concat(blocks, ignore_index=True), _resized(parts, size, sum(map(sum, counts.values())))


def _resized(parts: Iterable[Iterable[np.ndarray]], size: int, total: int) -> Iterator[np.ndarray]:
    with Progress("balance", total) as progress:
        for image in chain.from_iterable(parts):
            yield resize(image, size)
            progress.update(1)
