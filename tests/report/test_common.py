"""Names and verdicts that several sections share."""

import math

import pytest

from cxr.report.sections.common import Verdict, from_interval, policy_name, row_name, too_few


@pytest.mark.parametrize(
    "low, high, verdict",
    [
        (0.02, 0.2, Verdict.GAIN),
        (-0.2, -0.02, Verdict.LOSS),
        (-0.02, 0.2, Verdict.NONE),
        (0.0, 0.2, Verdict.NONE),
        (math.nan, 0.2, Verdict.UNTESTED),
    ],
)
def test_the_verdict_of_an_interval(low, high, verdict):
    assert from_interval(low, high) == verdict


def test_too_few_names_the_fewer():
    assert too_few({"positives": 3, "negatives": 90}) == "3 positives"
    assert too_few({"positives": 90, "negatives": 1}) == "1 negative"


def test_names():
    assert policy_name("u_zeroes") == "U-Zeroes" and policy_name("u_new") == "u_new"
    assert row_name({"finding": "Edema", "findings": math.nan}) == "Edema"
    assert row_name({"finding": "macro", "findings": 13.0}) == "Mean of 13 findings"
