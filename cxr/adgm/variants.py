"""The ADGM's variants and control arms by name, and the runs that params.yaml asks for.

No torch here: evaluation and the report read this file. The classes behind the names are in cxr/adgm/run.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Name = Literal[
    "corrected", "paper", "paper_code", "no_z", "supervised", "pseudo_label", "mean_teacher", "fixmatch",
    "features", "features_supervised", "probe", "label_propagation", "probe_coreset", "probe_uncertain",
]  # fmt: skip

# What sets each apart. Labelled images, classifier, optimiser, steps and augmentation are the same in all.
GENERATIVE = {
    "corrected": "the ADGM as this project corrects it",
    "paper": "the ADGM of the paper\u2019s text: likelihood in full, the last step\u2019s weights, equal class shares",
    "paper_code": "the ADGM under the paper\u2019s published code",
    "no_z": "the corrected ADGM without z",
}
CONTROLS = {
    "supervised": "its classifier on the labelled images alone",
    "pseudo_label": "its classifier, and its own sure answers as labels (Lee 2013)",
    "mean_teacher": "its classifier, kept to the answers of its running average (Tarvainen & Valpola 2017)",
    "fixmatch": "its classifier, and its sure answers on a weak view as labels of a strong view (Sohn et al. 2020)",
}
# The same over the features of a self-supervised encoder, which saw all training images without their labels.
FEATURES = {
    "features": "the corrected ADGM of features (M1 + M2, Kingma et al. 2014)",
    "features_supervised": "the classifier of that ADGM on the labelled images alone",
    "probe": "logistic regression on the features",
    "label_propagation": "labels spread over neighbours in the features (Zhou et al. 2004)",
    "probe_coreset": "logistic regression; as many labels in all, of images that lie far apart (Sener & Savarese 2018)",
    "probe_uncertain": "logistic regression; as many labels in all, of images that it is unsure of (Lewis & Gale 1994)",
}
FITTED = ("probe", "label_propagation", "probe_coreset", "probe_uncertain")  # at once, by scikit-learn
LABELLED_ALONE = ("supervised", "features_supervised", "probe")  # no unlabelled image, but in their encoder
LATENT = (*GENERATIVE, "features")  # with a latent z
VARIANTS = GENERATIVE | CONTROLS | FEATURES


class Run(NamedTuple):
    """One training: a variant, K classes, labels of each class, the number of the labelled draw.

    name: of its files and, after the @, of its stage.
    """

    variant: str
    classes: int
    labels: int
    draw: int

    @property
    def name(self) -> str:
        return "-".join(map(str, self))

    @property
    def stage(self) -> str:
        """The stage instance, as adgm@corrected-2-150-0."""
        return f"{'adgm_of_features' if self.variant in FEATURES else 'adgm'}@{self.name}"


def runs(variants: Sequence[str], classes: Sequence[int], labels: Sequence[int], draws: Sequence[int]) -> list[Run]:
    """All combinations, variants in the order of VARIANTS, numbers ascending. Raises ValueError for an unknown one."""
    for variant in variants:
        if variant not in VARIANTS:
            raise ValueError(f"unknown variant {variant!r} in adgm_runs: choose from {', '.join(VARIANTS)}")
    chosen = [v for v in VARIANTS if v in variants]
    ordered = (sorted(set(numbers)) for numbers in (classes, labels, draws))
    c, n, d = ordered
    return [Run(*one) for one in ((v, i, j, k) for v in chosen for i in c for j in n for k in d)]


def leaders(variants: Sequence[str]) -> list[str]:
    """The variants that are compared with every control arm: the leading one and, of features, the ADGM."""
    return list(dict.fromkeys([leading(variants), *(["features"] if "features" in variants else [])]))


def leading(variants: Sequence[str]) -> str:
    """The variant that short names and single pictures stand for: the corrected one, else the first in VARIANTS."""
    return next(v for v in VARIANTS if v in variants)
