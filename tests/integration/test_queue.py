"""The queue: who starts when, who may overtake, what `why` says. Runs hold resources until the test lets them go."""

import json
import os
import subprocess

import pytest
from conftest import Cli, shares_of, wait_until
from test_runs import FINAL, ended, log_of, shell

# Two devices of 1 and 2 GiB, as the driver's library would describe them.
NVML = """
#include <string.h>
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **d) { *d = (void *)(unsigned long)(i + 1); return 0; }
int nvmlDeviceGetMemoryInfo(void *d, unsigned long long *m) { m[0] = (unsigned long)d << 30; return 0; }
int nvmlDeviceGetUUID(void *d, char *u, unsigned n) { strcpy(u, d == (void *)1 ? "GPU-a" : "GPU-b"); return 0; }
int nvmlDeviceGetMinorNumber(void *d, unsigned *m) { *m = (unsigned)(unsigned long)d + 200; return 0; }
"""


@pytest.fixture
def daemon(make_daemon):
    return make_daemon(serve="none")


@pytest.fixture
def client(daemon):
    return daemon.client()


@pytest.fixture
def total(client):
    return capacity(client)["cpus"]["total"]


def capacity(client):
    return client.get("/api/v1/nodes")["items"][0]


def state_of(client, run_id):
    return client.get(f"/api/v1/runs/{run_id}")["state"]


def hold(client, cpus, **fields):
    """A run that runs until it is stopped."""
    run_id = shell(client, "sleep 600", resources={"cpus": cpus, **fields.pop("resources", {})}, **fields)
    wait_until(lambda: state_of(client, run_id) == "running", what="the holder to run")
    return run_id


def stop(client, run_id):
    client.post(f"/api/v1/runs/{run_id}/stop")
    assert ended(client, run_id)["state"] == "stopped"


def why(client, run_id):
    return client.get(f"/api/v1/runs/{run_id}/why")


def starts_in_order(client, runs):
    return [run["id"] for run in sorted((ended(client, run_id) for run_id in runs), key=lambda r: r["started_at"])]


def test_strict_priority_then_order_of_submission(client, total):
    holder = hold(client, total)
    priorities = [0, 5, 0, 5, -3, 0]
    runs = [shell(client, "true", resources={"cpus": total}, priority=p) for p in priorities]
    raised = runs[5]
    assert client.call("PATCH", f"/api/v1/runs/{raised}", {"priority": 9})["priority"] == 9
    assert [why(client, run_id)["position"] for run_id in runs] == [4, 2, 5, 3, 6, 1]
    stop(client, holder)
    assert starts_in_order(client, runs) == [runs[i] for i in (5, 1, 3, 0, 2, 4)]


def test_order_is_the_same_after_a_crash(daemon, client, total):
    holder = hold(client, total)
    runs = [shell(client, "true", resources={"cpus": total}, priority=p) for p in (0, 1, 0, 1)]
    daemon.kill()
    daemon.start()
    assert [why(client, run_id)["position"] for run_id in runs] == [3, 1, 4, 2]
    stop(client, holder)
    assert starts_in_order(client, runs) == [runs[i] for i in (1, 3, 0, 2)]


def test_backfill_never_delays_the_head(client, total):
    """Half the machine is held for a minute at most; the head needs all of it."""
    half = total / 2
    holder = hold(client, half, timeout_ms=60000, grace_ms=1000)
    head = shell(client, "true", resources={"cpus": total})
    endless = shell(client, "true", resources={"cpus": half})
    too_long = shell(client, "true", resources={"cpus": half}, timeout_ms=600000)
    grace_too_long = shell(client, "true", resources={"cpus": half}, timeout_ms=2000, grace_ms=120000)
    short = shell(client, "true", resources={"cpus": half}, timeout_ms=2000, grace_ms=1000)
    assert ended(client, short)["state"] == "succeeded"
    for run_id in (head, endless, too_long, grace_too_long):
        assert state_of(client, run_id) == "queued", run_id
    answer = why(client, head)
    assert (answer["reason"], answer["position"], answer["head"]) == ("resources", 1, head)
    assert answer["missing"] == [{"resource": "cpus", "needed": total, "free": half, "total": total}]
    assert [h["owner"] for h in answer["holders"]] == [holder]
    assert answer["holders"][0]["ends_at"] == answer["expected_at"]
    for run_id in (endless, too_long, grace_too_long):
        answer = why(client, run_id)
        assert (answer["reason"], answer["head"]) == ("behind", head), answer
        assert head in answer["message"] and "it could start now" in answer["message"]
    stop(client, holder)
    runs = [head, endless, too_long, grace_too_long]
    assert starts_in_order(client, runs)[0] == head


def test_what_fits_beside_the_head_starts(client, total):
    """The head waits for one that may run for ever, but needs less than all: the rest is free for others."""
    holder = hold(client, total * 0.75)
    head = shell(client, "true", resources={"cpus": total / 2})
    beside = shell(client, "true", resources={"cpus": total / 4})
    assert ended(client, beside)["state"] == "succeeded"
    assert state_of(client, head) == "queued"
    assert "without time-out" in why(client, head)["message"]
    stop(client, holder)
    assert ended(client, head)["state"] == "succeeded"


def test_stopping_the_head_lets_others_pass(client, total):
    holder = hold(client, total / 2)
    head = shell(client, "true", resources={"cpus": total})
    behind = shell(client, "true", resources={"cpus": total / 2})
    assert why(client, behind)["reason"] == "behind"
    client.post(f"/api/v1/runs/{head}/stop")
    assert ended(client, behind)["state"] == "succeeded"
    run = client.get(f"/api/v1/runs/{head}")
    assert (run["state"], run["reason"], run["exit_code"], run["started_at"]) == ("stopped", "stopped_by_user", None, None)
    assert why(client, head)["state"] == "stopped"
    assert client.get(f"/api/v1/runs/{head}/nodes")["items"] == []
    stop(client, holder)


def test_what_can_never_start_is_said_and_holds_up_nobody(client, daemon, environment):
    memory = capacity(client)["memory"]["total"]
    giant = shell(client, "true", resources={"cpus": 0.1, "memory": int(memory * 2)}, priority=100)
    wait_until(lambda: why(client, giant)["reason"] == "impossible", what="the verdict")
    answer = why(client, giant)
    assert [m["resource"] for m in answer["missing"]] == ["memory"]
    assert "more than this machine has" in answer["message"]
    assert ended(client, shell(client, "true", resources={"cpus": 0.1}))["state"] == "succeeded"
    text = Cli(environment, daemon.data)("runs", "why", giant).stdout
    assert "memory" in text and "more than this machine has" in text
    client.post(f"/api/v1/runs/{giant}/stop")
    assert state_of(client, giant) == "stopped"


def test_runs_of_many_clients_all_end(client, total):
    """More than fits, in sizes that leave gaps: never more is given than there is, and nobody is forgotten."""
    runs = [shell(client, "true", resources={"cpus": total * (1 + i % 4) / 4}, priority=i % 3) for i in range(16)]

    def over():
        used = capacity(client)["cpus"]
        assert used["used"] <= used["total"] + 0.001, used
        return all(state_of(client, run_id) in FINAL for run_id in runs)

    wait_until(over, 120, "the end of all runs")
    assert {state_of(client, run_id) for run_id in runs} == {"succeeded"}
    assert capacity(client)["holders"] == [] and capacity(client)["queued"] == 0


# -- devices --


@pytest.fixture
def gpu_daemon(make_daemon, environment, tmp_path):
    source = tmp_path / "nvml.c"
    source.write_text(NVML)
    library = tmp_path / "libnvidia-ml.so"
    subprocess.run([os.environ.get("CC", "cc").split()[-1], "-shared", "-fPIC", "-o", library, source], check=True)
    environment["SLIPWAY_NVML"] = str(library)
    return make_daemon(serve="none")


def gpu_run(client, gpus, script="echo $CUDA_VISIBLE_DEVICES $SLIPWAY_DEVICE", memory=0, **fields):
    return shell(client, script, resources={"cpus": 0.1, "gpus": gpus, "gpu_memory": memory}, **fields)


def test_devices_are_given_whole_and_by_index(gpu_daemon):
    client = gpu_daemon.client()
    assert [g["memory"] for g in capacity(client)["gpus"]] == [1 << 30, 2 << 30]
    first = gpu_run(client, 1, "echo $CUDA_VISIBLE_DEVICES; sleep 600")
    wait_until(lambda: state_of(client, first) == "running")
    second = gpu_run(client, 1)
    assert ended(client, second)["state"] == "succeeded"
    assert log_of(client, second) == "1 gpu\n"
    wait_until(lambda: log_of(client, first) == "0\n", what="the first run's log")
    none = gpu_run(client, 0)
    ended(client, none)
    assert log_of(client, none) == "cpu\n"
    assert [g["holder"] for g in capacity(client)["gpus"]] == [first, None]

    both = gpu_run(client, 2)
    answer = why(client, both)
    assert answer["missing"] == [{"resource": "gpus", "needed": 2, "free": 1, "total": 2}]
    assert [(h["owner"], h["gpus"]) for h in answer["holders"]] == [(first, "0")]
    # A restart of the daemon does not give the device away twice.
    gpu_daemon.kill()
    gpu_daemon.start()
    assert [g["holder"] for g in capacity(client)["gpus"]] == [first, None]
    assert state_of(client, both) == "queued"
    stop(client, first)
    assert ended(client, both)["state"] == "succeeded"
    assert log_of(client, both) == "0,1 gpu\n"


def test_devices_with_enough_memory(gpu_daemon):
    client = gpu_daemon.client()
    large = gpu_run(client, 1, memory=2 << 30)
    ended(client, large)
    assert log_of(client, large) == "1 gpu\n"
    wanted = {3: 0, 2: 2 << 30, 1: 4 << 30}
    for gpus, memory in wanted.items():
        run_id = gpu_run(client, gpus, memory=memory)
        wait_until(lambda: why(client, run_id)["reason"] == "impossible", what="the verdict")
        assert "gpus" in why(client, run_id)["message"]
        client.post(f"/api/v1/runs/{run_id}/stop")
    nodes = client.get(f"/api/v1/runs/{large}/nodes")["items"]
    assert json.dumps(nodes[0]["gpus"]) == '"1"'


# -- long runs --


def test_long_run_gives_way(make_daemon):
    daemon = make_daemon("--long-run", "3s", serve="none")
    client = daemon.client()
    run_id = hold(client, 1, priority=5)
    before = shares_of(run_id)
    wait_until(lambda: client.get(f"/api/v1/runs/{run_id}")["priority"] == -10, what="the lower priority")
    assert shares_of(run_id) == (256 if before == 1024 else 1 + 254 * 9999 // 262142)
    events = [e["data"] for e in client.get("/api/v1/events", query={"subject": f"run/{run_id}"})["items"]
              if e["type"] == "slipway.run.priority_changed"]
    assert [(e["from"], e["to"], e["reason"]) for e in events] == [(5, -10, "long_running")]
    assert state_of(client, run_id) == "running"
    stop(client, run_id)
