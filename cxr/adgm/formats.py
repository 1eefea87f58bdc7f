"""model.json and samples.json, written by the adgm stage."""

from __future__ import annotations

from pydantic import Field

from cxr.core.formats import Format


class Model(Format):
    """model.json: what rebuilds the net, and what it was trained on."""

    net: str = Field(description="class of the net: ADGM, Published or Discriminative")
    class_names: list[str] = Field(description="names of the classes, in the order of the net's outputs")
    labels: int = Field(description="labelled training images per class asked for")
    draw: int = Field(description="number of the labelled draw, added to the seed")
    size: int = Field(description="side of an image, pixels")
    variant: str = Field(description="variant of the model or control arm, as in cxr/adgm/variants.py")
    classes: int = Field(description="number of classes: 2 or 3")
    batch: int = Field(description="labelled images in a step, and as many unlabelled ones")
    lr: float = Field(description="learning rate")
    weight_decay: float = Field(description="weight decay")
    beta: float = Field(description="weight of the classification loss: alpha = beta (N_l + N_u) / N_l")
    warmup_epochs: float = Field(description="epochs until the divergences count in full")
    likelihood_weight: float | None = Field(
        None, description="not of a control arm: weight of the pixels' summed log-likelihood, 0 to 1"
    )
    free_bits: float | None = Field(
        None, description="not of no_z or a control arm: least cost of each unit of z, nats"
    )
    z_dim: int = Field(description="units of z")
    a_dim: int = Field(description="units of a")
    dropout: float = Field(description="dropout rate, 0 to 0.9")
    average: float = Field(description="decay of the running average of the weights, 0: none")
    predict_samples: int = Field(description="draws of a that q(y|a,x) is averaged over")
    prior: list[float] = Field(description="class shares that predictions count on; their sum is 1")
    seed: int = Field(description="seed of weights, batches and augmentation, the draw included")
    flip: float = Field(description="probability of a mirror image, 0 to 1")
    rotate: float = Field(description="largest rotation, degrees")
    scale: list[float] = Field(description="least and largest factor of size")
    shift: float = Field(description="largest shift, share of the size")
    threshold: float | None = Field(None, description="only of pseudo_label: least probability of a pseudo-label")
    pseudo_weight: float | None = Field(None, description="only of pseudo_label: weight of its loss")
    consistency_weight: float | None = Field(None, description="only of mean_teacher: weight of its loss")
    teacher: float | None = Field(None, description="only of mean_teacher: decay of the teacher's average")
    n_labelled: int = Field(description="labelled training images")
    drawn: dict[str, int] = Field(description="class name: labelled training images")
    n_unlabelled: int = Field(description="unlabelled training images")
    n_valid: int = Field(description="validation images")
    alpha: float = Field(description="weight of the classification loss in the objective")
    epochs: int = Field(description="number of epochs")
    best_epoch: int = Field(description="epoch with the best validation score, from 1")
    split_sha256: str = Field(description="SHA-256 of the split's table")


class Samples(Format):
    """samples.json: how often a classifier of real images agrees with the class of a generated image."""

    agreement: float = Field(description="share of generated images that it puts into their class, 0 to 1")
    samples: int = Field(description="number of generated images")
    shares: list[float] = Field(description="the agreement by class")
    real: float = Field(description="balanced accuracy of that classifier on the validation images, 0 to 1")
    real_n: int = Field(description="number of validation images")
    reader_images: int = Field(description="number of images that classifier was trained on")
