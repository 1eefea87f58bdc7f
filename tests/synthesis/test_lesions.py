"""Where a finding lies on a film of the phantom."""

import numpy as np
import pytest

from cxr.core.findings import finding
from cxr.data.phantom.patients import patient
from cxr.synthesis import lesions

SEED = 11


def films(name, wanted):
    """Image ids of the first training studies that show the finding and of the first that do not."""
    shown, clear = [], []
    for number in range(1, 400):
        for s, study in enumerate(patient(SEED, number, radiologist=False).studies, 1):
            image = f"train/patient{number:05d}/study{s}/view1_frontal"
            (shown if finding(name) in study.signs else clear).append(image)
        if len(shown) >= wanted:
            return shown[:wanted], clear[:wanted]
    raise AssertionError(name)


@pytest.mark.parametrize("name", ["pneumonia", "lung_lesion", "consolidation"])
def test_the_outline_is_a_part_of_the_chest_where_the_finding_is(name):
    shown, clear = films(name, 6)
    areas = np.array([lesions.outline(image, name, 64, SEED).mean() for image in shown])
    assert (areas < 0.35).all() and (areas > 0).sum() >= 5  # a faint sign may not be seen
    assert not any(lesions.outline(image, name, 64, SEED).any() for image in clear)
    one = lesions.outline(shown[int(areas.argmax())], name, 64, SEED)
    assert one.dtype == np.float32 and one.min() >= 0 and one.max() <= 1 + 1e-6
    inner = one[4:-4, 4:-4].sum() / one.sum()
    assert inner > 0.9  # in the lungs, not at the film's edge


def test_an_image_of_no_phantom_is_refused():
    with pytest.raises(ValueError, match="x.png: is no film of the phantom"):
        lesions.outline("x.png", "pneumonia", 64, SEED)
