"""Edits of real X-rays as a sampler."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from torch import nn

from cxr.core.findings import SLUGS
from cxr.core.store import open_store
from cxr.diffusion import editing, net
from cxr.diffusion.edit import Conditions, edit
from cxr.diffusion.formats import Editing, settings_of
from cxr.diffusion.settings import Edit
from cxr.gan.generators import vectors
from cxr.synthesis.arms import in_turn
from cxr.synthesis.samplers import OfAll


class Drawer(OfAll):
    """A diffusion model that draws findings into its sources, real X-rays of training patients.

    A table of edits has image_id and patient_id of a source, the finding that it lacks (added: slugs joined by +), and
    whether it is added (present). Without it, what the edit's mask covers is drawn again under the source's own
    condition: so that being edited says nothing of the finding.
    """

    Meta = Editing
    findings = tuple(name for name in SLUGS if name != "no_finding")
    edits = True

    def prepare(self) -> None:
        self.settings = settings_of(self.meta)
        self.how = Edit(**self.meta.editing.model_dump())
        self.store = open_store(self.folder / "sources")
        self.own = editing.conditions_of(self.store.index)

    def build(self) -> nn.Module:
        return net.build(self.settings, len(self.meta.conditions))

    def draw(
        self, names: Sequence[str], n: int, rng: np.random.Generator, among: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """n edits of sources that lack the findings (slugs); none repeats before every one was used.

        among: image_ids that may be sources. Raises ValueError where no source lacks the findings.
        """
        index, columns = self.store.index, [SLUGS.index(name) for name in names]
        lacks = (self.own[:, columns] == 0).all(1)
        if among is not None:
            lacks &= index["image_id"].isin(among).to_numpy()
        places = np.flatnonzero(lacks)
        if not len(places):
            raise ValueError(
                f"{' and '.join(names)}: none of the {len(index):,} sources of {self.folder} is an X-ray without it; "
                "raise editing.sources"
            )
        rows = index.iloc[places[in_turn(n, len(places), rng)]][["image_id", "patient_id"]].reset_index(drop=True)
        return rows.assign(added="+".join(names), present=True)

    def beside(self, rows: pd.DataFrame, findings: Sequence[str], *key: int) -> pd.DataFrame:
        """Edits that stand beside real X-rays: one with a finding where a row shows one, else one without.

        Beside the X-rays of one finding stand edits of other patients, as far as there are any.
        """
        rng, shows = np.random.default_rng(key), vectors(rows, findings) == 1
        which = np.where(shows.any(1), shows.argmax(1), np.arange(len(rows)) % len(findings))
        index, parts = self.store.index, []
        for k, name in enumerate(findings):
            places, others = np.flatnonzero(which == k), None
            if len(findings) == 1:
                lacks = self.own[:, SLUGS.index(name)] == 0
                apart = index.loc[lacks & ~index["patient_id"].isin(rows["patient_id"]), "image_id"]
                others = apart if len(apart) else None
            if len(places):
                drawn = self.draw([name], len(places), rng, others).set_axis(places)
                parts.append(drawn.assign(present=shows[places].any(1)))
        return pd.concat(parts).sort_index()

    def encode(self, rows: pd.DataFrame) -> np.ndarray:
        """A table of edits -> float32 N x (1 + 2 K): the source's place, the condition with the finding, the edit's."""
        places = self.store.rows(rows["image_id"])
        own, added = self.own[places], rows["added"].to_numpy(object)
        asked = own.copy()
        for names in set(added):
            asked[added == names] = editing.with_findings(own[added == names], names.split("+"))
        target = np.where(rows["present"].to_numpy(bool)[:, None], asked, own)
        return np.column_stack([places, asked, target]).astype(np.float32)

    def sample(self, n: int, encoded: np.ndarray | None, *key: int) -> np.ndarray:
        assert encoded is not None and len(encoded) == n
        places = encoded[:, 0].astype(np.int64)
        y = Conditions(self.own[places], *np.split(encoded[:, 1:], 2, axis=1))
        sources = self.store.images[places]
        return edit(
            self.net, sources, y, self.settings, self.how, self.meta.spread, *key, device=self.device
        )[0]  # fmt: skip
