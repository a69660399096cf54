"""The daemon's life, and the commands that look at it."""

import json
import os
import re
import signal
import subprocess

from conftest import BINARY, UNDER, command_lines, wait_until


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


def waiting_monitors(daemon):
    """Those that were started before there is a node for them."""
    return [pid for pid, line in command_lines() if "--wait" in line and str(daemon.data) in line]


def ended(client, run):
    return wait_until(lambda: (r := client.get(f"/api/v1/runs/{run['id']}"))["state"] in ("succeeded", "failed") and r)


def test_a_monitor_waits_for_the_next_run(daemon):
    client = daemon.client()
    (pid,) = wait_until(lambda: waiting_monitors(daemon), what="a monitor that waits")
    run = client.post("/api/v1/runs", {"entry": ["echo", "hello"]})
    assert ended(client, run)["state"] == "succeeded"
    node = daemon.data / "runs" / run["id"] / "0"
    assert json.loads((node / "monitor.json").read_text())["pid"] == pid
    assert (node / "monitor.log").read_text() == ""
    wait_until(lambda: set(waiting_monitors(daemon)) - {pid}, what="another one")
    daemon.kill()
    wait_until(lambda: not waiting_monitors(daemon), what="the end of the one that waits")


def test_the_monitor_that_waits_is_killed(daemon):
    client = daemon.client()
    (pid,) = wait_until(lambda: waiting_monitors(daemon), what="a monitor that waits")
    os.kill(pid, signal.SIGKILL)
    assert ended(client, client.post("/api/v1/runs", {"entry": ["true"]}))["state"] == "succeeded"
    wait_until(lambda: waiting_monitors(daemon), what="another one")
