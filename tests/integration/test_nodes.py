"""Runs of several nodes: they find each other by the usual variables, and end together."""

import pathlib

import pytest
from conftest import Cli, wait_until
from test_runs import ended, log_of, shell, submit

# Every node serves at its own TF_CONFIG address; the chief also at MASTER_ADDR:MASTER_PORT, where all the others say
# hello with their rank and then read what every other node says about itself.
PROGRAM = """
import json, os, socket, sys, threading, time
config = json.loads(os.environ["TF_CONFIG"])
role, index = config["task"]["type"], config["task"]["index"]
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])

def serve(host, port, handle):
    listener = socket.create_server((host, port))
    def loop():
        while True:
            peer, _ = listener.accept()
            handle(peer.makefile("rw"))
    threading.Thread(target=loop, daemon=True).start()

def connect(host, port):
    for _ in range(600):
        try:
            return socket.create_connection((host, port), 20).makefile("rw")
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nobody at {host}:{port}")

def tell(file, text):
    print(text, file=file, flush=True)

host, port = config["cluster"][role][index].split(":")
serve(host, int(port), lambda peer: tell(peer, f"{role}{index}"))
met, done = set(), threading.Event()
if rank == 0:
    def greet(peer):
        met.add(int(peer.readline()))
        tell(peer, "welcome")
        if len(met) == world - 1:
            done.set()
    serve(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), greet)
    assert done.wait(60)
else:
    master = connect(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
    tell(master, rank)
    assert master.readline() == "welcome\\n"
seen = sorted(connect(*address.split(":")).readline().strip() for list in config["cluster"].values() for address in list)
print(role, index, rank, world, *seen)
if role == "ps":
    time.sleep(600)
time.sleep(1)  # the others read from us
"""


@pytest.fixture
def daemon(make_daemon):
    return make_daemon(serve="none")


@pytest.fixture
def client(daemon):
    return daemon.client()


def nodes_of(client, run_id):
    return client.get(f"/api/v1/runs/{run_id}/nodes")["items"]


def node_log(client, run_id, node):
    return client.request("GET", f"/api/v1/runs/{run_id}/nodes/{node}/log").body.decode()


def networks(daemon):
    directory = daemon.data / "engine/network"
    mounted = [l for l in pathlib.Path("/proc/self/mounts").read_text().splitlines() if str(daemon.data) in l and "nsfs" in l]
    return [*(directory.iterdir() if directory.exists() else []), *mounted]


def test_chief_workers_and_parameter_server_meet(daemon, client, environment, tmp_path):
    script = tmp_path / "train.py"
    script.write_text(PROGRAM)
    result = Cli(environment, daemon.data).json("run", script, "--nodes", "chief=1,worker=2,ps=1", "--cpus", "0.4")
    run = ended(client, result["id"], 120)
    logs = [node_log(client, run["id"], i) for i in range(4)]
    assert run["state"] == "succeeded", (run, logs)
    seen = "chief0 ps0 worker0 worker1\n"
    assert logs == [f"chief 0 0 4 {seen}", f"worker 0 1 4 {seen}", f"worker 1 2 4 {seen}", f"ps 0 3 4 {seen}"]
    nodes = nodes_of(client, run["id"])
    assert [n["role"] for n in nodes] == ["chief", "worker", "worker", "ps"]
    # The parameter server is ended when those that train are done.
    assert [n["exit"]["reason"] for n in nodes] == ["exited", "exited", "exited", "peers_done"]
    assert networks(daemon) == []


def test_two_runs_do_not_meet(client):
    """The same port in both, each with its own loopback."""
    script = """
import os, socket, sys, time
if os.environ["RANK"] == "0":
    listener = socket.create_server(("127.0.0.1", 7777))
    print(listener.accept()[0].makefile().readline(), end="")
else:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", 7777)).sendall(os.environ["SLIPWAY_RUN_ID"].encode() + b"\\n")
            break
        except OSError:
            time.sleep(0.05)
"""
    runs = [submit(client, "python3", "-c", script, nodes={"main": 2}, resources={"cpus": 0.2}) for _ in range(2)]
    for run_id in runs:
        assert ended(client, run_id, 120)["state"] == "succeeded"
        assert log_of(client, run_id) == f"{run_id}\n"


@pytest.mark.parametrize(
    "role, script, reason, code, who",
    [
        ("worker", "exit 7", "exit_code", 7, "worker 1 (node 2): "),
        ("ps", "kill -9 $$", "signaled", 137, "ps 0 (node 3): "),
        ("chief", "exit 3", "exit_code", 3, "chief 0 (node 0): "),
    ],
)
def test_failure_of_one_ends_all(daemon, client, role, script, reason, code, who):
    number = who.split("node ")[1][0]
    run_id = shell(client, f"if [ $RANK = {number} ]; then sleep 0.5; {script}; fi; sleep 600",
                   nodes={"chief": 1, "worker": 2, "ps": 1}, resources={"cpus": 0.2}, grace_ms=2000)
    run = ended(client, run_id)
    assert (run["state"], run["reason"], run["exit_code"]) == ("failed", reason, code), run
    assert run["message"].startswith(who)
    reasons = {n["node"]: n["exit"]["reason"] for n in nodes_of(client, run_id)}
    assert [i for i, r in reasons.items() if r != "peer_failed"] == [int(number)], reasons
    assert networks(daemon) == []


def test_nodes_and_their_network_survive_the_daemon(daemon, client):
    script = """
import os, socket, time
if os.environ["RANK"] == "0":
    listener = socket.create_server(("127.0.0.1", 7777))
    print(listener.accept()[0].makefile().readline(), end="")
else:
    while not os.path.exists(os.environ["SLIPWAY_DIR"] + "/out/go"):
        time.sleep(0.05)
    socket.create_connection(("127.0.0.1", 7777)).sendall(b"hello\\n")
"""
    run_id = submit(client, "python3", "-c", script, nodes={"main": 2}, resources={"cpus": 0.2})
    # A run that waits for its place has no nodes yet: none is not all.
    wait_until(lambda: [n["state"] for n in nodes_of(client, run_id)] == ["running"] * 2, what="both nodes to run")
    assert len(networks(daemon)) == 2
    daemon.kill()
    daemon.start()
    for out in (daemon.data / "runs" / run_id / "1").glob("**/out"):
        (out / "go").touch()
    assert ended(client, run_id)["state"] == "succeeded"
    assert log_of(client, run_id) == "hello\n"
    assert networks(daemon) == []
