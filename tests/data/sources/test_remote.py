"""Downloads over HTTP and from S3, against servers on this machine: whole or not at all, resumed, checked."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cxr.data.sources import remote
from cxr.data.sources.remote import download, public, split_checksum

DATA = np.random.default_rng(0).bytes(3_000_000)
SHA = hashlib.sha256(DATA).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves server.data with ranges; breaks off after the number of bytes that each entry of server.breaks says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body: bool):
        server = self.server
        if self.path.startswith("/status/"):
            self.send_response(int(self.path[8:11]))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        wanted = self.headers.get("Range")
        matches = self.headers.get("If-Range") in (None, server.tag)
        start = int(wanted[6:].split("-")[0]) if wanted and matches and server.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.data) - 1}/{len(server.data)}")
        if server.lengths:
            self.send_header("Content-Length", str(len(server.data) - start))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.send_header("Connection", "close")
        self.end_headers()
        if body:
            server.starts.append(start)
            end = start + server.breaks.pop(0) if server.breaks else len(server.data)
            self.wfile.write(server.data[start:end])
        self.close_connection = True


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(remote, "PAUSES", (0, 0))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.data, server.tag, server.ranges, server.lengths, server.starts, server.breaks = (
        DATA,
        '"v1"',
        True,
        True,
        [],
        [],
    )
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def fine(_):
    pass


def test_a_download_is_whole_and_leaves_only_itself(server, tmp_path):
    download(f"{server.url}/x.zip#sha256={SHA.upper()}", tmp_path / "x.zip", fine)
    assert (tmp_path / "x.zip").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def test_a_break_goes_on_by_byte_range_in_the_same_run(server, tmp_path):
    server.breaks = [1_000_000, 500_000]
    download(f"{server.url}/x.zip", tmp_path / "x.zip", fine)
    assert (tmp_path / "x.zip").read_bytes() == DATA
    assert len(server.starts) == 3 and 0 == server.starts[0] < server.starts[1] <= server.starts[2]


def test_a_break_goes_on_by_byte_range_in_a_later_run(server, tmp_path):
    server.breaks = [1_000_000, 0, 0, 0]
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:\d+/x\.zip: .*the same command goes on from here"):
        download(f"{server.url}/x.zip", tmp_path / "x.zip", fine)
    kept = (tmp_path / "x.part").stat().st_size
    assert not (tmp_path / "x.zip").exists() and 0 < kept <= 1_000_000
    server.starts.clear(), server.breaks.clear()
    download(f"{server.url}/x.zip", tmp_path / "x.zip", fine)
    assert server.starts == [kept]
    assert (tmp_path / "x.zip").read_bytes() == DATA and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("when", ["between runs", "between tries", "without ranges", "without an ETag"])
def test_another_file_is_never_glued_to_an_old_part(server, tmp_path, when):
    server.breaks = [1_000_000, 0, 0, 0]
    if when == "without an ETag":
        server.tag = None
    with pytest.raises(ValueError):
        download(f"{server.url}/x.zip", tmp_path / "x.zip", fine)
    server.breaks.clear()
    if when == "without ranges":
        server.ranges = False
    else:
        server.data = DATA[::-1]
        server.tag = server.tag and '"v2"'
    if when == "between tries":  # what the server said of the file is older than the file
        old = remote._Remote(f"{server.url}/x.zip")
        old.facts["version"] = '"v1"'
        with remote.Progress("", 0) as progress:
            assert remote._go_on(old, tmp_path / "x.part", 500_000, progress) == len(DATA)
        assert (tmp_path / "x.part").read_bytes() == server.data
        return
    download(f"{server.url}/x.zip", tmp_path / "x.zip", fine)
    assert (tmp_path / "x.zip").read_bytes() == server.data


def test_a_server_that_does_not_say_how_long(server, tmp_path):
    server.lengths = False
    download(f"{server.url}/x.zip", tmp_path / "x.zip", fine)
    assert (tmp_path / "x.zip").read_bytes() == DATA


def test_wrong_bytes_are_not_kept(server, tmp_path):
    wrong = "0" * 64
    with pytest.raises(ValueError, match=rf"x\.zip has the SHA-256 {SHA}, not {wrong}"):
        download(f"{server.url}/x.zip#sha256={wrong}", tmp_path / "x.zip", fine)

    def refuse(part):
        raise ValueError("no .zip")

    with pytest.raises(ValueError, match=r"no \.zip"):
        download(f"{server.url}/x.zip", tmp_path / "x.zip", refuse)
    assert not list(tmp_path.glob("x.[zp]*"))


@pytest.mark.parametrize(
    "path, message",
    [
        ("/status/404", r"/status/404: the server answers 404 Not Found; check the address"),
        ("/status/403?sig=SECRET", r"/status/403: the server answers 403 Forbidden; log in or ask for access"),
        ("/status/500", r"/status/500: the server answers 500 Internal Server Error"),
    ],
)
def test_refusals_are_one_clear_line(server, tmp_path, path, message):
    with pytest.raises(ValueError, match=message) as caught:
        download(server.url + path, tmp_path / "x.zip", fine)
    assert "SECRET" not in str(caught.value) and "\n" not in str(caught.value)


def test_no_server_at_all(tmp_path):
    with pytest.raises(
        ValueError, match=r"http://127\.0\.0\.1:9/x\.zip: can't connect to 127\.0\.0\.1:9; check the address"
    ):
        download("http://127.0.0.1:9/x.zip", tmp_path / "x.zip", fine)


def test_a_full_disk(server, tmp_path, monkeypatch):
    monkeypatch.setattr(remote.shutil, "disk_usage", lambda _: type("", (), {"free": 1000}))
    with pytest.raises(ValueError, match=r"x\.zip: 3,000,000 bytes are missing, but .* has 1,000 free"):
        download(f"{server.url}/x.zip", tmp_path / "x.zip", fine)


def test_addresses():
    assert public("https://me:pw@host/a/b.zip?sig=1#sha256=2") == "https://host/a/b.zip"
    assert split_checksum("s3://data/x.zip") == ("s3://data/x.zip", None)
    for bad in ("sha256=12", "md5=" + "0" * 64, "x"):
        with pytest.raises(ValueError, match=f"after # comes sha256= and 64 hexadecimal digits, not '{bad}'"):
            split_checksum(f"http://h/x.zip#{bad}")


@pytest.fixture
def bucket(monkeypatch):
    """An S3 bucket `data` on this machine."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="data")
    yield client
    server.stop()


def test_s3(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "PAUSES", (0,))
    bucket.put_object(Bucket="data", Key="x.zip", Body=DATA)
    download(f"s3://data/x.zip#sha256={SHA}", tmp_path / "x.zip", fine)
    assert (tmp_path / "x.zip").read_bytes() == DATA

    # A part from before, and its note: only the rest is asked for.
    facts = remote._Remote("s3://data/x.zip").facts
    assert facts["bytes"] == len(DATA) and facts["version"]
    (tmp_path / "y.part").write_bytes(bytes(1_000_000))
    remote.write_json(tmp_path / "y.json", facts)
    download("s3://data/x.zip", tmp_path / "y.zip", fine)
    assert (tmp_path / "y.zip").read_bytes() == bytes(1_000_000) + DATA[1_000_000:]

    with pytest.raises(ValueError, match=r"s3://data/lost\.zip: there is no such file; check the address"):
        download("s3://data/lost.zip", tmp_path / "z.zip", fine)
