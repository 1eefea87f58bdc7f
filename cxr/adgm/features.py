"""The ADGM over features in place of pixels: M1 + M2 of Kingma et al. 2014, Semi-supervised learning with deep
generative models. Their M1 is a variational autoencoder; here it is the self-supervised encoder of cxr/encoder.

Shapes: N images, D features.
"""

from __future__ import annotations

from torch import Tensor

from cxr.adgm.controls import Supervised
from cxr.adgm.feature_nets import FeatureADGM, FeatureDiscriminative
from cxr.adgm.nets import ADGM
from cxr.adgm.settings import Settings
from cxr.adgm.train import AdgmTraining, Data, Generative


class OverFeatures(AdgmTraining):
    """What a training over features does otherwise: it moves no pixel."""

    section = "adgm_of_features"

    def augmented(self, images: Tensor, geometry: Tensor) -> Tensor:
        """N x D x 1 x 1 on the device."""
        return self.data.train.pixels(images)


class GenerativeOverFeatures(OverFeatures, Generative):
    """Variant `features`: the corrected model, equations 1 to 11, of feature vectors. Nobody looks at its samples."""

    reads = frozenset({"likelihood_weight", "free_bits"})

    @classmethod
    def fixed(cls, settings: Settings) -> dict:
        return {"sample_weight": 0.0}

    @staticmethod
    def build(settings: Settings, data: Data) -> ADGM:
        return FeatureADGM(
            **settings.sizes | {"size": data.train.size},
            likelihood_weight=settings.likelihood_weight,
            free_bits=settings.free_bits,
        )


class SupervisedOverFeatures(OverFeatures, Supervised):
    """Variant `features_supervised`: the classifier of variant `features` on the labelled images alone."""

    @staticmethod
    def build(settings: Settings, data: Data) -> ADGM:
        return FeatureDiscriminative(**settings.sizes | {"size": data.train.size})
