"""A Spark of two cores on this machine, shared by the tests of this folder; they skip without pyspark or Java."""

import os
import shutil

import pytest

from cxr.spark.session import session


@pytest.fixture(scope="session")
def spark_here():
    """Skips, by name, where Spark can't start."""
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    if not shutil.which("java") and "JAVA_HOME" not in os.environ:
        pytest.skip("no Java")


@pytest.fixture(scope="session")
def spark(spark_here):
    # Small jobs end before what Java would win by compiling its best.
    os.environ["JDK_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    with session("local[2]") as started:
        started.conf.set("spark.sql.codegen.wholeStage", "false")
        started.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        yield started


@pytest.fixture
def bucket(monkeypatch):
    """An S3 bucket `data` on this machine, known to this process and to those that it starts."""
    import boto3
    import requests
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_DEFAULT_REGION": "us-east-1"}
    keys |= {"AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()), "NO_PROXY": "*"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()  # of an earlier test's server
    client = boto3.client("s3")
    client.create_bucket(Bucket="data")
    yield client, keys
    requests.post(f"{keys['AWS_ENDPOINT_URL']}/moto-api/reset")  # the next server would have the same files
    server.stop()
