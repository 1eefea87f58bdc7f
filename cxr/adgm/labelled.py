"""Which of RSNA's training images the ADGM is given the class of."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cxr.core.findings import CLASS_NAMES, CLASSES


def assign(records: pd.DataFrame, split: pd.DataFrame, *, classes: int, labels: int, seed: int) -> pd.DataFrame:
    """image_id, patient_id, split, label (index into CLASS_NAMES[classes]), role: labelled, unlabelled, valid.

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
            f"a class has fewer than 2 training images ({held}); give more data or lower split.valid_share"
        )
    if not (table["split"] == "valid").any():
        raise ValueError("the split has no validation image; raise split.valid_share")

    table["role"] = np.where(training, "unlabelled", table["split"])
    for k in range(classes):
        candidates = np.flatnonzero(training & (table["label"] == k))
        drawn = candidates if by_row else np.random.default_rng([seed, k]).permutation(candidates)
        table.loc[drawn[: min(labels, counts[k] * 9 // 10)], "role"] = "labelled"
    parts = [table[table["role"] == role] for role in ("labelled", "unlabelled", "valid")]
    columns = ["image_id", "patient_id", "split", "label", "role", *(["rows"] if by_row else [])]
    return pd.concat(parts, ignore_index=True)[columns]
