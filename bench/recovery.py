"""Recovery: under a steady load of 200 requests a second the worker, the gateway and the daemon are killed with -9, several
times each. How long until readiness is false, until a request succeeds again, and which requests failed.

A request that was in flight when the worker died may fail, and one on a connection to the gateway that died, which every
client finds closed; every other one must succeed (the gateway's listening socket stays open, so that new connections
wait in the kernel until the next one is there). The death of the daemon must fail none.

usage: recovery.py [--quick]
"""

import http.client
import os
import signal
import statistics
import sys
import tempfile
import threading
import time

from common import QUICK, Daemon, Report, say

TIMES = 3 if QUICK else 10
RATE, THREADS = 200, 4
MODEL = "def init():\n    pass\n\n\ndef predict(text):\n    return text\n"


class Load:
    """THREADS connections that send RATE requests a second in all and note (connected, sent, answered, status) of each."""

    def __init__(self, port):
        self.port, self.calls, self.stopped = port, [], threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def run(self, number):
        connection, due = None, time.monotonic() + number / RATE
        while not self.stopped.is_set():
            time.sleep(max(0, due - time.monotonic()))
            due = max(due + THREADS / RATE, time.monotonic() - 0.1)
            sent = time.monotonic()
            try:
                if not connection:
                    connection, connected = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10), sent
                connection.request("POST", "/predict/echo", "x")
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection, status = None, 0
            self.calls.append((connected, sent, time.monotonic(), status))

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()
        return self.calls


def status_of(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def live_replica(client):
    routes = client.request("GET", "/api/v1/gateway")["endpoints"][0]["routes"]
    return next(r for route in routes if route["weight"] > 0 for r in route["replicas"])


def until(condition, what, seconds=30):
    """ms until condition() holds."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > seconds:
            raise SystemExit(f"{what} did not come within {seconds} s")
        time.sleep(0.002)
    return (time.monotonic() - begin) * 1000


def kill(daemon, find_pid, report, name):
    """Kills the process TIMES times under load; rows of how that was."""
    say(f"killing the {name} {TIMES} times")
    unready, back, failed, beyond = [], [], 0, 0
    for _ in range(TIMES):
        if name == "worker":  # a new one each time: one that dies again and again is restarted after growing pauses
            daemon.cli("endpoint", "rm", "echo")
            until(lambda: "echo" not in daemon.cli("endpoint", "ls", "--json"), "the removal")
            daemon.cli("endpoint", "create", "echo", "test/echo", "--public")
        load = Load(daemon.serve_port)
        time.sleep(0.5)
        pid = find_pid()
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        if name == "worker":
            unready.append(until(lambda: status_of(daemon.serve_port, "/v2/models/echo/ready") != 200, "unreadiness"))
        if name == "daemon":
            daemon.process.wait()
            time.sleep(0.5)
            daemon.start()
        else:
            until(lambda: status_of(daemon.serve_port, "/v2/models/echo/ready") == 200, "readiness")
        time.sleep(0.5)
        calls = load.stop()
        good = [answered for _, sent, answered, status in calls if status == 200 and sent >= killed]
        bad = [call for call in calls if call[3] != 200]
        failed += len(bad)
        beyond += sum(1 for connected, sent, *_ in bad if (connected if name == "gateway" else sent) > killed)
        back.append((min(good) - killed) * 1000)
        until(lambda: status_of(daemon.serve_port, "/v2/models/echo/ready") == 200, "readiness")
    if unready:
        report.at_most("worker: until the model is not ready", statistics.median(unready), 50, "ms", unready)
    if name == "daemon":
        report.at_most("daemon: requests that failed", failed, 0)
        return
    report.at_most(f"{name}: until a request that came later is answered", statistics.median(back), 1000, "ms", back)
    report.at_most(f"{name}: requests that failed, a kill", failed / TIMES, THREADS)
    report.at_most(f"{name}: of these not in flight", beyond, 0)


def main():
    report = Report("recovery", "Recovery from kill -9")
    with Daemon() as daemon, tempfile.TemporaryDirectory() as package:
        with open(os.path.join(package, "model.py"), "w") as f:
            f.write(MODEL)
        daemon.cli("model", "push", "test/echo", package)
        daemon.cli("endpoint", "create", "echo", "test/echo", "--public")
        client = daemon.client()
        kill(daemon, lambda: client.request("GET", "/api/v1/gateway")["gateway"]["pid"], report, "gateway")
        kill(daemon, lambda: live_replica(client)["pid"], report, "worker")
        kill(daemon, lambda: daemon.process.pid, report, "daemon")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
