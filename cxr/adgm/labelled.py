"""The labelled draw: which of RSNA's training images keep their class for the ADGM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr.core.findings import CLASS_NAMES, CLASSES


@dataclass(frozen=True)
class Draw:
    """The images of one training, as `assign` gives them.

    train: the labelled images first, then the unlabelled ones. test: images that nothing is chosen on; none where the
    split has no test part. class_names: of the labels 0 to K - 1. asked: labelled images of each class that were asked
    for.
    """

    train: pd.DataFrame
    valid: pd.DataFrame
    test: pd.DataFrame
    class_names: tuple[str, ...]
    asked: int

    @property
    def y_labelled(self) -> np.ndarray:
        """The labelled images' classes, int64."""
        return self.train.loc[self.train["role"] == "labelled", "label"].to_numpy()

    @property
    def drawn(self) -> dict[str, int]:
        """Labelled images of each class."""
        return {name: int((self.y_labelled == k).sum()) for k, name in enumerate(self.class_names)}

    @property
    def warning(self) -> str | None:
        """One line when a class has fewer labelled images than were asked for."""
        if min(self.drawn.values()) >= self.asked:
            return None
        counts = ", ".join(f"{name} {n}" for name, n in self.drawn.items())
        return f"a class has too few images for {self.asked} labels; nine in ten of them are labelled: {counts}"

    def shares(self, prior: str) -> list[float]:
        """The class shares that predictions assume. prior: uniform, or training for those of the training images."""
        K = len(self.class_names)
        counts = self.train["label"].value_counts().reindex(range(K)) if prior == "training" else [1] * K
        return [float(count / sum(counts)) for count in counts]


def draw_labels(records: pd.DataFrame, split: pd.DataFrame, *, classes: int, labels: int, seed: int) -> Draw:
    """The labelled draw of one training. Raises ValueError as `assign` does."""
    table = assign(records, split, classes=classes, labels=labels, seed=seed)
    valid, test = (table[table["role"] == part].reset_index(drop=True) for part in ("valid", "test"))
    return Draw(table[table["role"].isin(("labelled", "unlabelled"))], valid, test, CLASS_NAMES[classes], labels)


def assign(records: pd.DataFrame, split: pd.DataFrame, *, classes: int, labels: int, seed: int) -> pd.DataFrame:
    """image_id, patient_id, split, label (index into CLASS_NAMES[classes]), role: labelled, unlabelled, valid, test.

    Of each class `labels` training images are drawn, nine in ten of them where it has too few; a larger draw under the
    same seed holds the smaller one. Under a split in file order (splits.file_order) a training image stands as often as
    the label table has rows of it, and the first rows of each class are the labelled ones, whatever the seed; a column
    `rows` says how many rows an image has in its part.
    Raises ValueError for a class with fewer than two training images, for one that is unknown, or when there is no
    validation image.
    """
    if "class_name" not in records:
        raise ValueError("the records have no column class_name; the ADGM trains on RSNA's records")
    names = list(CLASS_NAMES[classes])
    table = split.merge(records[["image_id", "class_name"]], on="image_id", how="left", validate="many_to_one")
    unknown = ~table["class_name"].isin(CLASSES)
    if unknown.any():
        image, value = table.loc[unknown, ["image_id", "class_name"]].iloc[0]
        raise ValueError(
            f"image {image!r} has class {value!r}, not one of {', '.join(CLASSES)}; make the records again"
        )
    name = table["class_name"]
    if classes == 2:
        name = name.where(name == "Normal", "Abnormal")
    table["label"] = name.map(names.index).astype(np.int64)
    by_row = "rows" in table
    if by_row:
        place = pd.Series(np.arange(len(records)), index=records["image_id"])
        table = table.iloc[table["image_id"].map(place).argsort(kind="stable")]
        table = table.loc[table.index.repeat(table["rows"].where(table["split"] == "train", 1))].reset_index(drop=True)
    else:
        table = table.sort_values("image_id", ignore_index=True)

    training = table["split"] == "train"
    counts = [int((training & (table["label"] == k)).sum()) for k in range(classes)]
    if min(counts) < 2:
        held = ", ".join(f"{n} {c:,}" for n, c in zip(names, counts, strict=True))
        raise ValueError(
            f"a class has fewer than 2 training images ({held}); give more data, or lower split.valid_share "
            f"or split.test_share"
        )
    if not (table["split"] == "valid").any():
        raise ValueError("the split has no validation image; raise split.valid_share")

    table["role"] = np.where(training, "unlabelled", table["split"])
    for k in range(classes):
        candidates = np.flatnonzero(training & (table["label"] == k))
        drawn = candidates if by_row else np.random.default_rng([seed, k]).permutation(candidates)
        table.loc[drawn[: min(labels, counts[k] * 9 // 10)], "role"] = "labelled"
    parts = [table[table["role"] == role] for role in ("labelled", "unlabelled", "valid", "test")]
    columns = ["image_id", "patient_id", "split", "label", "role", *(["rows"] if by_row else [])]
    return pd.concat(parts, ignore_index=True)[columns]
