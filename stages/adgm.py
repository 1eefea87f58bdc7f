"""adgm: the auxiliary deep generative model (paper 2) on RSNA, for one number of classes and of labels per class.

python -m stages.adgm --classes 2 --labels 100 --records data/rsna/records.parquet --store data/stores/rsna/225 ...
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from stages.cli import main, read_split
from stages.training import training_state


def run(
    classes: Annotated[int, Option(min=2, max=3, help="2: Abnormal, Normal; 3: the challenge's own")],
    labels: Annotated[int, Option(min=1, help="labelled training images per class; the others go unlabelled")],
    records: Annotated[Path, Option(help="RSNA's records.parquet")],
    store: Annotated[Path, Option(help="RSNA's images, packed at this size")],
    split: Annotated[Path, Option(help="the split's parquet file; its .json lies beside it")],
    model: Annotated[Path, Option(help="folder for model.safetensors and model.json")],
    predictions: Annotated[Path, Option(help="parquet: the validation images' probabilities")],
    report: Annotated[Path, Option(help="folder for history.csv and samples.png")],
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
    precision: Annotated[Literal["auto", "32-true", "bf16-mixed"], Option()] = "auto",
    seed: Annotated[int, Option(min=0)] = 0,
    checkpoint_minutes: Annotated[
        float, Option(min=0.0, envvar="CXR_CHECKPOINT_MINUTES", help="between two saves of the training state")
    ] = 5.0,
    state: Annotated[Path | None, Option(help="where training state survives; default .checkpoints")] = None,
) -> None:
    """Train the ADGM and predict the validation images."""
    import sys

    from PIL import Image

    from cxr import adgm, adgm_train
    from cxr.batches import Images
    from cxr.files import atomic, write_table
    from cxr.labels import CLASS_NAMES
    from cxr.records import load
    from cxr.runtime import fabric
    from cxr.splits import guard
    from cxr.store import open_store
    from cxr.weights import save

    adgm.decoder_maps(size)
    splits, about = read_split(split, "rsna")
    table = adgm_train.assign(load(records, "rsna"), splits, classes=classes, labels=labels, seed=seed)
    train, valid = table[table["role"] != "valid"], table[table["role"] == "valid"].reset_index(drop=True)
    known = train.loc[train["role"] == "labelled", "label"].to_numpy()
    guard(train, splits, by=about["by"], what=str(records))
    drawn = {name: int((known == k).sum()) for k, name in enumerate(CLASS_NAMES[classes])}
    if min(drawn.values()) < labels:
        held = ", ".join(f"{name} {n}" for name, n in drawn.items())
        print(f"adgm@{classes}-{labels}: fewer than {labels} labels in a class, nine in ten are drawn: {held}")

    counts = train["label"].value_counts().reindex(range(classes)) if prior == "training" else [1] * classes
    shares = [float(count / sum(counts)) for count in counts]

    machine = fabric(precision)
    packed = open_store(store)
    if packed.size != size:
        raise ValueError(
            f"{store} holds images of {packed.size} px, not of adgm.size = {size}: run the resize stage again"
        )
    images = [Images([packed], part["image_id"], machine.device) for part in (train, valid)]
    settings = {
        "classes": classes, "batch": batch, "lr": lr, "weight_decay": weight_decay, "beta": beta,
        "warmup_epochs": warmup_epochs, "likelihood_weight": likelihood_weight, "z_dim": z_dim, "a_dim": a_dim,
        "dropout": dropout, "flip": flip, "rotate": rotate, "scale": [scale_min, scale_max], "shift": shift,
        "average": average, "predict_samples": predict_samples, "prior": shares, "seed": seed,
    }  # fmt: skip
    label = f"adgm@{classes}-{labels}"
    inputs = {"records": records, "split": split, "store": store}
    params = {"size": size, "labels": labels} | settings
    checkpoints = training_state(__file__, label, machine, inputs, params, checkpoint_minutes, state)
    done = adgm_train.train(
        machine, images[0], known, images[1], valid["label"].to_numpy(), checkpoints,
        label=label, epochs=epochs, **settings,
    )  # fmt: skip
    if not machine.is_global_zero:
        return
    if warning := adgm_train.collapse(done.history.iloc[-1], z_dim, likelihood_weight):
        print(f"{label}: {warning}", file=sys.stderr)

    meta = {"net": "ADGM", "class_names": list(CLASS_NAMES[classes]), "labels": labels, "size": size} | settings
    meta |= {"n_labelled": len(known), "drawn": drawn, "n_unlabelled": len(train) - len(known), "n_valid": len(valid)}
    meta |= {"alpha": done.alpha, "epochs": epochs, "best_epoch": done.best_epoch, "split_sha256": about["sha256"]}
    found = valid[["image_id", "patient_id", "split", "label"]].copy()
    for which, prob in (("last", done.last), ("best", done.best)):
        found[[f"prob_{which}.{k}" for k in range(classes)]] = prob
    with atomic(model) as net, atomic(report) as shown, atomic(predictions) as found_file:
        net.mkdir()
        save(net / "model.safetensors", done.net.state_dict(), meta)
        shown.mkdir()
        write_table(shown / "history.csv", done.history)
        Image.fromarray(adgm_train.conditional_means(done.net, 8, seed)).save(shown / "samples.png")
        write_table(found_file, found.assign(split_sha256=about["sha256"]))


if __name__ == "__main__":
    main(run)
