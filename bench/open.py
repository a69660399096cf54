"""Latency of the serving plane under arrivals that do not wait for it: a Poisson flow by `slipway bench` on the
same processors, against the real daemon and a replica in a container, with bearer tokens, routes, counters and
a scrape of the metrics every second. Latency counts from the moment a request was meant to be sent.

First 10,000 requests a second; then 5,000, undisturbed and while a version is deployed every three seconds, in
turns: each deployment starts a container, waits for its model, moves the route and drains the version before.
Then with a rollback every half second, which must lose no request either.

About 2 minutes.

usage: open.py [--quick]
"""

import contextlib
import statistics
import sys
import threading
import time

from common import QUICK, Daemon, Report, cpu_seconds, deploy_echo, open_load, say, serve_echo

CONNECTIONS = 32
SECONDS = 8 if QUICK else 30
PAIRS, UNDISTURBED, DEPLOYING = (2, 5, 8) if QUICK else (4, 8, 12)
DEPLOY_EVERY, ROLL_BACK_EVERY = 3, 0.5
VERSIONS = 3  # deployed in turn; the one before stays loaded, so that with two none would have to be started


@contextlib.contextmanager
def repeatedly(call, seconds):
    """Calls it every so many seconds while the block runs; what it returned is in the list."""
    ended, done = threading.Event(), []

    def work():
        due = time.monotonic()
        while not ended.wait(max(0, due - time.monotonic())):
            done.append(call())
            due = max(due + seconds, time.monotonic())

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
    finally:
        ended.set()
        thread.join()


def measure(report, daemon, token, rate, seconds, what):
    pids = list(daemon.processes())  # gateway, monitor and worker beside the daemon
    before = cpu_seconds(pids)
    result = open_load(daemon, token, rate, seconds, CONNECTIONS)
    used = cpu_seconds(pids) - before
    latency = result["latency_ms"]
    report.add(f"{what}, arrivals", result["requests"] / seconds, "/s")
    report.at_most("  errors and refusals", result["requests"] - result["accepted"], 0)
    report.add("  p50", latency["p50"], "ms")
    report.at_most("  p99", latency["p99"], 5, "ms")
    report.add("  p99.9", latency["p999"], "ms")
    report.add("  sent later than meant, p99, a part of these", result["late_ms"]["p99"], "ms")
    report.add("  processor time of all of Slipway per request", used / result["answered"] * 1e6, "µs")


def deployments(report, daemon, client, token):
    version = 1

    def deploy():
        nonlocal version
        version = version % VERSIONS + 1
        begin = time.monotonic()
        deploy_echo(client, version)
        return time.monotonic() - begin

    calm, busy, deploys = [], [], []
    for i in range(PAIRS):
        say(f"5,000/s, undisturbed and with deployments, {i + 1} of {PAIRS}")
        calm.append(open_load(daemon, token, 5000, UNDISTURBED, CONNECTIONS))
        with repeatedly(deploy, DEPLOY_EVERY) as done:
            busy.append(open_load(daemon, token, 5000, DEPLOYING, CONNECTIONS))
        deploys += done

    def p99(results):
        return [result["latency_ms"]["p99"] for result in results]

    lost = sum(r["requests"] - r["accepted"] for r in calm + busy)
    report.add("5,000/s undisturbed, p99", statistics.median(p99(calm)), "ms", all=p99(calm))
    report.add(f"5,000/s with a deployment every {DEPLOY_EVERY} s, p99", statistics.median(p99(busy)), "ms", all=p99(busy))
    report.at_most("  errors and refusals", lost, 0)
    report.add("  sent later than meant, p99", statistics.median([r["late_ms"]["p99"] for r in busy]), "ms")
    report.add("  deployments", len(deploys))
    report.add("  one takes", statistics.median(deploys) * 1000, "ms", all=[d * 1000 for d in deploys])
    ratios = [b / c for b, c in zip(p99(busy), p99(calm))]
    report.at_most("  p99 against undisturbed", statistics.median(ratios), 2, "×", all=ratios)


def roll_back(report, daemon, client, token):
    say("5,000/s with rollbacks")

    def once():
        return client.request("POST", "/api/v1/endpoints/echo/rollback")["total_us"] / 1000

    with repeatedly(once, ROLL_BACK_EVERY) as times:
        result = open_load(daemon, token, 5000, DEPLOYING, CONNECTIONS)
    report.at_most(f"rollback at 5,000/s, every {ROLL_BACK_EVERY} s", statistics.median(times), 10, "ms", all=times)
    report.at_most("  errors and refusals", result["requests"] - result["accepted"], 0)
    report.add("  p99 of requests", result["latency_ms"]["p99"], "ms")


def main():
    report = Report("open", f"Open loop: Poisson arrivals, bearer auth, {CONNECTIONS} connections")
    with Daemon() as daemon:
        token = serve_echo(daemon, VERSIONS)
        client = daemon.client()

        def scrape():
            daemon.served("/metrics")

        open_load(daemon, token, 1000, 2, CONNECTIONS)  # everything is warm from here on
        with repeatedly(scrape, 1):
            say(f"10,000/s for {SECONDS} s")
            measure(report, daemon, token, 10000, SECONDS, "10,000/s")
            deployments(report, daemon, client, token)
            roll_back(report, daemon, client, token)

    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
