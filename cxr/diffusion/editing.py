"""One run of editing: which X-rays are sources, the edits of one source under other conditions, what describes it all.

Sources are a store's folder (cxr/core/store.py) whose index also holds patient_id and each X-ray's condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from cxr.core.conditions import CONDITIONS, encode
from cxr.core.picture import COLUMNS
from cxr.diffusion.edit import Conditions, edit
from cxr.diffusion.formats import Edited, Editing, Generator, settings_of
from cxr.diffusion.settings import Edit

COLUMN = "condition."  # of the sources' index, before a condition's name
NONE = CONDITIONS.index("no_finding")


def choose(training: pd.DataFrame, how: Edit) -> pd.DataFrame:
    """The index of the sources, in the order of `training`: image_id, patient_id, and their conditions."""
    rng = np.random.default_rng([how.seed, *b"sources"])
    chosen = training.iloc[np.sort(rng.permutation(len(training))[: how.sources])]
    names = [COLUMN + name for name in CONDITIONS]
    head = chosen[["image_id", "patient_id"]].reset_index(drop=True)
    return pd.concat([head, pd.DataFrame(encode(chosen), columns=names)], axis=1)


def others(training: pd.DataFrame, index: pd.DataFrame, how: Edit) -> pd.Series:
    """image_ids of a sheet of training X-rays, of patients who are no source where there are any."""
    apart = training[~training["patient_id"].isin(index["patient_id"])]
    rows = training if apart.empty else apart
    return rows["image_id"].iloc[np.random.default_rng([how.seed, *b"others"]).permutation(len(rows))[: COLUMNS**2]]


def conditions_of(index: pd.DataFrame) -> np.ndarray:
    """The conditions in a sources' index, float32 N x K."""
    return index[[COLUMN + name for name in CONDITIONS]].to_numpy(np.float32)


def with_findings(conditions: np.ndarray, findings: Sequence[str]) -> np.ndarray:
    """A copy of conditions N x K with the findings (slugs) present, and so not without a finding."""
    changed = conditions.copy()
    changed[:, NONE] = 0
    changed[:, [CONDITIONS.index(name) for name in findings]] = 1
    return changed


class Sheets(NamedTuple):
    """Pictures, uint8 N x S x S. real: training X-rays; generated: edits of others, with one finding each in turn;
    rows: sources, then the same ones with each finding. masked: mean share of an edit that its mask covers.
    """

    real: np.ndarray
    generated: np.ndarray
    rows: np.ndarray
    masked: float


def sheets(
    net: nn.Module,
    sources: np.ndarray,
    index: pd.DataFrame,
    real: np.ndarray,
    meta: Editing,
    findings: Sequence[str],
    device: torch.device,
) -> Sheets:
    """Pictures of the sources, uint8 N x S x S. real: of `others`."""
    own, settings = conditions_of(index), settings_of(meta)
    how = Edit(**meta.editing.model_dump())

    def edited(places: np.ndarray, names: Sequence[str], key: int) -> tuple[np.ndarray, np.ndarray]:
        asked = with_findings(own[places], names)
        y = Conditions(own[places], asked, asked)
        return edit(net, sources[places], y, settings, how, meta.spread, how.seed, key, device=device)

    turns, shares = np.zeros_like(sources[: COLUMNS**2]), []
    for k, name in enumerate(findings):
        places = np.arange(k, len(turns), len(findings))
        turns[places], share = edited(places, [name], 10 + k)
        shares.append(share)
    # First those without a finding, so that a row shows one finding alone.
    shown = np.argsort(-own[:, NONE], kind="stable")[:COLUMNS]
    rows = [sources[shown], *(edited(shown, [name], 9)[0] for name in findings)]
    return Sheets(real, turns, np.concatenate(rows), float(np.concatenate(shares).mean()))


def reports(model: Generator, how: Edit, name: str) -> Editing:
    """generator.json. model: that of the diffusion model."""
    about = model.model_dump() | {"kind": "editing", "generator": name, "editing": how.model_dump()}
    return Editing(**about)


def kept(index: pd.DataFrame, masked: float) -> Edited:
    """kept.json."""
    return Edited(sources=len(index), patients=int(index["patient_id"].nunique()), masked=round(masked, 6))
