"""The generated X-rays: which state of each generator was kept, real beside generated, losses, the balancing's plan."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cxr.core.files import read_json, read_table
from cxr.core.findings import finding, slug
from cxr.gan import generators, serving
from cxr.gan.formats import GRID, Kept
from cxr.report.figures.gan import beside
from cxr.report.figures.gan import gan as draw_curves
from cxr.report.inputs import Artefacts, image
from cxr.report.page import Picture, Table, plot, xray
from cxr.synthesis.formats import FindingPlan, Plan

COLUMNS = ("epoch", "loss_d", "loss_g", "d_real", "d_fake", "kid", "diversity")
STRIP = 6  # grids in the strip over epochs


def gan(run: Artefacts) -> dict:
    """Figures 6 and 7 of the paper, and the plan of the balancing. pair: of the first generator, as images."""
    entries, histories, epochs, pair = [], {}, {}, None
    for generator in dict.fromkeys(serving.generator_of(n, run.generators) for n in run.findings if run.generators):
        stage, folder = f"gan@{generator}-{run.seeds[0]}", run.gan / generator
        members = list(map(finding, generators.members(generator)))
        name = ", ".join(members)
        grids = dict(_grids(folder, stage))
        state, histories[name] = kept(folder, stage)
        epochs[name] = state["epoch"]
        if epochs[name] not in grids:
            raise ValueError(f"{folder}: no grid of epoch {epochs[name]}; `dvc repro -f {stage}` makes it again")
        real, best = (_tiles(image(path, stage), 5, 3) for path in (folder / "real.png", grids[epochs[name]]))
        pair = pair or (real, best)
        strip, strip_epochs = _strip(list(grids.items()), stage)
        entries.append({"name": name, "kept": state, "real": xray(real, 900, 48), "generated": xray(best, 900, 48)})
        entries[-1] |= {"members": members, "strip": strip, "strip_epochs": strip_epochs}
    curves = plot(draw_curves(histories, epochs), 45 * len(histories)) if histories else None
    return {"findings": entries, "curves": curves, "plan": _plan(run), "pair": pair}


def kept(folder: Path, stage: str) -> tuple[dict, pd.DataFrame]:
    """A generator's kept state with its KID and diversity, and the history by epoch.

    Raises ValueError, naming the stage, when the files are missing, unreadable or of two runs.
    """
    state = read_json(folder / "kept.json", stage, Kept)
    history = read_table(folder / "history.csv", stage, COLUMNS)
    rows = history[history["epoch"] == state.epoch].to_dict("records")
    if len(rows) != 1:
        raise ValueError(
            f"{folder / 'kept.json'}: history.csv has no epoch {state.epoch}; `dvc repro -f {stage}` makes both again"
        )
    measured = {"kid": rows[0]["kid"], "diversity": rows[0]["diversity"], "trained": len(history)}
    return state.model_dump() | measured, history


def _grids(folder: Path, stage: str) -> list[tuple[int, Path]]:
    """The sample grids of one GAN, (epoch, file), in the order of their epochs."""
    names = ((re.fullmatch(r"grid-(\d+)\.png", path.name), path) for path in folder.glob("grid-*.png"))
    grids = sorted((int(match[1]), path) for match, path in names if match)
    if not grids:
        raise ValueError(f"{folder}: no sample grid (grid-0001.png and so on); `dvc repro -f {stage}` makes them")
    return grids


def _tiles(grid: Image.Image, columns: int, rows: int) -> Image.Image:
    """The upper left tiles of a grid that is GRID tiles wide."""
    tile = grid.width // GRID
    return grid.crop((0, 0, columns * tile, min(rows * tile, grid.height)))


def _strip(grids: list[tuple[int, Path]], stage: str) -> tuple[Picture, list[int]]:
    """The same few z after up to STRIP epochs, side by side, and these epochs."""
    chosen = [grids[k] for k in np.unique(np.linspace(0, len(grids) - 1, STRIP).round().astype(int))]
    corners = [_tiles(image(path, stage), 2, 2) for _, path in chosen]
    whole = beside(corners, *corners[0].size, max(2, corners[0].width // 20))
    return xray(whole, 1600), [epoch for epoch, _ in chosen]


def plan_of(run: Artefacts) -> Plan:
    """What balance planned. Raises ValueError when a finding of the run is not in it."""
    stage = f"balance@{run.seeds[0]}"
    plan = read_json(run.balanced, stage, Plan)
    if absent := [name for name in run.findings if slug(finding(name)) not in plan.findings]:
        raise ValueError(f"{run.balanced}: 'findings.{absent[0]}' is missing; `dvc repro -f {stage}` makes it again")
    return plan


def _plan(run: Artefacts) -> dict:
    plan = plan_of(run)
    rows = []
    for name in map(finding, run.findings):
        rows.append({"finding": name, "n": plan.train_images, **plan.findings[slug(name)].model_dump()})
    table = Table("balance", rows, empty=("finding", "n", *FindingPlan.model_fields))
    return {"table": table, "total": plan.train_images + plan.synthetic_images, **plan.model_dump(exclude={"findings"})}
