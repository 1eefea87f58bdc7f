"""The arm gan_permuted: the GAN's images with their label rows in another order."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from cxr.synthesis import arms, balance
from tests.synthesis.make import RARE, make, of

KINDS = ("target.", "weight.", "uncertain.")


def test_permuted_findings_are_the_gans_images_and_label_rows_in_another_order(made):
    at, real, whole = made
    table, images, spec = of(at, "gan_permuted")
    gan = of(at, "gan")
    assert np.array_equal(images.images, gan[1].images) and images.index.equals(gan[1].index)
    assert spec == gan[2] | {"arm": "gan_permuted"}
    labels = [name for name in whole if name.startswith(KINDS)]
    pd.testing.assert_frame_equal(table.drop(columns=labels), whole.drop(columns=labels), check_dtype=False)
    ours, theirs = (t.query("synthetic")[labels].to_numpy() for t in (table, whole))
    assert not np.array_equal(ours, theirs)
    assert sorted(map(tuple, ours)) == sorted(map(tuple, theirs))  # whole rows, so that every count stays


def test_permuted_findings_follow_the_seed_and_say_nothing_of_the_image(made):
    """600 images of one finding and 300 of another: a share of 2/3 and of 1/3 keep their own, as in a random order."""
    _, real, whole = made
    many = [balance.synthetic_rows(name, 100 * k, "masked", real, "frontal") for name, k in RARE.items()]
    enriched = pd.concat([real, *many], ignore_index=True)
    plan = {name: (100 * k, 0) for name, k in RARE.items()}
    at = [
        arms.permuted_rows(arms.Inputs(enriched, plan, "masked", None, None, None, "all", "frontal", 32, 16, seed))
        for seed in (0, 0, 1)
    ]
    pd.testing.assert_frame_equal(at[0], at[1])
    assert not at[0].equals(at[2])
    own = at[0].query("synthetic")["target.pneumonia"].to_numpy()
    # Hypergeometric: mean 400 of 600, SD 8.2; mean 200 of 300, the same.
    assert abs(own[:600].sum() - 400) < 33 and abs(own[600:].sum() - 200) < 33


def test_permuting_one_finding_alone_is_refused(made, tmp_path):
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    plan = json.loads((tmp_path / "balanced/plan.json").read_text())
    plan["findings"]["lung_lesion"]["generated"] = 0
    (tmp_path / "balanced/plan.json").write_text(json.dumps(plan))
    with pytest.raises(ValueError, match="generated of pneumonia alone: .* take the arm out of study.arms"):
        make(tmp_path, "gan_permuted")
