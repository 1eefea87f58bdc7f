"""Figures: the same bytes for the same numbers, nothing lost, labels apart."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr import papers
from cxr.report.figures import adgm, classifiers, data, style
from cxr.report.figures.forest import forest
from cxr.report.figures.gan import beside, gan
from cxr.report.figures.reliability import reliability

EPOCHS = pd.Series(range(1, 6))
CURVES = pd.DataFrame({"model": "a", "finding": "Edema", "fpr": [0, 0.2, 1], "tpr": [0, 0.7, 1]})
AREAS = pd.DataFrame(
    {"model": ["a", "b"], "finding": "Edema", "n": 90, "positives": 12, "auc": [0.75, np.nan]},
)
FOREST = pd.DataFrame(
    {"name": ["Edema", "Fracture"], "note": ["+0.1", "n/a"], "difference": [0.1, np.nan], "low": [-0.1, np.nan]}
    | {"high": [0.3, np.nan], "printed": [0.14, np.nan]}
)
SCORES = pd.DataFrame({"classes": 2, "labels": [10, 100], "name": "ADGM", "n": 50, "accuracy": [0.6, 0.8]})
SCORES = SCORES.assign(accuracy_low=SCORES["accuracy"] - 0.1, accuracy_high=SCORES["accuracy"] + 0.1)
SCORES = SCORES.assign(macro_auc=0.7, macro_auc_low=0.6, macro_auc_high=0.8, majority_share=0.55)
GAN = ("loss_g", "loss_d", "d_real", "d_fake", "kid", "diversity")


def history(*columns: str) -> pd.DataFrame:
    return pd.DataFrame({"epoch": EPOCHS} | {c: np.linspace(1, 0.2 + 0.1 * k, 5) for k, c in enumerate(columns)})


@pytest.fixture(scope="module")
def drawn() -> dict:
    return drawings()


def drawings() -> dict:
    labels = pd.DataFrame({"finding": ["Edema", "<b> $x^$"], "positive": [3, 0], "negative": [5, 0]})
    ages = pd.DataFrame({"age_from": [0, 5], "age_to": [5, 10], "F": [3, 4], "M": [2, 9]})
    panels = [f"{part}_{key}" for part in ("train", "valid") for key in adgm.PANELS]
    return {
        "labels": data.labels(labels, {"positive": "positive", "negative": "negative"}),
        "ages": data.ages(ages),
        "roc": classifiers.roc(CURVES, AREAS, ["Edema"], {"a": "A", "b": "B"}),
        "training": classifiers.training({"a": history("train_loss", "valid_loss", "valid_macro_auc")}),
        "gan": gan({"Edema": history("loss_g", "loss_d", "d_real", "d_fake", "kid", "diversity")}, {"Edema": 2}),
        "forest": forest(FOREST, "difference"),
        "adgm_curves": adgm.training({"10 labels": history(*panels)}),
        "adgm_latent": adgm.latent({"10 labels": history("KL_z", "KL_a", "active_z", "active_a")}),
        "adgm_accuracy": adgm.accuracy(SCORES, papers.ADGM_CURVE),
    }


def test_a_saturating_loss_is_seen_below_zero():
    losses = history("loss_g", "loss_d", "d_real", "d_fake", "kid", "diversity")
    for sign, bottom in ((1, 0.0), (-1, -1.05)):
        shown = losses.assign(loss_g=sign * 1.0).assign(loss_d=1.3)
        assert gan({"Edema": shown}, {"Edema": 2}).axes[0].get_ylim()[0] == pytest.approx(bottom)


def test_the_same_numbers_give_the_same_bytes(drawn):
    first, second = drawn, drawings()
    for name in ("labels", "roc", "gan", "forest", "adgm_accuracy"):
        one = style.svg(first[name])
        assert one == style.svg(second[name]), name
        assert b"<dc:date>" not in one and b"http://matplotlib" not in one.lower(), name
    assert style.png(first["ages"]) == style.png(second["ages"])
    with Image.open(io.BytesIO(style.png(first["ages"], dpi=100))) as picture:
        assert picture.width == 355 and not picture.info.get("Software")


def test_nothing_to_draw_is_no_error():
    empty = pd.DataFrame(columns=AREAS.columns)
    for figure in (classifiers.roc(CURVES, empty, ["Edema"], {"a": "A"}), gan({}, {}), classifiers.training({})):
        assert style.svg(figure)


def test_a_gan_that_nobody_judged_has_no_kid_panel():
    whole = history(*GAN)
    shown = [len(gan({"a": h}, {"a": 5}).axes) for h in (whole, whole.assign(kid=np.nan))]
    assert shown == [4, 3]


def texts(figure) -> list[str]:
    return [t.get_text() for ax in figure.axes for t in ax.texts]


def test_roc_writes_n_and_draws_no_curve_without_an_area():
    figure = classifiers.roc(CURVES, AREAS, ["Edema"], {"a": "A", "b": "B"})
    assert texts(figure) == ["A  0.750", "B  n/a", "12 of 90 positive"]
    assert len(figure.axes[0].lines) == 2  # the diagonal and A


def test_reliability_names_the_form_that_is_absent_and_draws_the_last_ones_intervals():
    table = pd.DataFrame({"finding": "Edema", "form": ["raw", "raw", "prior", "prior"], "predicted": [0.6, 0.2] * 2})
    table = table.assign(observed=[0.5, 0.1] * 2, low=[0.3, 0.0] * 2, high=[0.7, 0.2] * 2)
    figure = reliability(table, ["Edema"], {"raw": "as given", "prior": "shifted", "calibrated": "scaled"})
    axes = figure.axes[0]
    assert texts(figure) == ["scaled: n/a"]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["as given", "shifted", "scaled"]
    lines = [line.get_xdata().tolist() for line in axes.lines[1:]]
    assert lines == [[0.2, 0.6], [0.2, 0.6], []]
    assert len(axes.collections) == 1 and len(axes.collections[0].get_segments()) == 2
    assert axes.get_xlim() == axes.get_ylim() and axes.get_xlim()[1] == pytest.approx(0.648)


def test_forest_keeps_a_finding_without_a_difference():
    axes = forest(FOREST, "difference").axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["Edema", "Fracture"]
    low, high = axes.get_xlim()
    assert low == -high and high > 0.3


def test_accuracy_shows_the_majority_and_the_paper_where_it_is_given(drawn):
    assert {"majority class", "the paper", "ADGM"} == set(texts(drawn["adgm_accuracy"]))
    assert {"majority class", "ADGM"} == set(texts(adgm.accuracy(SCORES, {})))


def test_eleven_models_have_room_and_no_two_lines_look_alike():
    """The lines take more than half of the width; a colour that comes again is dashed, and its label says so."""
    figure = adgm.accuracy(
        pd.concat([SCORES.assign(name=f"logistic regression, of features {k}") for k in range(11)]), {}
    )
    style.png(figure)
    for ax in figure.axes:
        assert ax.get_position().width > 0.5
        lines = [line for line in ax.lines if len(line.get_xdata()) == 2 and line.get_marker() not in ("None", "")]
        assert len({(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines}) == 11
    assert sum(text.startswith("\u25c7 ") for text in texts(figure)) == 2 * (11 - len(style.COLOURS) - 1)


@pytest.mark.parametrize("places", [[0.5, 0.5, 0.5], [0.98, 0.99, 1.0], [0.0, 0.01, 0.6], [0.2]])
def test_labels_are_spread_apart_and_stay_inside(places):
    moved = style.spread(places, 0.1, 0.0, 1.0)
    assert all(b - a > 0.1 - 1e-9 for a, b in zip(moved, moved[1:], strict=False))
    assert min(moved) >= 0 and max(moved) <= 1 + 1e-9


def test_beside_keeps_order_and_gaps():
    whole = np.asarray(beside([Image.new("L", (4, 6), v) for v in (100, 200)], 8, 12, 2))
    assert whole.shape == (12, 18)
    assert (whole[:, :8] == 100).all() and (whole[:, 8:10] == 0).all() and (whole[:, 10:] == 200).all()
