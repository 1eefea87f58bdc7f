"""The classifier's loss, choice of epoch and repeatability, with a small net in DenseNet's place where only the loop
matters.
"""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torchvision.models import densenet121

from cxr.classifier import extra_images
from cxr.classifier import net as classifier_net
from cxr.classifier.objectives import BASELINE, CrossEntropy, MultiClass, objective
from cxr.classifier.settings import Settings
from cxr.classifier.train import Labelled, Trained, auc, fit, validation
from cxr.core import findings
from cxr.core.findings import SLUGS
from cxr.core.store import open_store, write_store
from cxr.training import weights
from cxr.training.batches import Images
from cxr.training.checkpoints import Checkpoints
from cxr.training.machine import fabric


def test_it_is_torchvisions_densenet_on_normalised_channels():
    net = classifier_net.build("none", seed=0).eval()
    x = torch.rand(2, 1, 64, 64)
    plain = densenet121(num_classes=14).eval()
    plain.load_state_dict(net.net.state_dict())
    assert torch.allclose(net(x), plain((x.expand(-1, 3, -1, -1) - 0.5) / 0.25), atol=1e-5)
    assert sum(p.numel() for p in net.parameters()) == 6_968_206  # 6,953,856 and a head of 1024 x 14 + 14


def test_masked_labels_do_not_move_the_loss():
    generator = torch.Generator().manual_seed(0)
    logits, target = torch.randn(6, 14, generator=generator), torch.rand(6, 14, generator=generator).round()
    everything, loss = torch.ones(6, 14), CrossEntropy()
    assert torch.isclose(loss(logits, target, everything, 0.0), F.binary_cross_entropy_with_logits(logits, target))
    mask = everything.clone()
    mask[:, 3] = 0
    expected = F.binary_cross_entropy_with_logits(logits[:, mask[0] > 0], target[:, mask[0] > 0])
    assert torch.isclose(loss(logits, target, mask, 0.0), expected)
    assert torch.equal(loss(logits, 1 - target, mask * 0, 0.0), torch.tensor(0.0))


def test_auc_is_scikit_learns_with_ties_and_the_uncertain_left_out():
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, np.nan], 200, p=[0.6, 0.3, 0.1])
    scores = rng.integers(0, 8, 200) / 8 + truth.clip(0, 1) * 0.1
    scores = np.where(np.isnan(truth), 0.5, scores)
    known = ~np.isnan(truth)
    assert auc(truth, scores) == pytest.approx(roc_auc_score(truth[known], scores[known]))


def test_validation_averages_only_what_can_be_judged():
    scores = np.tile(np.array([[0.1], [0.9]], np.float32), (1, 14))
    table = pd.DataFrame({f"truth.{s}": [0.0, 1.0] for s in SLUGS})
    table["truth.fracture"] = 0.0
    loss, macro = validation(scores, table, ["edema", "pneumonia"])
    assert macro == 1.0 and loss == pytest.approx((27 * -np.log(0.9) - np.log(0.1)) / 28, rel=1e-6)
    assert np.isnan(validation(scores, table, [])[1])


class Small(torch.nn.Module):
    """A classifier of two layers: the loop under test does not depend on the net."""

    def __init__(self, outputs=14):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.AvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.Linear(8, outputs)
        )

    def forward(self, x):
        return self.net(x)


@pytest.fixture
def data(tmp_path):
    """120 images whose brightness is finding 0, ten of them for validation."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (120, 14)).astype(np.float32)
    images = (rng.integers(0, 90, (120, 16, 16)) + 120 * truth[:, 0, None, None]).astype(np.uint8)
    names = np.array([f"i{n:03d}" for n in range(120)], object)
    write_store(tmp_path / "store", images, pd.DataFrame({"image_id": names}))
    store = open_store(tmp_path / "store")
    columns = {f"{kind}.{s}": truth[:, k] for kind in ("target", "truth") for k, s in enumerate(SLUGS)}
    table = pd.DataFrame({"image_id": names} | columns | {f"weight.{s}": np.float32(1) for s in SLUGS})
    parts = [table[:80].reset_index(drop=True), table[80:].reset_index(drop=True)]
    return [Labelled(part, Images([store], part["image_id"])) for part in parts]


SETTINGS = Settings(batch=16, lr=1e-2, average=0.5, crop_min=0.8, flip=0.5, rotate=5.0, seed=1)


def train(data, folder, epochs, *, objective=None, outputs=14, first_rows=None, **changes) -> Trained:
    torch.manual_seed(0)
    return fit(
        fabric("32-true"), Small(outputs), *data, Checkpoints(folder, {}, 60), objective or CrossEntropy(),
        SETTINGS.model_copy(update=changes | {"epochs": epochs}), label="baseline",
        select_on=["no_finding"], first_rows=first_rows,
    )  # fmt: skip


def test_it_learns_and_keeps_the_best_epoch(data, tmp_path):
    model, history, best = train(data, tmp_path / "c", 6)
    assert history["valid_macro_auc"].max() > 0.9
    assert best == history["valid_macro_auc"].idxmax() + 1
    scores = classifier_net.predict(fabric("32-true"), model, data[1][1])
    assert auc(data[1][0]["truth.no_finding"].to_numpy(), scores[:, 0]) == pytest.approx(
        history["valid_macro_auc"].max()
    )


def test_a_longer_training_continues_a_shorter_one_exactly(data, tmp_path):
    whole, history, best = train(data, tmp_path / "a", 5)
    train(data, tmp_path / "b", 2)
    resumed, history2, best2 = train(data, tmp_path / "b", 5)
    assert history.equals(history2) and best == best2
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_an_epoch_before_what_an_arm_is_named_after_is_never_the_best(data, tmp_path):
    class Late(CrossEntropy):
        """From half of the steps on it unlearns, so that the best epochs by validation are the first."""

        warmup_share = 0.5

        def forward(self, logits, target, weight, done, rows):
            loss = super().forward(logits, target, weight, done, rows)
            return loss if done < self.warmup_share else -0.1 * loss

    _, history, best = train(data, tmp_path / "a", 4, objective=Late(), average=0.0)
    assert history["valid_macro_auc"].idxmax() + 1 <= 2 < best
    _, history, best = train(
        data, tmp_path / "b", 4, first_rows=np.arange(60), average=0.0
    )  # three quarters of the rows
    assert best == 4


def test_a_training_that_diverges_stops_with_the_cure(data, tmp_path):
    with pytest.raises(
        ValueError, match="baseline: epoch 1, step . of 5: loss = (nan|inf); lower classifier.lr .now 1e.38."
    ):
        train(data, tmp_path, 1, lr=1e38)


def test_build_starts_from_a_file_and_says_what_it_lacks(tmp_path, monkeypatch):
    net = classifier_net.build("none", seed=0)
    assert torch.equal(net.net.features.conv0.weight, classifier_net.build("none", seed=0).net.features.conv0.weight)
    weights.save(tmp_path / "w.safetensors", net.state_dict(), {})
    again = classifier_net.build(str(tmp_path / "w.safetensors"), seed=5)
    assert torch.equal(again.net.classifier.weight, net.net.classifier.weight)
    choices = "none, imagenet, IMAGENET1K_V1, DEFAULT, xrv:<name> or a .safetensors path"
    with pytest.raises(ValueError, match=f"classifier.weights = 'imagnet': .* choose from {choices}"):
        classifier_net.build("imagnet", seed=0)
    with pytest.raises(ValueError, match=r"classifier.weights = 'no/w.safetensors': no such file"):
        classifier_net.build("no/w.safetensors", seed=0)
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *a, **k: (_ for _ in ()).throw(OSError("no route"))
    )
    with pytest.raises(ValueError, match="could not be fetched .*classifier.weights=none"):
        classifier_net.build("imagenet", seed=0)


def test_imagenets_weights_and_normalisation_come_together(monkeypatch):
    theirs = densenet121().state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *a, **k: theirs)
    net = classifier_net.build("imagenet", seed=0)
    assert torch.equal(net.net.features.conv0.weight, theirs["features.conv0.weight"])
    assert net.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


def with_uncertain(table, share=0.3, seed=0):
    """A label table of which a share of the labels is uncertain, as u_multiclass writes it."""
    table = table.copy()
    own = np.random.default_rng(seed).random((len(table), 14)) < share
    for k, slug in enumerate(SLUGS):
        for kind, value in (("target", 0), ("weight", 0), ("truth", np.nan)):
            table.loc[own[:, k], f"{kind}.{slug}"] = np.float32(value)
        table[f"uncertain.{slug}"] = own[:, k].astype(np.float32)
    return table


def test_three_classes_are_torchs_cross_entropy_and_masked_labels_do_not_count():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 42, generator=generator)
    target = torch.randint(0, 3, (6, 14), generator=generator).float()
    weight = (torch.rand(6, 14, generator=generator) < 0.7).float()
    each = [
        F.cross_entropy(logits[i, 3 * k : 3 * k + 3], target[i, k].long())
        for i in range(6)
        for k in range(14)
        if weight[i, k]
    ]
    assert torch.isclose(MultiClass()(logits, target, weight, 0.0), torch.stack(each).mean())
    assert MultiClass()(logits, target, weight * 0, 0.0) == 0


def test_the_score_of_three_classes_is_the_positives_share_of_positive_and_negative_by_hand():
    logits = torch.zeros(1, 42)
    logits[0, :3] = torch.log(torch.tensor([0.1, 0.3, 0.6]))  # P(negative), P(positive), P(uncertain)
    logits[0, 3:6] = torch.log(torch.tensor([0.2, 0.05, 0.75]))
    scores = classifier_net.probability(logits)[0]
    assert scores[:3].tolist() == pytest.approx([0.75, 0.2, 0.5])
    assert classifier_net.probability(torch.zeros(1, 14)).tolist() == [[0.5] * 14]


def test_a_table_of_three_classes_says_so_and_is_checked(data):
    table = with_uncertain(data[0][0])
    assert (classifier_net.classes_of(data[0][0]), classifier_net.classes_of(table)) == (2, 3)
    target, weight = classifier_net.targets_and_weights(table)
    own = findings.columns_of(table, "uncertain") == 1
    assert own.any() and (target[own] == 2).all() and (weight[own] == 1).all()
    assert np.array_equal(target[~own], findings.columns_of(data[0][0], "target")[~own])
    with pytest.raises(ValueError, match="it has uncertain.no_finding but not uncertain.edema"):
        classifier_net.classes_of(table.drop(columns="uncertain.edema"))
    with pytest.raises(ValueError, match="is not 1 or 0, or is 1 beside a weight"):
        classifier_net.classes_of(table.assign(**{"weight.edema": 1.0}))
    spec = BASELINE | {"objective": "auc_margin"}
    with pytest.raises(ValueError, match="take auc_margin out of study.arms, or choose another final.policy"):
        objective(spec, target, weight, 3)


def test_three_classes_learn_and_a_longer_training_continues_a_shorter_one_exactly(data, tmp_path):
    parts = [Labelled(with_uncertain(data[0].table), data[0].images), data[1]]
    settings = {"objective": MultiClass(), "outputs": 42}
    whole, history, best = train(parts, tmp_path / "a", 5, **settings)
    assert history["valid_macro_auc"].max() > 0.9
    train(parts, tmp_path / "b", 2, **settings)
    resumed, history2, best2 = train(parts, tmp_path / "b", 5, **settings)
    assert history.equals(history2) and best == best2
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_a_net_of_three_classes_has_three_outputs_per_finding_and_starts_from_no_other(tmp_path):
    net = classifier_net.build("none", seed=0, classes=3)
    assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 42)
    weights.save(tmp_path / "w.safetensors", net.state_dict(), {})
    with pytest.raises(ValueError, match="weights of another architecture; 2 tensors"):
        classifier_net.build(str(tmp_path / "w.safetensors"), seed=0)


def test_a_frozen_net_trains_its_head_alone_and_repeats(data, tmp_path):
    parts = []
    for number, part in enumerate(data):
        pixels = part.images.gather(torch.arange(len(part.table)))[:, 0].repeat_interleave(2, 1)
        write_store(tmp_path / str(number), pixels.repeat_interleave(2, 2).numpy(), part.table[["image_id"]])
        parts.append(part._replace(images=Images([open_store(tmp_path / str(number))], part.table["image_id"])))

    def frozen(folder):
        net = classifier_net.build("none", 5, backbone="densenet_small")
        net.freeze()
        before = {name: value.clone() for name, value in net.state_dict().items()}
        trained = fit(
            fabric("32-true"), net, *parts, Checkpoints(folder, {}, 60), CrossEntropy(),
            SETTINGS.model_copy(update={"epochs": 2}), label="baseline", select_on=["no_finding"],
        )  # fmt: skip
        after = trained.net.state_dict()
        return {name for name, value in before.items() if not torch.equal(value, after[name])}, after

    changed, first = frozen(tmp_path / "a")
    assert changed == {"net.classifier.weight", "net.classifier.bias"}
    assert all(torch.equal(value, first[name]) for name, value in frozen(tmp_path / "b")[1].items())


@pytest.mark.parametrize("name", ["pos_weight", "group_dro"])
def test_an_arm_whose_weights_or_groups_are_of_the_table_takes_no_extra_data(name):
    with pytest.raises(ValueError, match=f"study.arms has {name}, .* classifier.extra"):
        extra_images.lengthened({"objective": name, "epoch_images": 40}, 8)
    assert extra_images.lengthened({"objective": "cross_entropy", "epoch_images": 40}, 8)["epoch_images"] == 48
    assert extra_images.lengthened({"objective": "cross_entropy", "epoch_images": 0}, 8)["epoch_images"] == 0
