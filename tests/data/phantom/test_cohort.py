"""The phantom cohort: valid trees, stated prevalences, determinism, and signs that are neither missing nor trivial."""

import io
import math
import zipfile

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cxr.core.findings import CLASSES, FINDINGS
from cxr.data.phantom import cohort
from cxr.data.phantom.anatomy import LEFT, RIGHT, Anatomy
from cxr.data.phantom.patients import (
    COUNTS,
    MOST_IMAGES,
    OPACITIES,
    READING_NOISE,
    SIGNS,
    challenger,
    images_each,
    patient,
    prevalence,
    sign,
)
from cxr.data.sources import rsna as rsna_source
from cxr.data.sources import rsna_patients
from cxr.data.sources.archive import Zip
from cxr.papers import NIH

SMALL = "CheXpert-v1.0-small"
SIZE = (192, 234)  # smaller than the cohort's, for speed


@pytest.fixture(scope="module")
def chexpert(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "chexpert.zip"
    cohort.write_chexpert(path, patients=9, seed=3, processes=1)
    return path


@pytest.fixture(scope="module")
def rsna(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "rsna.zip"
    cohort.write_rsna(path, patients=5, seed=3, processes=1)
    return path


@pytest.fixture(scope="module")
def people():
    return [patient(1, number, radiologist=False) for number in range(1000)]


def test_the_bytes_depend_on_the_seed_alone_and_not_on_the_processes(chexpert, rsna, tmp_path):
    cohort.write_chexpert(tmp_path / "c.zip", patients=9, seed=3, processes=2)
    cohort.write_rsna(tmp_path / "r.zip", patients=5, seed=3, processes=2)
    assert (tmp_path / "c.zip").read_bytes() == chexpert.read_bytes()
    assert (tmp_path / "r.zip").read_bytes() == rsna.read_bytes()
    cohort.write_rsna(tmp_path / "other.zip", patients=1, seed=4, processes=1)
    assert not set(zipfile.ZipFile(tmp_path / "other.zip").namelist()[:1]) & set(zipfile.ZipFile(rsna).namelist())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.zip", "other.zip", "r.zip"]  # no temporary file is left


def test_chexpert_tree(chexpert):
    archive = zipfile.ZipFile(chexpert)
    assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
    tables = {split: pd.read_csv(archive.open(f"{SMALL}/{split}.csv")) for split in ("train", "valid")}
    for split, table in tables.items():
        assert list(table.columns) == ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS]
        assert set(table["Sex"]) <= {"Male", "Female"} and table["Age"].between(0, 90).all()
        assert table["Path"].str.match(rf"{SMALL}/{split}/patient\d{{5}}/study\d/view[12]_(frontal|lateral)\.jpg").all()
        frontal = table["Path"].str.contains("frontal")
        assert (table["Frontal/Lateral"] == np.where(frontal, "Frontal", "Lateral")).all()
        assert set(table.loc[frontal, "AP/PA"]) <= {"AP", "PA"} and table.loc[~frontal, "AP/PA"].isna().all()
    everything = pd.concat(tables.values())
    assert everything["Path"].is_unique
    assert set(everything["Path"]) | {f"{SMALL}/train.csv", f"{SMALL}/valid.csv"} == set(archive.namelist())
    assert not everything["Frontal/Lateral"].eq("Frontal").all()
    patients = {split: set(table["Path"].str.split("/").str[2]) for split, table in tables.items()}
    assert not patients["train"] & patients["valid"] and len(patients["train"]) + len(patients["valid"]) == 9
    assert np.isin(tables["valid"][list(FINDINGS)], (0, 1)).all()
    for name in everything["Path"]:
        image = Image.open(io.BytesIO(archive.read(name)))
        assert image.mode == "L" and sorted(image.size) == [320, 390] and np.asarray(image).std() > 15


def test_rsna_tree(rsna):
    archive = zipfile.ZipFile(rsna)
    labels = pd.read_csv(archive.open("stage_2_train_labels.csv"))
    classes = pd.read_csv(archive.open("stage_2_detailed_class_info.csv"))
    assert list(labels.columns) == ["patientId", "x", "y", "width", "height", "Target"]
    assert list(classes.columns) == ["patientId", "class"] and set(classes["class"]) <= set(CLASSES)
    assert list(labels["patientId"]) == list(classes["patientId"]) and labels["patientId"].nunique() == 10
    opaque = classes["class"] == "Lung Opacity"
    assert (labels["Target"] == opaque).all() and opaque.any()
    boxes = labels[["x", "y", "width", "height"]]
    assert boxes[~opaque].isna().all(axis=None)
    box = boxes[opaque]
    assert (box[["width", "height"]] > 0).all(axis=None) and (box[["x", "y"]] >= 0).all(axis=None)
    assert (box["x"] + box["width"]).max() <= 512 and (box["y"] + box["height"]).max() <= 512
    for name in labels["patientId"].unique():
        data = pydicom.dcmread(archive.open(f"stage_2_train_images/{name}.dcm"))
        assert data.PatientID == name and data.PatientSex in "MF" and data.ViewPosition in ("AP", "PA")
        assert int(data.PatientAge) > 0 and data.Modality == "CR" and data.PhotometricInterpretation == "MONOCHROME2"
        assert data.file_meta.TransferSyntaxUID == pydicom.uid.JPEGBaseline8Bit and data.BitsStored == 8
        assert (
            data.pixel_array.shape == (512, 512) and data.pixel_array.dtype == np.uint8 and data.pixel_array.std() > 15
        )


def test_the_phantoms_mapping_names_the_patient_of_every_image(rsna):
    tree = Zip(rsna)
    tables = rsna_source.tables(tree)
    name = rsna_patients.beside(tree, tables[0])
    records = rsna_source.read(tree, rsna_patients.parse(tree.read(name), name))
    sizes = records["patient_id"].value_counts()
    assert (len(records), len(sizes)) == (10, 5) and sorted(sizes) == sorted(images_each(5, 3))
    people = records.groupby("patient_id")
    assert (people["sex"].nunique() == 1).all()
    assert (people["age"].max() - people["age"].min()).max() <= 2 or (records["age"] > 140).any()
    together = (records["patient_id"] == records["patient_id"].shift()).sum()
    assert together < (sizes - 1).sum()  # the tables are not in the patients' order


def test_images_each_has_the_proportions_of_the_challenge():
    counts = images_each(NIH["patients"], 0)
    assert counts.sum() == pytest.approx(NIH["images"], abs=10)
    assert (counts > 1).sum() == pytest.approx(NIH["several"], abs=5) and 55 <= counts.max() <= MOST_IMAGES
    # A sibling in the rest: all others of the patient are rarely in the drawn tenth as well.
    shared = (counts * (1 - 0.1 ** (counts - 1.0))).sum() / counts.sum()
    assert shared == pytest.approx(NIH["shared"], abs=0.015)
    assert images_each(430, 0).sum() == images_each(430, 1).sum() == 999  # the demo's size does not depend on the seed
    assert (images_each(430, 0) != images_each(430, 1)).any()


def test_images_of_a_patient_resemble_each_other():
    """Of two images: the same patient agrees in view and class more often than two patients do."""
    pairs = [(challenger(2, k, 0), challenger(2, k, 1)) for k in range(600)]
    for what in ("view", "class_name"):
        first, second = (np.array([getattr(p[i], what) for p in pairs]) for i in (0, 1))
        assert np.mean(first == second) > np.mean(first == np.roll(second, 1)) + 0.15, what
    assert all(a.male == b.male and a.age == b.age for a, b in pairs)
    assert any(a.signs != b.signs for a, b in pairs)


def test_prevalence_by_hand_and_in_the_cohort(people):
    assert prevalence("Pneumonia") == pytest.approx(0.75 * (6_039 / 223_414) ** 0.7) == pytest.approx(0.0599, abs=1e-4)
    studies = [study for person in people for study in person.studies]
    assert 1.5 < len(studies) / len(people) < 2.1
    for finding in FINDINGS:
        positive = np.mean([study.labels[finding] == 1 for study in studies])
        spread = 4 * math.sqrt(prevalence(finding) / len(people))  # studies of a patient are alike
        assert abs(positive - prevalence(finding)) < max(spread, 0.15 * prevalence(finding)), (finding, positive)
        uncertain = np.mean([study.labels[finding] == -1 for study in studies])
        assert abs(uncertain - COUNTS[finding][1] / 223_414) < 0.035, (finding, uncertain)
    images = sum(1 + study.lateral for study in studies)
    assert 0.11 < sum(study.lateral for study in studies) / images < 0.16


def test_labels_are_consistent_noisy_and_not_given_away(people):
    studies = [study for person in people for study in person.studies]
    for study in studies:
        found = any(study.labels[finding] in (1, -1) for finding in SIGNS if finding != "Support Devices")
        assert (study.labels["No Finding"] == 1) != found
    for finding in SIGNS:
        label = np.array([study.labels[finding] for study in studies])
        truth = np.array([study.signs[finding].severity if finding in study.signs else 0 for study in studies])
        assert 0 < np.mean((label == 1) & (truth == 0)) < 0.12 or finding == "Lung Opacity"
        assert (
            np.mean(truth[label == 1] > 0) > (0.55 if READING_NOISE[finding] > 0.4 else 0.7)
            or finding == "Lung Opacity"
        )
        assert truth[label == 1].mean() > truth[label == -1].mean() or finding == "Lung Opacity"
        view = np.array([study.view == "AP" for study in studies])
        assert abs(roc_auc_score(label == 1, view) - 0.5) < 0.20, finding
        sex = np.array([person.male for person in people for _ in person.studies])
        assert abs(roc_auc_score(label == 1, sex) - 0.5) < 0.12, finding
    heart, edema = ([study.labels[finding] == 1 for study in studies] for finding in ("Cardiomegaly", "Edema"))
    assert np.mean(np.array(heart)[edema]) > 1.4 * np.mean(heart)


def test_radiologists_keep_the_hierarchy():
    for number in range(cohort.FIRST_VALID, cohort.FIRST_VALID + 150):
        (study,) = patient(1, number, radiologist=True).studies
        assert set(study.labels.values()) <= {0.0, 1.0}
        assert study.labels["Lung Opacity"] >= max(study.labels[finding] for finding in OPACITIES)
        assert study.labels["No Finding"] == (
            not any(study.labels[finding] for finding in SIGNS if finding != "Support Devices")
        )


def test_rsna_classes_by_view():
    people = [challenger(2, number, number % 3) for number in range(2500)]
    for class_name, share in zip(CLASSES, (0.225, 0.443, 0.332), strict=True):
        assert abs(np.mean([p.class_name == class_name for p in people]) - share) < 0.025
    for view, share in (("AP", 0.383), ("PA", 0.093)):
        assert abs(np.mean([p.class_name == "Lung Opacity" for p in people if p.view == view]) - share) < 0.03
    infiltrates = {"Pneumonia", "Consolidation", "Lung Opacity"}
    assert all(bool(infiltrates & set(p.signs)) == (p.class_name == "Lung Opacity") for p in people)
    assert all(set(p.signs) <= {"Support Devices"} for p in people if p.class_name == "Normal")


def changed(finding: str, key: int, severity: float = 0.9) -> tuple[np.ndarray, int]:
    """Where a sign changes the picture of a chest (H x W, absolute grey levels, smoothed), and on which side it is."""
    anatomy, mark = Anatomy.sample((8, key), bool(key % 2), 60.0), sign(severity, (4, key))
    with_sign, _ = cohort.render_frontal(anatomy, {finding: mark}, "PA", (6, key), SIZE)
    without, _ = cohort.render_frontal(anatomy, {}, "PA", (6, key), SIZE)
    return cv2.blur(np.abs(with_sign.astype(np.float32) - without), (5, 5)), mark.side


@pytest.mark.parametrize("finding", SIGNS)
def test_every_finding_shows(finding):
    slight = np.mean([changed(finding, key, 0.12)[0].mean() for key in (1, 2)])
    marked = [changed(finding, key)[0] for key in (1, 2)]
    assert all(np.percentile(difference, 99.5) > 10 for difference in marked)
    assert np.mean(marked) > slight


@pytest.mark.parametrize("finding", ["Lung Opacity", "Consolidation", "Pneumothorax", "Pleural Other", "Fracture"])
def test_signs_are_on_their_side(finding):
    hits = 0
    for key in range(5):
        difference, side = changed(finding, key)
        middle = difference.shape[1] // 2
        on_film = {RIGHT: difference[:, :middle].mean(), LEFT: difference[:, middle:].mean()}
        hits += on_film[side] > on_film[-side]
    assert hits >= 4


def test_boxes_lie_on_the_opacity():
    anatomy = Anatomy.sample((8, 1), True, 60.0)
    for key in range(4):
        mark = sign(0.9, (5, key))
        opaque, boxes = cohort.render_frontal(anatomy, {"Consolidation": mark}, "PA", (6, key), SIZE)
        clear, none = cohort.render_frontal(anatomy, {}, "PA", (6, key), SIZE)
        assert none == [] and len(boxes) == 1
        x, y, width, height = boxes[0]
        brighter = opaque.astype(np.float32) - clear
        assert brighter[y : y + height, x : x + width].mean() > brighter.mean() + 10


def test_laterals_show_the_heart_and_the_effusion():
    anatomy = Anatomy.sample((8, 1), True, 60.0)
    plain = cohort.render_lateral(anatomy, {}, (6, 1), (234, 192)).astype(np.float32)
    assert plain.shape == (234, 192)
    for finding in ("Cardiomegaly", "Pleural Effusion", "Lung Lesion", "Edema"):
        marked = cohort.render_lateral(anatomy, {finding: sign(0.9, (4, 2))}, (6, 1), (234, 192))
        assert np.percentile(cv2.blur(np.abs(marked - plain), (5, 5)), 99.5) > 10, finding


def test_pixels_alone_do_not_separate():
    """Logistic regression on 32 x 32 pixels finds neither a pneumothorax nor a nodule reliably."""
    rows = {"Pneumothorax": [], "Lung Lesion": [], None: []}
    rng = np.random.default_rng(0)
    for key in range(120):
        finding = list(rows)[key % 3]
        anatomy = Anatomy.sample((9, key), bool(rng.random() < 0.5), 60.0)
        signs = {finding: sign(rng.uniform(0.2, 0.9), (7, key))} if finding else {}
        image, _ = cohort.render_frontal(anatomy, signs, str(rng.choice(["AP", "PA"])), (9, key, 1), SIZE)
        rows[finding].append(cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).ravel() / 255)
    for finding in ("Pneumothorax", "Lung Lesion"):
        x, y = np.array(rows[finding] + rows[None]), np.repeat([1, 0], 40)
        odd = np.arange(80) % 2 == 1
        model = LogisticRegression(C=0.1, solver="liblinear", dual=True, max_iter=3000).fit(x[odd], y[odd])
        score = model.decision_function(x[~odd])
        assert roc_auc_score(y[~odd], score) < 0.85, finding


@pytest.mark.parametrize(("write", "patients"), [(cohort.write_chexpert, 1), (cohort.write_rsna, 0)])
def test_too_few_patients(write, patients, tmp_path):
    with pytest.raises(ValueError, match=f"at least .* got {patients}"):
        write(tmp_path / "x.zip", patients=patients, seed=0)
    assert not list(tmp_path.iterdir())
