"""editing: real X-rays of training patients into which a trained diffusion model draws findings.

python -m stages.editing --diffusion models/gan/0/diffusion --records data/chexpert/records.parquet --stores
data/stores/chexpert --split data/splits/chexpert ...
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from cxr.diffusion.settings import Edit

from .cli import main
from .options import RARE, Records, Repeat, SplitFolder, Stores, takes_settings


@takes_settings
def run(
    diffusion: Annotated[Path, Option(help="folder of the diffusion model that edits")],
    records: Records,
    stores: Stores,
    split: SplitFolder,
    model: Annotated[Path, Option(help="folder for the generator and its sources")],
    report: Annotated[Path, Option(help="folder for kept.json and the pictures")],
    settings: Edit,
    findings: Annotated[list[str], Option(help="slugs; a row of one picture for each, of the same sources")] = RARE,
    repeat: Repeat = 0,
) -> None:
    """Choose the X-rays that are edited, and put them beside the diffusion model."""
    from PIL import Image

    from cxr.core.everybody import everybody
    from cxr.core.files import atomic, read_json, write_json
    from cxr.core.picture import grid
    from cxr.core.store import open_store, write_store
    from cxr.diffusion import editing, net
    from cxr.diffusion.formats import Generator, settings_of
    from cxr.training.machine import device
    from cxr.training.weights import load_into, save

    how, stage = settings.model_copy(update={"seed": settings.seed + repeat}), f"diffusion@{repeat}"
    about = read_json(diffusion / "generator.json", stage, Generator)
    data = everybody(records, split, about.view, f"editing@{repeat}")
    if about.split_sha256 != data.split_sha256:
        raise ValueError(
            f"{diffusion}: was trained on another split, so held-out patients may be in it; `dvc repro -f {stage}` "
            "makes it again"
        )
    store, index = open_store(stores / str(about.size)), editing.choose(data.training, how)
    sources = store.images[store.rows(index["image_id"])]
    others = store.images[store.rows(editing.others(data.training, index, how))]
    meta = editing.reports(about, how, model.name)
    denoiser = net.build(settings_of(about), len(about.conditions))
    load_into(denoiser, diffusion / "generator.safetensors")
    sheets = editing.sheets(denoiser.to(device()), sources, index, others, meta, findings, device())
    with atomic(model) as folder, atomic(report) as pictures:
        folder.mkdir()
        save(folder / "generator.safetensors", denoiser.state_dict(), meta)
        write_store(folder / "sources", sources, index)
        pictures.mkdir()
        write_json(pictures / "kept.json", editing.kept(index, sheets.masked))
        for name in ("real", "generated", "rows"):
            Image.fromarray(grid(getattr(sheets, name))).save(pictures / f"{name}.png")
    print(f"editing: {len(index):,} X-rays of training patients, of which an edit may change {sheets.masked:.0%}")


if __name__ == "__main__":
    main(run)
