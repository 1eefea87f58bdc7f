"""split.json, written by the split stage, and summary.json, written by the explore stage."""

from __future__ import annotations

from pydantic import Field

from cxr.core.formats import Format
from cxr.core.guard import SplitId

PART = "name of the part (train, valid, test or unused): what it holds"
OFFICIAL = {"train": "train.csv", "valid": "valid.csv", "test": "the official test set"}


class ChexpertPart(Format):
    """One part of CheXpert's split."""

    patients: int = Field(description="number of patients")
    images: int = Field(description="number of images")
    positives: dict[str, int] = Field(description="slug of each finding: number of certain positive images")


class RsnaPart(Format):
    """One part of RSNA's split."""

    patients: int | None = Field(None, description="number of patients, where they are known")
    images: int = Field(description="number of images")
    rows: int | None = Field(None, description="only under file_order: rows of the published label table")
    classes: dict[str, int] = Field(description="class name: number of images")


class Split(Format):
    """What a split holds and how it was drawn."""

    by: str = Field(description="what was drawn: patient, image or file_order")
    sha256: str = Field(description="SHA-256 of split.parquet, hexadecimal")
    min_positives: int = Field(description="validation positives that a finding needs to count in the mean AUC")


class ChexpertSplit(Split):
    """CheXpert's split."""

    splits: dict[str, ChexpertPart] = Field(description=PART)
    official: dict[str, list[str]] = Field(
        description="name of the part: CheXpert's own parts that its images are of (train, valid, test)"
    )
    phantom: bool = Field(description="whether the patients are drawn")
    select_on: list[str] = Field(description="slugs of the findings whose mean validation AUC selects the best epoch")
    too_few: list[str] = Field(description="slugs of the findings with too few validation images for that mean")


class RsnaSplit(Split):
    """RSNA's split."""

    splits: dict[str, RsnaPart] = Field(description=PART)
    patient_key: str = Field(description="what patient_id names: patient, or image where no mapping names the patients")
    shared_patients: int | None = Field(
        None, description="patients with images in training and in another part, where patients are known"
    )
    shared_images: int | None = Field(None, description="only under file_order: images with rows in two parts")


class RsnaKey(SplitId):
    """What the evaluation reads of RSNA's split.json."""

    patient_key: str = Field(description="what patient_id names: patient or image")


SPLITS = {"chexpert": ChexpertSplit, "rsna": RsnaSplit}


class Sexes(Format):
    """Counts by sex."""

    F: int = Field(description="women")
    M: int = Field(description="men")
    unknown: int = Field(description="without a known sex")


class Means(Format):
    """One number by sex. It is null where nobody of that sex has a known age."""

    F: float | None = Field(description="of women")
    M: float | None = Field(description="of men")


class People(Format):
    """Sex and age. Unknown and impossible ages are left out."""

    by_sex: Sexes = Field(description="counts by sex")
    mean_age: Means = Field(description="mean age in years")
    share_50_to_75: Means = Field(description="share aged 50 to 75, both included, 0 to 1")


class Views(Format):
    """Images by view."""

    AP: int = Field(description="anteroposterior")
    PA: int = Field(description="posteroanterior")
    LL: int = Field(description="left lateral")
    RL: int = Field(description="right lateral")
    unknown: int = Field(description="without a known view")


class Shares(Format):
    """A share by view, 0 to 1. It is null where no image has that view."""

    AP: float | None = Field(description="of the anteroposterior images")
    PA: float | None = Field(description="of the posteroanterior images")


class ChexpertSummary(Format):
    """One official part of CheXpert."""

    images: int = Field(description="number of images")
    patients: int = Field(description="number of patients")
    studies: int = Field(description="number of studies")
    frontal: int = Field(description="number of frontal images")
    lateral: int = Field(description="number of lateral images")
    views: Views = Field(description="images by view")
    share_of_images_with_a_sibling: float | None = Field(
        description="share of images whose patient has another image, 0 to 1"
    )
    per_patient: People = Field(description="sex and age of each patient's first image")
    per_image: People = Field(description="sex and age of every image")


class ChexpertParts(Format):
    """CheXpert's official parts."""

    train: ChexpertSummary = Field(description="train.csv")
    valid: ChexpertSummary = Field(description="valid.csv")
    test: ChexpertSummary | None = Field(None, description="the official test set, where the source has it")


class RsnaSummary(Format):
    """RSNA's training images."""

    images: int = Field(description="number of images")
    patients: int | None = Field(None, description="number of patients, where they are known")
    most_images: int | None = Field(None, description="images of the patient with most of them")
    share_of_images_with_a_sibling: float | None = Field(
        None, description="share of images whose patient has another image, 0 to 1"
    )
    per_patient: People | None = Field(None, description="sex and age of each patient's first image")
    rows: int = Field(description="rows of the published label table, one per box")
    boxes: int = Field(description="number of boxes")
    views: Views = Field(description="images by view")
    opacity_share: Shares = Field(description="share of images with a lung opacity, by view")
    under_18: int = Field(description="images of people younger than 18 years")
    under_5: int = Field(description="images of people younger than 5 years")
    per_image: People = Field(description="sex and age of every image")


class Summary(Format):
    """Who is in the two data sets."""

    chexpert: ChexpertParts = Field(description="CheXpert by official part")
    rsna: RsnaSummary = Field(description="RSNA")
