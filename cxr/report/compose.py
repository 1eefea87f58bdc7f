"""The report: one self-contained HTML page that can be read and printed, its tables as CSV, its figures as previews.

`gather` reads what the other stages wrote and returns the context of the page; `write` renders templates/page.html.j2
and writes everything. An empty list (of findings, policies, arms, labels) gives an empty section. The page holds counts
and pictures, never the id of an image or of a patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cxr.core.files import atomic, write_table
from cxr.report import page
from cxr.report.documents import documents
from cxr.report.figures.gan import beside
from cxr.report.figures.style import png
from cxr.report.inputs import Artefacts
from cxr.report.sections.adgm import adgm
from cxr.report.sections.audit import audit
from cxr.report.sections.benchmarks import benchmarks
from cxr.report.sections.checklist import checklist
from cxr.report.sections.classifiers import baseline, final
from cxr.report.sections.data import data
from cxr.report.sections.errors import errors
from cxr.report.sections.explain import explain
from cxr.report.sections.external import external
from cxr.report.sections.extra import extra
from cxr.report.sections.fidelity import fidelity
from cxr.report.sections.flow import flow
from cxr.report.sections.generators import gan
from cxr.report.sections.labels import labels
from cxr.report.sections.of_all import of_all
from cxr.report.sections.reference import mark, standard
from cxr.report.sections.reliability import reliability
from cxr.report.sections.scoring import scoring
from cxr.report.sections.study import study

PREVIEWS = {  # file name -> section, its picture
    "roc": ("baseline", "roc"),
    "final_roc": ("final", "roc"),
    "differences": ("final", "forest"),
    "study": ("study", "forest"),
    "reliability": ("reliability", "reliability"),
    "flow_chexpert": ("flow", "chexpert"),
    "flow_rsna": ("flow", "rsna"),
    "per_study_roc": ("scoring", "roc"),
    "net_benefit": ("scoring", "curves"),
    "adgm_accuracy": ("adgm", "accuracy"),
}


def gather(run: Artefacts) -> dict:
    """The context of the page. Raises ValueError, naming the stage that makes it, for a file missing or unreadable."""
    context = {
        "level": run.level,
        "power": run.power,
        "alpha": run.alpha,
        "verdict_p": run.verdict_p,
        "sensitivity": run.sensitivity,
        "standard": standard(run),
        "data": data(run),
        "baseline": baseline(run),
        "labels": labels(run),
        "gan": gan(run),
        "of_all": of_all(run),
        "fidelity": fidelity(run),
        "final": final(run),
        "study": study(run),
        "reliability": reliability(run),
        "scoring": scoring(run),
        "flow": flow(run),
        "errors": errors(run),
        "explain": explain(run),
        "external": external(run),
        "extra": extra(run),
        "adgm": adgm(run),
        "audit": audit(run),
        "benchmarks": benchmarks(run),
        "parameters": parameters(run.params),
    }
    mark(context, context["standard"])
    context["checklist"] = checklist(run, context)
    return context | {"documents": documents(run, context)}


def parameters(params: dict) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sections as (name, [(key, value)]). Keys outside a section come first; dots join deeper ones."""
    loose, whole = [], []
    for name, value in params.items():
        if isinstance(value, dict):
            whole.append((str(name), list(_flat(value))))
        else:
            loose.append((str(name), _text(value)))
    return [("", loose)] * bool(loose) + whole


def _flat(section: dict, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _text(value)


def _text(value) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def tables(value) -> Iterator[page.Table]:
    """Every table of the page, wherever it is in the context."""
    if isinstance(value, page.Table):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from tables(inner)


def previews(context: dict) -> dict[str, bytes]:
    """The figures that exist outside the page, too, as PNG by file name."""
    pictures = {name: context[section][key] for name, (section, key) in PREVIEWS.items()}
    return {f"{name}.png": png(picture.figure) for name, picture in pictures.items() if picture}


def write(context: dict, out: Path, folder: Path, pictures: Path, papers: Path) -> None:
    """Write the page to `out`, its tables into `folder`, its previews into `pictures`, its documents into `papers`; all
    of it or nothing.
    """
    html = page.render(context | {"tables": folder.name, "papers": papers.name})
    with atomic(folder) as csvs, atomic(pictures) as pngs, atomic(papers) as cards, atomic(out) as whole:
        cards.mkdir()
        for name, text in context["documents"].items():
            (cards / name).write_text(text, encoding="utf-8")
        csvs.mkdir()
        for table in tables(context):
            write_table(csvs / f"{table.name}.csv", table.frame())
        pngs.mkdir()
        for name, content in previews(context).items():
            (pngs / name).write_bytes(content)
        if context["gan"]["pair"]:
            real, generated = context["gan"]["pair"]
            beside([real, generated], real.width, real.height, 16).save(pngs / "gan.png")
        whole.write_text(html, encoding="utf-8")
