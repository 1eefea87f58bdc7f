"""manifest.json: what a data set is made of, written by the download stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cxr.core.formats import Format


class Recipe(Format):
    """What a phantom is drawn from."""

    patients: int = Field(description="number of patients")
    seed: int = Field(description="seed of all random draws")
    site: int | None = Field(None, description="which hospital it simulates; absent: the first")


class ZipFile(Format):
    """The archive that the data set was read from."""

    bytes: int = Field(description="size of the file")
    sha256: str = Field(description="SHA-256 of the file, hexadecimal")


class Manifest(Format):
    """The content of a data set. It holds no path, so that the same data give the same file on every machine."""

    kind: str = Field(description="kind of source: phantom, folder, zip, http, s3 or kaggle")
    recipe: Recipe | None = Field(None, description="only of a phantom: its size and seed")
    images: int = Field(description="number of images in the records")
    bytes: int = Field(description="size of all image files together")
    tables: dict[str, str] = Field(description="file name of each label table: its SHA-256, hexadecimal")
    labels: str | None = Field(
        None, description="only where not train.csv labels the training images: the table that does"
    )
    zip: ZipFile | None = Field(None, description="only of an archive: its size and SHA-256")
    patient_key: Literal["patient", "image"] | None = Field(
        None, description="only of RSNA: what patient_id names, a patient of NIH or, without RSNA's mapping, an image"
    )
    mapping: str | None = Field(
        None, description="only of RSNA: SHA-256 of the mapping that data.rsna_patients names, hexadecimal"
    )


class Chosen(Format):
    """dataset.json, beside an external data set's records: what the user chose of it."""

    name: str = Field(description="its name in params.yaml")
    dataset: str = Field(description="name in the registry (cxr/data/sources/registry.py)")
    labels: str = Field(description="which of its label tables counts; '': the usual one")
    part: str = Field(description="all, train, valid or test: which of its official parts is read")
    size: int = Field(description="side of the packed images, pixels")
    notes: list[str] = Field(description="a sentence each on what was left out")


class Labelled(Format):
    """Of one finding, how many training images have a certain label."""

    images: int = Field(description="images whose label says present or absent")
    positives: int = Field(description="images whose label says present")
    answer: Literal["same", "near"] = Field(
        description="whether the data set's labels mean the finding, or nearly (cxr/external/mapping.csv)"
    )


class Extra(Chosen):
    """dataset.json, beside a data set that the classifier is trained on as well: what it adds."""

    title: str = Field(description="the data set's name in words")
    data: str = Field(description="kind of source: phantom, folder, zip, http, s3 or kaggle")
    labelled_by: str = Field(description="who labelled its images")
    patient_key: Literal["patient", "image"] = Field(description="what patient_id names")
    images: int = Field(description="training images")
    patients: int = Field(description="their patients")
    held_out_patients: int = Field(description="patients left out because images of them are tested on elsewhere")
    held_out_images: int = Field(description="their images")
    unlabelled: int = Field(description="images left out because no label of theirs means a finding")
    unreadable: int = Field(description="images left out because they can't be decoded")
    findings: dict[str, Labelled] = Field(description="slug of each finding that it labels: how many images")
    split_sha256: str = Field(description="SHA-256 of the CheXpert split that its patients were compared with")
