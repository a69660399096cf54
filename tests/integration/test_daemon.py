"""The daemon's life, and the commands that look at it."""

import json
import re
import signal
import subprocess

from conftest import BINARY, UNDER, wait_until


def test_status(daemon, cli):
    text = cli("status").stdout
    assert re.search(rf"^Daemon +slipway \S+, pid {daemon.process.pid}$", text, re.M)
    assert re.search(rf"^Data +{re.escape(str(daemon.data))}$", text, re.M)
    assert re.search(r"^Disk +.+ in the vault, .+ free$", text, re.M)
    status = cli.json("status")
    assert status["pid"] == daemon.process.pid
    assert status["urls"][0] == f"unix:{daemon.data}/slipway.sock"
    assert sum(status["runs"].values()) == 0


def test_status_by_url_and_socket(daemon, program):
    by_socket = program.json("status", "--url", daemon.socket)
    assert by_socket["pid"] == daemon.process.pid
    # TCP needs a token, whoever asks.
    result = program("status", "--url", daemon.url, check=False)
    assert result.returncode == 5
    assert "SLIPWAY_TOKEN" in result.stderr
    result = program("status", env={"SLIPWAY_URL": daemon.url, "SLIPWAY_TOKEN": "nonsense"}, check=False)
    assert result.returncode == 5


def test_token_of_the_environment_is_not_used_on_the_socket(cli):
    assert cli.json("status", env={"SLIPWAY_TOKEN": "nonsense"})["pid"]


def test_second_daemon_on_the_same_directory(daemon, program):
    result = program("serve", "--data", daemon.data, "--listen", "127.0.0.1:0", check=False, timeout=60)
    assert result.returncode == 4
    assert str(daemon.data) in result.stderr
    assert daemon.client().get("/api/v1/status")["pid"] == daemon.process.pid


def test_stops_cleanly_and_starts_again(daemon):
    for _ in range(3):
        assert daemon.stop() == 0
        daemon.start()
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.process.wait(30) == 0
    daemon.process = None


def test_survives_kill(daemon):
    for _ in range(3):
        daemon.kill()
        daemon.start()
    assert daemon.client().get("/api/v1/status")["runs"] == {}


def test_socket_is_private(daemon):
    assert (daemon.data / "slipway.sock").stat().st_mode & 0o777 == 0o600
    assert daemon.data.stat().st_mode & 0o007 == 0 or daemon.data.stat().st_mode & 0o006 == 0


def test_ready_is_announced_after_the_first_answer_is_possible(environment, tmp_path):
    process = subprocess.Popen(
        [*UNDER, BINARY, "serve", "--data", str(tmp_path / "d"), "--listen", "127.0.0.1:0", "--serve", "none", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    try:
        ready = json.loads(process.stdout.readline())
        assert ready["status"] == "ready"
        assert ready["serving"] is None
        result = subprocess.run(
            [*UNDER, BINARY, "status", "--json", "--url", ready["listening"][0]],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        assert json.loads(result.stdout)["pid"] == process.pid
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_unwritable_data_directory(program):
    result = program("serve", "--data", "/proc/nothing", check=False, timeout=60)
    assert result.returncode not in (0, 2)
    assert "/proc/nothing" in result.stderr


def test_completion_asks_the_daemon(cli):
    result = cli("complete", "--", "status", "--project", "")
    assert "default" in [line.split("\t")[0] for line in result.stdout.splitlines()]
