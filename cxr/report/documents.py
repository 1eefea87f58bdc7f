"""The documents beside the page, in Markdown: model cards (Mitchell et al. 2019) and datasheets (Gebru et al. 2021).

Their sentences are templates/documents; the numbers come from the page's own context and the models' files. They hold
counts, never the id of an image or of a patient, and no path.
"""

from __future__ import annotations

from cxr.adgm.formats import Model as AdgmModel
from cxr.adgm.variants import FITTED, Run, leading
from cxr.classifier.formats import Model as ClassifierModel
from cxr.cohort.formats import SPLITS, Summary
from cxr.core.files import read_json
from cxr.data.formats import Manifest
from cxr.papers import DATASETS
from cxr.report import page
from cxr.report.inputs import Artefacts
from cxr.report.sections.flow import counts_of

CLASSIFIER, ADGM = "model_card_classifier.md", "model_card_adgm.md"


def documents(run: Artefacts, context: dict) -> dict[str, str]:
    """File name -> text, of all documents of a run. context: the page's."""
    texts = {CLASSIFIER: page.text("documents/model_card_classifier.md.j2", _classifier(run, context))}
    if context["adgm"]["answers"] and leading(run.variants) not in FITTED:  # the card is of a trained network
        texts[ADGM] = page.text("documents/model_card_adgm.md.j2", _adgm(run, context))
    for dataset in DATASETS:
        texts[f"datasheet_{dataset}.md"] = page.text("documents/datasheet.md.j2", _datasheet(run, context, dataset))
    return texts


def _split(run: Artefacts, dataset: str):
    return read_json(run.splits / dataset / "split.json", f"split@{dataset}", SPLITS[dataset])


def _phantoms(context: dict, dataset: str) -> list[str]:
    return [name for name in context["data"]["phantoms"] if name == DATASETS[dataset]]


def _classifier(run: Artefacts, context: dict) -> dict:
    split, scoring, trust = _split(run, "chexpert"), context["scoring"], context["reliability"]
    final, seed = context["final"]["table"].rows, run.seeds[0]
    (macro,) = [a for a in trust["metadata_answers"] if a["name"] == "final"]
    (calibration,) = [a for a in trust["calibration_answers"] if a["name"] == "final"]
    (operating,) = [a for a in trust["operating_answers"] if a["name"] == "final"]
    (study,) = [a for a in scoring["answers"] if a["name"] == "final"]
    return {
        "phantoms": _phantoms(context, "chexpert"),
        "elsewhere": [one["title"] for one in context["external"]["sets"].values()],
        "model": read_json(run.models / "final" / str(seed) / "model.json", f"final@{seed}", ClassifierModel),
        "trainings": len(run.seeds),
        "policy": context["final"]["policy"],
        "data_name": DATASETS["chexpert"],
        "images": {name: part.images for name, part in split.splits.items()},
        "patients": {name: part.patients for name, part in split.splits.items()},
        "by": split.by,
        "extra": context["extra"]["sets"],
        "generated": context["gan"]["plan"]["table"].rows,
        "groups": trust["groups"],
        "worst": trust["worst"],
        "macro": macro,
        "metadata": macro["metadata"],
        "study": study,
        "way": scoring["way"],
        "precision": scoring["precision"].rows[-1],
        "operating": operating,
        "calibration": calibration,
        "findings": final[:-1],
        "level": run.level,
        "sensitivity": run.sensitivity,
    }


def _adgm(run: Artefacts, context: dict) -> dict:
    lead, draw = leading(run.variants), min(run.draws)
    names = [Run(lead, c, n, draw) for c in sorted(set(run.classes)) for n in sorted(set(run.labels))]
    models = [read_json(run.adgm_run(one)[1] / "model.json", one.stage, AdgmModel) for one in names]
    return {
        "phantoms": _phantoms(context, "rsna"),
        "name": context["adgm"]["lead"],
        "models": models,
        "images": {name: part.images for name, part in _split(run, "rsna").splits.items()},
        "answers": [a | {"within": {v["view"]: v for v in a["views"]}} for a in context["adgm"]["answers"]],
        "draws": context["adgm"]["draws"],
        "over": "images" if _split(run, "rsna").patient_key == "image" else "patients",
        "level": run.level,
    }


def _datasheet(run: Artefacts, context: dict, dataset: str) -> dict:
    summary, split = read_json(run.explore / "summary.json", "explore", Summary), _split(run, dataset)
    parts = [summary.chexpert.train, summary.chexpert.valid] if dataset == "chexpert" else [summary.rsna]
    manifest = read_json(run.dataset(dataset) / "manifest.json", f"download@{dataset}", Manifest)
    (fact,) = [f for f in context["data"]["facts"] if f["name"] == DATASETS[dataset]]
    every = counts_of(context["flow"]["table"], DATASETS[dataset], "records")
    sizes = {"chexpert": [("classifier", "size"), ("gan", "size")], "rsna": [("adgm", "size")]}[dataset]
    people = [part.per_patient or part.per_image for part in parts]  # of images where no patient is known
    return {
        "name": DATASETS[dataset],
        "dataset": dataset,
        "kind": manifest.kind,
        "phantom": manifest.kind == "phantom",
        "recipe": manifest.recipe,
        **every,
        "views": {view: sum(getattr(part.views, view) for part in parts) for view in ("AP", "PA")},
        "lateral": sum(part.lateral for part in parts) if dataset == "chexpert" else 0,
        "sexes": {sex: sum(getattr(one.by_sex, sex) for one in people) for sex in ("F", "M", "unknown")},
        "ages": people[0].mean_age.model_dump(),
        "odd": sum(row["dataset"] == DATASETS[dataset] for row in context["data"]["checks"].rows),
        "rejected": fact["rejected"],
        "sizes": list(dict.fromkeys(str(run.params.get(s, {}).get(key, "?")) for s, key in sizes)),
        "by": split.by,
        "parts": [{"name": name, "images": part.images} for name, part in split.splits.items()],
    }
