"""A tiny ADGM, a tiny cohort, and a training on it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cxr.adgm import samples
from cxr.adgm.encoded import Encoded
from cxr.adgm.labelled import Draw, draw_labels
from cxr.adgm.nets import ADGM
from cxr.adgm.run import FITTED, TRAININGS, Cohort, Result, run
from cxr.adgm.settings import Settings
from cxr.adgm.variants import FEATURES
from cxr.core.files import sha256
from cxr.core.findings import CLASSES
from cxr.core.store import open_store
from cxr.training.checkpoints import Checkpoints
from cxr.training.machine import fabric

TINY = {"size": 17, "z_dim": 3, "a_dim": 2}
FIT = {
    "variant": "corrected", "classes": 2, "labels": 8, "draw": 0, "batch": 6, "lr": 1e-3, "weight_decay": 1e-5,
    "beta": 1.0, "warmup_epochs": 2.0, "likelihood_weight": 0.1, "dropout": 0.2, "flip": 0.5, "rotate": 15.0,
    "scale_min": 0.8, "scale_max": 1.2, "shift": 0.05, "average": 0.9, "predict_samples": 2, "prior": "uniform",
    "seed": 3, **TINY,
}  # fmt: skip


def settings(**other) -> Settings:
    """FIT with other values, as the variant settles them."""
    asked = Settings(**(FIT | other))
    return (TRAININGS | FITTED)[asked.variant].settle(asked)


def tiny(classes=3, **other) -> ADGM:
    torch.manual_seed(0)
    return ADGM(classes=classes, **(TINY | other)).double().eval()


def batch(n: int, classes: int, labelled: int) -> tuple[torch.Tensor, ...]:
    """x, y, noise_a, noise_z for a tiny net, float64."""
    stream = torch.Generator().manual_seed(1)
    x = torch.rand(n, 1, 17, 17, generator=stream, dtype=torch.float64)
    y = torch.randint(classes, (labelled,), generator=stream)
    return x, y, *(torch.randn(n, TINY[d], generator=stream, dtype=torch.float64) for d in ("a_dim", "z_dim"))


def cohort(n: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Records and a split of n patients, in three classes 1 : 2 : 1, a sixth of them validation."""
    ids = [f"p{i:03d}" for i in range(n)]
    names = [CLASSES[(0, 1, 1, 2)[i % 4]] for i in range(n)]
    split = np.where(np.arange(n) % 6 == 5, "valid", "train")
    records = pd.DataFrame({"image_id": ids, "patient_id": ids, "class_name": names})
    return records, pd.DataFrame({"image_id": ids, "patient_id": ids, "split": split})


def draw_of(data: Path, chosen: Settings, fifth: str = "train") -> Draw:
    """The labelled draw from the records and the split of the fixture `data`. fifth: the part of every sixth image."""
    records, split = (pd.read_parquet(data / f"{name}.parquet") for name in ("records", "split"))
    split = split.assign(split=split["split"].mask(np.arange(len(split)) % 6 == 4, fifth))
    return draw_labels(records, split, classes=chosen.classes, labels=chosen.labels, seed=0)


def cohort_of(data: Path, chosen: Settings, fifth: str = "train") -> Cohort:
    """The labelled draw with what the variant reads. fifth: as in draw_of."""
    draw = draw_of(data, chosen, fifth)
    if chosen.variant in FEATURES:
        return Cohort(draw, Encoded(data / "encoder", sha256(data / "split.parquet")), "")
    return Cohort(draw, open_store(data / "stores" / "17"), "")


def fit(data: Path, checkpoints: Checkpoints, epochs: int, fifth: str = "train", **other) -> Result:
    """A run on the fixture `data`, with a short training of the samples' reader. fifth: as in draw_of."""
    chosen = settings(epochs=epochs, **other)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samples, "READER_STEPS", 1)
        return run(fabric("32-true"), cohort_of(data, chosen, fifth), chosen, checkpoints)


def assert_same(one: Result, other: Result) -> None:
    """Every number of two runs is the same."""
    pd.testing.assert_frame_equal(one.history, other.history, check_exact=True)
    pd.testing.assert_frame_equal(one.predictions, other.predictions, check_exact=True)
    assert (one.info, one.agreement) == (other.info, other.agreement)
    states = one.net.state_dict(), other.net.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
