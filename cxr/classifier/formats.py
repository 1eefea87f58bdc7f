"""model.json, written by the classifier's trainings, and arm.json, written by the arm stage and read by them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxr.classifier.settings import NEUTRAL, Settings
from cxr.core.findings import SLUGS
from cxr.core.formats import Format, recorded
from cxr.core.guard import SplitId


class SelectionSplit(SplitId):
    """What a training reads of split.json."""

    select_on: list[str] = Field(description="slugs of the findings whose mean validation AUC selects the best epoch")


class StartSplit(SplitId):
    """What a training that starts from others' weights reads of split.json."""

    official: dict[str, list[str]] = Field(
        description="name of the part: CheXpert's own parts that its images are of (train, valid, test)"
    )
    phantom: bool = Field(description="whether the patients are drawn")


class Earlier(Format):
    """A training whose weights a later one started from."""

    weights: str = Field(description="its own start, as in weights")
    extra: list[str] = Field(description="names of the data sets in data.extra that it was trained on as well")


class Model(recorded(Settings, neutral=NEUTRAL)):
    """model.json: what rebuilds the net, and what it was trained on."""

    findings: list[str] = Field(description="slugs of the findings, in the order of the net's outputs")
    classes: int = Field(description="outcomes of a finding: 2, or 3 where uncertain is one of its own")
    select_on: list[str] = Field(description="slugs of the findings whose mean validation AUC selects the best epoch")
    best_epoch: int = Field(description="epoch of the kept weights, from 1")
    split_sha256: str = Field(description="SHA-256 of the split's table")
    train_images: int = Field(description="training images, synthetic ones included")
    earlier: list[Earlier] = Field(
        [], description="the trainings behind initial weights that are a file, the latest first; left out: none"
    )


class Arm(Format):
    """arm.json: what a control arm's training does otherwise than the baseline's."""

    objective: Literal["cross_entropy", "pos_weight", "auc_margin", "logit_adjusted", "group_dro"] = Field(
        description="loss"
    )
    images: int = Field(description="images in the arm's own store")
    epoch_images: int = Field(description="images that an epoch counts, 0: all rows of the table")
    lead: bool = Field(description="whether the table's synthetic rows come first, alone")
    shares: dict[Literal[SLUGS], float] = Field(
        description="slug of a finding: share of positives that pos_weight brings it to, 0 to 1"
    )
    augmentation: Literal["set", "strong"] = Field(
        description="moves of the training images: set, as the classifier's settings say; strong, larger ones"
    )
    arm: str = Field(description="name, one of cxr/synthesis/arms.py")
    split_sha256: str = Field(description="SHA-256 of the split's table")
