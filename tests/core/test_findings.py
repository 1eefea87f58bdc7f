"""The 14 findings and the one truth."""

import numpy as np
import pytest

from cxr.core import findings

VALUES = np.array([[1.0, 0.0, -1.0, np.nan]], np.float32)


def test_truth_masks_the_uncertain_and_only_them():
    assert np.array_equal(findings.truth(VALUES), [[1, 0, np.nan, 0]], equal_nan=True)


def test_slugs_and_names_are_each_others_inverse():
    assert len(set(findings.SLUGS)) == 14
    assert all(findings.finding(findings.slug(name)) == name for name in findings.FINDINGS)
    with pytest.raises(ValueError, match="unknown finding 'pneumoniae': choose from no_finding, "):
        findings.finding("pneumoniae")
