"""Who the phantom's patients are: findings that go together, how they change between studies, and what the labels say
about them.

Every finding is a liability z ~ N(0, 1): correlated between findings through shared causes (CAUSES), over a patient's
studies by PERSISTENCE. The sign is drawn where z is in its upper tail, and its severity is the rank within that tail.
The labeller reads z through noise: the top p of readings are positive, the next u uncertain; of the rest some are
denied (0) and the others not mentioned (blank). So a slight sign becomes uncertain or goes unmentioned, and some
labels are wrong.

Prevalences follow CheXpert's train.csv (Irvin et al. 2019; 223,414 images). A share of positives P there becomes p =
0.75 P^0.7 here, which leaves common findings about where they are and doubles rare ones, so that a cohort of some
2,500 images holds enough of each. Shares of uncertain (u) and denied labels are CheXpert's. Lung Opacity stands
mainly for its children, as in the labeller's hierarchy.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from cxr.core.findings import CLASSES, FINDINGS
from cxr.data.phantom.anatomy import LEFT, RIGHT, Sign, Signs
from cxr.data.phantom.sites import FIRST, Site

IMAGES = 223_414
# Positive, uncertain and negative labels of CheXpert's train.csv; the rest is blank.
COUNTS = {
    "No Finding": (22_381, 0, 0),
    "Enlarged Cardiomediastinum": (10_798, 12_403, 21_638),
    "Cardiomegaly": (27_000, 8_087, 11_116),
    "Lung Opacity": (105_581, 5_598, 6_599),
    "Lung Lesion": (9_186, 1_488, 1_270),
    "Edema": (52_246, 12_984, 20_726),
    "Consolidation": (14_783, 27_742, 28_097),
    "Pneumonia": (6_039, 18_770, 2_799),
    "Atelectasis": (33_376, 33_739, 1_328),
    "Pneumothorax": (19_448, 3_145, 56_341),
    "Pleural Effusion": (86_187, 11_628, 35_396),
    "Pleural Other": (3_523, 2_653, 316),
    "Fracture": (9_040, 642, 2_512),
    "Support Devices": (116_001, 1_079, 6_137),
}
SIGNS = FINDINGS[1:]
OPACITIES = ("Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis")  # children of Lung Opacity
# Loadings on intensive care, heart failure, infection, trauma, old age, and what else has films taken at the bedside.
# The last three rows: a bedside (AP) film, age, and the male sex. The last two columns are set so that sex, age and
# view alone reach about CheXpert's AUC of each finding (docs/papers.md, E35): .61 on average, .61 there.
CAUSES = {
    "Enlarged Cardiomediastinum": (0.15, 0.20, 0.0, 0.15, -0.10, -0.10),
    "Cardiomegaly": (0.10, 0.50, 0.0, 0.0, 0.10, 0.10),
    "Lung Opacity": (0.20, 0.0, 0.3, 0.0, 0.20, 0.25),
    "Lung Lesion": (-0.10, 0.0, 0.1, 0.0, 0.25, -0.28),
    "Edema": (0.35, 0.45, 0.1, 0.0, 0.15, 0.30),
    "Consolidation": (0.25, 0.0, 0.55, 0.0, 0.0, 0.0),
    "Pneumonia": (0.10, 0.0, 0.60, 0.0, -0.20, -0.35),
    "Atelectasis": (0.40, 0.1, 0.1, 0.15, 0.05, 0.0),
    "Pneumothorax": (0.20, -0.1, 0.0, 0.40, -0.22, 0.0),
    "Pleural Effusion": (0.35, 0.40, 0.2, 0.1, 0.10, -0.05),
    "Pleural Other": (-0.05, 0.1, 0.1, 0.1, 0.30, -0.42),
    "Fracture": (0.0, 0.0, 0.0, 0.45, 0.25, -0.20),
    "Support Devices": (0.55, 0.2, 0.1, 0.15, 0.05, 0.42),
    "AP": (0.40, 0.15, 0.1, 0.1, 0.05, 0.80),
    "Age": (0.05, 0.15, 0.05, -0.1, 0.85, 0.0),
    "Male": (0.0, 0.0, 0.0, 0.15, 0.0, 0.0),
}
LOADINGS = np.array(list(CAUSES.values()))
OWN = np.sqrt(1 - (LOADINGS**2).sum(1))  # standard deviation of what no common cause explains
PERSISTENCE = 0.75  # share of a liability's variance that a patient keeps
# Standard deviation of the labeller's reading of a liability, which varies by 1. CheXpert's labels are least reliable
# for pneumonia and consolidation, of which reports speak in doubt (COUNTS: two and three uncertain labels a positive
# one), and most for devices and pneumothorax, which are seen or not. The order is CheXpert's, the sizes are ours.
READING_NOISE = {
    "Pneumonia": 0.60,
    "Consolidation": 0.58,
    "Enlarged Cardiomediastinum": 0.40,
    "Atelectasis": 0.38,
    "Lung Lesion": 0.25,
    "Pleural Other": 0.30,
    "Fracture": 0.20,
    "Lung Opacity": 0.30,
    "Edema": 0.30,
    "Cardiomegaly": 0.30,
    "Pleural Effusion": 0.20,
    "Pneumothorax": 0.12,
    "Support Devices": 0.10,
}
MALE_SHARE = 0.55
OWN_OPACITY = 0.13, 0.03  # Lung Opacity without a child: positive, uncertain
CHILD_OPACITY = 0.85  # a positive child is also called an opacity


def prevalence(finding: str) -> float:
    """The phantom's share of positive labels, by the scaling above."""
    return 0.75 * (COUNTS[finding][0] / IMAGES) ** 0.7


@dataclass(frozen=True)
class Study:
    view: str  # of the frontal film: 'AP' or 'PA'
    lateral: bool
    signs: Signs
    labels: dict[str, float]  # by finding: 1, 0, -1, NaN


@dataclass(frozen=True)
class Patient:
    number: int
    male: bool
    age: int
    studies: list[Study]


@functools.cache
def _threshold(share: float) -> float:
    """The liability that this share of draws exceeds."""
    return NormalDist().inv_cdf(1 - share)


def _liabilities(rng: np.random.Generator) -> np.ndarray:
    """One draw for every row of CAUSES: loadings times common causes, plus a part of its own; unit variance."""
    return LOADINGS @ rng.standard_normal(LOADINGS.shape[1]) + OWN * rng.standard_normal(len(LOADINGS))


def _shares(finding: str, site: Site) -> tuple[float, float]:
    """Positive and uncertain shares at a hospital."""
    factor = site.prevalence.get(finding, 1.0)
    positive, uncertain = OWN_OPACITY
    if finding != "Lung Opacity":
        positive, uncertain = prevalence(finding), COUNTS[finding][1] / IMAGES
    return factor * positive, factor * uncertain


def sign(severity: float, key: tuple[int, ...]) -> Sign:
    """A sign whose side, too, comes from its key."""
    side = RIGHT if np.random.default_rng((*key, 0)).random() < 0.5 else LEFT
    return Sign(float(severity), side, key)


def _signs(z: dict[str, float], key: tuple[int, ...], site: Site) -> Signs:
    signs = {}
    for k, finding in enumerate(SIGNS):
        positive, uncertain = _shares(finding, site)
        tail = positive + 0.5 * uncertain
        beyond = 1 - NormalDist().cdf(z[finding])
        if beyond < tail:
            signs[finding] = sign(0.5 + 0.5 * (1 - beyond / tail) ** 0.5, (*key, k))
    return signs


def _report(z: dict[str, float], rng: np.random.Generator, site: Site) -> dict[str, float]:
    """The automatic labeller's reading of a report."""
    labels = {}
    for finding in SIGNS:
        positive, uncertain = _shares(finding, site)
        noise = site.noise * READING_NOISE[finding]
        reading = (z[finding] + noise * rng.standard_normal()) / np.hypot(1, noise)
        p, u, n = (count / IMAGES for count in COUNTS[finding])
        if reading > _threshold(positive):
            labels[finding] = 1.0
        elif reading > _threshold(positive + uncertain):
            labels[finding] = -1.0
        else:
            labels[finding] = 0.0 if rng.random() < n / (1 - p - u) else np.nan
    if any(labels[child] == 1 for child in OPACITIES) and rng.random() < CHILD_OPACITY:
        labels["Lung Opacity"] = 1.0
    diseased = any(labels[finding] in (1, -1) for finding in SIGNS if finding != "Support Devices")
    return {"No Finding": np.nan if diseased else 1.0, **labels}


def _reading(z: dict[str, float], rng: np.random.Generator, site: Site) -> dict[str, float]:
    """Radiologists' labels: present or absent, with little noise, and the hierarchy of findings kept."""
    labels = {}
    for finding in SIGNS:
        labels[finding] = float(z[finding] + 0.1 * rng.standard_normal() > _threshold(_shares(finding, site)[0]))
    labels["Lung Opacity"] = max(labels[finding] for finding in ("Lung Opacity", *OPACITIES))
    diseased = any(labels[finding] for finding in SIGNS if finding != "Support Devices")
    return {"No Finding": float(not diseased), **labels}


def patient(seed: int, number: int, radiologist: bool, site: Site = FIRST) -> Patient:
    """Patient `number` of a cohort. radiologist: labelled by reading the films (0 and 1 only, one study), not from
    reports.
    """
    rng = np.random.default_rng((seed, number, 0))
    constant = _liabilities(rng)
    names = list(CAUSES)
    male = bool(constant[names.index("Male")] > _threshold(MALE_SHARE))
    age = int(np.clip(round(60 + 17 * constant[names.index("Age")]), 18, 90))
    if rng.random() < 0.002:
        age = 0  # CheXpert has such too
    studies = []
    for _ in range(1 if radiologist else min(7, rng.geometric(0.56))):
        z = dict(
            zip(names, np.sqrt(PERSISTENCE) * constant + np.sqrt(1 - PERSISTENCE) * _liabilities(rng), strict=True)
        )
        view = "AP" if z["AP"] > _threshold(site.bedside) else "PA"
        lateral = bool(rng.random() < (0.03 if view == "AP" else 0.72))
        labels = (_reading if radiologist else _report)(z, rng, site)
        studies.append(Study(view, lateral, _signs(z, (seed, number, 1), site), labels))
    return Patient(number, male, age, studies)


# RSNA: P(AP) and, by view, the shares of the classes. They multiply out to 22.5, 44.3 and 33.2 % of the images; an
# opacity is found in 38.3 % of AP and 9.3 % of PA films, as in the challenge.
RSNA_AP = 0.455
RSNA_SHARES = {"AP": (0.383, 0.457, 0.160), "PA": (0.093, 0.431, 0.476)}
INFILTRATES = {"Pneumonia": 0.45, "Consolidation": 0.3, "Lung Opacity": 0.25}
MIMICS = {
    "Pleural Effusion": 0.24,
    "Atelectasis": 0.2,
    "Cardiomegaly": 0.16,
    "Edema": 0.14,
    "Lung Lesion": 0.12,
    "Enlarged Cardiomediastinum": 0.05,
    "Pleural Other": 0.05,
    "Pneumothorax": 0.03,
    "Fracture": 0.01,
}
# The challenge has 26,684 images of 11,439 patients: 7,084 with one image, at most 65. Numbers of images from 1 to 65
# with probability n^-a e^-bn have this mean and this share of single images.
MOST_IMAGES = 65
FALL = 1.8526447, 0.0523236
PER_YEAR = 3  # images of a patient


def images_each(patients: int, seed: int) -> np.ndarray:
    """How many images each patient of an RSNA cohort has: the quantiles of the distribution above, in random order.

    Quantiles and not draws, so that cohorts of one size have one number of images, about 2.33 a patient.
    """
    n = np.arange(1, MOST_IMAGES + 1)
    weight = n ** -FALL[0] * np.exp(-FALL[1] * n)
    places = (np.arange(patients) + 0.5) / patients
    counts = n[np.searchsorted(np.cumsum(weight) / weight.sum(), places)]
    return np.random.default_rng((seed, 0, 11)).permutation(counts)


@dataclass(frozen=True)
class Challenger:
    """An X-ray of the RSNA challenge and its patient.

    number: the patient's; image: which of the patient's X-rays, from 0. age: at the first one, years. header_age: as
    the DICOM header has it, now and then mistyped.
    """

    number: int
    image: int
    male: bool
    age: int
    header_age: int
    view: str
    class_name: str
    signs: Signs


def challenger(seed: int, number: int, image: int) -> Challenger:
    """An X-ray of an RSNA cohort: a class given the view, then signs given the class; opacities never outside 'Lung
    Opacity'.

    X-rays of a patient resemble each other: PERSISTENCE is the share of the variance of view and class that they have
    in common, and the probability that a choice of findings, or a severity, is the patient's.
    """
    theirs, own = np.random.default_rng((seed, number, 3)), np.random.default_rng((seed, number, 3, image + 1))
    male, age = bool(theirs.random() < 0.57), int(np.clip(theirs.normal(47, 17), 2, 92))
    z = np.sqrt(PERSISTENCE) * theirs.standard_normal(2) + np.sqrt(1 - PERSISTENCE) * own.standard_normal(2)
    of_view, of_class = map(NormalDist().cdf, z)
    view = "AP" if of_view < RSNA_AP else "PA"
    class_name = CLASSES[int(np.searchsorted(np.cumsum(RSNA_SHARES[view])[:-1], of_class))]
    infiltrates, mimics = (_preferred(shares, theirs, own) for shares in (INFILTRATES, MIMICS))
    chosen = infiltrates[: 1 + int(own.random() < 0.25)] if class_name == "Lung Opacity" else []
    others = {"Lung Opacity": own.random() < 0.35, "Normal": 0}.get(class_name, 1 + int(own.random() < 0.35))
    chosen += mimics[: int(others)]
    if own.random() < (0.4 if view == "AP" else 0.08) * (0.5 if class_name == "Normal" else 1):
        chosen.append("Support Devices")
    lasting, passing = (0.4 + 0.6 * rng.beta(2.2, 1.4, len(SIGNS)) for rng in (theirs, own))
    severities = np.where(own.random(len(SIGNS)) < PERSISTENCE, lasting, passing)
    signs = {finding: sign(severities[k], (seed, number, 4, k)) for k, finding in enumerate(SIGNS) if finding in chosen}
    mistyped = own.random() < 0.002  # as in the challenge's headers
    header_age = int(own.integers(148, 156)) if mistyped else min(92, age + image // PER_YEAR)
    return Challenger(number, image, male, age, header_age, view, class_name, signs)


def _preferred(shares: dict[str, float], theirs: np.random.Generator, own: np.random.Generator) -> list[str]:
    """The findings in an order drawn by their shares: the patient's, or sometimes this X-ray's own."""
    orders = [
        list(rng.choice(list(shares), len(shares), replace=False, p=list(shares.values()))) for rng in (theirs, own)
    ]
    return orders[int(own.random() >= PERSISTENCE)]
