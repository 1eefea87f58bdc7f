"""The phantom's films and labels against what they stand for: framing, label noise, metadata, and a second hospital."""

import io
import zipfile
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from cxr.core.findings import FINDINGS
from cxr.data.phantom import cohort
from cxr.data.phantom.anatomy import Anatomy, Pose
from cxr.data.phantom.chest import Chest
from cxr.data.phantom.patients import READING_NOISE, SIGNS, patient
from cxr.data.phantom.sites import FIRST, SECOND
from cxr.data.sources import chexpert as chexpert_source
from cxr.data.sources.archive import Zip
from cxr.evaluation import metadata


def rows_and_labels(site, patients):
    """A row of metadata for each frontal film, and which findings its report names."""
    rows, labels = [], []
    for number in range(site.first, site.first + patients):
        person = patient(11, number, False, site)
        for study in person.studies:
            rows.append((str(number), "M" if person.male else "F", person.age, "frontal", study.view))
            labels.append([study.labels[finding] == 1 for finding in FINDINGS])
    return pd.DataFrame(rows, columns=["patient_id", "sex", "age", "projection", "view"]), np.array(labels, float)


def lungs_share(key, size):
    """The share of a film's height that the lungs fill."""
    anatomy = Anatomy.sample((0, key), bool(key % 2), 60.0)
    pose = Pose.sample(np.random.default_rng((1, key)), "AP" if key % 3 else "PA", anatomy, size)
    rows = np.flatnonzero((Chest(anatomy, pose, {}).field > 0.5).any(1))
    return (rows[-1] - rows[0] + 1) / size[0]


@pytest.mark.parametrize("size", [(80, 98), (98, 80), (90, 90)])
def test_the_lungs_fill_three_quarters_of_the_films_height(size):
    shares = [lungs_share(key, size) for key in range(60)]
    assert 0.70 < np.mean(shares) < 0.80 and np.percentile(shares, 10) > 0.6 and max(shares) < 0.97


def test_builds_differ():
    people = [Anatomy.sample((0, key), True, 60.0) for key in range(200)]
    slender, stocky = ([a for a in people if sign * a.build > 0.4] for sign in (-1, 1))
    ratio = [np.mean([a.height / a.width for a in group]) for group in (slender, stocky)]
    assert min(len(slender), len(stocky)) > 20 and ratio[0] > 1.1 * ratio[1]


def test_the_noise_of_the_labels_is_the_findings_own():
    """How often a report agrees with the film: devices and pneumothorax best, pneumonia and consolidation worst."""
    studies = [study for number in range(1, 1501) for study in patient(5, number, False).studies]
    auc = {}
    for finding in READING_NOISE:
        if finding != "Lung Opacity":  # a report names it for its children
            label = np.array([study.labels[finding] == 1 for study in studies])
            auc[finding] = roc_auc_score(
                label, [study.signs[finding].severity if finding in study.signs else 0 for study in studies]
            )
    order = sorted(auc, key=auc.get)
    assert set(order[:2]) == {"Pneumonia", "Consolidation"}, auc
    assert set(order[-3:]) >= {"Support Devices", "Pneumothorax"}, auc
    assert set(READING_NOISE) == set(SIGNS)


def test_metadata_alone_reads_the_labels_as_it_does_chexperts():
    """docs/papers.md, E35: .608 on average by cells, devices .67, pleural other .68, consolidation .54."""
    rows, labels = rows_and_labels(FIRST, 3000)
    half = (rows["patient_id"].astype(int) % 2 == 0).to_numpy()
    scores = metadata.predict(metadata.fit(rows[half], labels[half], np.ones_like(labels[half])), rows[~half])
    auc = {f: roc_auc_score(labels[~half, k], scores[:, k]) for k, f in enumerate(FINDINGS)}
    assert np.mean(list(auc.values())) == pytest.approx(0.60, abs=0.025), auc
    assert auc["Support Devices"] > 0.62 and auc["Pleural Other"] > 0.6 and auc["Consolidation"] < 0.58


def test_the_second_hospital_has_other_people_films_and_prevalences():
    first, second = (rows_and_labels(site, 1000) for site in (FIRST, SECOND))
    assert not set(first[0]["patient_id"]) & set(second[0]["patient_id"])
    for (rows, _), site in ((first, FIRST), (second, SECOND)):
        assert (rows["view"] == "AP").mean() == pytest.approx(site.bedside, abs=0.05)
    shares = [dict(zip(FINDINGS, labels.mean(0), strict=True)) for _, labels in (first, second)]
    assert shares[1]["Edema"] < 0.7 * shares[0]["Edema"] and shares[1]["Pneumonia"] > 1.2 * shares[0]["Pneumonia"]


def test_the_second_hospitals_detector_differs_on_the_same_patient():
    person = patient(3, 1, False)
    films = [
        np.asarray(Image.open(io.BytesIO(cohort.frontal_film(3, person, 1, site=site)))).astype(float)
        for site in (FIRST, SECOND, replace(FIRST, first=9))
    ]
    assert np.abs(films[0] - films[1]).mean() > 8 and (films[0] == films[2]).all()


def test_the_second_hospital_is_a_chexpert_tree(tmp_path):
    cohort.write_second_hospital(tmp_path / "two.zip", patients=6, seed=3, processes=1)
    cohort.write_chexpert(tmp_path / "one.zip", patients=6, seed=3, processes=1)
    records = [chexpert_source.read(Zip(tmp_path / name), "train.csv") for name in ("one.zip", "two.zip")]
    assert [r["patient_id"].nunique() for r in records] == [6, 6] and (records[1]["official_split"] == "valid").any()
    assert not set(records[0]["patient_id"]) & set(records[1]["patient_id"])
    names = [set(zipfile.ZipFile(tmp_path / name).namelist()) for name in ("one.zip", "two.zip")]
    assert all(path.endswith(".csv") for path in names[0] & names[1])
    with pytest.raises(ValueError, match="at least 2 patients"):
        cohort.write_second_hospital(tmp_path / "none.zip", patients=1, seed=3)
