"""CheXpert's CSVs as records: every layout that it is found in, and every way in which it can be broken."""

import io
import re
import shutil
import time
from functools import partial

import numpy as np
import pytest

from cxr.core.findings import FINDINGS
from cxr.data.sources import pieces
from cxr.data.sources.archive import Folder
from cxr.data.sources.chexpert import read, tables

HEADER = ",".join(("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS))
BLANKS = "," * 13
TRAIN = [
    "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0",
    "CheXpert-v1.0-small/train/patient00002/study2/view1_frontal.jpg,Male,155,Frontal,PA,,,-1.0,1.0,,,,,,,,,,",
    f"CheXpert-v1.0-small/train/patient00002/study2/view2_lateral.jpg,Unknown,0,Lateral,,{BLANKS}",
]
VALID = [f"CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg,Male,,Frontal,LL,{BLANKS}"]


def write(root, train=TRAIN, valid=VALID, header=HEADER, end="\n", files=None, encoding="utf-8"):
    """A CheXpert in the folder `root`."""
    root.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", train), ("valid", valid)):
        if rows is not None:
            (root / f"{name}.csv").write_bytes((end.join([header, *rows]) + end).encode(encoding))
    for row in [*TRAIN, *VALID] if files is None else files:
        image = root / row.split(",")[0].split("/", 1)[1]
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(b"jpeg")
    return root


def test_records(tmp_path):
    table = read(Folder(write(tmp_path / "CheXpert-v1.0-small").parent))
    assert table["image_id"].tolist() == [
        "train/patient00001/study1/view1_frontal",
        "train/patient00002/study2/view1_frontal",
        "train/patient00002/study2/view2_lateral",
        "valid/patient64541/study1/view1_frontal",
    ]
    assert table["path"][0] == "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"
    assert table["patient_id"].tolist() == ["patient00001", "patient00002", "patient00002", "patient64541"]
    assert table["study_id"].tolist()[1:3] == ["patient00002/study2"] * 2
    assert table["sex"].fillna("?").tolist() == ["F", "M", "?", "M"]
    np.testing.assert_array_equal(table["age"], np.float32([68, 155, 0, np.nan]))
    assert table["projection"].tolist() == ["frontal", "frontal", "lateral", "frontal"]
    assert table["view"].fillna("?").tolist() == ["AP", "PA", "?", "LL"]
    assert table["official_split"].tolist() == ["train", "train", "train", "valid"]
    labels = table[list(FINDINGS)].to_numpy()
    assert labels.dtype == np.float32 and np.isfinite(labels).sum() == 5
    first, second = table.iloc[0], table.iloc[1]
    assert (first["No Finding"], first["Pneumothorax"], first["Support Devices"]) == (1, 0, 1)
    assert (second["Cardiomegaly"], second["Lung Opacity"]) == (-1, 1)


@pytest.mark.parametrize("place", ["", "renamed", "two/levels"])
@pytest.mark.parametrize("release", ["CheXpert-v1.0-small", "CheXpert-v1.0"])
def test_the_folders_name_and_place_do_not_matter(tmp_path, place, release):
    train, valid = ([row.replace("CheXpert-v1.0-small", release) for row in rows] for rows in (TRAIN, VALID))
    write(tmp_path / "root" / place, train, valid)
    table = read(Folder(tmp_path / "root"))
    assert len(table) == 4 and table["path"][0] == (f"{place}/" if place else "") + table["image_id"][0] + ".jpg"


BATCHES = dict(zip(TRAIN, ("batch 2 (train 1)", "batch 4 (train 3)", "batch 4 (train 3)"), strict=True))


def batches(root, name=lambda batch: f"CheXpert-v1.0 {batch}"):
    """The full release: CSVs and validation in one folder, training patients in two others. name: of a batch's."""
    write(root / name("batch 1 (validate & csv)"), files=VALID)
    for row, batch in BATCHES.items():
        image = root / name(batch) / row.split(",")[0].split("/", 2)[2]
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(b"jpeg")
    return root


@pytest.mark.parametrize("above", ["", "chexpertchestxrays-u20210408", "a/b"])
@pytest.mark.parametrize(
    "name",
    [
        lambda batch: f"CheXpert-v1.0 {batch}",
        lambda batch: f"CheXpert-v1.0 {batch}/CheXpert-v1.0 {batch}",  # unpacked by "Extract All"
        lambda batch: f"CheXpert-v1.0_{batch}".replace(" ", "_").replace("(", "").replace(")", ""),
        lambda batch: f"part{batch[6]}",
        lambda batch: "" if batch[6] == "1" else f"all/train/{batch[6]}",
    ],
)
def test_the_full_release_wherever_its_batches_lie(tmp_path, above, name):
    batches(tmp_path / above, name)
    table = read(Folder(tmp_path))
    for image, path in zip(table["image_id"], table["path"], strict=True):
        assert path.endswith(image.partition("/")[2] + ".jpg") and (tmp_path / path).is_file()


def test_a_source_one_level_too_low_or_still_packed_names_the_cure(tmp_path):
    root = batches(tmp_path / "release")
    low = root / "CheXpert-v1.0 batch 1 (validate & csv)"
    with pytest.raises(
        ValueError, match=rf"3 of 4 images .*: {root} holds the other batch folders: give it as source$"
    ):
        read(Folder(low))
    with pytest.raises(ValueError, match=rf"no CheXpert here: .*; {re.escape(str(low))} has them: give it as source$"):
        read(Folder(low / "valid"))
    batch = root / "CheXpert-v1.0 batch 4 (train 3)"
    shutil.rmtree(batch)
    batch.with_name(batch.name + ".zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"if they are in CheXpert-v1\.0 batch 4 \(train 3\)\.zip, unpack it there$"):
        read(Folder(root))
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "CheXpert-v1.0 batch 1 (validate & csv).zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"no CheXpert here: .*; if they are in .* & csv\)\.zip, unpack it there$"):
        read(Folder(tmp_path / "packed"))


def test_an_image_in_two_places_or_of_another_kind_is_no_guess(tmp_path):
    root = batches(tmp_path)
    image = "patient00001/study1/view1_frontal.jpg"
    again = root / "copy" / image
    again.parent.mkdir(parents=True)
    again.write_bytes(b"another")
    with pytest.raises(
        ValueError, match=r"patient00001/study1/view1_frontal lies in several places below .* \(CheX.*, copy"
    ):
        read(Folder(root))
    for place in (again, root / "CheXpert-v1.0 batch 2 (train 1)" / image):
        place.rename(place.with_suffix(".png"))
    with pytest.raises(ValueError, match=r"or remove these rows \(there is .*view1_frontal\.png, another kind of file"):
        read(Folder(root))
    shutil.rmtree(again.parent)
    shutil.rmtree(root / "CheXpert-v1.0 batch 2 (train 1)")
    other = root / "valid" / image
    other.parent.mkdir(parents=True)
    other.write_bytes(b"a file of valid is none of train")
    with pytest.raises(
        ValueError, match=r"1 of 4 images .*patient00001.*another kind|of patient00001 there is only valid/"
    ):
        read(Folder(root))


def test_links_that_no_table_names_and_link_farms(tmp_path, monkeypatch):
    root, store = write(tmp_path / "root"), tmp_path / "store"
    store.mkdir()
    (store / "README").write_text("about the disk")
    (root / "README").symlink_to(store / "README")
    (root / "notes").symlink_to("/nowhere/x")
    expected = read(Folder(root))
    for number, path in enumerate(expected["path"]):
        (root / path).rename(store / f"{number:032x}")
        (root / path).symlink_to(store / f"{number:032x}")
    with pytest.raises(
        ValueError, match=r"4 of 4 images .*leads out of the folder, to .* CXR_LINKS.* \(4 such links\)$"
    ):
        read(Folder(root))
    monkeypatch.setenv("CXR_LINKS", str(store))
    assert read(Folder(root)).equals(expected)


@pytest.mark.parametrize("inside", [False, True])
def test_a_part_that_lies_on_another_disk(tmp_path, monkeypatch, inside):
    root = write(tmp_path / "root")
    disk = root / ".disk" if inside else tmp_path / "disk"
    disk.mkdir()
    (root / "train").rename(disk / "train")
    (root / "train").symlink_to(disk / "train")
    if not inside:
        with pytest.raises(ValueError, match=r"3 of 4 images .*root/train leads out of the folder, to .*CXR_LINKS"):
            read(Folder(root))
        monkeypatch.setenv("CXR_LINKS", str(disk / "train"))
    tree = Folder(root)
    assert [tree.read(path) for path in read(tree)["path"]] == [b"jpeg"] * 4


def test_a_table_that_a_spreadsheet_saved_reads_as_the_published_one(tmp_path):
    def rewritten(row):
        cells = row.replace("/", "\\").split(",")
        numbers = [cell.replace(".", ",") for cell in cells[5:]]
        return ";".join([*cells[:5], *numbers, "", ""])

    plain = read(Folder(write(tmp_path / "plain")))
    write(
        tmp_path / "other",
        [*map(rewritten, TRAIN), ";" * 20],
        [rewritten(VALID[0])],
        HEADER.upper().replace(",", ";"),
        "\r\n",
    )
    assert read(Folder(tmp_path / "other")).equals(plain)


def test_a_mark_mixed_line_ends_and_further_columns(tmp_path):
    plain = read(Folder(write(tmp_path / "plain")))
    extra = [f"{i},{row}\r" if i % 2 else f"{i},{row}" for i, row in enumerate(TRAIN)]
    write(tmp_path / "other", extra, [f"9,{VALID[0]}"], "Unnamed: 0," + HEADER, encoding="utf-8-sig")
    other = read(Folder(tmp_path / "other"))
    assert plain.equals(other)


BROKEN = [
    ({"header": HEADER.replace("Edema", "Oedema")}, r"train\.csv line 1: column 'Edema' is missing"),
    (
        {"train": [TRAIN[0], TRAIN[1].replace("-1.0", "2")]},
        r"train\.csv line 3: Cardiomegaly is '2', must be one of 1, 0, -1",
    ),
    (
        {"train": [*TRAIN, TRAIN[0]]},
        r"train\.csv line 5: the image .*view1_frontal\.jpg' already stands in train\.csv line 2",
    ),
    (
        {"train": [*TRAIN, TRAIN[0].replace("patient00001", "patient00009")]},
        r"1 of 5 images .* do not exist below .*: train\.csv line 5 train/patient00009/.*: complete",
    ),
    (
        {"train": [*TRAIN, TRAIN[0].replace("/view1", "/../view1")]},
        r"train\.csv line 5: Path is .* must end like train/pat",
    ),
    (
        {"train": ["x.jpg" + TRAIN[0][63:]]},
        r"train\.csv line 2: Path is 'x\.jpg', must end like train/patient00001",
    ),
    (
        {"train": [TRAIN[0].replace("Frontal", "Oblique")]},
        r"train\.csv line 2: Frontal/Lateral is 'Oblique', must be",
    ),
    (
        {"train": [row.replace("Female", "1").replace("Male", "2").replace("Unknown", "0") for row in TRAIN]},
        r"train\.csv line 2: Sex is '1', and no row has Female or Male: correct that column",
    ),
    (
        {"train": [TRAIN[0].replace(",68,", ",born 1950,")]},
        r"train\.csv line 2: Age is 'born 1950', and no row has an age in years",
    ),
    (
        {"valid": [VALID[0].replace("64541", "00002")]},
        r"1 patients are in both train\.csv and valid\.csv \(patient00002\)",
    ),
    ({"train": []}, r"train\.csv has a header but no rows"),
    (
        {"train": [], "header": "<html>Log in</html>"},
        r"train\.csv line 1: column 'Path' is missing; the header is '<html>",
    ),
    ({"train": [], "header": HEADER.replace("Edema", "Oedema")}, r"train\.csv line 1: column 'Edema' is missing"),
    ({"train": [], "header": f'"{HEADER}"'}, r"train\.csv line 1: the whole line is one quoted cell"),
    ({"train": [], "header": "sep=;"}, r"train\.csv line \d: column 'Path' is missing"),
    ({"train": None}, r"valid\.csv lacks train\.csv beside it: restore it"),
    ({"valid": None}, r"train\.csv lacks valid\.csv beside it: restore it"),
    ({"train": None, "valid": None}, r"no CheXpert here: .* has no train\.csv and valid\.csv"),
]


@pytest.mark.parametrize("size", [pieces.SIZE, 150])
@pytest.mark.parametrize(("change", "message"), BROKEN)
def test_what_is_broken_is_named_with_its_place(tmp_path, monkeypatch, change, message, size):
    monkeypatch.setattr(pieces, "each", partial(pieces.each, size=size))
    tree = Folder(write(tmp_path / "data", **change))
    with pytest.raises(ValueError, match=message):
        read(tree)


def test_an_empty_file_and_two_datasets(tmp_path):
    write(tmp_path / "a")
    (tmp_path / "a" / "valid.csv").write_bytes(b"")
    with pytest.raises(ValueError, match=r"valid\.csv is empty"):
        read(Folder(tmp_path))
    write(tmp_path / "b")
    with pytest.raises(ValueError, match=r"holds several CheXperts \(a/, b/\): give the folder of one of them"):
        tables(Folder(tmp_path))


def test_ten_of_many_missing_files_are_named(tmp_path):
    rows = [TRAIN[0].replace("00001", f"1{i:04}") for i in range(25)]
    with pytest.raises(ValueError, match=r"25 of 26 .*and 15 more: complete") as caught:
        read(Folder(write(tmp_path / "data", rows)))
    assert str(caught.value).count("train.csv line") == 10


OTHER = ",".join(("Path", *reversed(FINDINGS)))


def relabel(root, place="train_cheXbert.csv", rows=TRAIN):
    """A table of train.csv's images in another order of rows and columns, under the full release's name: all Edema."""
    cells = ",".join("1.0" if finding == "Edema" else "" for finding in reversed(FINDINGS))
    lines = [row.split(",")[0].replace("-small", "") + "," + cells for row in reversed(rows)]
    (root / place).parent.mkdir(exist_ok=True)
    (root / place).write_text("\n".join([OTHER, *lines]) + "\n")
    return Folder(root)


@pytest.mark.parametrize("place", ["train_cheXbert.csv", "labels/train_cheXbert.csv"])
def test_another_label_table_changes_train_labels_alone(tmp_path, place):
    before = read(Folder(write(tmp_path / "data")))
    tree = relabel(tmp_path / "data", place)
    assert read(tree).equals(before)
    after = read(tree, "train_cheXbert.csv")
    train = after["official_split"] == "train"
    assert (after.loc[train, "Edema"] == 1).all() and after.loc[train, list(FINDINGS)].notna().sum().sum() == 3
    others = [column for column in before if column not in FINDINGS]
    assert after[others].equals(before[others]) and after[~train].equals(before[~train])
    assert tables(tree, "train_cheXbert.csv") == ["train.csv", "valid.csv", place]


OTHERS = {
    r"lacks 1 \(train/patient00001/study1/view1_frontal\) and has 0 others": TRAIN[1:],
    r"lacks 0 \(none\) and has 1 others \(train/patient00009/": [*TRAIN, TRAIN[0].replace("00001", "00009")],
    r"line 5: the image .*patient00001.* stands twice": [*TRAIN, TRAIN[0]],
    r"line 4: Path is 'x\.jpg', must end like": ["x.jpg", *TRAIN[1:]],
}


def test_another_label_table_must_list_the_same_images(tmp_path):
    root = write(tmp_path / "data")
    with pytest.raises(ValueError, match=r"data.chexpert_labels = 'train_cheXbert.csv': no such table .*: train\.csv$"):
        read(Folder(root), "train_cheXbert.csv")
    for message, rows in OTHERS.items():
        with pytest.raises(ValueError, match=rf"train_cheXbert\.csv.* {message}"):
            read(relabel(root, rows=rows), "train_cheXbert.csv")


def test_a_label_table_alone_needs_no_train_csv(tmp_path):
    """Only valid.csv and train_cheXbert.csv, whose columns are train.csv's."""
    root = write(tmp_path / "data")
    whole = read(Folder(root))
    (root / "train.csv").rename(root / "train_cheXbert.csv")
    with pytest.raises(ValueError, match=r"valid\.csv lacks train\.csv beside it"):
        read(Folder(root))
    assert read(Folder(root), "train_cheXbert.csv").equals(whole)


@pytest.mark.parametrize("size", [1, 100, 400])
def test_the_pieces_in_which_a_table_is_read_change_nothing(tmp_path, monkeypatch, size):
    tree = relabel(write(tmp_path / "data"))
    whole, relabelled = read(tree), read(tree, "train_cheXbert.csv")
    monkeypatch.setattr(pieces, "each", partial(pieces.each, size=size))
    assert read(tree).equals(whole) and read(tree, "train_cheXbert.csv").equals(relabelled)


def test_of_several_faults_the_first_piece_with_one_speaks(tmp_path, monkeypatch):
    rows = [TRAIN[0], TRAIN[1].replace("Frontal", "Oblique"), TRAIN[2].replace("train/", "x/")]
    monkeypatch.setattr(pieces, "each", partial(pieces.each, size=150))
    with pytest.raises(ValueError, match=r"train\.csv line 3: Frontal/Lateral is 'Oblique'"):
        read(Folder(write(tmp_path / "data", rows)))


def test_a_hundred_thousand_rows_take_seconds():
    class Many(Folder):
        def names(self):
            return files

        def open(self, name):
            return io.BytesIO(csv[name])

    row = "CheXpert-v1.0/train/patient%06d/study1/view1_frontal.jpg,Male,50,Frontal,AP,1.0,,0.0,-1.0,,,,,,,,,,"
    csv = {
        "train.csv": "\n".join([HEADER, *(row % i for i in range(100_000))]).encode(),
        "valid.csv": "\n".join([HEADER, *VALID]).encode(),
    }
    files = {f"train/patient{i:06}/study1/view1_frontal.jpg" for i in range(100_000)}
    files |= {*csv, "valid/patient64541/study1/view1_frontal.jpg"}
    started = time.process_time()
    assert len(read(Many("."))) == 100_001
    assert time.process_time() - started < 8


def test_real_files(shared_data):
    table = read(Folder(shared_data / "chexpert"))
    assert (table["official_split"] == "train").sum() == 473 and (table["official_split"] == "valid").sum() == 121
    assert table["patient_id"].nunique() == 409 and set(table["view"]) <= {"AP", "PA"}
