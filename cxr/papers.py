"""What the two papers print, for the columns next to ours.

P1: Sunitha, Chest X-ray Disease Diagnosis Using Generative Adversarial Networks (CheXpert, DenseNet121, DCGAN).
P2: Cerri and Fraccaro, Semi-Supervised Chest X-Ray Pneumonia Classification Using Auxiliary Deep Generative Models
(RSNA 2018, ADGM). Numbers are as printed, errors included; docs/papers.md says which are wrong. P2's figures 5 and 6
are read by eye, to about 0.002. cxr/cohort/describe.py puts P1's table 1 right.
"""

from __future__ import annotations

from typing import NamedTuple

DATASETS = {"chexpert": "CheXpert", "rsna": "RSNA 2018"}
POLICIES = {"u_zeroes": "U-Zeroes", "u_ones": "U-Ones"}  # that P1 compares
# What the papers say of their cohorts: P1 of CheXpert's training images, P2 of RSNA.
COHORTS = {
    "paper 1, CheXpert train": {"images": 223415, "patients": 64540, "F": 28728, "M": 35811, "unknown": 1}
    | {"age_F": 61, "age_M": 59},
    "paper 2, RSNA 2018": {"images": 27000},
}
# Rows of CheXpert's train.csv and images of RSNA's training tables, as published: what an audit can stand on.
PUBLISHED = {"chexpert": 223414, "rsna": 26684}
# P1: the findings that get generated images, and the size of its test set, drawn from the training images.
RARE = ("Pneumonia", "Lung Lesion", "Consolidation")
TEST_IMAGES = 500
# P2: the share of the images that it trains on; figure of section 4: the bar of Lung Opacity, read by eye, to about 50.
TRAIN_SHARE = 0.9
OPACITY_BAR = 9600
# Images by class in the full RSNA 2018 release; P2 prints none.
RSNA_IMAGES = {"Lung Opacity": 6012, "No Lung Opacity / Not Normal": 11821, "Normal": 8851}
# RSNA's patientId names an image. By RSNA's own mapping its images are of so many patients of NIH; so many have several
# images. Of a tenth of the images, drawn at random, `shared` have another image of their patient in the rest.
NIH = {"images": 26684, "patients": 11439, "several": 4355, "shared": 0.71}

# P1, table 2: test AUC of the baseline by label policy, in the paper's order. 500 test images, no interval printed.
TABLE_2 = {
    "No Finding": {"u_ones": 0.78, "u_zeroes": 0.78},
    "Enlarged Cardiomediastinum": {"u_ones": 0.51, "u_zeroes": 0.62},
    "Cardiomegaly": {"u_ones": 0.64, "u_zeroes": 0.64},
    "Lung Opacity": {"u_ones": 0.63, "u_zeroes": 0.64},
    "Lung Lesion": {"u_ones": 0.63, "u_zeroes": 0.61},
    "Edema": {"u_ones": 0.78, "u_zeroes": 0.77},
    "Consolidation": {"u_ones": 0.65, "u_zeroes": 0.66},
    "Pneumonia": {"u_ones": 0.63, "u_zeroes": 0.72},
    "Atelectasis": {"u_ones": 0.63, "u_zeroes": 0.63},
    "Pneumothorax": {"u_ones": 0.66, "u_zeroes": 0.71},
    "Pleural Effusion": {"u_ones": 0.67, "u_zeroes": 0.66},
    "Pleural Other": {"u_ones": 0.75, "u_zeroes": 0.71},
    "Fracture": {"u_ones": 0.67, "u_zeroes": 0.67},
    "Support Devices": {"u_ones": 0.74, "u_zeroes": 0.74},
}

# P1, table 3: (baseline, final) test AUC under U-Zeroes, the three findings that the paper reports.
TABLE_3 = {"Lung Lesion": (0.61, 0.75), "Consolidation": (0.66, 0.73), "Pneumonia": (0.72, 0.79)}

# P2, experiments 5.1 and 5.2: rows true, columns predicted, at 4,000 labels per class. Class order as in the paper.
ADGM_CLASSES = {2: ("Abnormal", "Normal"), 3: ("Lung Opacity", "No Lung Opacity / Not Normal", "Normal")}
ADGM_MATRIX = {
    2: ((1384, 386), (89, 810)),
    3: ((375, 73, 23), (436, 599, 260), (20, 123, 756)),
}
# The printed total and per-class accuracies. The 3-class ones belong to a matrix of 2,669 images; the printed one lost
# four of its first row.
ADGM_ACCURACY = {2: 0.8220, 3: 0.6482}
ADGM_CLASS_ACCURACY = {2: (0.7819, 0.9010), 3: (0.7895, 0.4625, 0.8409)}
ADGM_IMAGES = 2669

# P2, figures 5 and 6: accuracy by number of labels per class.
ADGM_CURVE = {
    2: ((100, 0.7455), (500, 0.7875), (1000, 0.797), (1500, 0.815), (3000, 0.821), (4000, 0.822)),
    3: ((100, 0.5345), (500, 0.5805), (1000, 0.605), (1500, 0.609), (3000, 0.633), (4000, 0.645)),
}


class Printed(NamedTuple):
    """One row of the paper's Table 1: counts, and percents as text, digit for digit; None where it prints none."""

    positive: int
    positive_percent: str
    uncertain: int
    uncertain_percent: str | None
    negative: int
    negative_percent: str


TABLE_1 = {
    "No Finding": Printed(22381, "10", 0, None, 201033, "90"),
    "Enlarged Cardiomediastinum": Printed(10798, "4.8", 200213, "89", 12403, "5.5"),
    "Cardiomegaly": Printed(27000, "12.08", 188327, "84.3", 8087, "3.6"),
    "Lung Opacity": Printed(105581, "47.25", 112235, "50.2", 5598, "2.5"),
    "Lung Lesion": Printed(9186, "4.1", 212740, "95.2", 1488, "0.6"),
    "Edema": Printed(52246, "4.1", 158184, "70.8", 12984, "5.8"),
    "Consolidation": Printed(14783, "6.6", 180889, "80.9", 27742, "12.4"),
    "Pneumonia": Printed(6039, "2.7", 198605, "88.9", 18770, "8.4"),
    "Atelectasis": Printed(33376, "14.9", 156299, "69.9", 33739, "16.5"),
    "Pneumothorax": Printed(19448, "8.7", 200821, "89.8", 3145, "1.4"),
    "Pleural Effusion": Printed(86187, "38.5", 125599, "56.2", 11628, "5.2"),
    "Pleural Other": Printed(3523, "1.5", 217238, "97.2", 2653, "1.1"),
    "Fracture": Printed(9040, "4", 213732, "95.6", 642, "0.2"),
    "Support Devices": Printed(1079, "0.4", 106334, "47.5", 116001, "51.9"),
}


def mean_auc(policy: str) -> float:
    """The mean of table 2 over its 14 findings, which the paper does not print. policy: u_ones or u_zeroes."""
    return sum(row[policy] for row in TABLE_2.values()) / len(TABLE_2)
