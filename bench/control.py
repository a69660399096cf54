"""The control plane: boot with 10,000 runs, idle memory, size of the program, submitted runs a second, submit
to first line of user code in a container and in a process, point reads and appended events a second.

usage: control.py [--quick]
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from common import BUILD, QUICK, SLIPWAY, Connection, Daemon, Report, code_zip, exchange_many, printed_time, say

CONNECTIONS = 16


def submissions(report, daemon, runs):
    code = daemon.client().upload(code_zip("true\n"))
    request = Connection.request("POST", "/api/v1/runs", {"code": code, "entry": ["sh", "main.sh"]})
    alone = 100 if QUICK else 300
    part = (runs - alone) // 3 // CONNECTIONS * CONNECTIONS
    report.add("submitted runs, one connection that waits for each", alone / exchange_many(daemon, request, alone, 1), "/s")
    rates = [part / exchange_many(daemon, request, part, CONNECTIONS) for _ in range(3)]
    report.at_least(f"submitted runs, {CONNECTIONS} connections", statistics.median(rates), 1000, "/s", rates)
    rest = runs - alone - 3 * part
    if rest:
        exchange_many(daemon, request, rest, 1)


def reads(report, daemon):
    run_id = next(iter(daemon.client().runs(limit=1)))["id"]
    request = Connection.request("GET", f"/api/v1/runs/{run_id}")
    for connections in (1, CONNECTIONS):
        count = 2000 * connections // (4 if connections > 1 else 1)
        rate = count / exchange_many(daemon, request, count, connections)
        report.add(f"point reads over HTTP, {connections} connection{'s' * (connections > 1)}", rate, "/s")


def boots(report, daemon, runs):
    say("booting on them")
    times, memory, used, queue = [], [], [], []
    for _ in range(3 if QUICK else 7):
        times.append(daemon.start() * 1000)
        client, begin = daemon.client(), time.monotonic()
        client.request("GET", "/api/v1/nodes")  # who is placed where: answered once the queue was read
        queue.append(times[-1] + (time.monotonic() - begin) * 1000)
        used.append(daemon.processor_seconds() * 1000)
        time.sleep(1)
        memory.append(daemon.memory() / 2**20)
        daemon.stop()
    report.at_most(f"boot to ready with {runs} runs", statistics.median(times), 50, "ms", times)
    report.add("  until the queue is read as well", statistics.median(queue), "ms")
    report.add("  processor time of both", statistics.median(used), "ms")
    report.at_most(f"idle memory with {runs} runs", statistics.median(memory), 20, "MiB", memory)


def program_size(report):
    with tempfile.TemporaryDirectory() as directory:
        stripped = os.path.join(directory, "slipway")
        subprocess.run(["strip", "-o", stripped, SLIPWAY], check=True)
        report.at_most("program, stripped", os.path.getsize(stripped) / 2**20, 5, "MiB")


# -- submit to first line --


def first_lines(daemon, times):
    """For each run the ms from its submission until the first line of the user's code: the script prints the
    clock, which is compared with the clock before the submission. The id of the last one."""
    client = daemon.client()
    code = client.upload(code_zip("exec date +%s.%N\n"))
    waits = []
    for _ in range(times + 1):
        begin = time.time()
        run = client.request("POST", "/api/v1/runs", {"code": code, "entry": ["sh", "main.sh"]})
        run = client.wait(run["id"], timeout=60, poll=0.02)
        if run["state"] != "succeeded":
            raise SystemExit(f"the run ended as {run['state']}: {run.get('reason')}")
        log = client.request("GET", f"/api/v1/runs/{run['id']}/nodes/0/log")
        waits.append((printed_time(log.decode() if isinstance(log, bytes) else str(log)) - begin) * 1000)
    return waits[1:], run["id"]  # the first unpacks the code


def runtime_alone(daemon, run_id, times):
    """The same container by the OCI runtime alone, from the command to its first line: ms, what no daemon
    can be faster than."""
    runtime = json.load(open(os.path.join(daemon.directory, "engine", "runtime.json")))["path"]
    node = os.path.join(daemon.directory, "runs", run_id, "0")
    config = json.load(open(os.path.join(node, "config.json")))
    config["process"]["args"] = ["sh", "-c", "exec date +%s.%N"]
    config["process"]["cwd"] = "/"
    waits = []
    for i in range(times):
        bundle = tempfile.mkdtemp(dir=node)
        # Where the monitor had put them; the code lies below an overlay there.
        for name in ("view", "view/code", "view/work", "view/sdk", "view/data", "work/upper", "work/work", "work/tree"):
            os.makedirs(os.path.join(node, name), exist_ok=True)
        with open(os.path.join(bundle, "config.json"), "w") as f:
            json.dump(config, f)
        begin = time.time()
        done = subprocess.run([runtime, "--root", os.path.join(bundle, "state"), "run", "--bundle", bundle, f"slipway-bench-{i}"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            say(f"the runtime alone does not run this container: {done.stderr.strip()[-200:]}")
            return None
        waits.append((printed_time(done.stdout) - begin) * 1000)
        shutil.rmtree(bundle, ignore_errors=True)
    return waits


def starts(report, times):
    for engine, name in (("local", "container"), ("process", "process")):
        say(f"submit to first line of user code, {name}")
        with Daemon("--engine", engine) as daemon:
            waits, run_id = first_lines(daemon, times)
            what = f"submit to first line of user code, {name}"
            if engine == "process":
                report.add(what, statistics.median(waits), "ms", all=waits)
                continue
            report.at_most(what, statistics.median(waits), 60, "ms", waits)
            alone = runtime_alone(daemon, run_id, times)
            if alone:
                report.add("  of this the OCI runtime alone", statistics.median(alone), "ms", all=alone)


def main():
    report = Report("control", "Control plane")
    runs = 1000 if QUICK else 10000

    say(f"submitting {runs} runs to a daemon that starts none of them")
    with Daemon("--engine", "disabled") as daemon:
        submissions(report, daemon, runs)
        reads(report, daemon)
        daemon.stop()
        boots(report, daemon, runs)
    program_size(report)
    starts(report, 5 if QUICK else 15)

    micro = os.path.join(BUILD, "bench", "bench-store")
    for line in subprocess.run([micro], capture_output=True, text=True, check=True).stdout.splitlines():
        what, value, unit = line.split("\t")
        report.add(what, float(value), unit)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
