"""The pages of docs/explanation: published results as in their file, the table of peers about what is there."""

import re

from cxr.data.sources.registry import DATASETS
from cxr.report.sections.benchmarks import published
from cxr.synthesis.arms import ARMS
from docs import generate
from docs.declared import ROOT, command_names, read_yaml
from docs.published import page

PUBLISHED = ROOT / "docs/explanation/published.md"
PEERS = ROOT / "docs/explanation/peers.md"


def rows(text: str) -> list[list[str]]:
    """The cells of every row of a page's tables, heads and rules included."""
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("|")]


def test_the_page_of_published_results_is_as_its_file():
    text = PUBLISHED.read_text(encoding="utf-8")
    assert text == page(), "run `python -m docs.generate`"
    assert generate.published is page  # so that the command writes it
    held = published()
    names = [row[0] for row in rows(text)]
    assert [name for name in names if name in {one.study for one in held.studies}] == [
        one.study for one in held.studies
    ]
    assert len(names) == len(held.studies) + len(held.areas) + len(held.pairs) + 3 * 2
    assert all(one.source in text for one in held.studies)


def test_the_entry_of_e60_says_where_the_comparison_is():
    (entry,) = [line for line in (ROOT / "docs/papers.md").read_text().splitlines() if line.startswith("| E60 ")]
    assert "Published results on the same question" in entry and "(explanation/published.md)" in entry


def test_every_row_of_the_peers_table_has_a_row_of_where_it_was_checked():
    first, second = PEERS.read_text(encoding="utf-8").split("## Where each cell was checked")
    compared, checked = rows(first), rows(second)
    assert {len(row) for row in compared} == {6} and {len(row) for row in checked} == {6}
    assert len(compared) == len(checked) and all(all(row[1:]) for row in (*compared, *checked))
    assert checked[0][1:] == [re.sub(r"\[(.*?)\].*", r"\1", cell) for cell in compared[0][1:]]
    places = [place for row in checked[2:] for place in row[-1].split(", ")]
    assert len(places) > 20 and not [place for place in places if not (ROOT / place).exists()]


def test_the_peers_table_counts_this_projects_data_sets_and_control_arms():
    own = {row[0]: row[-1] for row in rows(PEERS.read_text(encoding="utf-8").split("## Where")[0])}
    assert own["Chest X-ray data sets it reads"].startswith(f"{len(DATASETS)}: ")
    controls = [name for name in ARMS if "_dose_" not in name and name not in ("baseline", "gan", "oracle")]
    assert own["Does a classifier gain?"].startswith(f"{len(controls)} control arms")


def test_what_the_peers_table_names_of_this_project_is_there():
    parameters = read_yaml("params.yaml")
    column = " ".join(row[-1] for row in rows(PEERS.read_text(encoding="utf-8").split("## Where")[0]))
    named = re.findall(r"`([^`]+)`", column)
    assert len(named) >= 4
    for name in named:
        if name.startswith("cxr "):
            assert name.split()[1] in command_names()
        else:
            section, key = name.split(":")[0].split(".")
            assert key in parameters[section], name
