"""Control arms: each differs from the baseline, or from the GAN's arm, in what it says and in nothing else."""

import itertools
import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from dvc.repo import Repo

from cxr.classifier import objectives
from cxr.classifier.formats import Arm, Model
from cxr.classifier.objectives import AucMargin, CrossEntropy, GroupDro, LogitAdjusted
from cxr.classifier.train import phases, rows_by_step
from cxr.core.findings import SLUGS, UNCERTAIN
from cxr.core.resize import resize
from cxr.core.store import open_store
from cxr.gan import nets
from cxr.synthesis import arms, balance
from tests.make import example
from tests.synthesis.make import RARE, make, of

ROOT = Path(__file__).resolve().parents[2]
# Masked rows count for their own finding alone: (3 + 6) of (45 + 6) and (3 + 3) of (45 + 3).
SHARES = {"pneumonia": pytest.approx(9 / 51), "lung_lesion": pytest.approx(6 / 48)}


def test_each_arm_differs_from_the_baseline_in_what_it_says(made):
    at, real, whole = made
    table, images, base = of(at, "baseline")
    pd.testing.assert_frame_equal(table, real, check_dtype=False)
    assert images is None and base["epoch_images"] == 0
    length = 45 + sum(RARE.values())
    changes = {
        "baseline_steps": {},
        "pos_weight": {"objective": "pos_weight", "shares": SHARES},
        "auc_margin": {"objective": "auc_margin"},
        "logit_adjusted": {"objective": "logit_adjusted"},
    }
    table, images, spec = of(at, "group_dro")
    assert images is None and spec == base | {"arm": "group_dro", "epoch_images": length, "objective": "group_dro"}
    pd.testing.assert_frame_equal(table.drop(columns="group"), real, check_dtype=False)
    assert sorted(set(table["group"])) == [-1, 0, 1, 2, 3, 4, 5]
    table, images, spec = of(at, "group_balanced")
    assert images is None and spec == base | {"arm": "group_balanced", "epoch_images": length}
    for name, also in changes.items():
        table, images, spec = of(at, name)
        pd.testing.assert_frame_equal(table, real, check_dtype=False)
        assert images is None and spec == base | {"arm": name, "epoch_images": length} | also
    added = {"oversampling": 0, "gan": 9, "gan_untrained": 9, "gan_permuted": 9, "blurred": 9, "pretrained": 9}
    for name, stored in added.items():
        table, images, spec = of(at, name)
        pd.testing.assert_frame_equal(table.iloc[:60], real, check_dtype=False)  # held-out rows are never touched
        assert len(table) == 60 + 9 and (table["split"].iloc[60:] == "train").all()
        assert (len(images.index) if images else 0) == stored == spec["images"]
        assert spec | {"arm": "", "images": 0, "lead": False} == base | {"arm": "", "epoch_images": length}
        assert spec["lead"] == (name == "pretrained")


def test_strong_augmentation_repeats_the_same_rows_as_oversampling(made):
    at, _, _ = made
    table, images, spec = of(at, "augmented")
    repeated, _, plain = of(at, "oversampling")
    pd.testing.assert_frame_equal(table, repeated)
    assert images is None and spec == plain | {"arm": "augmented", "augmentation": "strong"}


@pytest.mark.parametrize(("percent", "count"), [(25, 1), (50, 2), (100, 3)])
def test_a_dose_is_the_first_of_each_finding_for_as_many_steps(made, percent, count):
    """Three real positives of each finding."""
    at, real, whole = made
    (table, images, spec), (_, all_images, full) = of(at, f"gan_dose_{percent}"), of(at, "gan")
    ids = [f"synthetic/{f}/{k:06d}" for f in RARE for k in range(count)]
    assert list(table["image_id"]) == [*real["image_id"], *ids] and list(images.index["image_id"]) == ids
    assert np.array_equal(images.images, all_images.images[all_images.rows(ids)])
    assert spec == full | {"arm": f"gan_dose_{percent}", "images": len(ids)}
    theirs = of(at, f"oracle_dose_{percent}")
    assert theirs[2]["epoch_images"] == full["epoch_images"] and len(theirs[1].index) == len(ids)
    positive = theirs[0].query("synthetic")
    for finding in RARE:
        own = positive[positive["image_id"].str.startswith(f"synthetic/{finding}/")]
        assert len(own) == count and (own[f"target.{finding}"] == 1).all()


def test_negatives_of_a_dose_are_in_proportion(made):
    at, real, whole = made
    extra = pd.concat(
        [balance.synthetic_rows("pneumonia", 10, "masked", real, "frontal") for _ in range(1)], ignore_index=True
    )
    inputs = given(at, pd.concat([real, extra], ignore_index=True), {"pneumonia": (8, 2)}, positives={"pneumonia": 4})
    half = arms.dosed(inputs, 1.0)
    assert half.generated == {"pneumonia": (4, 1)}
    assert [int(name[-1]) for name in half.extra["image_id"]] == [0, 1, 2, 3, 8]


def test_a_dose_above_what_was_generated_is_refused_with_the_cure(made):
    at, _, _ = made
    with pytest.raises(ValueError, match="dose of 2 times the 3 real positives of lung_lesion, but 3 were generated"):
        make(at, "gan_dose_200")


def test_pseudo_labels_change_uncertain_labels_of_training_rows_alone(made):
    at, real, whole = made
    uncertain = whole.copy()
    chosen = [0, 1, 46, len(real)]  # two training rows, a validation row, a generated one
    uncertain.loc[chosen, "truth.pneumonia"] = np.nan
    uncertain.loc[2, "truth.edema"] = np.nan  # no rare finding
    asked = []

    def baseline(image_ids):
        asked.extend(image_ids)
        return np.full((len(image_ids), 14), 0.25, np.float32)

    rows = arms.pseudo_labelled_rows(given(at, uncertain, {n: (k, 0) for n, k in RARE.items()}, baseline=baseline))
    before = uncertain[~uncertain["synthetic"]]
    assert set(asked) == set(before.loc[before["split"] == "train", "image_id"])
    changed = (rows["target.pneumonia"].to_numpy()[: len(before)] != before["target.pneumonia"].to_numpy()).nonzero()[0]
    assert set(changed) <= {0, 1} and (rows["target.pneumonia"].iloc[:2] == 0.25).all()
    assert (rows["weight.pneumonia"].iloc[:2] == 1).all()
    assert rows["target.edema"].iloc[2] == before["target.edema"].iloc[2]
    repeated = rows.iloc[len(before) :]
    assert len(repeated) == sum(RARE.values()) and (repeated[: RARE["pneumonia"]]["target.pneumonia"] == 1).all()


def test_pseudo_labels_of_three_classes_are_refused(made):
    at, _, whole = made
    three = whole.assign(**{UNCERTAIN[0]: np.float32(0)})
    inputs = given(at, three, {n: (k, 0) for n, k in RARE.items()}, baseline=lambda ids: np.zeros((len(ids), 14)))
    with pytest.raises(ValueError, match="pseudo_labels.*third class"):
        arms.pseudo_labelled_rows(inputs)


def test_the_pseudo_labels_are_the_baselines_of_this_split(made, tmp_path):
    at, _, _ = made
    meta = example(Model, split_sha256="another")
    (tmp_path / "0/u_zeroes").mkdir(parents=True)
    (tmp_path / "0/u_zeroes/model.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"another split; `dvc repro -f baseline@u_zeroes-0` makes it again"):
        make(at, "pseudo_labels", baseline=tmp_path / "0/u_zeroes")


def given(at, enriched, generated, **also):
    """Inputs of these tables; what is not given is not at hand."""
    return arms.Inputs(
        enriched, generated, "masked", at / "balanced", at / "stores/32", lambda *_: [], view="all", gan_view="frontal",
        size=32, gan_size=32, seed=0, **also,
    )  # fmt: skip


def test_copy_and_paste_takes_the_lesion_from_a_positive_and_the_rest_from_a_negative(made):
    at, real, whole = made
    outline = np.zeros((32, 32), np.float32)
    outline[4:9, 5:11] = 1
    seen = {}

    def lesion(image_id, name):
        seen.setdefault(name, set()).add(image_id)
        return outline

    generated = {"pneumonia": (4, 2), "lung_lesion": (3, 0)}
    inputs = given(at, whole, generated, outline=lesion)
    rows, images = arms.copy_paste_rows(inputs), np.stack(list(arms.copy_paste_images(inputs)))
    pd.testing.assert_frame_equal(rows.iloc[: len(real)], real, check_dtype=False)
    added = rows.iloc[len(real) :]
    assert list(added["image_id"]) == list(inputs.extra["image_id"]) and len(images) == len(added) == 9
    source, target = inputs.pasted
    store = open_store(at / "stores/32")
    sources, targets = (store.images[store.rows(t["image_id"])] for t in (source, target))
    pasted = np.array([True] * 4 + [False] * 2 + [True] * 3)
    inside = outline.astype(bool)
    assert np.array_equal(images[pasted][:, inside], sources[pasted][:, inside])
    assert np.array_equal(images[pasted][:, ~inside], targets[pasted][:, ~inside])
    assert np.array_equal(images[~pasted], targets[~pasted])
    name = np.array(["pneumonia"] * 6 + ["lung_lesion"] * 3)
    for finding in generated:
        own = name == finding
        assert (source.loc[own & pasted, f"truth.{finding}"] == 1).all()
        assert (target.loc[own, f"truth.{finding}"] == 0).all()
        for kind in ("target", "truth", "weight"):
            assert (added[f"{kind}.{finding}"].to_numpy()[own & pasted] == 1).all()
        assert (added[f"target.{finding}"].to_numpy()[own & ~pasted] == 0).all()
    assert np.array_equal(added["target.edema"].to_numpy(), target["target.edema"].to_numpy())  # the other labels stay
    assert set(source["projection"]) == set(target["projection"]) == {"frontal"}
    train = set(real.loc[real["split"] == "train", "image_id"])
    assert set(source["image_id"]) | set(target["image_id"]) | seen["pneumonia"] <= train


def test_every_arm_has_an_objective_that_the_classifier_has():
    objective = Arm.model_fields["objective"].annotation
    assert {arm.objective for arm in arms.ARMS.values()} == set(get_args(objective))


def test_arms_with_images_differ_from_the_gans_in_the_images_alone(made):
    at, _, whole = made
    table, images, _ = of(at, "gan")
    pd.testing.assert_frame_equal(table, whole, check_dtype=False)
    assert np.array_equal(images.images, open_store(at / "balanced/images").images)
    for name in ("gan_untrained", "blurred"):
        other, theirs, _ = of(at, name)
        pd.testing.assert_frame_equal(other, whole, check_dtype=False)
        assert theirs.index["image_id"].equals(images.index["image_id"])
        assert not np.array_equal(theirs.images, images.images)
    untrained = nets.build(16, 8, 4, 1, 3, gain=0.5)[0]
    expected = [resize(image, 32) for image in nets.generate(untrained, 6, 8, 0, 4, 0, device="cpu")]
    assert np.array_equal(of(at, "gan_untrained")[1].images[:6], expected)


def test_blurred_images_are_real_training_positives_of_the_finding(made):
    at, real, _ = made
    _, images, _ = of(at, "blurred")
    small = open_store(at / "stores/16")
    can = real[(real["split"] == "train") & (real["projection"] == "frontal")]
    for k, name in enumerate(["pneumonia"] * 6 + ["lung_lesion"] * 3):
        positives = can.loc[can[f"truth.{name}"] == 1, "image_id"]
        candidates = [resize(small.images[i], 32) for i in small.rows(positives)]
        assert any(np.array_equal(images.images[k], one) for one in candidates)


def test_under_sampled_labels_blurred_images_have_their_own_and_pretraining_has_the_gans(made, tmp_path):
    at, real, _ = made
    shutil.copytree(at, tmp_path, dirs_exist_ok=True)
    train, rng = real[real["split"] == "train"], np.random.default_rng(1)
    drawn = {name: balance.sources([name], k, train, rng) for name, k in RARE.items()}
    extra = [balance.synthetic_rows(name, k, "sampled", real, "frontal", drawn[name]) for name, k in RARE.items()]
    whole = pd.concat([real, *extra], ignore_index=True)
    whole.to_parquet(tmp_path / "balanced/table.parquet")
    plan = json.loads((tmp_path / "balanced/plan.json").read_text()) | {"labels": "sampled"}
    (tmp_path / "balanced/plan.json").write_text(json.dumps(plan))
    for name in ("blurred", "pretrained"):
        make(tmp_path, name)
    table, _, spec = of(tmp_path, "pretrained")
    pd.testing.assert_frame_equal(table, whole, check_dtype=False)
    assert spec["lead"]
    table, images, _ = of(tmp_path, "blurred")
    kinds = [c for c in real if c.startswith(("target.", "weight."))]
    small, labels = open_store(tmp_path / "stores/16"), real.set_index("image_id")[kinds]
    assert list(table["image_id"]) == list(whole["image_id"])
    for k in range(9):
        same = [n for n, i in zip(small.index["image_id"], small.images, strict=True)
                if np.array_equal(resize(i, 32), images.images[k])]  # fmt: skip
        assert (table.loc[60 + k, kinds] == labels.loc[same[0]]).all()


def test_under_masked_labels_pretraining_knows_the_rare_findings_and_no_other(made):
    rows = of(made[0], "pretrained")[0].query("synthetic")
    assert (rows[[f"weight.{name}" for name in RARE]] == 1).all(axis=None)
    others = [f"weight.{name}" for name in SLUGS if name not in RARE]
    assert (rows[others] == 0).all(axis=None)
    assert rows[[f"target.{name}" for name in RARE]].sum(axis=1).eq(1).all()


def test_pretraining_on_one_finding_that_nothing_is_negative_for_is_refused(made, tmp_path):
    shutil.copytree(made[0], tmp_path, dirs_exist_ok=True)
    plan = json.loads((tmp_path / "balanced/plan.json").read_text())
    plan["findings"] = {"pneumonia": plan["findings"]["pneumonia"]}
    (tmp_path / "balanced/plan.json").write_text(json.dumps(plan))
    with pytest.raises(ValueError, match="call everything positive; set balance.labels to sampled"):
        make(tmp_path, "pretrained")


def test_blurring_by_a_gan_of_the_classifiers_size_is_refused(made):
    with pytest.raises(ValueError, match=r"gan.size = 32 is not below classifier.size = 32: nothing would be blurred"):
        make(made[0], "blurred", gan_size=32)


def test_oversampling_repeats_none_before_every_one_was_used(made):
    at, real, _ = made
    table, _, _ = of(at, "oversampling")
    again = table.iloc[60:66]
    assert (again["truth.pneumonia"] == 1).all() and (again["projection"] == "frontal").all()
    counts = again["image_id"].value_counts()
    assert counts.max() - counts.min() <= 1
    with pytest.raises(ValueError, match="no certain positive"):
        arms.repeat_rows("fracture", 1, 1, real.assign(**{"truth.fracture": 0.0}), 0)


def test_pretraining_shows_the_generated_images_first_and_never_again():
    lead = np.array([7, 8, 9])
    rows = rows_by_step(2, 0, phases(10, 20, lead))
    drawn = [rows(t).tolist() for t in range(20)]
    assert all(set(d) <= {7, 8, 9} for d in drawn[:6]) and all(set(d) <= set(range(7)) for d in drawn[6:])
    assert [rows(t).tolist() for t in reversed(range(20))] == drawn[::-1]  # whatever was asked before


def test_the_last_third_sees_real_images_alone():
    rows = rows_by_step(2, 0, phases(10, 21, last_rows=np.arange(6), last=1 / 3))
    drawn = [set(rows(t).tolist()) for t in range(21)]
    assert all(d <= set(range(6)) for d in drawn[14:]) and any(d & {6, 7, 8, 9} for d in drawn[:14])
    assert set().union(*drawn[14:17]) == set(range(6))  # a permutation of its own
    plain = rows_by_step(2, 0, phases(10, 21))
    assert [set(plain(t).tolist()) for t in range(14)] == drawn[:14]


def test_without_a_lead_an_epoch_is_one_permutation():
    from cxr.training.batches import order

    rows = rows_by_step(3, 5, phases(10, 6))
    assert torch.equal(torch.cat([rows(t) for t in range(3)]), order(10, 5, 1, 0)[:9])
    assert torch.equal(rows(3), order(10, 5, 1, 1)[:3])


def test_positive_weights_reach_the_prevalence_by_hand():
    target, weight = np.zeros((10, 14), np.float32), np.ones((10, 14), np.float32)
    target[:2, 0] = 1  # 2 of 10: w 2 / (w 2 + 8) = 1/3 for w = 2
    target[:9, 1] = 1  # already more than a third: 1
    target[:2, 2] = 1  # not a rare one: 1
    spec = objectives.BASELINE | {"objective": "pos_weight", "shares": dict.fromkeys((*SLUGS[:2], SLUGS[3]), 1 / 3)}
    factors = objectives.objective(spec, target, weight).positive
    assert torch.allclose(factors[:4], torch.tensor([2.0, 1.0, 1.0, 1.0]))


def test_logit_adjustment_by_hand():
    """Menon et al. 2021, eq. 10: the log odds of the finding are added in training; a finding of one kind has none."""
    objective = LogitAdjusted([0.2, 0.0])
    logits, target = torch.tensor([[0.3, -1.0]]), torch.tensor([[1.0, 0.0]])
    weight = torch.tensor([[1.0, 3.0]])
    first = -np.log(1 / (1 + np.exp(-(0.3 + np.log(0.25)))))
    second = -np.log(1 - 1 / (1 + np.exp(1.0)))
    assert objective(logits, target, weight, 0.5).item() == pytest.approx((first + 3 * second) / 4, rel=1e-6)
    spec = objectives.BASELINE | {"objective": "logit_adjusted"}
    of_labels = objectives.objective(spec, np.array([[1.0, 0], [0, 0]]), np.array([[1.0, 1], [1, 0]]))
    assert of_labels.odds.tolist() == [0.0, 0.0]  # half of the first, none of the second


def test_group_dro_by_hand_and_the_worst_group_weighs_more():
    """Sagawa et al. 2020, algorithm 1, with a rate of 1: q is raised before the step, by groups that the batch has."""
    objective = GroupDro([0, 1, 1, 2], rate=1.0)
    logits, target, weight = torch.zeros(3, 2), torch.zeros(3, 2), torch.tensor([[1.0, 1], [1, 0], [1, 1]])
    logits[0] = 2.0
    loss = objective(logits, target, weight, 0.5, torch.tensor([0, 1, 2]))  # nobody of group 2
    first, second = np.log1p(np.exp(2.0)), np.log(2)
    q = np.array([np.exp(first), np.exp(second), 1.0])
    q /= q.sum()
    assert objective.q.tolist() == pytest.approx(q.tolist(), rel=1e-6)
    assert loss.item() == pytest.approx(q[0] * first + q[1] * second, rel=1e-6)
    logits.requires_grad_(True)
    objective(logits, target, weight, 0.5, torch.tensor([0, 1, 2])).backward()
    assert logits.grad[1, 1] == 0  # masked out
    assert list(objective.state_dict()) == ["q"]


def grouped(made):
    """(the arm's inputs, the real training rows, group -> rows by hand)."""
    at, real, _ = made
    train = real[real["split"] == "train"]
    views = dict(zip(train["image_id"], itertools.cycle(["AP", "AP", "PA", None]), strict=False))
    inputs = SimpleNamespace(real=real, train=train, generated=RARE, views=lambda: views, seed=0)
    rare = (train[[f"target.{name}" for name in RARE]] == 1).any(axis=1)
    view = train["image_id"].map(views).fillna("neither")
    return inputs, train, train.groupby([view, rare])["image_id"].apply(set).tolist()


def test_the_groups_are_views_with_and_without_a_rare_finding(made):
    inputs, train, by_hand = grouped(made)
    rows = arms.grouped_rows(inputs)
    pd.testing.assert_frame_equal(rows.drop(columns="group"), inputs.real)
    assert (rows.loc[rows["split"] != "train", "group"] == -1).all()
    groups = rows[rows["group"] >= 0].groupby("group")["image_id"].apply(set)
    assert sorted(groups.index) == list(range(len(by_hand))) and len(train) == sum(map(len, by_hand))
    assert all(group in by_hand for group in groups)


def test_balanced_groups_are_all_as_large_as_the_largest(made):
    inputs, train, by_hand = grouped(made)
    rows = arms.group_balanced_rows(inputs)
    assert (
        "group" not in rows and rows.iloc[: len(inputs.real)]["image_id"].tolist() == inputs.real["image_id"].tolist()
    )
    seen, most = rows[rows["split"] == "train"]["image_id"].value_counts(), max(map(len, by_hand))
    for group in by_hand:
        times = seen[list(group)]
        assert times.sum() == most and times.max() - times.min() <= 1


def test_the_auc_margin_loss_by_hand_and_its_minimax():
    """At the closed form of its inner variables it is LibAUC's minimax objective, over p (1 - p), on the whole set."""
    h = torch.tensor([0.9, 0.6, 0.4, 0.2, 0.1])
    y = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0])
    logits, target = torch.logit(h)[:, None], y[:, None]
    loss = AucMargin([0.4], warmup_share=0.0, decay=0.0)
    ours = loss(logits, target, torch.ones(5, 1), 0.0)
    a, b, p = h[y == 1].mean(), h[y == 0].mean(), 0.4
    alpha = max(0.0, float(1 + b - a))
    theirs = (
        (1 - p) * ((h - a) ** 2 * y).mean() + p * ((h - b) ** 2 * (1 - y)).mean()
        + 2 * alpha * (p * (1 - p) + (p * h * (1 - y) - (1 - p) * h * y).mean()) - p * (1 - p) * alpha**2
    )  # fmt: skip
    assert torch.isclose(ours, theirs / (p * (1 - p)), atol=1e-6)
    assert torch.isclose(ours, h[y == 1].var(correction=0) + h[y == 0].var(correction=0) + alpha**2, atol=1e-6)


def test_the_auc_margin_loss_starts_as_cross_entropy_and_raises_the_auc():
    generator = torch.Generator().manual_seed(0)
    y = (torch.rand(400, 1, generator=generator) < 0.1).float()
    x = torch.randn(400, 1, generator=generator) + y
    loss, ones = AucMargin([float(y.mean())]), torch.ones(400, 1)
    assert torch.equal(loss(x, y, ones, 0.0), CrossEntropy()(x, y, ones, 0.0))
    scale = torch.tensor([-0.5], requires_grad=True)
    optimiser = torch.optim.Adam([scale], lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        loss(scale * x, y, ones, 0.9).backward()
        optimiser.step()
    assert scale.item() > 0.2


def test_an_unknown_arm_and_a_torn_file_are_one_line(tmp_path):
    with pytest.raises(ValueError, match="unknown arm 'mixup'.*oversampling"):
        arms.check_arm("mixup")
    (tmp_path / "gan").mkdir()
    (tmp_path / "gan/arm.json").write_text(json.dumps(example(Arm, arm="gan", shares={"dragon": 0.1})))
    with pytest.raises(ValueError, match="dvc repro -f arm@gan"):
        objectives.read(tmp_path / "gan/arm.json")


def test_a_held_out_patient_among_the_real_rows_is_refused(made, tmp_path):
    at, _, whole = made
    leaky = whole.copy()
    leaky.loc[leaky["image_id"] == "i055", "split"] = "train"
    kept = (at / "balanced/table.parquet").read_bytes()
    leaky.to_parquet(at / "balanced/table.parquet")
    try:
        with pytest.raises(ValueError, match="p055|test"):
            make(at, "baseline")
    finally:
        (at / "balanced/table.parquet").write_bytes(kept)


def test_trainings_of_two_arms_differ_in_one_dependency(tmp_path):
    """In the pipeline as DVC resolves it: deps, params and, but for names, the command."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    controls = [name for name in arms.ARMS if name not in ("baseline", "gan")]
    params["study"] |= {"arms": controls}
    params["repeats"] = {"seeds": [0, 1]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    with Repo.init(str(tmp_path)) as repo:
        for config in (ROOT / ".dvc/config",):
            (tmp_path / ".dvc/config").write_bytes(config.read_bytes())
    with Repo(str(tmp_path)) as repo:
        stages = {s.name: s for s in repo.index.stages if getattr(s, "name", "").startswith("study@")}
    assert len(stages) == 2 * len(controls)

    def deps(name):
        return {str(d) for d in stages[name].deps}

    first, *others = controls
    for name in others:
        assert deps(f"study@{name}-0") ^ deps(f"study@{first}-0") == {f"data/arms/0/{name}", f"data/arms/0/{first}"}
        assert stages[f"study@{name}-0"].cmd.replace(name, first) == stages[f"study@{first}-0"].cmd
    assert deps(f"study@{first}-0") ^ deps(f"study@{first}-1") == {f"data/arms/{s}/{first}" for s in (0, 1)}
