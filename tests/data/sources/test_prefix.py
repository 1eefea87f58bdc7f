"""A folder at an address of S3, asked by somebody without an account."""

import pytest

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
