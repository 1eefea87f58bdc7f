"""The report: one self-contained HTML page that can be read and printed, its tables as CSV, its figures as previews.

`gather` reads what the other stages wrote and gives the page's context; `write` renders cxr/template.html.j2 and writes
everything. Which findings, policies and label counts there are comes in lists; an empty list is an empty section. The
page holds counts and pictures, never the id of an image or of a patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cxr.core.files import atomic, read_json, write_table
from cxr.core.findings import finding
from cxr.evaluation.formats import Metrics
from cxr.report import figures, page
from cxr.report.inputs import Artefacts
from cxr.report.sections.adgm import adgm
from cxr.report.sections.audit import audit
from cxr.report.sections.classifiers import areas, baseline, final, gan
from cxr.report.sections.data import data
from cxr.report.sections.fidelity import fidelity
from cxr.report.sections.labels import labels
from cxr.report.sections.reliability import trust
from cxr.report.sections.study import study

TITLE = "Two chest X-ray studies, run as one pipeline"
CONTENTS = (
    ("data", "The data"),
    ("baseline", "Baseline"),
    ("gan", "Generated X-rays"),
    ("final", "Final classifier"),
    ("study", "Does the GAN help?"),
    ("trust", "Metadata, calibration, subgroups"),
    ("adgm", "Few labels"),
    ("audit", "The papers\u2019 own numbers"),
    ("method", "Method and parameters"),
)


def gather(run: Artefacts) -> dict:
    """The context of the page. Raises ValueError, naming the stage that makes it, for a file missing or torn."""
    context = {
        "title": TITLE,
        "contents": CONTENTS,
        "level": run.level,
        "data": data(run),
        "baseline": baseline(run),
        "labels": labels(run),
        "gan": gan(run),
        "fidelity": fidelity(run),
        "final": final(run),
        "study": study(run),
        "trust": trust(run),
        "adgm": adgm(run),
        "audit": audit(run),
        "parameters": parameters(run.params),
        "metrics": parameters(metrics(run)),
    }
    return context | {"phantoms": context["data"]["phantoms"]}


def metrics(run: Artefacts) -> dict:
    """metrics.json. Raises ValueError where it is not what evaluate's tables say: it was edited, or another run's."""
    found = read_json(run.metrics, "evaluate", Metrics).model_dump(exclude_unset=True)
    _, by = areas(run, "test")
    for model, values in (found.get("baseline", {}) | {"final": found.get("final", {})}).items():
        for key, numbers in values.items():
            row = by.get((model, "macro" if key == "macro_auc" else finding(key)))
            area = row["auc"] if row else "no such row"
            if not row or not abs(numbers["auc"] - area) < 1e-3:  # one is rounded
                raise ValueError(
                    f"{run.metrics}: {model}.{key}.auc is {numbers['auc']} but {run.evaluate / 'auc.csv'} has {area}; "
                    f"`dvc repro -f evaluate` makes both again"
                )
    return found


def parameters(params: dict) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sections as (name, [(key, value)]); keys outside a section come first, deeper ones are joined with dots."""
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
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def tables(context: dict) -> list[page.Table]:
    """Every table of the page, wherever it stands in the context."""
    return [
        v
        for section in context.values()
        if isinstance(section, dict)
        for v in section.values()
        if isinstance(v, page.Table)
    ]


def previews(context: dict) -> dict[str, bytes]:
    """The small figures that stand outside the page too, as PNG by file name."""
    drawn = {
        "roc": context["baseline"]["roc_figure"],
        "final_roc": context["final"]["roc_figure"],
        "differences": context["final"]["forest_figure"],
        "study": context["study"]["forest_figure"],
        "reliability": context["trust"]["reliability_figure"],
        "adgm_accuracy": context["adgm"]["accuracy_figure"],
    }
    return {f"{name}.png": figures.png(figure) for name, figure in drawn.items() if figure is not None}


def write(context: dict, out: Path, folder: Path, pictures: Path) -> None:
    """Write the page to `out`, its tables into `folder`, its previews into `pictures`; all of it or nothing."""
    html = page.render(context | {"tables": folder.name})
    with atomic(folder) as csvs, atomic(pictures) as drawn, atomic(out) as whole:
        csvs.mkdir()
        for table in tables(context):
            write_table(csvs / f"{table.name}.csv", table.frame())
        drawn.mkdir()
        for name, data_ in previews(context).items():
            (drawn / name).write_bytes(data_)
        if context["gan"]["pair"]:
            real, generated = context["gan"]["pair"]
            figures.beside([real, generated], real.width, real.height, 16).save(drawn / "gan.png")
        whole.write_text(html, encoding="utf-8")
