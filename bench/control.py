"""The control plane: boot with 10,000 runs, idle memory, size of the program, submit to first line of
user code, submissions a second, point reads and appended events a second.

usage: control.py [--quick]
"""

import concurrent.futures
import io
import os
import statistics
import subprocess
import sys
import time
import zipfile

from common import ROOT, SLIPWAY, Daemon, Report, say

QUICK = "--quick" in sys.argv


def code_zip(text):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("main.sh", (1980, 1, 1, 0, 0, 0)), text)
    return buffer.getvalue()


def submit_many(client, code, count):
    """Seconds to submit `count` runs over four connections."""
    body = {"code": code, "entry": ["sh", "main.sh"], "resources": {"cpus": 1}}
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(client.request, "POST", "/api/v1/runs", body) for _ in range(count)]:
            future.result()
    return time.monotonic() - begin


def first_line(daemon, times):
    """Median ms from the submission until the first line of the user's code is in the log: the script
    prints the clock, which is compared with the clock before the submission."""
    client = daemon.client()
    code = client.upload(code_zip("exec date +%s.%N\n"))
    waits = []
    for _ in range(times):
        begin = time.time()
        run = client.request("POST", "/api/v1/runs", {"code": code, "entry": ["sh", "main.sh"]})
        run = client.wait(run["id"], timeout=60, poll=0.02)
        if run["state"] != "succeeded":
            raise SystemExit(f"the run ended as {run['state']}: {run.get('reason')}")
        log = client.request("GET", f"/api/v1/runs/{run['id']}/nodes/0/log")
        text = log.decode() if isinstance(log, bytes) else str(log)
        printed = next(float(word) for word in text.split() if word.count(".") == 1 and word.replace(".", "").isdigit())
        waits.append((printed - begin) * 1000)
    return statistics.median(waits[1:])


def main():
    report = Report("control", "Control plane")
    runs = 1000 if QUICK else 10000

    say(f"submitting {runs} runs to a daemon that starts none of them")
    with Daemon("--engine", "disabled") as daemon:
        daemon.keep = True
        client = daemon.client()
        code = client.upload(code_zip("true\n"))
        seconds = submit_many(client, code, runs)
        report.at_least("submitted runs", runs / seconds, 1000, "/s")
        run_id = next(iter(client.runs(limit=1)))["id"]
        count = 2000
        begin = time.monotonic()
        for _ in range(count):
            client.get_run(run_id)
        report.add("point reads over HTTP, one connection", count / (time.monotonic() - begin), "/s")
        daemon.stop()
        say("booting on them")
        boots = []
        for _ in range(5):
            boots.append(daemon.start() * 1000)
            time.sleep(1)
            memory = daemon.memory() / 2**20
            daemon.stop()
        daemon.keep = False
        report.at_most(f"boot to ready with {runs} runs", statistics.median(boots), 50, "ms")
        report.at_most(f"idle memory with {runs} runs", memory, 20, "MiB")

    stripped = "/tmp/slipway-bench-stripped"
    subprocess.run(["strip", "-o", stripped, SLIPWAY], check=True)
    report.at_most("program, stripped", os.path.getsize(stripped) / 2**20, 5, "MiB")
    os.unlink(stripped)

    for engine in ("local", "process"):
        say(f"submit to first line of user code, engine {engine}")
        with Daemon("--engine", engine) as daemon:
            wait = first_line(daemon, 6 if QUICK else 16)
            if engine == "local":
                report.at_most("submit to first line of user code, container", wait, 60, "ms")
            else:
                report.add("submit to first line of user code, process", wait, "ms")

    micro = os.path.join(ROOT, "build", "bench", "bench-store")
    if os.path.exists(micro):
        for line in subprocess.run([micro], capture_output=True, text=True, check=True).stdout.splitlines():
            what, value, unit = line.split("\t")
            report.add(what, float(value), unit)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
