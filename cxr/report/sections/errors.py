"""The most confident errors of the final classifier as pictures, where the data's terms allow pictures."""

from __future__ import annotations

from PIL import Image

from cxr.core.store import open_store
from cxr.evaluation.errors import KINDS, most_confident
from cxr.evaluation.predictions import read_classifier
from cxr.report.figures.gan import beside
from cxr.report.inputs import Artefacts
from cxr.report.page import xray
from cxr.report.sections.common import areas, source_kind

COUNT, SIDE = 4, 160  # images of each kind, and pixels a side on the page


def errors(run: Artefacts) -> dict:
    """A picture per finding with an AUC: missed positives above, false alarms below. None shown: findings is empty.

    shown: whether report.error_images allows pictures of this source.
    """
    shown = run.error_images == "always" or (
        run.error_images == "phantom" and source_kind(run, "chexpert") == "phantom"
    )  # fmt: skip
    if not shown:
        return {"shown": False, "findings": [], "count": COUNT}
    seed = run.seeds[0]
    table = most_confident(read_classifier(run.predictions / "final" / f"{seed}.parquet", f"final@{seed}"), COUNT)
    store, scored = open_store(run.store), areas(run, "test")
    known = {name for (model, name), row in scored.items() if model == "final" and row["auc"] == row["auc"]}
    findings = []
    for name, part in table[table["finding"].isin(known)].groupby("finding", sort=False):
        kinds = {kind: part[part["kind"] == kind] for kind in KINDS}
        rows = [[Image.fromarray(store.images[k]) for k in store.rows(of["image_id"])] for of in kinds.values()]
        side = min(SIDE, store.size)
        picture = Image.new("L", (COUNT * (side + 4) - 4, 2 * side + 4))
        for k, images in enumerate(rows):
            picture.paste(beside(images, side, side, 4), (0, k * (side + 4)))
        scores = {kind: of["score"].tolist() for kind, of in kinds.items()}
        findings.append({"name": name, "picture": xray(picture, picture.width, 47), "scores": scores})
    return {"shown": True, "findings": findings, "count": COUNT}
