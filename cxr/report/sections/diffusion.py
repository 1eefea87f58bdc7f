"""The diffusion model of all training X-rays: what it was trained on, real beside generated, one row a finding."""

from __future__ import annotations

import numpy as np
from PIL import Image

from cxr.core.files import read_json, read_table
from cxr.core.findings import finding
from cxr.core.picture import COLUMNS, grid
from cxr.diffusion.formats import Kept
from cxr.report.inputs import Artefacts, image
from cxr.report.page import xray

SHUFFLED = 24  # X-rays in the shuffled sheet, half of them generated


def diffusion(run: Artefacts) -> dict | None:
    """Of the first of diffusion_runs.diffusion_seeds; None without one. shuffled: real and generated X-rays in one
    sheet; key: the numbers of the generated ones, from 1.
    """
    if not run.diffusion_seeds:
        return None
    seed = run.diffusion_seeds[0]
    folder, stage = run.gan.parent / str(seed) / "diffusion", f"diffusion@{seed}"
    kept = read_json(folder / "kept.json", stage, Kept)
    history = read_table(folder / "history.csv", stage, ("epoch", "loss"))
    pictures = {name: image(folder / f"{name}.png", stage) for name in ("real", "generated", "rows")}
    sheet, key = shuffled(pictures["real"], pictures["generated"], seed)
    return {
        "kept": kept.model_dump(),
        "first_loss": float(history["loss"].iloc[0]),
        "seeds": len(run.diffusion_seeds),
        "balances": "diffusion" in run.samplers,
        "shared": "diffusion" in run.samplers and not set(run.seeds) <= set(run.diffusion_seeds),
        "rows_of": ["No Finding", *map(finding, run.findings)],
        "rows": xray(pictures["rows"], 1200),
        "shuffled": xray(sheet, 1200),
        "key": key,
    }


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
