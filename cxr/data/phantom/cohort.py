"""The phantom cohort: synthetic chest radiographs written as valid CheXpert and RSNA trees, each in one .zip.

For those who have no data yet, and for tests. Every image is a pure function of (seed, patient, study or image, view):
phantom_patients decides who has what, phantom_anatomy, phantom_chest, phantom_bones, phantom_findings,
phantom_devices and phantom_lateral draw it as attenuation, phantom_detector makes a picture of that. No image of a
real patient is involved, and no number measured on the phantom says anything about real patients.
"""

from __future__ import annotations

import csv
import io
import json
import math
import multiprocessing
import uuid
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from cxr.core.files import Progress, atomic, usable_cores
from cxr.core.findings import FINDINGS
from cxr.data.phantom.anatomy import Anatomy, Pose, Signs
from cxr.data.phantom.bones import skeleton, vessels
from cxr.data.phantom.chest import Chest, attenuation
from cxr.data.phantom.detector import develop
from cxr.data.phantom.devices import monitor_leads, support_devices
from cxr.data.phantom.findings import distractors, draw
from cxr.data.phantom.lateral import lateral
from cxr.data.phantom.patients import Challenger, Patient, challenger, images_each, patient
from cxr.data.phantom.sites import FIRST, SECOND, Site

VALID_SHARE = 0.12  # of CheXpert's patients
FIRST_VALID = FIRST.first_valid
BOX_LEVEL = 0.35  # of an opacity's peak: where its box ends
RSNA_SIZE = 512
DETAIL, RSNA_DETAIL = 0.7, 0.6  # films are soft: anatomy is drawn smaller and enlarged before the grain is added

Box = tuple[int, int, int, int]  # x, y, width, height


def render_frontal(
    anatomy: Anatomy,
    signs: Signs,
    view: str,
    key: tuple[int, ...],
    size: tuple[int, int],
    detail: float = DETAIL,
    site: Site = FIRST,
) -> tuple[np.ndarray, list[Box]]:
    """A frontal film (uint8, H x W), and a box around each Lung Opacity, Pneumonia and Consolidation.

    view: 'AP' or 'PA'. key seeds what differs from film to film: position, exposure, noise. size: height and width.
    detail: the anatomy is drawn at this share of the size. site: the hospital.
    """
    rng = np.random.default_rng(key)
    pose = Pose.sample(rng, view, anatomy, _drawn(size, detail))
    chest = Chest(anatomy, pose, signs)
    skeleton(chest)
    distractors(chest, rng)
    draw(chest)
    if "Support Devices" in signs:
        support_devices(chest, signs["Support Devices"])
    if rng.random() < (0.35 if view == "AP" else 0.03):
        monitor_leads(chest, rng)
    total = attenuation(chest, vessels(chest), rng)
    image = develop(total, chest.body, pose.canvas, anatomy.fat, view, size, rng, site)
    zoom = size[0] / pose.canvas.height
    boxes = []
    for patch in chest.patches:
        level = patch.max()
        if level > 0.02:
            boxes.append(tuple(round(v * zoom) for v in cv2.boundingRect((patch > BOX_LEVEL * level).astype(np.uint8))))
    return image, boxes


def _drawn(size: tuple[int, int], detail: float) -> tuple[int, int]:
    return round(size[0] * detail), round(size[1] * detail)


def render_lateral(
    anatomy: Anatomy, signs: Signs, key: tuple[int, ...], size: tuple[int, int], site: Site = FIRST
) -> np.ndarray:
    """A lateral film, uint8, of size (height, width)."""
    rng = np.random.default_rng(key)
    total, body, canvas = lateral(anatomy, signs, rng, _drawn(size, DETAIL))
    if rng.random() < 0.15:
        total, body = np.ascontiguousarray(total[:, ::-1]), np.ascontiguousarray(body[:, ::-1])
    return develop(total, body, canvas, anatomy.fat, "LL", size, rng, site)


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _study_folder(split: str, number: int, study: int) -> str:
    return f"CheXpert-v1.0-small/{split}/patient{number:05d}/study{study}"


def frontal_film(seed: int, person: Patient, s: int, anatomy: Anatomy | None = None, site: Site = FIRST) -> bytes:
    """The frontal film of a patient's study number s, from 1, as a JPEG. anatomy: the patient's, if it is at hand;
    site: the hospital, as in `patient`.
    """
    number, study = person.number, person.studies[s - 1]
    anatomy = anatomy or Anatomy.sample((seed, number, 5), person.male, person.age)
    rng = np.random.default_rng((seed, number, 6, s))
    across = (0.85 if study.view == "AP" else 0.5) + 0.3 * anatomy.build  # the film is turned to suit the patient
    size = (320, 390) if rng.random() < across else (390, 320)
    image, _ = render_frontal(anatomy, study.signs, study.view, (seed, number, 7, s), size, site=site)
    return _jpeg(image, 85)


def _chexpert_patient(seed: int, site: Site, number: int) -> list[tuple[str, bytes]]:
    """(path in the archive, JPEG) of all films of a patient."""
    valid = number >= site.first_valid
    person = patient(seed, number, valid, site)
    anatomy = Anatomy.sample((seed, number, 5), person.male, person.age)
    films = []
    for s, study in enumerate(person.studies, 1):
        folder = _study_folder("valid" if valid else "train", number, s)
        films.append((f"{folder}/view1_frontal.jpg", frontal_film(seed, person, s, anatomy, site)))
        if study.lateral:
            image = render_lateral(anatomy, study.signs, (seed, number, 8, s), (390, 320), site)
            films.append((f"{folder}/view2_lateral.jpg", _jpeg(image, 85)))
    return films


def _rsna_name(seed: int, number: int, image: int) -> str:
    return str(uuid.UUID(bytes=np.random.default_rng((seed, number, 9, image + 1)).bytes(16), version=4))


def _rsna_image(seed: int, which: tuple[int, int]) -> tuple[Challenger, bytes, list[Box]]:
    """An X-ray as a DICOM, and the boxes around its opacities. which: numbers of the patient and of the image."""
    person = challenger(seed, *which)
    anatomy = Anatomy.sample((seed, person.number, 5), person.male, float(np.clip(person.age, 18, 90)))
    key, size = (seed, person.number, 7, person.image + 1), (RSNA_SIZE, RSNA_SIZE)
    image, boxes = render_frontal(anatomy, person.signs, person.view, key, size, RSNA_DETAIL)
    return person, _dicom(_rsna_name(seed, *which), person, image), boxes


def _dicom(name: str, person: Challenger, image: np.ndarray) -> bytes:
    """An 8-bit JPEG baseline secondary capture with the header fields that the challenge has."""
    import pydicom
    from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, JPEGBaseline8Bit, SecondaryCaptureImageStorage, generate_uid

    instance = generate_uid(entropy_srcs=[name])
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, instance
    meta.TransferSyntaxUID, meta.ImplementationClassUID = JPEGBaseline8Bit, PYDICOM_IMPLEMENTATION_UID
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = SecondaryCaptureImageStorage, instance
    data.Modality, data.BodyPartExamined, data.ViewPosition = "CR", "CHEST", person.view
    data.PatientName = data.PatientID = name
    data.PatientSex = "M" if person.male else "F"
    # The challenge writes '51' for '051Y', which is no valid age.
    data.add(pydicom.DataElement("PatientAge", "AS", str(person.header_age), validation_mode=pydicom.config.IGNORE))
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = image.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.LossyImageCompression = "01"
    data.PixelData = pydicom.encaps.encapsulate([_jpeg(image, 88)])
    data["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _one_thread() -> None:
    cv2.setNumThreads(1)


def _in_order(function: Callable, jobs: list, processes: int | None) -> Iterator:
    """function of every job, in order, over several processes (all of the machine's by default)."""
    processes = min(processes or usable_cores(), len(jobs))
    if processes <= 1:
        yield from map(function, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(processes, _one_thread) as pool:
        yield from pool.imap(function, jobs, chunksize=4)


def _add(archive: zipfile.ZipFile, name: str, content: bytes | str) -> None:
    fixed_date = (1980, 1, 1, 0, 0, 0)  # so that the bytes depend on the content alone
    archive.writestr(zipfile.ZipInfo(name, fixed_date), content)


def _table(rows: list[list]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _chexpert_rows(person: Patient, split: str) -> Iterator[list]:
    for s, study in enumerate(person.studies, 1):
        labels = ["" if math.isnan(study.labels[finding]) else f"{study.labels[finding]:.1f}" for finding in FINDINGS]
        start = _study_folder(split, person.number, s)
        who = ["Male" if person.male else "Female", person.age]
        yield [f"{start}/view1_frontal.jpg", *who, "Frontal", study.view, *labels]
        if study.lateral:
            yield [f"{start}/view2_lateral.jpg", *who, "Lateral", "", *labels]


def write_chexpert(path: Path, *, patients: int, seed: int, processes: int | None = None, site: Site = FIRST) -> None:
    """Write a .zip laid out as CheXpert-v1.0-small: train.csv, valid.csv, and JPEGs of about 390 x 320 pixels.

    About 2 images a patient; one patient in eight is in valid.csv. The bytes depend on patients, seed and site (the
    hospital) alone. Raises ValueError for fewer than 2 patients.
    """
    if patients < 2:
        raise ValueError(f"a phantom cohort needs at least 2 patients, one of them for valid.csv; got {patients}")
    n_valid = max(1, round(VALID_SHARE * patients))
    first = {"train": site.first, "valid": site.first_valid}
    count = {"train": patients - n_valid, "valid": n_valid}
    numbers = {split: range(first[split], first[split] + count[split]) for split in first}
    header = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *FINDINGS]
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for split, members in numbers.items():
            people = (patient(seed, number, split == "valid", site) for number in members)
            rows = [row for person in people for row in _chexpert_rows(person, split)]
            _add(archive, f"CheXpert-v1.0-small/{split}.csv", _table([header, *rows]))
        everyone = [*numbers["train"], *numbers["valid"]]
        with Progress("phantom CheXpert", patients, unit="patients") as progress:
            for films in _in_order(partial(_chexpert_patient, seed, site), everyone, processes):
                for name, content in films:
                    _add(archive, name, content)
                progress.update(1)


def write_second_hospital(path: Path, *, patients: int, seed: int, processes: int | None = None) -> None:
    """Write a .zip like `write_chexpert`'s of the second hospital: the external test set of the phantom.

    Other patients (numbers from 200001, so a cohort of the first hospital with the same seed shares nobody), another
    detector and markers, fewer bedside films, other prevalences, noisier labels (cxr/data/phantom/sites.py). Labels of
    train.csv are from reports; those of valid.csv are radiologists'. Raises ValueError for fewer than 2 patients.
    """
    write_chexpert(path, patients=patients, seed=seed, processes=processes, site=SECOND)


def write_rsna(path: Path, *, patients: int, seed: int, processes: int | None = None) -> None:
    """Write a .zip laid out as stage 2 of the RSNA challenge: DICOMs of 512 x 512, boxes, classes, RSNA's mapping.

    About 2.33 images a patient, in random order. Both tables have one row a box; the mapping says which patient an
    image shows. The bytes depend on patients and seed alone. Raises ValueError for fewer than 1 patient.
    """
    if patients < 1:
        raise ValueError(f"a phantom cohort needs at least 1 patient; got {patients}")
    labels, classes = [["patientId", "x", "y", "width", "height", "Target"]], [["patientId", "class"]]
    mapping = []
    images = [(number, image) for number, n in enumerate(images_each(patients, seed)) for image in range(n)]
    images = [images[k] for k in np.random.default_rng((seed, 0, 12)).permutation(len(images))]
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        with Progress("phantom RSNA", len(images)) as progress:
            for person, content, boxes in _in_order(partial(_rsna_image, seed), images, processes):
                name = _rsna_name(seed, person.number, person.image)
                _add(archive, f"stage_2_train_images/{name}.dcm", content)
                opaque = person.class_name == "Lung Opacity"
                labels += [[name, *map(float, box), 1] for box in boxes] if opaque else [[name, "", "", "", "", 0]]
                classes += [[name, person.class_name]] * (len(boxes) if opaque else 1)
                mapping.append({"subset_img_id": name, "img_id": f"{person.number + 1:08d}_{person.image:03d}.png"})
                progress.update(1)
        _add(archive, "stage_2_train_labels.csv", _table(labels))
        _add(archive, "stage_2_detailed_class_info.csv", _table(classes))
        _add(archive, "pneumonia-challenge-dataset-mappings_2018.json", json.dumps(mapping, indent=0))
