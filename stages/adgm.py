"""adgm: the auxiliary deep generative model (paper 2) on RSNA, or a control arm, for one number of classes, of labels
per class, and one draw of them.

    python -m stages.adgm --variant corrected --classes 2 --labels 100 --draw 0 --records data/rsna/records.parquet
    --store data/stores/rsna/225 ...
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from stages.cli import main
from stages.state import training_state


def run(
    variant: Annotated[
        Literal["corrected", "paper", "paper_code", "no_z", "supervised", "pseudo_label", "mean_teacher"],
        Option(help="of the model, or a control arm; cxr/adgm/variants.py says what each is"),
    ],
    classes: Annotated[int, Option(min=2, max=3, help="2: Abnormal, Normal; 3: the challenge's own")],
    labels: Annotated[int, Option(min=1, help="labelled training images per class; the others go unlabelled")],
    draw: Annotated[int, Option(min=0, help="added to the seed: other labels, initial weights and batches")],
    records: Annotated[Path, Option(help="RSNA's records.parquet")],
    store: Annotated[Path, Option(help="RSNA's images, packed at this size")],
    split: Annotated[Path, Option(help="the split's folder: split.parquet and split.json")],
    model: Annotated[Path, Option(help="folder for model.safetensors and model.json")],
    predictions: Annotated[Path, Option(help="parquet: the validation images' probabilities")],
    report: Annotated[Path, Option(help="folder for history.csv, samples.png, samples.json")],
    size: Annotated[int, Option(min=17, max=1024, help="65, 113 or 225 fit the decoder, among others")] = 225,
    epochs: Annotated[int, Option(min=1, help="passes over the unlabelled; the paper: 100, for 3 classes 200")] = 100,
    batch: Annotated[int, Option(min=2, help="labelled images a step, and as many unlabelled")] = 15,
    lr: Annotated[float, Option(min=0.0)] = 1e-4,
    weight_decay: Annotated[float, Option(min=0.0)] = 1e-5,
    beta: Annotated[float, Option(min=0.0, help="of the classification loss: alpha = beta (N_l + N_u) / N_l")] = 1.0,
    warmup_epochs: Annotated[float, Option(min=0.0, help="until the divergences count in full")] = 100.0,
    likelihood_weight: Annotated[
        float, Option(min=0.0, max=1.0, help="of the pixels' summed log-likelihood; 1: the true bound")
    ] = 0.01,
    free_bits: Annotated[float, Option(min=0.0, help="nats that each unit of z costs at least")] = 0.0,
    z_dim: Annotated[int, Option(min=1)] = 128,
    a_dim: Annotated[int, Option(min=1)] = 128,
    dropout: Annotated[float, Option(min=0.0, max=0.9)] = 0.2,
    flip: Annotated[float, Option(min=0.0, max=1.0, help="probability of a mirror image")] = 0.5,
    rotate: Annotated[float, Option(min=0.0, max=45.0, help="degrees, both ways")] = 15.0,
    scale_min: Annotated[float, Option(min=0.25, max=1.0)] = 0.8,
    scale_max: Annotated[float, Option(min=1.0, max=4.0)] = 1.2,
    shift: Annotated[float, Option(min=0.0, max=0.5, help="share of the size, both ways")] = 0.05,
    average: Annotated[
        float, Option(min=0.0, max=0.9999, help="decay of the running average of the weights; 0: the last step's")
    ] = 0.0,
    predict_samples: Annotated[int, Option(min=1, help="draws of a that q(y|a,x) is averaged over")] = 8,
    prior: Annotated[
        Literal["uniform", "training"],
        Option(help="class shares that predictions count on: equal, as in the labelled draw, or the training images'"),
    ] = "uniform",
    threshold: Annotated[float, Option(min=0.0, max=1.0, help="pseudo_label: the least probability of a label")] = 0.95,
    pseudo_weight: Annotated[float, Option(min=0.0, help="pseudo_label: of its term")] = 1.0,
    consistency_weight: Annotated[float, Option(min=0.0, help="mean_teacher: of its term")] = 10.0,
    teacher: Annotated[float, Option(min=0.0, max=0.9999, help="mean_teacher: decay of the teacher's average")] = 0.999,
    precision: Annotated[Literal["auto", "32-true", "bf16-mixed"], Option()] = "auto",
    seed: Annotated[int, Option(min=0)] = 0,
    checkpoint_minutes: Annotated[
        float, Option(min=0.0, envvar="CXR_CHECKPOINT_MINUTES", help="between two saves of the training state")
    ] = 5.0,
    state: Annotated[Path | None, Option(help="where training state survives; default .checkpoints")] = None,
) -> None:
    """Train the ADGM or a control arm and predict the validation images."""
    import sys

    from PIL import Image

    from cxr.adgm import nets, samples
    from cxr.adgm import train as adgm_train
    from cxr.adgm.controls import Semi
    from cxr.adgm.formats import Model, Samples
    from cxr.adgm.labelled import assign
    from cxr.adgm.variants import GENERATIVE, Run
    from cxr.core.files import atomic, write_json, write_table
    from cxr.core.findings import CLASS_NAMES
    from cxr.core.guard import SPLIT, guard, read_split
    from cxr.core.records import load
    from cxr.core.store import open_store
    from cxr.training.batches import Images
    from cxr.training.machine import fabric
    from cxr.training.weights import save

    nets.decoder_maps(size)
    splits, about = read_split(split, "rsna")
    seed += draw
    table = assign(load(records, "rsna"), splits, classes=classes, labels=labels, seed=seed)
    train, valid = table[table["role"] != "valid"], table[table["role"] == "valid"].reset_index(drop=True)
    known = train.loc[train["role"] == "labelled", "label"].to_numpy()
    guard(train, splits, by=about.by, what=str(records))
    drawn = {name: int((known == k).sum()) for k, name in enumerate(CLASS_NAMES[classes])}
    label = f"adgm@{Run(variant, classes, labels, draw).name}"
    if min(drawn.values()) < labels:
        held = ", ".join(f"{name} {n}" for name, n in drawn.items())
        print(f"{label}: fewer than {labels} labels in a class, nine in ten are drawn: {held}")

    counts = train["label"].value_counts().reindex(range(classes)) if prior == "training" else [1] * classes
    shares = [float(count / sum(counts)) for count in counts]

    machine = fabric(precision)
    packed = open_store(store)
    if packed.size != size:
        raise ValueError(
            f"{store} holds images of {packed.size} px, not of adgm.size = {size}: run the resize stage again"
        )
    images = [Images([packed], part["image_id"], machine.device) for part in (train, valid)]
    geometry = {"flip": flip, "rotate": rotate, "scale": [scale_min, scale_max], "shift": shift}
    settings = {
        "variant": variant, "classes": classes, "batch": batch, "lr": lr, "weight_decay": weight_decay, "beta": beta,
        "warmup_epochs": warmup_epochs, "likelihood_weight": likelihood_weight, "free_bits": free_bits, "z_dim": z_dim,
        "a_dim": a_dim, "dropout": dropout, "average": average, "predict_samples": predict_samples, "prior": shares,
        "seed": seed,
    } | geometry | adgm_train.fixed(variant, classes, size)  # fmt: skip
    semi = Semi(threshold, pseudo_weight, consistency_weight, teacher)
    inputs = {"records": records, "split": split / SPLIT, "store": store}
    params = {"size": size, "labels": labels, "semi": list(semi)} | settings
    checkpoints = training_state(__file__, label, machine, inputs, params, checkpoint_minutes, state)
    done = adgm_train.train(
        machine, images[0], known, images[1], valid["label"].to_numpy(), checkpoints,
        label=label, epochs=epochs, semi=semi, **settings,
    )  # fmt: skip
    if not machine.is_global_zero:
        return
    if generative := variant in GENERATIVE:
        warning = samples.collapse(
            done.history.iloc[-1], z_dim, None if adgm_train.fixed(variant, classes, size) else likelihood_weight
        )
        if warning and variant != "no_z":
            print(f"{label}: {warning}", file=sys.stderr)
        y_train, y_valid = (part["label"].to_numpy() for part in (train, valid))
        judged = samples.agreement(done.net, images[0], y_train, images[1], y_valid, seed=seed, **geometry)

    meta = {"net": type(done.net).__name__, "class_names": list(CLASS_NAMES[classes]), "labels": labels, "draw": draw}
    meta |= {"size": size} | settings | (semi._asdict() if not generative else {})
    meta |= {"n_labelled": len(known), "drawn": drawn, "n_unlabelled": len(train) - len(known), "n_valid": len(valid)}
    meta |= {"alpha": done.alpha, "epochs": epochs, "best_epoch": done.best_epoch, "split_sha256": about.sha256}
    found = valid[["image_id", "patient_id", "split", "label", *(["rows"] if "rows" in valid else [])]].copy()
    for which, prob in (("last", done.last), ("best", done.best)):
        found[[f"prob_{which}.{k}" for k in range(classes)]] = prob
    with atomic(model) as net, atomic(report) as shown, atomic(predictions) as found_file:
        net.mkdir()
        save(net / "model.safetensors", done.net.state_dict(), Model(**meta))
        shown.mkdir()
        write_table(shown / "history.csv", done.history)
        if generative:
            Image.fromarray(samples.conditional_means(done.net, 8, seed)).save(shown / "samples.png")
            write_json(shown / "samples.json", Samples(**judged))
        write_table(found_file, found.assign(split_sha256=about.sha256))


if __name__ == "__main__":
    main(run)
