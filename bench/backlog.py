"""The queue: what 100,000 waiting runs cost in memory, and whether they slow down the start of others.

A run that sleeps holds the machine, so that the queue can only grow. Then small runs of a higher priority
come, which fit beside it: how long each takes until it has ended, with an empty and with a full queue.

usage: backlog.py [--quick]
"""

import statistics
import sys
import time

from common import QUICK, Connection, Daemon, Report, exchange_many, say

CONNECTIONS = 16


def placements(daemon, count):
    """For each of so many runs that fit the ms from its submission until it starts, and the daemon's processor
    time a run, ms, which does not depend on what else the machine does."""
    client = daemon.client()
    waits = []
    used = daemon.processor_seconds()
    for _ in range(count):
        body = {"entry": ["true"], "resources": {"cpus": 0.1}, "priority": 10}
        begin = time.monotonic()
        run = client.request("POST", "/api/v1/runs", body)
        while client.get_run(run["id"])["state"] == "queued":
            time.sleep(0.0005)
        waits.append((time.monotonic() - begin) * 1000)
        client.wait(run["id"], timeout=60, poll=0.1)
    return waits, (daemon.processor_seconds() - used) * 1000 / count


def main():
    report = Report("backlog", "The queue")
    count = 16000 if QUICK else 100000
    count -= count % CONNECTIONS
    with Daemon("--engine", "process") as daemon:
        client = daemon.client()
        cpus = client.request("GET", "/api/v1/nodes")["items"][0]["cpus"]["total"]
        holder = client.request("POST", "/api/v1/runs", {"entry": ["sleep", "100000"], "resources": {"cpus": cpus - 0.5}})
        while client.get_run(holder["id"])["state"] != "running":
            time.sleep(0.01)
        request = Connection.request("POST", "/api/v1/runs", {"entry": ["true"], "resources": {"cpus": cpus}})
        times = 10 if QUICK else 30
        placements(daemon, 3)
        exchange_many(daemon, request, 4000, CONNECTIONS)  # caches are full from here on
        empty, empty_used = placements(daemon, times)
        before = daemon.memory()
        say(f"submitting {count} runs that wait")
        seconds = exchange_many(daemon, request, count, CONNECTIONS)
        report.at_least(f"submitted runs, the queue growing to {count + 4000}", count / seconds, 1000, "/s")
        report.at_most("memory a queued run", (daemon.memory() - before) / count, 1024, "bytes")
        full, full_used = placements(daemon, times)
        report.add("submit to start with 4,000 queued", statistics.median(empty), "ms", all=empty)
        report.add(f"submit to start with {count + 4000} queued", statistics.median(full), "ms", all=full)
        report.add("processor time of the daemon a run, 4,000 queued", empty_used, "ms")
        report.add(f"processor time of the daemon a run, {count + 4000} queued", full_used, "ms")
        report.at_most("  ratio, 1.25 being the noise", full_used / empty_used, 1.25)
        client.request("POST", f"/api/v1/runs/{holder['id']}/stop")
        daemon.process.kill()  # the queue must not begin to run
        daemon.process.wait()
        boots = []
        with Daemon("--engine", "disabled", directory=daemon.directory) as again:
            boots.append(again.boot_seconds * 1000)
        report.add(f"boot to ready with {count + 4000} queued", boots[0], "ms")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
