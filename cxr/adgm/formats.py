"""model.json and samples.json, written by the adgm stage."""

from __future__ import annotations

from pydantic import Field

from cxr.adgm.settings import OPTIONAL, Settings
from cxr.core.formats import Format, recorded


class Model(recorded(Settings, absent=OPTIONAL)):
    """model.json: what rebuilds the net, and what it was trained on.

    A setting that the variant does not read is absent. The seed has the number of the labelled draw added.
    """

    net: str = Field(
        description="class of the net: ADGM, Published, Discriminative; of features FeatureADGM, FeatureDiscriminative"
    )
    class_names: list[str] = Field(description="names of the classes, in the order of the net's outputs")
    class_shares: list[float] = Field(description="class shares that predictions count on; their sum is 1")
    n_labelled: int = Field(description="labelled training images")
    drawn: dict[str, int] = Field(description="class name: labelled training images")
    n_unlabelled: int = Field(description="unlabelled training images")
    n_valid: int = Field(description="validation images")
    n_test: int = Field(0, description="test images, which nothing was chosen on; 0: the split has no test part")
    alpha: float = Field(description="weight of the classification loss in the objective")
    best_epoch: int = Field(description="epoch with the best validation score, from 1")
    split_sha256: str = Field(description="SHA-256 of the split's table")


class Fitted(Format):
    """model.json of a control arm that scikit-learn fits: what it is, and what it was fitted on."""

    variant: str = Field(description="control arm; see cxr/adgm/variants.py")
    classes: int = Field(description="2: Abnormal, Normal; 3: the challenge's classes")
    labels: int = Field(description="labelled training images per class; the others are unlabelled")
    draw: int = Field(description="number of the labelled draw")
    prior: str = Field(description="class shares that predictions assume: equal, or the training images'")
    seed: int = Field(description="seed of the labelled draw and of the folds")
    features: int = Field(description="features of an image")
    candidate: float = Field(description="chosen value: probe's C, label_propagation's number of neighbours")
    class_names: list[str] = Field(description="names of the classes, in the order of the outputs")
    class_shares: list[float] = Field(description="class shares that predictions count on; their sum is 1")
    n_labelled: int = Field(description="labelled training images")
    drawn: dict[str, int] = Field(description="class name: labelled training images")
    n_unlabelled: int = Field(description="unlabelled training images")
    n_valid: int = Field(description="validation images")
    n_test: int = Field(description="test images, which nothing was chosen on; 0: the split has no test part")
    split_sha256: str = Field(description="SHA-256 of the split's table")


class Samples(Format):
    """samples.json: how often a classifier of real images agrees with the class of a generated image."""

    agreement: float = Field(description="share of generated images that it puts into their class, 0 to 1")
    samples: int = Field(description="number of generated images")
    shares: list[float] = Field(description="the agreement by class")
    real: float = Field(description="balanced accuracy of that classifier on the validation images, 0 to 1")
    real_n: int = Field(description="number of validation images")
    reader_images: int = Field(description="number of images that classifier was trained on")
