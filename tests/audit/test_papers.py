"""The papers' printed numbers against the sums that were checked by hand."""

import re

import pytest
import yaml

from cxr import papers
from cxr.core.findings import FINDINGS
from tests.closure import ROOT


def test_table_2_has_all_findings_and_the_means_that_were_computed():
    assert tuple(papers.TABLE_2) == FINDINGS
    assert round(papers.mean_auc("u_ones"), 3) == 0.669
    assert round(papers.mean_auc("u_zeroes"), 3) == 0.683


def test_table_3_starts_from_table_2():
    for name, (baseline, final) in papers.TABLE_3.items():
        assert baseline == papers.TABLE_2[name]["u_zeroes"] and final > baseline


def test_confusion_matrices_and_the_four_lost_images():
    two, three = papers.ADGM_MATRIX[2], papers.ADGM_MATRIX[3]
    assert sum(map(sum, two)) == papers.ADGM_IMAGES == 2669
    assert sum(map(sum, three)) == 2665 and sum(three[0]) == 471
    assert [row[k] / sum(row) for k, row in enumerate(two)] == pytest.approx(papers.ADGM_CLASS_ACCURACY[2], abs=5e-5)
    assert pytest.approx(papers.ADGM_ACCURACY[2], abs=5e-5) == (1384 + 810) / 2669
    assert pytest.approx(papers.ADGM_ACCURACY[3], abs=5e-5) == (375 + 599 + 756) / 2669
    assert pytest.approx(papers.ADGM_CLASS_ACCURACY[3][0], abs=5e-5) == 375 / 475


def test_curves_rise_with_the_labels():
    for points in papers.ADGM_CURVE.values():
        labels, accuracy = zip(*points, strict=True)
        assert labels == (100, 500, 1000, 1500, 3000, 4000) and list(accuracy) == sorted(accuracy)


def test_rsna_classes_sum_to_its_images():
    assert sum(papers.RSNA_IMAGES.values()) == 26684
    assert sum(papers.COHORTS["paper 1, CheXpert train"][k] for k in ("F", "M", "unknown")) == 64540


def test_docs_papers_counts_on_and_names_parameters_that_there_are():
    rows = re.findall(r"^\| E(\d+) \|(.*)\|$", (ROOT / "docs" / "papers.md").read_text(encoding="utf-8"), re.M)
    assert sorted(int(n) for n, _ in rows) == list(range(1, len(rows) + 1))
    assert all(len(row.split(" | ")) == 3 and all(cell.strip() for cell in row.split(" | ")) for _, row in rows)
    assert f"wrong in {len(rows)} places ([list](docs/papers.md))" in (ROOT / "README.md").read_text(encoding="utf-8")
    params = yaml.safe_load((ROOT / "presets" / "paper.yaml").read_text(encoding="utf-8"))
    named = [name for _, row in rows for name in re.findall(r"`(\w+)\.(\w+)[`:]", row.rsplit(" | ", 1)[1])]
    assert len(named) > 20
    files = {"json", "csv"}
    assert [n for n in named if n[1] not in files and n[1] not in params.get(n[0], {})] == []
