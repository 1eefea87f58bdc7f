"""The generators of all training X-rays: what each was trained on, real beside generated, one row a finding."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cxr.core.files import read_json, read_table
from cxr.core.findings import finding
from cxr.core.formats import Format
from cxr.core.picture import COLUMNS, grid
from cxr.diffusion import formats as diffusion_formats
from cxr.gan import formats as gan_formats
from cxr.report.inputs import Artefacts, image
from cxr.report.page import xray

# Kind -> what its kept.json holds, in the order of the page.
KEPT: dict[str, type[Format]] = {
    "diffusion": diffusion_formats.Kept,
    "projection": gan_formats.Kept,
    "editing": diffusion_formats.Edited,
}
FIRST_ROW = {"editing": "As they are"}  # of the picture of one row a finding; else No Finding
SHUFFLED = 24  # X-rays in the shuffled sheet, half of them generated


def of_all(run: Artefacts) -> list[dict]:
    """One entry for each kind of generator that the run has, of its first seed.

    shuffled: real and generated X-rays in one sheet; key: the numbers of the generated ones, from 1. shared: whether
    it draws for trainings of the classifier that it was not trained for.
    """
    entries = []
    for kind, seeds in kinds(run).items():
        folder, stage = run.gan.parent / str(seeds[0]) / kind, f"{kind}@{seeds[0]}"
        kept = read_json(folder / "kept.json", stage, KEPT[kind]).model_dump()
        loss = read_table(folder / "history.csv", stage, ("epoch", "loss"))["loss"] if "loss" in kept else None
        sheet = f"grid-{kept['epoch']:04d}" if "epoch" in kept else "generated"
        real, generated, rows = (image(folder / f"{name}.png", stage) for name in ("real", sheet, "rows"))
        mixed, key = shuffled(real, generated, seeds[0])
        balances = kind in run.samplers
        entries.append({"kind": kind, "kept": kept, "balances": balances, "key": key})
        entries[-1]["first_loss"] = None if loss is None else float(loss.iloc[0])
        entries[-1] |= {"shared": balances and not set(run.seeds) <= set(seeds), "rows": xray(rows, 1200)}
        entries[-1] |= {
            "rows_of": [FIRST_ROW.get(kind, "No Finding"), *map(finding, run.findings)],
            "shuffled": xray(mixed, 1200),
        }
    return entries


def kinds(run: Artefacts) -> dict[str, list[int]]:
    """Kind -> its seeds, of the generators of all training X-rays that the run has."""
    seeds = {"diffusion": run.diffusion_seeds, "projection": run.projection_seeds, "editing": run.editing_seeds}
    return {kind: chosen for kind, chosen in seeds.items() if chosen}


def shuffled(real: Image.Image, generated: Image.Image, seed: int) -> tuple[Image.Image, list[int]]:
    """(SHUFFLED tiles of two sheets that are COLUMNS wide, in a random order; the numbers of the generated ones)."""
    tile = real.width // COLUMNS
    half = min(SHUFFLED // 2, COLUMNS * (real.height // tile), COLUMNS * (generated.height // tile))
    tiles = [
        np.asarray(sheet.crop((x, y, x + tile, y + tile)))
        for sheet in (real, generated)
        for x, y in (((k % COLUMNS) * tile, (k // COLUMNS) * tile) for k in range(half))
    ]
    order = np.random.default_rng([seed, *b"shuffled"]).permutation(len(tiles))
    return Image.fromarray(grid(np.stack(tiles)[order])), [k + 1 for k, which in enumerate(order) if which >= half]
