"""The control arms of the GAN question: what else than a trained GAN could explain a gain of the enriched table?

Every arm is the baseline's classifier with the same settings, validation patients and test patients. All but `baseline`
take as many optimiser steps as `gan`, which is paper 1's final model. They differ in the training table, in the images
or in the objective, as ARMS describes. This file imports no torch: the evaluation and the report read ARMS as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from cxr.core.findings import UNCERTAIN, in_view, with_probabilities
from cxr.core.resize import resize
from cxr.core.store import open_store


@dataclass(frozen=True)
class Inputs:
    """What an arm's table and images are made from.

    enriched: the table that `balance` wrote, real rows first; generated: finding (slug) -> (positives, negatives)
    added; labels: of LABELLINGS in cxr/synthesis/balance.py; balanced: folder of `balance`; gan_store: folder of the
    real images at the GAN's size; untrained: (finding, numbers) -> images of its generator with the initial weights;
    view and size: the classifier's; seed: of `balance`; views: gives image_id -> AP, PA or another word; oracle: gives
    label rows and images of new patients, in the order of the generated images' rows; outline: (image_id, finding) ->
    where the finding lies, float32 gan_size x gan_size in [0, 1]; baseline: image_ids -> the baseline's probabilities,
    N x 14; positives: finding -> number of real positives.
    """

    enriched: pd.DataFrame
    generated: Mapping[str, tuple[int, int]]
    labels: str
    balanced: Path
    gan_store: Path
    untrained: Callable[[str, tuple[int, int]], Iterable[np.ndarray]]
    view: str
    gan_view: str
    size: int
    gan_size: int
    seed: int
    oracle: Callable[[], tuple[pd.DataFrame, Iterable[np.ndarray]]] | None = None
    views: Callable[[], Mapping[str, str]] | None = None
    outline: Callable[[str, str], np.ndarray] | None = None
    baseline: Callable[[pd.Series], np.ndarray] | None = None
    positives: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def real(self) -> pd.DataFrame:
        return self.enriched[~self.enriched["synthetic"]]

    @cached_property
    def extra(self) -> pd.DataFrame:
        """The rows of the generated images."""
        return self.enriched[self.enriched["synthetic"]].reset_index(drop=True)

    @cached_property
    def train(self) -> pd.DataFrame:
        """The real rows that the classifier trains on."""
        return in_view(self.real[self.real["split"] == "train"], self.view)

    @cached_property
    def new_patients(self) -> tuple[pd.DataFrame, Iterable[np.ndarray]]:
        assert self.oracle is not None
        return self.oracle()

    @cached_property
    def repeated(self) -> pd.DataFrame:
        """Real images that the GAN could learn from, as many with and without each finding as `balance` adds."""
        rows = in_view(self.train, self.gan_view)
        drawn = [
            repeat_rows(name, label, n, rows, self.seed)
            for name, numbers in self.generated.items()
            for label, n in zip((1, 0), numbers, strict=True)
        ]
        return pd.concat(drawn, ignore_index=True)

    @cached_property
    def pasted(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """(source, target) rows of the pasted images, one of each for a generated image, in the order of these.

        The source shows the finding, and the target is a certain negative. A negative image has no source: a target's
        row stands in its place.
        """
        rows = in_view(self.train, self.gan_view)
        sources, targets = [], []
        for name, (positives, negatives) in self.generated.items():
            shown = repeat_rows(name, 1, positives, self._outlined(name, rows), self.seed)
            others = repeat_rows(name, 0, positives + negatives, rows, self.seed)
            sources += [shown, others[positives:]]
            targets += [others]
        return pd.concat(sources, ignore_index=True), pd.concat(targets, ignore_index=True)

    def _outlined(self, name: str, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of certain positives on whose image the finding is seen."""
        assert self.outline is not None
        positive = rows[rows[f"truth.{name}"] == 1]
        return positive[[self.outline(image, name).any() for image in positive["image_id"]]]


def real_rows(inputs: Inputs) -> pd.DataFrame:
    return inputs.real


def enriched_rows(inputs: Inputs) -> pd.DataFrame:
    return inputs.enriched


def oversampled_rows(inputs: Inputs) -> pd.DataFrame:
    return pd.concat([inputs.real, inputs.repeated], ignore_index=True)


def pseudo_labelled_rows(inputs: Inputs) -> pd.DataFrame:
    """The rows of `oversampling`. Where the report calls a rare finding uncertain, the baseline's probability is its
    target, with weight 1.

    Raises ValueError where uncertain is a class of its own.
    """
    assert inputs.baseline is not None
    if UNCERTAIN[0] in inputs.enriched:
        raise ValueError(
            "study.arms has pseudo_labels, whose labels are probabilities, but u_multiclass has a third class: take it "
            "out of study.arms, or choose another final.policy"
        )
    rows = oversampled_rows(inputs)
    places = np.flatnonzero(rows["image_id"].isin(inputs.train["image_id"]))
    return with_probabilities(rows, places, inputs.baseline(rows["image_id"].iloc[places]), inputs.generated)


def copy_paste_rows(inputs: Inputs) -> pd.DataFrame:
    """The real rows, and those of pasted images under the generated images' ids: the labels of the X-ray that a finding
    was pasted into, and the finding.
    """
    source, target = inputs.pasted
    added = relabelled(inputs.extra, target)
    shown = source["image_id"].to_numpy() != target["image_id"].to_numpy()
    asked = inputs.extra["image_id"].str.split("/").str[1]
    for name in inputs.generated:
        of_it = shown & (asked == name).to_numpy()
        added.loc[of_it, [f"{kind}.{name}" for kind in ("target", "truth", "weight")]] = np.float32(1)
    return pd.concat([inputs.real, added], ignore_index=True)


def copy_paste_images(inputs: Inputs) -> Iterator[np.ndarray]:
    assert inputs.outline is not None
    store = open_store(inputs.gan_store)
    source, target = inputs.pasted
    asked = inputs.extra["image_id"].str.split("/").str[1]
    for name, shown, other in zip(asked, source["image_id"], target["image_id"], strict=True):
        image = store.images[store.rows(pd.Series([other]))[0]]
        if shown != other:
            image = pasted_image(store.images[store.rows(pd.Series([shown]))[0]], image, inputs.outline(shown, name))
        yield resize(image, inputs.size)


def pasted_image(source: np.ndarray, target: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """The source's pixels within the outline, the target's outside it, uint8 S x S. outline: S x S in [0, 1], so that
    its edge is blended (Ghiasi et al. 2021, Simple copy-paste, section 3).
    """
    return np.rint(outline * source + (1 - outline) * target).astype(np.uint8)


def grouped_rows(inputs: Inputs) -> pd.DataFrame:
    """The real rows, those of training with their group (int64), the others with -1.

    A group is a view (AP, PA, neither) with or without a rare finding, numbered by its order among those that occur.
    """
    assert inputs.views is not None
    rows = inputs.real
    positive = (rows[[f"target.{name}" for name in inputs.generated]] > 0.5).any(axis=1).to_numpy()
    view = rows["image_id"].map(inputs.views()).map({"AP": 0, "PA": 1}).fillna(2).to_numpy(np.int64)
    code, train = 2 * view + positive, rows.index.isin(inputs.train.index)
    group = np.full(len(rows), -1)
    group[train] = np.unique(code[train], return_inverse=True)[1]
    return rows.assign(group=group)


def group_balanced_rows(inputs: Inputs) -> pd.DataFrame:
    """The real rows; those of each group are repeated until it has as many training images as the largest one."""
    rows = grouped_rows(inputs)
    train = rows[rows["group"] >= 0]
    most = train["group"].value_counts().max()
    added = [
        group.iloc[in_turn(most - len(group), len(group), np.random.default_rng([inputs.seed, *b"group", number]))]
        for number, group in train.groupby("group")
    ]
    return pd.concat([rows, *added], ignore_index=True).drop(columns="group")


def blurred_rows(inputs: Inputs) -> pd.DataFrame:
    """The enriched table. Under sampled labels, a blurred X-ray carries its own labels, not those that were drawn."""
    if inputs.gan_size >= inputs.size:
        raise ValueError(
            f"study.arms has blurred, but gan.size = {inputs.gan_size} is not below classifier.size = {inputs.size}: "
            "nothing would be blurred and the arm would be oversampling; take it out of study.arms"
        )
    if inputs.labels != "sampled":
        return inputs.enriched
    return pd.concat([inputs.real, relabelled(inputs.extra, inputs.repeated)], ignore_index=True)


def permuted_rows(inputs: Inputs) -> pd.DataFrame:
    """The enriched table with the generated images' label rows in a random order, drawn from the seed of `balance`.

    A row stays whole, so that all counts stay: a label then says nothing of its image, only that it is generated.
    """
    given = [name for name, numbers in inputs.generated.items() if any(numbers)]
    if len(given) == 1 and not inputs.generated[given[0]][1]:
        raise ValueError(
            f"study.arms has gan_permuted, but X-rays were generated of {given[0]} alone: every one is positive for it "
            "in any order; take the arm out of study.arms, or add to rare.findings"
        )
    order = np.random.default_rng([inputs.seed, *b"permuted"]).permutation(len(inputs.extra))
    return pd.concat([inputs.real, relabelled(inputs.extra, inputs.extra.iloc[order])], ignore_index=True)


def relabelled(rows: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """The rows with the labels of equally many others, in their order."""
    labels = [name for name in rows if name.startswith(("target.", "weight.", "uncertain."))]
    return rows.assign(**{name: others[name].to_numpy() for name in labels})


def pretraining_rows(inputs: Inputs) -> pd.DataFrame:
    """The enriched table. Under masked labels, each rare finding is negative where another one was generated: a table
    that holds positives alone would teach the classifier to call everything positive.
    """
    if inputs.labels != "masked":
        return inputs.enriched
    if len(inputs.generated) == 1:
        raise ValueError(
            f"study.arms has pretrained, but {next(iter(inputs.generated))} is the only rare finding and "
            "balance.labels = masked: generated X-rays alone would teach the classifier to call everything positive; "
            "set balance.labels to sampled or one_hot"
        )
    weights = {f"weight.{name}": np.float32(1) for name in inputs.generated}
    return pd.concat([inputs.real, inputs.extra.assign(**weights)], ignore_index=True)


def oracle_rows(inputs: Inputs) -> pd.DataFrame:
    """The real rows, and those of new patients under the generated images' ids."""
    return pd.concat([inputs.real, relabelled(inputs.extra, inputs.new_patients[0])], ignore_index=True)


def oracle_images(inputs: Inputs) -> Iterator[np.ndarray]:
    return iter(inputs.new_patients[1])


def generated_images(inputs: Inputs) -> Iterator[np.ndarray]:
    store = open_store(inputs.balanced / "images")
    return (store.images[row] for row in store.rows(inputs.extra["image_id"]))


def untrained_images(inputs: Inputs) -> Iterator[np.ndarray]:
    return (
        resize(image, inputs.size)
        for name, numbers in inputs.generated.items()
        for image in inputs.untrained(name, numbers)
    )


def blurred_images(inputs: Inputs) -> Iterator[np.ndarray]:
    store = open_store(inputs.gan_store)
    return (resize(store.images[row], inputs.size) for row in store.rows(inputs.repeated["image_id"]))


@dataclass(frozen=True)
class Arm:
    """One control arm.

    title and description: as the report names it; control: whether it must be beaten before anyone may claim that
    generated images help; objective: its name in cxr/classifier/formats.py; rows: its training table; images: those of
    the table's synthetic rows, in their order, or None; synthetic_first: whether the synthetic rows come first, alone;
    enriched_steps: whether an epoch counts as many images as the enriched table has; dose: added positives as a
    multiple of the real ones, None for all that were added; augmentation: its name in cxr/classifier/formats.py.
    """

    title: str
    description: str
    control: bool = True
    objective: str = "cross_entropy"
    rows: Callable[[Inputs], pd.DataFrame] = real_rows
    images: Callable[[Inputs], Iterator[np.ndarray]] | None = None
    synthetic_first: bool = False
    enriched_steps: bool = True
    dose: float | None = None
    augmentation: str = "set"


ARMS = {
    "baseline": Arm(
        "baseline", "the real images alone, for its own number of optimiser steps, as in the paper",
        enriched_steps=False,
    ),
    "baseline_steps": Arm("more steps", "the same images for as many optimiser steps as the GAN arm takes"),
    "oversampling": Arm(
        "oversampling", "real positives of the rare findings repeated instead of generated ones", rows=oversampled_rows
    ),
    "augmented": Arm(
        "strong augmentation", "real positives repeated, and all training images cropped and turned more",
        rows=oversampled_rows, augmentation="strong",
    ),
    # The weight makes the positives' share of the loss what it is in the enriched table.
    "pos_weight": Arm(
        "positive weight", "the loss of a rare finding\u2019s positives weighs more; no image is added",
        objective="pos_weight",
    ),
    # Menon et al. 2021.
    "logit_adjusted": Arm(
        "logit adjustment", "the log odds of each finding are added to its logit in training; no image is added",
        objective="logit_adjusted",
    ),
    # Yuan et al. 2021; in the second half of the steps.
    "auc_margin": Arm(
        "AUC margin", "a loss that ranks positives above negatives by a margin; no image is added",
        objective="auc_margin",
    ),
    # Idrissi et al. 2022.
    "group_balanced": Arm(
        "balanced groups", "each view with and without a rare finding is seen equally often; no image is added",
        rows=group_balanced_rows,
    ),
    # Sagawa et al. 2020.
    "group_dro": Arm(
        "group DRO", "the worst of these groups weighs more and more in the loss; no image is added",
        objective="group_dro", rows=grouped_rows,
    ),
    "gan": Arm(
        "GAN", "generated positives of the rare findings added, as in the final classifier",
        control=False, rows=enriched_rows, images=generated_images,
    ),
    "gan_untrained": Arm(
        "untrained GAN", "as many images of a generator with its first weights: does any image do it?",
        rows=enriched_rows, images=untrained_images,
    ),
    "gan_permuted": Arm(
        "permuted GAN", "the GAN\u2019s images with their labels in a random order: does the look alone do it?",
        rows=permuted_rows, images=generated_images,
    ),
    "blurred": Arm(
        "blurred", "real positives brought to the GAN\u2019s size and back: its loss of resolution alone",
        rows=blurred_rows, images=blurred_images,
    ),
    "oracle": Arm(
        "oracle", "as many X-rays of new phantom patients, with their own labels: the most that a generator could add",
        control=False, rows=oracle_rows, images=oracle_images,
    ),
    # Dwibedi et al. 2017.
    "copy_paste": Arm(
        "copy and paste", "the finding is cut from a real positive and blended into another patient\u2019s X-ray",
        rows=copy_paste_rows, images=copy_paste_images,
    ),
    "pseudo_labels": Arm(
        "pseudo-labels", "real positives repeated; uncertain labels are the baseline\u2019s probabilities",
        rows=pseudo_labelled_rows,
    ),
    # As the authors of RoentGen-v2 do (arXiv 2508.16783).
    "pretrained": Arm(
        "pretrained", "trained on generated images first, then on the real ones alone",
        control=False, rows=pretraining_rows, images=generated_images, synthetic_first=True,
    ),
}  # fmt: skip
DOSES = (25, 50, 100, 200, 500)  # per cent of the real positives
ARMS |= {
    f"{kind}_dose_{percent}": replace(
        ARMS[kind],
        title=f"{ARMS[kind].title}, dose {percent / 100:g}",
        description=f"{percent / 100:g} times the real positives, and negatives in proportion, for as many steps",
        dose=percent / 100,
    )
    for kind in ("gan", "oracle")
    for percent in DOSES
}


def dosed(inputs: Inputs, dose: float | None) -> Inputs:
    """The inputs with so many added positives as a multiple of each finding's real ones, and negatives in proportion:
    the first of each. None: all that were added.

    Raises ValueError where fewer were added.
    """
    if dose is None:
        return inputs
    rows, kept, generated = inputs.extra, [], {}
    for name, (positives, negatives) in inputs.generated.items():
        own = rows[rows["image_id"].str.startswith(f"synthetic/{name}/")]
        wanted = round(dose * inputs.positives[name])
        if wanted > positives:
            raise ValueError(
                f"study.arms has a dose of {dose:g} times the {inputs.positives[name]:,} real positives of {name}, but "
                f"{positives:,} were generated: take it out of study.arms, or raise balance.dose"
            )
        generated[name] = (wanted, round(negatives * wanted / max(positives, 1)))
        kept += [own[: generated[name][0]], own[positives : positives + generated[name][1]]]
    return replace(inputs, enriched=pd.concat([inputs.real, *kept], ignore_index=True), generated=generated)


def check_arm(name: str) -> Arm:
    """The arm of this name. Raises ValueError, with the choices, for another name."""
    if name not in ARMS:
        raise ValueError(f"unknown arm {name!r} in study.arms: choose from {', '.join(ARMS)}")
    return ARMS[name]


def training_settings(arm: Arm, inputs: Inputs) -> dict:
    """The keys of arm.json in which the arm's training differs from a baseline's. inputs: of the whole dose, so that
    every dose trains for as many steps.

    epoch_images: number of images that an epoch counts; lead: whether the synthetic rows come first; shares: finding ->
    share of positives in the enriched table, by weight, which pos_weight reaches.
    """
    added = in_view(inputs.extra, inputs.view)
    settings: dict = {"objective": arm.objective, "augmentation": arm.augmentation}
    if arm.enriched_steps:
        settings["epoch_images"] = len(inputs.train) + len(added)
    if arm.synthetic_first:
        settings["lead"] = True
    if arm.objective == "pos_weight":
        table = pd.concat([inputs.train, added])
        settings["shares"] = {
            name: float(np.average(table[f"target.{name}"], weights=table[f"weight.{name}"]))
            for name in inputs.generated
        }
    return settings


def repeat_rows(finding: str, label: int, n: int, train: pd.DataFrame, seed: int) -> pd.DataFrame:
    """n rows of `train` whose truth of the finding is `label` (1 or 0); none repeats before every one was used.

    Raises ValueError when rows are wanted but there is none.
    """
    rows = train[train[f"truth.{finding}"] == label].sort_values("image_id", ignore_index=True)
    if n and rows.empty:
        kind = "positive" if label else "negative"
        raise ValueError(f"{finding}: no certain {kind} to repeat; take it out of rare.findings")
    rng = np.random.default_rng([seed, *finding.encode(), *([] if label else [0])])
    return rows.iloc[in_turn(n, len(rows), rng)].reset_index(drop=True)


def in_turn(n: int, among: int, rng: np.random.Generator) -> np.ndarray:
    """n random places among so many, int64; none repeats before every one was used."""
    passes = [rng.permutation(among) for _ in range(-(-n // among))] if n else []
    return np.concatenate([np.array([], np.int64), *passes])[:n]
