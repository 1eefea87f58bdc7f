"""A folder at an address of S3, asked by somebody without an account."""

import pickle

import pytest

from cxr.data.sources.pieces import each
from cxr.data.sources.prefix import Prefix


@pytest.mark.parametrize(("profile", "problem"), [(None, "Unable to locate credentials"), ("other", "profile.*other")])
def test_a_missing_account_is_one_line(profile, problem, tmp_path, monkeypatch):
    s3fs = pytest.importorskip("s3fs")
    s3fs.S3FileSystem.clear_instance_cache()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody: it is not asked
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    with pytest.raises(ValueError, match=f"^s3://hospital/chexpert/ can't be listed: .*{problem}.*; check the address"):
        Prefix("s3://hospital/chexpert/").names()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def public_bucket(monkeypatch, tmp_path):
    """An S3 bucket on this machine, and nobody's account."""
    import boto3
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    place = "http://{}:{}".format(*server.get_host_and_port())
    client = boto3.client("s3", endpoint_url=place, aws_access_key_id="id", aws_secret_access_key="key",
                          region_name="us-east-1")  # fmt: skip
    client.create_bucket(Bucket="open")
    for name, data in {"train.csv": b"Path\n", "valid.csv": b""}.items():
        client.put_object(Bucket="open", Key=f"set/{name}", Body=data, ACL="public-read")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": place}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NO_PROXY", "*")
    S3FileSystem.clear_instance_cache()
    yield "s3://open/set/"
    for name in ("train.csv", "valid.csv"):
        client.delete_object(Bucket="open", Key=f"set/{name}")
    client.delete_bucket(Bucket="open")
    server.stop()
    S3FileSystem.clear_instance_cache()


def test_a_public_folder_needs_no_account(public_bucket):
    tree = Prefix(public_bucket)
    assert tree.names() == {"train.csv", "valid.csv"}
    elsewhere = pickle.loads(pickle.dumps(tree))  # an executor, which lists nothing
    assert elsewhere.read("train.csv") == elsewhere.part("train.csv", 0, 5) == b"Path\n"
    assert elsewhere.read("valid.csv") == elsewhere.part("valid.csv", 0, 5) == b""
    with pytest.raises(ValueError, match=r"^valid\.csv is empty: download"):
        list(each(elsewhere, "valid.csv", ("Path",)))
