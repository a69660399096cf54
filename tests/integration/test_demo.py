"""script/demo, as a newcomer runs it, on a data directory and ports of its own; and script/stop."""

import os
import pathlib
import socket
import subprocess

import pytest
from conftest import BINARY, processes_of

ROOT = pathlib.Path(__file__).resolve().parents[2]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def demo(tmp_path):
    data = tmp_path / "demo data"
    environment = dict(os.environ, SLIPWAY_BINARY=str(BINARY), SLIPWAY_DATA=str(data), SLIPWAY_LISTEN=f"127.0.0.1:{free_port()}",
                       SLIPWAY_SERVE=f"127.0.0.1:{free_port()}", LOGS=str(tmp_path / "logs"))
    environment.pop("SLIPWAY_TOKEN", None)

    def script(*words):
        return subprocess.run([ROOT / "script" / words[0], *words[1:]], env=environment, capture_output=True, text=True, timeout=600)

    script.data = data
    yield script
    script("stop", "--remove")


def test_the_main_job_on_real_data(demo):
    for attempt in ("first", "again"):
        result = demo("demo")
        assert result.returncode == 0, (attempt, result.stdout[-3000:], result.stderr[-3000:])
        summary = result.stdout[result.stdout.index("\nSummary\n"):]
        assert "rejected by the gate (exit status 7)" in summary
        assert "accuracy over HTTP 0.9610" in summary and "accuracy over HTTP 0.9805" in summary
        assert "of which the routes took" in summary
        if attempt == "first":
            assert "gate accepted: accuracy = 0.98" in result.stdout
        assert "gate rejected: accuracy = 0.2" in result.stdout
    assert processes_of(demo.data)
    stopped = demo("stop", "--remove")
    assert stopped.returncode == 0 and "stopped the daemon" in stopped.stdout
    assert not processes_of(demo.data) and not demo.data.exists()
