"""Spark against the pool and pandas on the same cores: images/s of resize, rows/s of explore and download, peak memory.

Not among `python -m benchmarks`: it needs Java, and minutes. Spark's start is timed apart.

python -m benchmarks.spark --cores 2 --images 600 --rows 1000000
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks import inputs
from cxr.core.files import sha256
from cxr.core.findings import CLASSES, FINDINGS
from cxr.data.sources.archive import Folder

BLOCK = 1_000_000  # rows made at a time
ODD = 1 / 2000  # share of rows with each oddity
NOBODYS = FINDINGS[-2]  # a finding without positives


def write_table(file: Path, rows: int, seed: int = 0, dataset: str = "chexpert") -> None:
    """A made-up record table with every oddity that the checks look for: about 3 images a patient, 1.2 a study."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    for start in range(0, rows, BLOCK):
        block = pa.table(_block(np.random.default_rng((seed, start)), start, min(BLOCK, rows - start), dataset))
        writer = writer or pq.ParquetWriter(file, block.schema)
        writer.write_table(block, row_group_size=BLOCK // 8)
    writer.close()


def _block(rng: np.random.Generator, start: int, n: int, dataset: str) -> dict:
    row = start + np.arange(n)
    odd = {
        name: rng.random(n) < ODD for name in ("patient", "path", "age", "zero", "view", "sex", "split", "projection")
    }
    patient = np.where(odd["patient"], rng.integers(0, start + n, n), row // 3)  # a patient's images lie apart too
    study, lateral = patient * 10 + row % 5 // 2, rng.random(n) < 0.15
    age = ((patient * 7919) % 90 + 1).astype(np.float32)
    age[odd["age"]] = rng.choice([np.nan, 150, -2, 0.5, 1 / 3], odd["age"].sum())
    age[odd["zero"]] = 0
    sex = np.array(["F", "M", None], object)[np.where(rng.random(n) < 0.001, 2, np.where(odd["sex"], 0, patient % 2))]
    frontal_view = np.array(["AP", "PA", None, "LL"], object)[np.where(odd["view"], rng.integers(2, 4, n), row % 2)]
    split = np.where((patient % 100 == 0) ^ (odd["split"] & (patient % 7 == 0)), "valid", "train")
    name = np.where(lateral ^ odd["projection"], "lateral", "frontal")
    ids = np.char.add(np.char.add(row.astype(str), "_"), name)
    path = ids.astype(object)
    path[odd["path"]] = np.char.add("twice", (row[odd["path"]] // 2000).astype(str))
    table = {
        "image_id": ids, "patient_id": np.char.add("p", patient.astype(str)),
        "study_id": np.char.add("s", study.astype(str)), "path": path, "sex": sex, "age": age,
        "projection": np.where(lateral, "lateral", "frontal"), "view": np.where(lateral, None, frontal_view),
        "official_split": split,
    }  # fmt: skip
    if dataset == "chexpert":
        for k, finding in enumerate(FINDINGS):
            drawn = (study * 2654435761 + k * 40503) % 1000 / 1000  # of the study, but for an odd image
            drawn = np.where(rng.random(n) < ODD, rng.random(n), drawn)
            edges = np.array([0.05, 0.12, 0.3]) * (0 if finding == NOBODYS else 1)
            table[finding] = np.array([1, -1, 0, np.nan], np.float32)[np.searchsorted(edges, drawn, side="right")]
    else:
        kind = rng.integers(0, 3, n)
        table["class_name"] = np.array(CLASSES, object)[kind]
        boxes = np.where((kind == 0) ^ odd["zero"], rng.integers(1, 4, n), 0)
        table["boxes"] = [[[1.0 - 2 * odd["age"][k], 2.0, 3.0, 4.0]] * count for k, count in enumerate(boxes)]
    return {key: _plain(values) for key, values in table.items()}


def write_csv(folder: Path, rows: int) -> None:
    """CheXpert's train.csv, of two images a patient, and a valid.csv of one row. No image is there."""
    rng, head = np.random.default_rng(0), ",".join(("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS))
    folder.mkdir()
    image = "CheXpert-v1.0/valid/patient0/study1/view1_frontal.jpg"
    (folder / "valid.csv").write_text(f"{head}\n{image},Male,5,Frontal,AP{',' * 14}\n")
    with open(folder / "train.csv", "w") as file:
        file.write(f"{head}\n")
        for start in range(0, rows, 10_000):
            labels = np.array(["", "1.0", "0.0", "-1.0"])[rng.choice(4, (10_000, 14), p=(0.7, 0.15, 0.1, 0.05))]
            for row, cells in zip(range(start, min(start + 10_000, rows)), labels.tolist(), strict=False):
                patient = f"CheXpert-v1.0/train/patient{row // 2:07}/study1/view{row % 2 + 1}_frontal.jpg"
                file.write(f"{patient},Female,{row // 2 % 90},Frontal,PA,{','.join(cells)}\n")


def _plain(values):
    import pyarrow as pa

    if isinstance(values, np.ndarray) and values.dtype.kind == "U":
        return pa.array(values.astype(object), pa.string())
    if isinstance(values, np.ndarray) and values.dtype == object:
        return pa.array(values, pa.string())
    return pa.array(values, from_pandas=True)


# Measuring ------------------------------------------------------------------------------------------------------------


def _tree(pid: int) -> list[int]:
    """A process and those that it started (Linux)."""
    found, waiting = [], [pid]
    while waiting:
        found.append(one := waiting.pop())
        try:
            for thread in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
        except OSError:
            continue
    return found


def _memory(pid: int) -> int:
    """Bytes that a process alone and its share of shared pages hold."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _seconds(pid: int) -> float:
    """Processor time of a process so far, without those that it started."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def measured(what: str, *words: str) -> dict:
    """What a process of its own does: its figures, its start in seconds, and, of it and its children, Java too, the
    processor time before and after the start and the peak memory.
    """
    command = [sys.executable, "-m", "benchmarks.spark", "--one", what, *words]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)
    spent: dict[int, float] = {}
    peak, done = [0], threading.Event()

    def sample() -> None:
        while not done.wait(0.1):
            tree = _tree(process.pid)
            peak[0] = max(peak[0], sum(map(_memory, tree)))
            spent.update({pid: seconds for pid in tree if (seconds := _seconds(pid))})

    thread = threading.Thread(target=sample)
    thread.start()
    began = ready = time.perf_counter()
    start = 0.0
    line = ""
    for line in process.stdout or ():
        if line == "ready\n":
            start, ready = sum(spent.values()), time.perf_counter()
    done.set()
    thread.join()
    if process.wait():
        raise ValueError(f"{what} failed")
    took = sum(spent.values()) - start
    return json.loads(line) | {"start": ready - began, "start_cpu": start, "cpu": took, "peak_mib": peak[0] // 2**20}


def one(what: str, *words: str) -> dict:
    """Run one measurement in this process."""
    engine, _, work = what.partition(" ")
    if engine == "local":
        print("ready", flush=True)
        return globals()[f"_{work}"](None, *words)
    from cxr.spark.session import session

    with session(f"local[{words[0]}]") as spark:
        # The first task starts the executors' Python.
        spark.sparkContext.parallelize(range(int(words[0]))).map(lambda _: __import__("cxr.data.pack")).count()
        print("ready", flush=True)
        return globals()[f"_{work}"](spark, *words)


def _resize(spark, cores: str, folder: str, n: str, shard: str) -> dict:
    from cxr.data.pack import pack
    from cxr.spark import resize

    paths = sorted(Path(folder, "files").glob("*"))
    table = inputs.records(paths, -(-int(n) // len(paths))).head(int(n))
    tree, out = Folder(Path(folder, "files")), Path(folder, "spark" if spark else "local")
    started = time.perf_counter()
    if spark:
        resize.pack(spark, tree, table, [224, 128], out, 0, int(shard))
    else:
        pack(tree, table, [224, 128], out, int(cores), 0, int(shard))
    return {"n": int(n), "wall": time.perf_counter() - started, "sha256": sha256(out)}


def _explore(spark, cores: str, chexpert: str, rsna: str, n: str, out: str) -> dict:
    from cxr.core.files import write_json
    from stages.explore import run

    manifest = Path(chexpert).with_name("manifest.json")
    write_json(manifest, {"kind": "folder", "images": 1, "bytes": 1, "tables": {}, "patient_key": "patient"})
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        run(chexpert, rsna, manifest, Path(out), "spark" if spark else "local", f"local[{cores}]")
    return {"n": int(n), "wall": time.perf_counter() - started, "sha256": sha256(out)}


class Listed(Folder):
    """A folder whose images are all there, by its tables. The names are this process's alone."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        with open(self.root / "train.csv") as train, open(self.root / "valid.csv") as valid:
            images = (line.partition(",")[0].partition("/")[2] for file in (train, valid) for line in file)
            self.listed = frozenset({"train.csv", "valid.csv", *images} - {""})

    def __getstate__(self) -> dict:
        return super().__getstate__() | {"listed": frozenset()}

    @property
    def _names(self) -> frozenset[str]:
        return self.listed

    def size(self, name: str) -> int:
        return 1 if name.endswith(".jpg") else super().size(name)


def _download(spark, cores: str, folder: str, n: str, out: str) -> dict:
    from benchmarks.spark import Listed as Importable  # this file is __main__, whose classes no executor knows
    from cxr.data.sources import registry, schema
    from cxr.data.sources.address import describe
    from cxr.data.sources.dataset import USUAL
    from cxr.spark import download

    tree, dataset, file = Importable(folder), registry.find("chexpert"), Path(out)
    started = time.perf_counter()
    reading = download.read(spark, dataset, tree, USUAL) if spark else registry.read(dataset, tree, USUAL)
    schema.write(file, reading.parts())
    describe(tree, "folder", reading.tables, schema.paths(file))
    return {"n": int(n), "wall": time.perf_counter() - started, "sha256": sha256(file)}


def compare(name: str, unit: str, figures: dict[str, dict]) -> None:
    """Print both engines' figures. Raises ValueError when their results differ."""
    if len({figure["sha256"] for figure in figures.values()}) != 1:
        raise ValueError(f"{name}: the results differ")
    for engine, f in figures.items():
        rates = f"{f['n'] / f['wall']:,.4g} {unit}/s, {f['n'] / f['cpu']:,.4g} a second of processor time"
        print(f"{name}: {engine}: {rates}, peak {f['peak_mib']:,} MiB, start {f['start']:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cores", default="2")
    parser.add_argument("--images", default="600")
    parser.add_argument("--rows", nargs="*", type=int, default=[1_000_000])
    parser.add_argument("--engines", nargs="*", default=["local", "spark"])
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if int(chosen.images):
            inputs.files(folder / "files", 24, inputs.FULL)
            words = (chosen.cores, str(folder), chosen.images, "100")
            figures = {engine: measured(f"{engine} resize", *words) for engine in chosen.engines}
            compare(f"resize, {chosen.images} JPEG of CheXpert's full size", "images", figures)
        for rows in chosen.rows:
            write_table(folder / "chexpert.parquet", rows)
            write_table(folder / "rsna.parquet", 1000, dataset="rsna")
            words = [chosen.cores, str(folder / "chexpert.parquet"), str(folder / "rsna.parquet"), str(rows)]
            figures = {e: measured(f"{e} explore", *words, str(folder / e / "explore")) for e in chosen.engines}
            compare(f"explore, {rows:,} rows", "rows", figures)
            write_csv(folder / f"csv-{rows}", rows)
            words = [chosen.cores, str(folder / f"csv-{rows}"), str(rows), str(folder / "records.parquet")]
            figures = {e: measured(f"{e} download", *words) for e in chosen.engines}
            compare(f"download, {rows:,} rows", "rows", figures)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(*sys.argv[2:])))
    else:
        main()
