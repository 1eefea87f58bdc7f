"""The pieces of predict alone: distances, the threshold, the part file, names, bars."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from pydicom import Dataset, Sequence
from pydicom.sr._snomed_dict import mapping
from pydicom.sr.codedict import codes
from scipy.spatial.distance import mahalanobis

from cxr.predict import calibrate, outliers
from cxr.predict.cards import bars
from cxr.predict.formats import LEVELS, Finding
from cxr.predict.header import CODES, PROJECTIONS, Header, read, study_in, view_in
from cxr.predict.part import NAME, Part, identity
from cxr.predict.verdict import Studies
from tests.data.pictures import dicom, smooth


def test_distances_are_scipys_with_the_common_covariance():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 4))
    views = np.where(np.arange(200) % 3 == 0, "lateral", "frontal")
    x[views == "lateral"] += 5
    g = outliers.fit(x, list(views))
    assert g.views == ("frontal", "lateral")
    centred = np.concatenate([x[views == v] - x[views == v].mean(axis=0) for v in g.views])
    inverse = np.linalg.inv(np.cov(centred.T, bias=True))
    expected = [[mahalanobis(row, x[views == v].mean(axis=0), inverse) for v in g.views] for row in x]
    assert np.allclose(outliers.distances(g, x), expected, rtol=0.05)  # the covariance is shrunk a little
    assert ((outliers.distances(g, x).argmin(axis=1) == 1) == (views == "lateral")).all()


def test_fewer_images_than_features_give_finite_distances():
    x = np.random.default_rng(0).normal(size=(5, 50))
    away = outliers.distances(outliers.fit(x, ["frontal"] * 5), np.zeros((1, 50)))
    assert away.shape == (1, 1) and np.isfinite(away).all()


@pytest.mark.parametrize("n, share, rank", [(99, 0.05, 95), (199, 0.01, 198), (20, 0.01, 20), (100, 0.5, 51)])
def test_the_threshold_is_the_conformal_rank(n, share, rank):
    own = np.random.default_rng(0).permutation(n) + 1.0
    assert outliers.threshold(own, share) == pytest.approx(rank, rel=2 * outliers.ROUNDING)


def test_the_threshold_keeps_its_promise():
    rng = np.random.default_rng(0)
    refused = [
        (rng.exponential(size=50) > outliers.threshold(rng.exponential(size=99), 0.1)).mean() for _ in range(400)
    ]
    assert np.mean(refused) == pytest.approx(0.1, abs=0.01)


def test_a_sample_is_even_and_keeps_all_of_few():
    rows = pd.DataFrame({"image_id": [f"{k:04}" for k in range(1000)]})
    few = calibrate.sample(rows.sample(frac=1, random_state=0), 11)["image_id"].astype(int)
    assert list(few) == [0, 99, 199, 299, 399, 499, 599, 699, 799, 899, 999]
    assert len(calibrate.sample(rows, 5000)) == 1000


def test_predictions_of_another_network_are_refused():
    table = pd.DataFrame({"image_id": ["a"], **{f"score.{slug}": [0.5] for slug in calibrate.SLUGS}})
    calibrate.check_scores(table, table["image_id"], np.full((1, 14), 0.501))
    with pytest.raises(ValueError, match="differ from its predictions by up to 0.2"):
        calibrate.check_scores(table, table["image_id"], np.full((1, 14), 0.7))


def lines_of(*numbers, reason=None):
    return [{"number": number, "study": number + 1, "reason": reason} for number in numbers]


def stored(part):
    """The rows that its file holds now."""
    return [json.loads(line) for line in part.path.read_bytes().splitlines()[1:]]


def test_a_part_drops_a_torn_line_and_refuses_another_run(tmp_path):
    run = identity(["a"], ["x", "y"])
    with Part(tmp_path, run) as part:
        part.add(lines_of(0, 1))
    whole = (tmp_path / NAME).read_bytes()
    for torn in (b'{"number": 2', b"\x00\x00\n", b"{}\n"):
        (tmp_path / NAME).write_bytes(whole + torn)
        with Part(tmp_path, run) as part:
            assert part.done == {0: 1, 1: 2}
            part.add(lines_of(2))
            assert [row["number"] for row in stored(part)] == [0, 1, 2]
    with pytest.raises(ValueError, match="give another --out, or delete that file"):
        Part(tmp_path, identity(["a"], ["x", "z"]))
    (tmp_path / NAME).write_bytes(whole[:10])  # killed in its first write
    with Part(tmp_path, run) as part:
        assert part.done == {}


def test_a_row_that_could_not_be_read_is_made_again_and_replaced_in_its_place(tmp_path):
    run = identity(["a"], ["x", "y", "z"])
    with pytest.raises(KeyboardInterrupt), Part(tmp_path, run) as part:
        part.add([*lines_of(0), *lines_of(1, reason="unreadable: can't be read"), *lines_of(2, reason="too small: 3")])
        raise KeyboardInterrupt
    with Part(tmp_path, run) as part:
        assert part.done == {0: 1, 2: 3}
        part.add(lines_of(1))
    assert stored(part) == [*lines_of(0, 1), *lines_of(2, reason="too small: 3")]
    assert len((tmp_path / NAME).read_bytes().splitlines()) == 4


def test_studies_keep_the_numbers_of_the_run_that_was_interrupted():
    studies = Studies()
    a, b = Header(b"a", b"p"), Header(b"b", b"q")
    assert [studies.number(header, known) for header, known in ((Header(), 1), (a, 2), (a, 2), (Header(), 4))] == [
        1,
        2,
        2,
        4,
    ]
    assert [studies.number(header) for header in (b, a, Header())] == [5, 2, 6]
    assert studies.mixed == set() and studies.number(Header(b"b", b"r")) == 5 and studies.mixed == {5}


@pytest.mark.parametrize(
    "name, view, study",
    [
        ("patient00001/study1/view2_lateral.jpg", "lateral", "patient00001/study1"),
        ("/data/patient00001/study1/x.jpg", None, "/data/patient00001/study1"),
        ("files/p10/p10000032/s50414267/x.jpg", None, "files/p10/p10000032/s50414267"),
        ("a/study-7/FRONTAL.png", "frontal", None),
        ("study_2024/x.png", None, None),
        ("patient7/studydata/x.png", None, None),
        ("collateral/x.png", None, None),
        ("x_frontal_lateral.png", None, None),
    ],
)
def test_view_and_study_of_a_name(name, view, study):
    assert (view_in(name), study_in(name)) == (view, study)


def coded(value):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "PLANTED"
    return Sequence([item])


@pytest.mark.parametrize(
    "tags, view, projection",
    [
        ({"ViewPosition": "lat"}, "LAT", "lateral"),
        ({"ViewPosition": "LLD"}, "LLD", "frontal"),
        ({"ViewPosition": "RLO"}, "RLO", "oblique"),
        ({"ViewPosition": "PLANTED"}, None, None),
        ({"ViewCodeSequence": coded("399348003")}, "AP", "frontal"),
        ({"ViewCodeSequence": coded("R-10214")}, "PA", "frontal"),
        ({"ViewCodeSequence": coded("399173006"), "ViewPosition": "PLANTED"}, "LL", "lateral"),
        ({"ViewCodeSequence": coded("PLANTED")}, None, None),
        ({"ViewCodeSequence": Sequence([])}, None, None),
    ],
)
def test_the_view_is_a_known_word_or_code(tags, view, projection):
    header = read(io.BytesIO(dicom(smooth(20, 20), **tags)), b"key")
    assert header.view == view and PROJECTIONS.get(header.view) == projection


def test_the_codes_of_views_are_those_of_the_standard():
    names = {
        "AP": "AnteroPosterior", "PA": "PosteroAnterior", "FRONTAL": "Frontal", "LL": "LeftLateral",
        "RL": "RightLateral", "LAO": "LeftAnteriorOblique", "RAO": "RightAnteriorOblique",
        "LPO": "LeftPosteriorOblique", "RPO": "RightPosteriorOblique",
        "LATERAL": "LateralProjection LateralMedial MedioLateralProjection",
        "OBLIQUE": "ObliqueProjection LeftOblique RightOblique LateralOblique",
    }  # fmt: skip
    expected = {getattr(codes.CID4010, name).value: word for word, all_ in names.items() for name in all_.split()}
    assert {code: word for code, word in CODES.items() if not code.startswith("R-")} == expected
    older = {code: CODES[new] for code, new in mapping["SRT"].items() if new in expected}
    assert {code: word for code, word in CODES.items() if code.startswith("R-")} == older | {"R-10214": "PA"}


@pytest.mark.parametrize(
    "tags, reason",
    [
        ({"BodyPartExamined": "SHOULDER"}, "body part SHOULDER, not a chest"),
        ({"BodyPartExamined": "L SPINE"}, "body part LSPINE, not a chest"),
        ({"BodyPartExamined": "FEMUR"}, "body part FEMUR, not a chest"),
        ({"BodyPartExamined": "CHEST"}, None),
        ({"BodyPartExamined": "LUNG"}, None),
        ({"BodyPartExamined": "JANE DOE"}, None),
        ({"Modality": "SR"}, "modality SR, not a radiograph"),
        ({"Modality": "DX"}, None),
        ({"ManufacturerModelName": "cxr predict"}, "made by cxr predict, no radiograph"),
    ],
)
def test_what_a_header_says_is_no_chest_radiograph(tags, reason):
    assert read(io.BytesIO(dicom(smooth(20, 20), **tags)), b"key").refused == reason


@pytest.mark.parametrize(
    "trained, slope, status",
    [
        (None, None, "not trained on"), (0.0, None, "not trained on"), (0.1, None, "too few validation images"),
        (0.1, 1.0, "calibrated"),
    ],
)  # fmt: skip
def test_the_status_of_a_finding(trained, slope, status):
    finding = Finding.model_construct(trained_share=trained, slope=slope)
    assert finding.status == status


def test_bars_place_a_value_among_the_test_images():
    quantiles = np.full((14, LEVELS + 1), np.nan)
    quantiles[[3, 5]] = np.linspace(0, 0.5, LEVELS + 1)
    row = {"probability.lung_opacity": 0.25, "positive.lung_opacity": "no", "probability.edema": 0.6}
    first, second = bars(row | {"probability.fracture": 0.5}, quantiles)
    assert (first.name, first.above, second.name) == ("Edema", 1.0, "Lung Opacity")
    assert second.above == pytest.approx(0.5) and second.population == pytest.approx((0.025, 0.125, 0.25, 0.375, 0.475))
