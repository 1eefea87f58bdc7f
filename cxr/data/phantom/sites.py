"""Hospitals that the phantom's X-rays come from: who is X-rayed there, how, and how well the reports are read.

The first hospital is the one that everything is trained on. The second differs in all that makes a model worse
elsewhere: the detector and its display, the markers, the share of bedside films, how common findings are, the noise
of the labels. Its patients are other people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Site:
    """One hospital. The defaults are the first one's."""

    first: int = 1  # number of the first patient in train.csv
    first_valid: int = 64_541  # and in valid.csv: CheXpert numbers them after those of train.csv
    bedside: float = 0.80  # share of studies whose frontal film is AP
    prevalence: Mapping[str, float] = field(default_factory=dict)  # factors of the positive and uncertain shares
    noise: float = 1.0  # factor of the labeller's noise
    contrast: tuple[float, float] = (2.2, 4.4)  # slope of the display curve
    middle: tuple[float, float] = (0.30, 0.52)  # where the curve is steepest, as a share of the window
    gamma: tuple[float, float] = (-0.75, 0.55)  # binary logarithm
    equalised: tuple[float, float] = (0.0, 0.8)  # share of histogram equalisation, as CheXpert's images have it
    grain: tuple[float, float] = (0.003, 0.010)  # quantum noise
    scatter: tuple[float, float] = (0.10, 0.30)
    blur: tuple[float, float] = (0.3, 0.6)  # pixels
    left_marker: float = 0.75  # share of side markers that are an L, on the right of the film
    words: float = 0.25  # share of films that bear the view's name


FIRST = Site()
# Harder contrast without equalisation, a finer grain, more scatter; R markers and more words; two films in five at
# the bedside; less heart failure, more infection; a labeller with half as much noise again.
SECOND = Site(
    first=200_001,
    first_valid=264_541,
    bedside=0.42,
    prevalence={
        "Enlarged Cardiomediastinum": 0.8,
        "Cardiomegaly": 0.7,
        "Lung Opacity": 0.9,
        "Lung Lesion": 1.4,
        "Edema": 0.5,
        "Consolidation": 1.3,
        "Pneumonia": 1.6,
        "Atelectasis": 0.8,
        "Pneumothorax": 0.7,
        "Pleural Effusion": 0.7,
        "Pleural Other": 1.5,
        "Fracture": 1.2,
        "Support Devices": 0.6,
    },
    noise=1.5,
    contrast=(3.6, 6.0),
    middle=(0.38, 0.60),
    gamma=(-0.2, 0.9),
    equalised=(0.0, 0.1),
    grain=(0.002, 0.006),
    scatter=(0.25, 0.42),
    blur=(0.5, 0.9),
    left_marker=0.15,
    words=0.6,
)
