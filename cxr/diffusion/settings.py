"""The settings of a diffusion training, and of edits by it: sections diffusion and editing of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxr.core.formats import Format
from cxr.core.views import View

# Settings at the values that change nothing: a training's fingerprint leaves them out.
NEUTRAL = {"average": 0.0, "flip": 0.0, "rotate": 0.0, "shift": 0.0, "sigma_min": 0.002}


class Settings(Format):
    """What shapes a training, apart from its images. P_mean, P_std: the noise levels' of Karras et al., table 1."""

    size: Literal[32, 64, 128, 256, 512] = Field(64, description="side of an image, pixels")
    epochs: int = Field(100, ge=1, description="passes over the training images")
    batch: int = Field(32, ge=2, description="images in a step")
    lr: float = Field(6e-4, ge=0.0, description="Adam's learning rate")
    average: float = Field(0.999, ge=0.0, le=0.99999, description="decay of the weights' running average; 0: none")
    prior: Literal["gaussian", "scalar"] = Field(
        "gaussian", description="linear denoiser that the net corrects: of the images' covariance, or of their variance"
    )
    components: int = Field(128, ge=1, le=1000, description="principal components of the covariance")
    patch: Literal[1, 2, 4, 8] = Field(2, description="side of the squares of pixels that the net sees as one, pixels")
    width: int = Field(32, ge=8, multiple_of=8, description="channels of the finest maps; the coarser ones have twice")
    levels: int = Field(3, ge=1, le=6, description="sizes of maps, each half of the one before")
    blocks: int = Field(2, ge=1, le=4, description="residual blocks a level")
    p_mean: float = Field(-1.0, ge=-5.0, le=5.0, description="mean of ln sigma, the noise level of a training image")
    p_std: float = Field(1.2, gt=0.0, le=5.0, description="standard deviation of ln sigma")
    drop: float = Field(0.1, ge=0.0, le=1.0, description="share of the training images without their condition")
    view: View = Field("frontal", description="projections trained on")
    flip: float = Field(0.0, ge=0.0, le=1.0, description="probability of a mirror image")
    rotate: float = Field(0.0, ge=0.0, le=45.0, description="largest rotation in degrees")
    shift: float = Field(0.0, ge=0.0, le=0.5, description="largest shift as a share of the size")
    guidance: float = Field(1.0, ge=0.0, le=20.0, description="weight of the condition in sampling; 1: as trained")
    sigma_max: float = Field(3.0, ge=0.1, le=100.0, description="noise level from which sampling starts")
    sigma_min: float = Field(0.04, ge=0.0001, le=0.09, description="last noise level of sampling, cleared in one step")
    sampler_steps: int = Field(12, ge=2, le=1000, description="evaluations of the net for one X-ray")
    seed: int = Field(0, ge=0, description="seed of weights, batches and noise")


class Edit(Format):
    """What shapes an edit of a real X-ray by a trained model (cxr/diffusion/edit.py). Its options train nothing."""

    noise: float = Field(1.0, ge=0.1, le=100.0, description="noise level from which an edit is drawn")
    draws: int = Field(4, ge=1, le=100, description="noise draws that a mask is the mean of")
    smooth: float = Field(0.03, ge=0.005, le=0.2, description="width of the mask's blur as a share of the size")
    threshold: float = Field(0.5, ge=0.0, le=1.0, description="share of a mask's largest difference that is edited")
    sources: int = Field(500, ge=2, le=100_000, description="real training X-rays, at most, that edits start from")
    seed: int = Field(0, ge=0, description="seed of the choice of sources")
