"""What serving costs while nobody asks, and what stays behind: processor time of fifty idle models, memory after two
hundred loads and unloads through the daemon, how soon a killed worker is known to be gone and is replaced, and what the
first request to a model without a replica waits for.

usage: idle.py [--quick]
"""

import contextlib
import http.client
import os
import signal
import statistics
import sys
import tempfile
import threading
import time

from common import QUICK, Daemon, Report, say

ECHO = "def init():\n    pass\n\n\ndef predict(text):\n    return text\n"
NUMPY = "import numpy\n\n\n" + ECHO


def push(daemon, source, model="bench/echo"):
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "model.py"), "w") as f:
            f.write(source)
        daemon.cli("model", "push", model, directory)


# -- processes --


def processes():
    """pid → (parent, command line) of all."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{name}/stat") as f:
                parent = int(f.read().rpartition(")")[2].split()[1])
            with open(f"/proc/{name}/cmdline", "rb") as f:
                found[int(name)] = (parent, f.read().decode(errors="replace").split("\0"))
    return found


def processes_of(daemon):
    """pid → what it is ("daemon", "gateway", "monitor", "worker"), of the daemon and all that it brought about."""
    everything = processes()
    mine = {daemon.process.pid: "daemon"}
    for pid, (_, words) in everything.items():
        # Spares, monitors, gateways and container runtimes name the data directory.
        if pid not in mine and any(word == daemon.directory or word.startswith(daemon.directory + "/") for word in words):
            mine[pid] = words[1] if words[1:2] and words[1] in ("gateway", "monitor") else "worker"
    while True:
        more = {pid: "worker" for pid, (parent, _) in everything.items() if parent in mine and pid not in mine and parent != os.getpid()}
        if not more:
            return mine
        mine.update(more)


def used_ns(pid):
    """Processor time of all threads of a process."""
    total = 0
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/schedstat") as f:
                total += int(f.read().split()[0])
    return total


def private_bytes(pid):
    """Memory that is a process's own (private pages)."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) * 1024 for line in f if line.startswith("Private_"))
    return 0


# -- fifty idle models --


def idle(report, models, seconds):
    with Daemon() as daemon:
        push(daemon, ECHO)
        say(f"loading {models} models")
        for i in range(models):
            daemon.cli("endpoint", "create", f"echo-{i}", "bench/echo@1", "--public")
        time.sleep(3)
        say(f"doing nothing for {seconds} s")
        before = {pid: (kind, used_ns(pid)) for pid, kind in processes_of(daemon).items()}
        time.sleep(seconds)
        spent = {}
        for pid, (kind, ns) in before.items():
            spent[kind] = spent.get(kind, 0) + used_ns(pid) - ns
        share = {kind: 100 * ns / 1e9 / seconds for kind, ns in spent.items()}
        report.at_most(f"{models} idle models: of one core, in all", sum(share.values()), 1 * models / 50, "%")
        for kind in ("daemon", "gateway", "monitor", "worker"):
            count = sum(k == kind for k, _ in before.values())
            report.add(f"  {count} {kind}{'s' * (count != 1)}", share.get(kind, 0.0), "%")


# -- loads and unloads --


def memory_of(daemon, kinds=("daemon", "gateway", "monitor")):
    memory = dict.fromkeys(kinds, 0)
    for pid, kind in processes_of(daemon).items():
        if kind in memory:
            memory[kind] += private_bytes(pid)
    return memory


def settle(daemon, name):
    """Waits until an endpoint and its processes are gone."""
    client = daemon.client()
    while any(e["name"] == name for e in client.request("GET", "/api/v1/endpoints")["items"]):
        time.sleep(0.01)


def loads(report, times, warm):
    with Daemon() as daemon:
        push(daemon, ECHO)
        before = None
        for i in range(warm + times):
            if i == warm:
                time.sleep(3)
                before = memory_of(daemon)
                say(f"{times} loads and unloads")
            daemon.cli("endpoint", "create", f"echo-{i}", "bench/echo@1", "--public")
            connection = http.client.HTTPConnection("127.0.0.1", daemon.serve_port)
            connection.request("POST", f"/predict/echo-{i}", b"hello")
            assert connection.getresponse().status == 200
            connection.close()
            daemon.cli("endpoint", "rm", f"echo-{i}")
            settle(daemon, f"echo-{i}")
        time.sleep(3)
        after = memory_of(daemon)
        grown = {kind: (after[kind] - before[kind]) / 2**20 for kind in after}
        report.at_most(f"{times} loads and unloads: memory that stays, either way", abs(sum(grown.values())), 2, "MiB")
        for kind, mib in grown.items():
            report.add(f"  {kind}, of {after[kind] / 2**20:.1f} MiB", mib, "MiB")


# -- a killed worker --


def worker_pid(daemon):
    route = daemon.client().request("GET", "/api/v1/gateway")["endpoints"][0]["routes"][0]
    return route["replicas"][0].get("pid")


class Asker:
    """Asks whether the model is ready without a pause, over one connection."""

    def __init__(self, daemon):
        self.connection = http.client.HTTPConnection("127.0.0.1", daemon.serve_port)

    def is_ready(self):
        self.connection.request("GET", "/v2/models/echo/ready")
        answer = self.connection.getresponse()
        answer.read()
        return answer.status == 200


def kills(report, times):
    """Under load: from kill -9 to the first answer that it is not ready, and to the first that it is again. A fresh
    worker each time: one that was killed often is started again after a pause on purpose."""
    gone, back = [], []
    for _ in range(times):
        with Daemon() as daemon:
            push(daemon, ECHO)
            daemon.cli("endpoint", "create", "echo", "bench/echo@1", "--public")
            stop = threading.Event()

            def load():
                connection = http.client.HTTPConnection("127.0.0.1", daemon.serve_port)
                while not stop.is_set():
                    connection.request("POST", "/predict/echo", b"hello")
                    connection.getresponse().read()

            thread = threading.Thread(target=load, daemon=True)
            thread.start()
            asker = Asker(daemon)
            pid = worker_pid(daemon)
            time.sleep(0.3)
            begin = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            while asker.is_ready():
                pass
            gone.append((time.monotonic() - begin) * 1000)
            while not asker.is_ready():
                time.sleep(0.001)
            back.append((time.monotonic() - begin) * 1000)
            stop.set()
            thread.join()
    report.at_most("kill -9 of the only worker under load: not ready after", statistics.median(gone), 50, "ms", gone)
    report.at_most("  a replacement is ready after", statistics.median(back), 1000, "ms", back)


# -- cold starts --


def cold_starts(report, times):
    for name, source in (("nothing", ECHO), ("NumPy", NUMPY)):
        with Daemon() as daemon:
            push(daemon, source)
            daemon.cli("endpoint", "create", "echo", "bench/echo@1", "--public", "--replicas", "0..1", "--idle", "100ms")
            waits = []
            while len(waits) < times:
                shown = daemon.client().request("GET", "/api/v1/endpoints/echo")
                if shown["replicas"] or (shown["scaling"] or {}).get("wished") != 0:
                    time.sleep(0.02)
                    continue
                time.sleep(0.2)
                connection = http.client.HTTPConnection("127.0.0.1", daemon.serve_port)
                begin = time.monotonic()
                connection.request("POST", "/predict/echo", b"hello")
                answer = connection.getresponse()
                answer.read()
                waits.append((time.monotonic() - begin) * 1000)
                assert answer.status == 200 and answer.getheader("Slipway-Cold-Start-Ms")
            report.add(f"first request to a model without a replica that imports {name}", statistics.median(waits), "ms")
            report.rows[-1]["all"] = waits


def main():
    report = Report("idle", "Serving while nobody asks")
    kills(report, 3 if QUICK else 7)
    cold_starts(report, 5 if QUICK else 15)
    idle(report, 10 if QUICK else 50, 10 if QUICK else 60)
    loads(report, 20 if QUICK else 200, 5 if QUICK else 40)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
