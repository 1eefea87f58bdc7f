"""adgm: the auxiliary deep generative model (paper 2) on RSNA, or a control arm.

One run is one variant, one number of classes, one number of labels per class, and one draw of those labels.

    python -m stages.adgm --variant corrected --classes 2 --labels 100 --draw 0 --records data/rsna/records.parquet
    --store data/stores/rsna/225 ...
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from cxr.adgm.variants import Name

from .cli import main
from .options import CheckpointMinutes, Precision, Seed, SplitFolder, State
from .state import training_state


def run(
    variant: Annotated[Name, Option(help="variant of the model, or control arm; see cxr/adgm/variants.py")],
    classes: Annotated[int, Option(min=2, max=3, help="2: Abnormal, Normal; 3: the challenge's classes")],
    labels: Annotated[int, Option(min=1, help="labelled training images per class; the others are unlabelled")],
    draw: Annotated[int, Option(min=0, help="added to the seed: other labels, initial weights and batches")],
    records: Annotated[Path, Option(help="RSNA's records.parquet")],
    store: Annotated[Path, Option(help="RSNA's images, packed at this size")],
    split: SplitFolder,
    model: Annotated[Path, Option(help="folder for model.safetensors and model.json")],
    predictions: Annotated[Path, Option(help="parquet: the validation images' probabilities")],
    report: Annotated[Path, Option(help="folder for history.csv, samples.png, samples.json")],
    size: Annotated[
        int, Option(min=17, max=1024, help="side of the images, pixels; among others 65, 113 and 225 fit the decoder")
    ] = 225,
    epochs: Annotated[
        int, Option(min=1, help="passes over the unlabelled images; the paper: 100, with 3 classes 200")
    ] = 100,
    batch: Annotated[int, Option(min=2, help="labelled images in a step, and as many unlabelled ones")] = 15,
    lr: Annotated[float, Option(min=0.0, help="Adam's learning rate")] = 1e-4,
    weight_decay: Annotated[float, Option(min=0.0, help="Adam's weight decay")] = 1e-5,
    beta: Annotated[
        float, Option(min=0.0, help="classification loss: its weight is alpha = beta (N_l + N_u) / N_l")
    ] = 1.0,
    warmup_epochs: Annotated[float, Option(min=0.0, help="epochs until the divergences count in full")] = 100.0,
    likelihood_weight: Annotated[
        float, Option(min=0.0, max=1.0, help="weight of the pixels' summed log-likelihood; 1: the true bound")
    ] = 0.01,
    free_bits: Annotated[float, Option(min=0.0, help="nats that each unit of z costs at least")] = 0.0,
    z_dim: Annotated[int, Option(min=1, help="size of the latent variable z")] = 128,
    a_dim: Annotated[int, Option(min=1, help="size of the auxiliary variable a")] = 128,
    dropout: Annotated[float, Option(min=0.0, max=0.9)] = 0.2,
    flip: Annotated[float, Option(min=0.0, max=1.0, help="probability of a mirror image")] = 0.5,
    rotate: Annotated[float, Option(min=0.0, max=45.0, help="largest rotation, degrees, both ways")] = 15.0,
    scale_min: Annotated[float, Option(min=0.25, max=1.0, help="least magnification")] = 0.8,
    scale_max: Annotated[float, Option(min=1.0, max=4.0, help="largest magnification")] = 1.2,
    shift: Annotated[float, Option(min=0.0, max=0.5, help="largest shift, share of the size, both ways")] = 0.05,
    average: Annotated[
        float, Option(min=0.0, max=0.9999, help="decay of the running average of the weights; 0: no average")
    ] = 0.0,
    predict_samples: Annotated[int, Option(min=1, help="draws of a that a prediction averages q(y|a,x) over")] = 8,
    prior: Annotated[
        Literal["uniform", "training"],
        Option(help="class shares that predictions assume: equal, as in the labelled draw, or the training images'"),
    ] = "uniform",
    threshold: Annotated[
        float, Option(min=0.0, max=1.0, help="pseudo_label: least probability of a pseudo-label")
    ] = 0.95,
    pseudo_weight: Annotated[float, Option(min=0.0, help="pseudo_label: weight of the pseudo-label loss")] = 1.0,
    consistency_weight: Annotated[float, Option(min=0.0, help="mean_teacher: weight of the consistency loss")] = 10.0,
    teacher: Annotated[float, Option(min=0.0, max=0.9999, help="mean_teacher: decay of the teacher's average")] = 0.999,
    precision: Precision = "auto",
    seed: Seed = 0,
    checkpoint_minutes: CheckpointMinutes = 5.0,
    state: State = None,
) -> None:
    """Train the ADGM or a control arm and predict the validation images."""
    import sys

    from PIL import Image

    from cxr.adgm.formats import Model, Samples
    from cxr.adgm.labelled import draw_labels
    from cxr.adgm.nets import decoder_maps
    from cxr.adgm.run import TRAININGS
    from cxr.adgm.run import run as train
    from cxr.adgm.settings import NEUTRAL, Settings
    from cxr.core.files import atomic, write_json, write_table
    from cxr.core.guard import SPLIT, guard, read_split
    from cxr.core.records import load
    from cxr.core.store import open_store
    from cxr.training.machine import fabric
    from cxr.training.weights import save

    decoder_maps(size)  # refuses a size that does not fit
    arm = TRAININGS[variant]
    settings = arm.settle(Settings(
        labels=labels, draw=draw, size=size, variant=variant, classes=classes, batch=batch, lr=lr,
        weight_decay=weight_decay, beta=beta, warmup_epochs=warmup_epochs, likelihood_weight=likelihood_weight,
        free_bits=free_bits, z_dim=z_dim, a_dim=a_dim, dropout=dropout, average=average,
        predict_samples=predict_samples, prior=prior, seed=seed + draw, flip=flip, rotate=rotate,
        scale=(scale_min, scale_max), shift=shift, threshold=threshold, pseudo_weight=pseudo_weight,
        consistency_weight=consistency_weight, teacher=teacher,
    ))  # fmt: skip
    table, split_info = read_split(split, "rsna")
    images = draw_labels(load(records, "rsna"), table, classes=classes, labels=labels, seed=settings.seed)
    guard(images.train, table, by=split_info.by, what=str(records))
    if images.warning:
        print(f"{settings.name}: {images.warning}", file=sys.stderr)
    packed = open_store(store)
    if packed.size != size:
        raise ValueError(
            f"{store} holds images of {packed.size} px, not of adgm.size = {size}: run the resize stage again"
        )
    machine = fabric(precision)
    inputs = {"records": records, "split": split / SPLIT, "store": store}
    params = arm.shaping(settings)
    checkpoints = training_state(__file__, settings.name, machine, inputs, params, checkpoint_minutes, state, NEUTRAL)
    result = train(machine, images, packed, settings, checkpoints, epochs=epochs)
    if result is None:  # not the first of several devices
        return
    if result.warning:
        print(f"{settings.name}: {result.warning}", file=sys.stderr)
    with atomic(model) as model_to, atomic(report) as report_to, atomic(predictions) as predictions_to:
        model_to.mkdir()
        info = Model(**result.info, split_sha256=split_info.sha256)
        save(model_to / "model.safetensors", result.net.state_dict(), info)
        report_to.mkdir()
        write_table(report_to / "history.csv", result.history)
        if result.picture is not None:
            Image.fromarray(result.picture).save(report_to / "samples.png")
            write_json(report_to / "samples.json", Samples(**result.agreement))
        write_table(predictions_to, result.predictions.assign(split_sha256=split_info.sha256))


if __name__ == "__main__":
    main(run)
