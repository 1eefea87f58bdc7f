"""Generated X-rays that classifiers of real X-rays agree with."""

import numpy as np
import pandas as pd
import pytest

from cxr.core.findings import SLUGS
from cxr.synthesis.agreement import ROUNDS, Ensemble, agreed, soft, youden

K = SLUGS.index("pneumonia")


def test_youden_by_hand():
    truth = np.array([0, 0, 1, 0, 1, 1, np.nan])
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9])
    # From .3 on: sensitivity 1, specificity 2/3; from .5 on: 2/3 and 1. Equal, so the higher one.
    assert youden(truth, scores) == 0.5
    assert youden(truth[:3], scores[:3]) == 0.3
    with pytest.raises(ValueError, match="no certain positive"):
        youden(np.zeros(3), scores[:3])


def test_youden_is_the_best_of_all_cuts():
    rng = np.random.default_rng(0)
    truth, scores = (rng.random(200) < 0.3).astype(float), rng.random(200).round(2)
    gains = {c: (scores[truth == 1] >= c).mean() - (scores[truth == 0] >= c).mean() for c in np.unique(scores)}
    assert gains[youden(truth, scores)] == pytest.approx(max(gains.values()))


def brightness(images):
    """A classifier that calls bright images pneumonia."""
    scores = np.zeros((len(images), len(SLUGS)))
    scores[:, K] = images.mean((1, 2)) / 255
    return scores


BRIGHT = Ensemble(brightness, {"pneumonia": 0.5})


def candidates_of(share):
    """Rounds of 6 positives and 4 negatives, of which a share looks as asked for."""

    def candidates(number):
        rng = np.random.default_rng(number)
        asked = np.repeat([1.0, 0.0], [6, 4])
        looks = np.where(rng.random(10) < share, asked, 1 - asked)
        levels = (60 + 120 * looks + rng.integers(0, 20, 10)).astype(np.uint8)
        rows = pd.DataFrame({f"target.{s}": np.zeros(10, np.float32) for s in SLUGS})
        rows["target.pneumonia"] = asked.astype(np.float32)
        return iter(levels[:, None, None] * np.ones((1, 4, 4), np.uint8)), rows.assign(image_id="", level=levels)

    return candidates


def test_only_images_that_look_as_asked_are_kept_and_as_many_as_wanted():
    images, rows = agreed("pneumonia", (6, 4), map(candidates_of(0.5), range(ROUNDS)), BRIGHT)
    assert rows["target.pneumonia"].tolist() == [1] * 6 + [0] * 4
    shown = brightness(np.stack(images))[:, K] >= 0.5
    assert shown.tolist() == [True] * 6 + [False] * 4
    assert [int(image[0, 0]) for image in images] == rows["level"].tolist()
    assert rows["image_id"].is_unique


def test_a_generator_that_shows_nothing_is_refused_with_the_cure():
    with pytest.raises(ValueError, match=r"agree with 0 positives and 0 negatives of 80 .* balance.filter to none"):
        agreed("pneumonia", (6, 4), map(candidates_of(0.0), range(ROUNDS)), BRIGHT)


def test_soft_labels_are_the_classifiers_probabilities():
    images, rows = candidates_of(1.0)(0)
    images = list(images)
    labelled = soft(images, rows, BRIGHT)
    assert labelled["target.pneumonia"].to_numpy() == pytest.approx([image.mean() / 255 for image in images])
    assert (labelled[[f"weight.{s}" for s in SLUGS]] == 1).all(axis=None)
