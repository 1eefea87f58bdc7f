"""The 14 findings and the one truth."""

import numpy as np
import pytest

from cxr import labels

VALUES = np.array([[1.0, 0.0, -1.0, np.nan]], np.float32)


def test_truth_masks_the_uncertain_and_only_them():
    assert np.array_equal(labels.truth(VALUES), [[1, 0, np.nan, 0]], equal_nan=True)


def test_slugs_and_names_are_each_others_inverse():
    assert len(set(labels.SLUGS)) == 14
    assert all(labels.finding(labels.slug(name)) == name for name in labels.FINDINGS)
    with pytest.raises(ValueError, match="unknown finding 'pneumoniae': choose from no_finding, "):
        labels.finding("pneumoniae")
