"""The commands for S3 of docs/how-to/own-data.md and share.md, word for word, against an S3 server on this machine: a
data set in a bucket, packed from there, pushed to the bucket, and pulled by another clone.
"""

import os
import re
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from cxr.core.files import sha256
from tests.closure import ROOT
from tests.data.sources.test_chexpert import HEADER

pytestmark = pytest.mark.slow
ENDPOINT = "https://s3.example.org"  # the pages' placeholder
GIT = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def blocks(page: str, heading: str, language: str = "sh") -> list[str]:
    """The code blocks below a heading of a page, up to the next heading."""
    text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
    section = re.split(r"^#+ .*$", text[text.index(f"# {heading}\n") :], flags=re.M)[1]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.S | re.M)


def chexpert() -> dict[str, bytes]:
    """The files of a data set of six patients, by name."""
    rng, files = np.random.default_rng(0), {}
    for part, patients in (("train", range(1, 5)), ("valid", range(5, 7))):
        rows = [HEADER]
        for number in patients:
            name = f"{part}/patient{number:05}/study1/view1_frontal.jpg"
            stream = BytesIO()
            Image.fromarray(rng.integers(0, 256, (40, 40), dtype=np.uint8)).save(stream, "JPEG")
            files[name] = stream.getvalue()
            rows.append(f"CheXpert-v1.0-small/{name},Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0")
        files[f"{part}.csv"] = "\n".join(rows).encode()
    return files


@pytest.fixture(scope="module")
def server():
    """The address of an S3 server whose bucket `hospital` holds the data set as a folder and as a .zip."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "k", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=address, **keys)
    client.create_bucket(Bucket="hospital")
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in chexpert().items():
            client.put_object(Bucket="hospital", Key=f"CheXpert-v1.0-small/{name}", Body=data)
            archive.writestr(f"CheXpert-v1.0-small/{name}", data)
    client.put_object(Bucket="hospital", Key="CheXpert-v1.0-small.zip", Body=packed.getvalue())
    yield address
    server.stop()


@pytest.fixture(scope="module")
def run(server, tmp_path_factory):
    """Runs blocks of a page in one shell: (folder, *blocks) -> what it prints. It finds an account in the profile that
    the page shows, and nowhere else.
    """
    home = tmp_path_factory.mktemp("home")
    (home / ".aws").mkdir()
    (profile,) = blocks("own-data.md", "Data in S3", "ini")
    (home / ".aws" / "credentials").write_text(profile, encoding="utf-8")
    ours = {"HOME": str(home), "TMPDIR": str(home), "DVC_NO_ANALYTICS": "1", "NO_PROXY": "*", "CXR_PROCESSES": "1"}
    ours["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | GIT | ours

    def run(folder: Path, *commands: str) -> str:
        text = "set -e\n" + "\n".join(commands).replace(ENDPOINT, server).replace("/tmp/try-", f"{home}/try-")
        done = subprocess.run(["bash", "-c", text], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, (text, done.stdout[-3000:], done.stderr[-3000:])
        return done.stdout + done.stderr

    run.home = home
    return run


@pytest.fixture(scope="module")
def repository(run, tmp_path_factory) -> Path:
    """A repository of this code with the two stages that read a source, after own-data.md's commands with a folder."""
    folder = tmp_path_factory.mktemp("s3") / "repository"
    listed = ["git", "ls-files", "cxr", "stages", ".dvc", ".dvcignore", ".gitignore"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    stages = {name: pipeline[name] for name in ("download", "resize")}
    for stage in stages.values():
        del stage["foreach"]["rsna"]
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    (folder / "params.yaml").write_bytes((ROOT / "presets" / "smoke.yaml").read_bytes())
    (folder / "reports").mkdir()
    (folder / "reports" / "note.txt").write_text("what git tracks")
    run(folder, "git init -q; git add -A; git commit -qm code")
    account, from_folder, _ = blocks("own-data.md", "Data in S3")
    printed = run(folder, account, from_folder)
    assert "6 images of 6 patients from a s3 source" in printed
    assert "Running stage 'resize@chexpert'" in printed
    return folder


def test_a_zip_in_s3_gives_the_records_of_the_folder(run, repository):
    account, _, from_zip = blocks("own-data.md", "Data in S3")
    run(repository, account, from_zip.replace("dvc exp run", "true"))
    read = [
        pd.read_parquet(folder / "records.parquet")
        for folder in (run.home / "try-chexpert", repository / "data" / "chexpert")
    ]
    for table in read:
        table["path"] = table["path"].str.removeprefix("CheXpert-v1.0-small/")  # in the .zip alone
    pd.testing.assert_frame_equal(*read)


def test_what_one_clone_pushes_to_s3_another_pulls_and_runs_nothing(run, repository, tmp_path):
    remote, push, pull = blocks("share.md", "In S3")
    _, commit = blocks("share.md", "Push")
    run(repository, remote, push, commit)
    printed = run(tmp_path, f"git clone -q {repository} clone; cd clone", remote, pull)
    assert "up to date" in printed and "Running stage" not in printed
    stores = Path("data") / "stores" / "chexpert"
    assert sha256(tmp_path / "clone" / stores) == sha256(repository / stores)
    assert list((tmp_path / "clone" / stores).glob("*/images.npy"))
