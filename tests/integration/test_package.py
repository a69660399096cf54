"""A version as an image that needs no control plane."""

import hashlib
import json
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tarfile
import tempfile

import pytest
from conftest import Client, kill_tree, remove_directory, wait_until

PACKAGE = """
import json, os
import numpy

def init():
    global table
    with open(os.environ["SLIPWAY_WEIGHTS"], "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        f.seek(8 + n)
        table = numpy.frombuffer(f.read(), dtype="<f4")

def predict(text):
    if text == "die":
        os._exit(3)
    return json.dumps([float(v) for v in numpy.dot(table, numpy.array(json.loads(text)).reshape(3, -1))])

def predict_tensors(inputs):
    return {"y": inputs["x"] * 2}
"""


@pytest.fixture
def version(cli, tmp_path):
    """vision/table@1 behind the endpoint `table`."""
    directory = tmp_path / "package"
    directory.mkdir()
    (directory / "model.py").write_text(PACKAGE)
    (directory / "slipway.yaml").write_text("outputs: [{name: y, datatype: FP32, shape: [-1]}]\n")
    header = json.dumps({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}).encode()
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<3f", 1, 10, 100))
    cli("model", "push", "vision/table", directory, "--weights", weights)
    cli("endpoint", "create", "table", "vision/table@1")


@pytest.fixture
def image(cli, version, tmp_path):
    path = tmp_path / "table.tar"
    made = cli.json("model", "package", "vision/table@1", "--output", path, timeout=400)
    assert made["size"] == path.stat().st_size
    return path, made["digest"]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


QUESTIONS = [
    ("/predict/table", "[1, 2, 3]"),
    ("/predict/table", "[[1, 0], [0, 1], [0.5, 0.25]]"),
    ("/predict/table", "nonsense"),
    ("/v2/models/table/infer", json.dumps({"id": "7", "inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]})),
    ("/v2/models/table/infer", json.dumps({"inputs": [{"name": "x", "datatype": "NONE", "shape": [2], "data": [1, 2]}]})),
]


def compare(local, other):
    """Both must answer all questions equally."""
    for path, body in QUESTIONS:
        a, b = local.request("POST", path, body=body), other.request("POST", path, body=body)
        assert (a.status, a.body) == (b.status, b.body), path
    a, b = local.get("/v2/models/table"), other.get("/v2/models/table")
    assert a == b


def is_ready(url):
    try:
        return Client(url).request("GET", "/v2/health/ready").status == 200
    except OSError:
        return False


def unpacked(image, directory):
    """The root file system of the image, and its configuration."""
    with tarfile.open(image) as tar:
        def read(digest):
            return tar.extractfile("blobs/sha256/" + digest.removeprefix("sha256:")).read()

        index = json.load(tar.extractfile("index.json"))
        manifest = json.loads(read(index["manifests"][0]["digest"]))
        for layer in manifest["layers"]:
            blob = directory.parent / "layer"
            blob.write_bytes(read(layer["digest"]))
            subprocess.run(["tar", "-xf", blob, "-C", directory], check=True)
        return index["manifests"][0]["digest"], json.loads(read(manifest["config"]["digest"]))["config"]


def test_same_version_same_digest(cli, image, tmp_path):
    path, digest = image
    again = tmp_path / "again.tar"
    assert cli.json("model", "package", "vision/table@1", "--output", again, timeout=400)["digest"] == digest
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(path.read_bytes()).digest()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the root directory")
def test_serves_without_anything_else(cli, image, daemon, tmp_path):
    base = pathlib.Path(tempfile.mkdtemp(prefix="slipway-image-", dir="/tmp"))
    root = base / "root"
    root.mkdir()
    base.chmod(0o755)
    process = None
    try:
        digest, config = unpacked(image[0], root)
        assert digest == image[1] and config["User"] == "65534:65534"
        for directory in ("proc", "dev"):
            (root / directory).mkdir(exist_ok=True)
            subprocess.run(["mount", "--bind", f"/{directory}", root / directory], check=True)
        port, secret = free_port(), cli.json("token", "create", "app", "--scope", "predict:table")["token"]
        reader = cli.json("token", "create", "reader", "--scope", "view")["token"]
        environment = dict(v.split("=", 1) for v in config["Env"])

        def start(**variables):
            return subprocess.Popen(
                ["chroot", "--userspec=65534:65534", root, *config["Entrypoint"]],
                env={**environment, "SLIPWAY_LISTEN": f"127.0.0.1:{port}", **variables},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip

        refused = start()
        assert refused.wait(30) != 0 and b"SLIPWAY_PUBLIC" in refused.stdout.read()
        with open(tmp_path / "log", "w") as log:
            process = subprocess.Popen(
                ["chroot", "--userspec=65534:65534", root, *config["Entrypoint"]],
                env={**environment, "SLIPWAY_LISTEN": f"127.0.0.1:{port}", "SLIPWAY_INTROSPECT": f"{daemon.url}/api/v1/oauth2/introspect", "SLIPWAY_INTROSPECT_TOKEN": reader},
                stdout=log, stderr=log,
            )  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: is_ready(url), what="the image's model: " + (tmp_path / "log").read_text())
        assert Client(url).request("POST", "/predict/table", body="[1, 2, 3]").status == 401
        assert Client(url, token="nonsense").request("POST", "/predict/table", body="[1, 2, 3]").status == 401
        assert Client(url, token=secret).request("POST", "/predict/table", body="[1, 2, 3]").body == b"[321.0]"
        compare(Client(daemon.serve_url, token=secret), Client(url, token=secret))
        # What dies is started again.
        Client(url, token=secret).request("POST", "/predict/table", body="die")
        wait_until(lambda: is_ready(url), what="the next worker")
        assert Client(url, token=secret).request("POST", "/predict/table", body="[1, 2, 3]").body == b"[321.0]"
        process.terminate()
        assert process.wait(30) == 0
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
    finally:
        if process and process.poll() is None:
            kill_tree([process.pid])
        for directory in ("proc", "dev"):
            subprocess.run(["umount", "-l", root / directory], check=False)
        if not os.path.ismount(root / "proc") and not os.path.ismount(root / "dev"):
            shutil.rmtree(base, ignore_errors=True)


def dockerd():
    return shutil.which("dockerd")


@pytest.mark.skipif(os.geteuid() != 0 or not dockerd(), reason="needs root and a Docker Engine (docker.io)")
def test_serves_under_docker(cli, image, daemon, tmp_path):
    base = pathlib.Path(tempfile.mkdtemp(prefix="slipway-docker-", dir="/var/tmp"))
    address = f"unix://{base}/docker.sock"
    command = ["dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false", "-H", address]
    for option in ("data-root", "exec-root"):
        command += [f"--{option}", base / option]
    engine = subprocess.Popen(
        [*command, "-p", base / "pid"], stdout=open(base / "log", "w"), stderr=subprocess.STDOUT, cwd="/"
    )

    def docker(*arguments, check=True):
        return subprocess.run(["docker", "-H", address, *arguments], check=check, capture_output=True, text=True)

    try:
        wait_until(lambda: docker("version", check=False).returncode == 0, what="the Docker Engine")
        docker("load", "-i", image[0])
        port, secret = free_port(), cli.json("token", "create", "app", "--scope", "predict:table")["token"]
        reader = cli.json("token", "create", "reader", "--scope", "view")["token"]
        variables = {
            "SLIPWAY_LISTEN": f"127.0.0.1:{port}",
            "SLIPWAY_INTROSPECT": f"{daemon.url}/api/v1/oauth2/introspect",
            "SLIPWAY_INTROSPECT_TOKEN": reader,
        }
        options = [part for name, value in variables.items() for part in ("-e", f"{name}={value}")]
        name = docker(
            "run", "-d", "--network", "host", "--read-only", "--tmpfs", "/tmp", "--oom-score-adj", "0", *options,
            "slipway/vision/table:1",
        ).stdout.strip()  # fmt: skip
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: is_ready(url), what="the container's model")
        except BaseException:
            print(docker("logs", name, check=False))
            raise
        assert Client(url).request("POST", "/predict/table", body="[1, 2, 3]").status == 401
        compare(Client(daemon.serve_url, token=secret), Client(url, token=secret))
        docker("stop", name)
        assert json.loads(docker("inspect", name).stdout)[0]["State"]["ExitCode"] == 0
    finally:
        docker("rm", "-f", "-v", *docker("ps", "-aq", check=False).stdout.split(), check=False)
        engine.terminate()
        try:
            engine.wait(30)
        except subprocess.TimeoutExpired:
            kill_tree([engine.pid])
        remove_directory(base)
