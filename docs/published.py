"""The page of published results, from the same file as the report's section (cxr/report/sections/benchmarks.py)."""

from __future__ import annotations

from cxr.evaluation.names import FIVE
from cxr.report.sections.benchmarks import Study, published
from docs.declared import table

NOTE = "<!-- Written by `python -m docs.generate` from cxr/report/templates/benchmarks.toml. Edit that file. -->\n"
INTRO = """# Published results on the same question

Does a classifier of chest X-rays get better with generated ones? Paper 1 announces a comparison with earlier benchmarks
and does not make it ([E60](../papers.md)). This page lists what others published. The report has the same tables with
the run's own numbers beside them, in the section of the same name, and says of each row whether the two compare.

Each entry was looked up. *Not stated* means: the part of the source that was read does not say. The last section says
which part that was.
"""
PARTS = {
    "Irvin et al. 2019: AUC by policy and finding": "In brackets: 95 % intervals. The test scores have none.",
    "Sundaram and Hulkund 2021: AUC without and with GAN images": "One chosen run of each, from the authors' notebook.",
}


def estimate(values: list[float] | None) -> str:
    """An AUC with its interval as a cell; empty without one."""
    if not values:
        return ""
    value, *bounds = (f"{v:.3f}" for v in values)
    return f"{value} [{bounds[0]}, {bounds[1]}]" if bounds else value


def about(one: Study) -> str:
    """What compares with a study, what does not, and where it was read."""
    paper = "" if one.paper == one.source else f", [paper]({one.paper})"
    return (
        f"### {one.study}\n\n- About: {one.topic}.\n- Comparable: {one.comparable}\n- Not comparable: {one.differs}\n"
        f"- Read: {one.read}. [Source]({one.source}){paper}.\n"
    )


def page() -> str:
    """explanation/published.md."""
    held = published()
    keys = ("study", "trained", "tested", "measure", "result", "interval")
    studies = [[getattr(one, key) for key in keys] for one in held.studies]
    areas = [
        [one.policy, one.labels, str(one.n), *(estimate(one.auc.get(name)) for name in (*FIVE, "mean"))]
        for one in held.areas
    ]
    pairs = [[one.finding, f"{one.without:.3f}", f"{one.with_:.3f}"] for one in held.pairs]
    heads = ["Policy", "Labels", "Studies", *FIVE, "Mean"]
    tables = (table(heads, areas), table(["Finding", "Without", "With"], pairs))
    parts = [f"## {title}\n\n{body}\n{note}\n" for (title, note), body in zip(PARTS.items(), tables, strict=True)]
    first = table(["Study", "Trained on", "Tested on", "Measure", "Result", "Interval"], studies)
    details = ["## What compares, and where it was read\n", *map(about, held.studies)]
    return "\n".join([INTRO, NOTE, first, *parts, *details])
