"""Published results on the page: the file that holds them, this run's numbers beside them, whether the two compare."""

import dataclasses
import math
import re
import shutil

import pandas as pd
import pytest

from cxr import papers
from cxr.core.findings import FINDINGS
from cxr.evaluation.names import FIVE
from cxr.report import page
from cxr.report.sections import benchmarks as section
from cxr.report.sections.benchmarks import MISSING, Compares, benchmarks, compares, published
from cxr.report.sections.reference import By
from tests.report.fabricated import Page
from tests.report.test_reference import of_source
from tests.report.test_study import judged

pytestmark = pytest.mark.usefixtures("undrawn")

OFFICIAL = {"test": ["test"], "valid": ["valid"]}


def rows_of(section, key="table"):
    """A table's rows by their first value."""
    return {next(iter(row.values())): row for row in section[key].rows}


def test_every_published_result_has_its_n_its_test_set_and_two_addresses():
    held = published()
    assert len(held.studies) == 8 == len({one.study for one in held.studies})
    for one in held.studies:
        assert all(one.model_dump().values()), one.study
        assert re.match(r"https://\S+$", one.source) and re.match(r"https://\S+$", one.paper)
        assert re.search(r"\d", one.trained) or MISSING in one.trained, one.study
        assert re.search(r"\d", one.tested) or MISSING in one.tested, one.study
        assert one.own in ("five", "macro", "none") or one.own.split("-")[1] in ("baseline", "oversampling")


def test_irvins_rows_agree_with_each_other_and_with_what_e17_says():
    *valid, test = published().areas
    assert len(valid) == 5 and all(set(one.auc) == set(FIVE) and one.n == 200 for one in valid)
    for one in valid:
        for value, low, high in one.auc.values():
            assert low < value < high <= 1 and abs((low + high) / 2 - value) < 0.001  # symmetric as printed
    best = [max(valid, key=lambda one, name=name: one.auc[name][0]).policy for name in FIVE]
    assert best == ["U-Ones", "U-MultiClass", "U-SelfTrained", "U-Ones", "U-MultiClass"]  # the official page's choice
    assert sum(test.auc[name][0] for name in FIVE) / 5 == pytest.approx(test.auc["mean"][0], abs=0.0006)
    assert test.n == 500 and "0.907" in published().studies[0].result


def test_pairs_are_of_thirteen_findings_and_hold_the_papers_rare_ones():
    pairs = published().pairs
    assert {pair.finding for pair in pairs} == set(FINDINGS) - {"No Finding"} > set(papers.RARE)
    assert all(0.5 < pair.without < pair.with_ < 1 for pair in pairs)


def test_this_runs_numbers_stand_in_the_unit_of_the_study(made, whole):
    run, rows = made[0], rows_of(whole["benchmarks"])
    study = run.table("per_study").query("unit == 'study' and finding == 'five'").set_index("model")
    image = run.table("auc").query("split == 'test' and finding == 'macro'").set_index("model")
    pair = run.table("compare").set_index("finding").loc["macro"]
    five, macro = rows["Irvin et al. 2019"], rows["Khosravi et al. 2024"]
    assert study.loc["final", "findings"] == 5
    assert (five["without"].value, five["with"].value) == (study.loc["u_zeroes", "auc"], study.loc["final", "auc"])
    assert five["change"] is None  # evaluate tests no difference per study
    assert (macro["without"].value, macro["with"].value) == (image.loc["u_zeroes", "auc"], image.loc["final", "auc"])
    assert macro["change"].value == pair["difference"]
    for name in ("Salehinejad et al. 2017", "Schaudt et al. 2023", "CheXGenBench (Dutt et al. 2025)"):
        assert rows[name]["without"] is rows[name]["with"] is rows[name]["change"] is None
    assert rows["Pink and Sykes 2026"]["change"] is None  # no study in this run


def test_a_mean_over_fewer_findings_is_no_number_beside_the_mean_of_five(made, tmp_path):
    shutil.copytree(made[0].evaluate, tmp_path / "evaluate")
    table = pd.read_csv(tmp_path / "evaluate/per_study.csv")
    table.loc[table["finding"] == "five", "findings"] = 4
    table.to_csv(tmp_path / "evaluate/per_study.csv", index=False)
    run = dataclasses.replace(made[0], evaluate=tmp_path / "evaluate")
    value = rows_of(benchmarks(run))["Irvin et al. 2019"]["with"]
    assert math.isnan(value.value) and value.why == "4 of 5 findings"


def test_with_the_arms_the_difference_from_repeated_images_stands_beside_theirs(made, tmp_path):
    shutil.copytree(made[0].evaluate, tmp_path / "study")
    run = judged(made, tmp_path / "study")
    differences = run.table("study_differences").set_index(["arm", "control", "finding"])
    rows = rows_of(benchmarks(run))
    change, row = rows["Pink and Sykes 2026"]["change"], differences.loc["gan", "oversampling", "rare"]
    assert tuple(change)[:3] == (row["difference"], row["total_low"], row["total_high"])
    assert rows["Pink and Sykes 2026"]["compares"] == Compares.OTHER
    assert rows["RoentGen-v2 (Moroianu et al. 2025)"]["change"] is None  # the arm `pretrained` did not run


@pytest.mark.parametrize(
    "needs, scored, way, expected",
    [
        ("official", By.RADIOLOGISTS, "max", Compares.YES),
        ("official", By.RADIOLOGISTS, "mean", Compares.LABELS),
        ("official", By.LABELLER, "max", Compares.LABELS),
        ("official", By.SIMULATED, "max", Compares.SIMULATED),
        ("labeller", By.LABELLER, "mean", Compares.YES),
        ("labeller", By.RADIOLOGISTS, "max", Compares.LABELS),
        ("labeller", By.SOURCE, "max", Compares.LABELS),
        ("never", By.RADIOLOGISTS, "max", Compares.OTHER),
        ("never", By.SIMULATED, "max", Compares.OTHER),
    ],
)
def test_two_numbers_compare_only_on_the_same_kind_of_test_labels(needs, scored, way, expected):
    one = published().studies[0].model_copy(update={"needs": needs})
    assert compares(one, scored, way) == expected


def test_the_page_of_a_phantom_says_that_nothing_compares(made, whole):
    text = Page(made[2]).text
    part = text[text.index("What have others found?") : text.index("What reporting guidelines ask for CLAIM")]
    assert "8 published studies" in part and "None of their numbers compares with this run\u2019s" in part
    assert "its patients are simulated" in part and whole["benchmarks"]["compared"] == []
    for one in published().studies:
        assert one.study in part and one.source in part and one.differs in part
    assert "No number was found for Salehinejad et al. 2017 and CheXGenBench (Dutt et al. 2025)." in part
    assert "0.858 [0.806, 0.910]" in part and "this run: metadata" in part


def test_the_page_names_the_studies_that_compare(small, bare, tmp_path):
    labelled = benchmarks(of_source(small, tmp_path / "a", {"test": ["train"], "valid": ["valid"]}))
    official = benchmarks(of_source(small, tmp_path / "b", OFFICIAL, ("groundtruth.csv",)))
    assert labelled["compared"] == ["Sundaram and Hulkund 2021", "Khosravi et al. 2024"]
    assert official["compared"] == ["Irvin et al. 2019"]
    text = Page(page.render(bare | {"benchmarks": official})).text
    assert "This run\u2019s numbers compare with those of Irvin et al. 2019." in text
    neither = benchmarks(of_source(small, tmp_path / "c", OFFICIAL, ("test.csv",)))
    assert neither["compared"] == [] and not neither["simulated"]


@pytest.mark.parametrize(
    "old, new", [('needs = "never"', 'needs = "sometimes"'), ("n = 200", 'n = "200"'), ("topic = ", "subject = ")]
)
def test_a_file_that_is_not_as_it_should_be_is_refused(tmp_path, monkeypatch, old, new):
    text = section.PUBLISHED.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "benchmarks.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
    monkeypatch.setattr(section, "PUBLISHED", tmp_path / "benchmarks.toml")
    with pytest.raises(ValueError):
        published()
