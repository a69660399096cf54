"""The serving plane against its peers, each with a Python echo behind a bearer token: nginx returning a
constant, FastAPI on uvicorn (uvloop, httptools) raw and as its tutorial writes it. 32 connections, wrk on the
same processors; peers take turns, and the ratio is the median of the rounds'. CPU time per request stands
beside, because it does not depend on what else the machine does.

usage: serving.py [--quick]
"""

import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from common import ROOT, Report, free_port, peer_python, say

sys.path.insert(0, os.path.join(ROOT, "tests", "conformance"))
from gateway import serving  # noqa: E402

QUICK = "--quick" in sys.argv
ROUNDS, SECONDS, CONNECTIONS = (2, 2, 32) if QUICK else (5, 4, 32)
BODY = "[1,2,3,4,5,6,7,8]"


def script(directory, body, content_type):
    path = os.path.join(directory, f"{content_type.replace('/', '-')}.lua")
    with open(path, "w") as f:
        f.write(f"wrk.method = 'POST'\nwrk.body = '{body}'\nwrk.headers['Content-Type'] = '{content_type}'\n"
                "wrk.headers['Authorization'] = 'Bearer good'\n")
    return path


def load(url, lua):
    """Requests a second, and the 99th percentile as wrk prints it."""
    text = subprocess.run(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "-s", lua, url],
                          capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"{url} answered with errors:\n{text}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])


def cpu_seconds(pids):
    seconds = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(") ", 1)[1].split()
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


@contextlib.contextmanager
def program(command, port, **options):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def nginx(directory, port):
    path = os.path.join(directory, "nginx.conf")
    with open(path, "w") as f:
        f.write(f"""daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx.log; worker_processes auto;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {directory}/body;
server {{ listen 127.0.0.1:{port}; location / {{ default_type text/plain; return 200 "{BODY}"; }} }} }}
""")
    with program(["nginx", "-c", path], port) as process:
        yield process


def uvicorn(python, module, port):
    return program([python, "-m", "uvicorn", "--app-dir", os.path.join(ROOT, "bench", "serve"), "--port", str(port),
                    "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "critical",
                    f"{module}:app"], port)


def main():
    report = Report("serving", f"Serving: a Python echo with bearer auth, {CONNECTIONS} connections")
    python = peer_python("fastapi", "fastapi==0.115.6", "uvicorn==0.34.0", "uvloop==0.21.0", "httptools==0.6.4")
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-"))
        text, item = script(directory, BODY, "text/plain"), script(directory, f'{{"text": "{BODY}"}}', "application/json")
        ours = stack.enter_context(serving())
        public = stack.enter_context(serving(public=True))
        ports = [free_port() for _ in range(3)]
        peers = {"nginx": stack.enter_context(nginx(directory, ports[0])),
                 "raw": stack.enter_context(uvicorn(python, "fastapi_raw", ports[1])),
                 "tutorial": stack.enter_context(uvicorn(python, "fastapi_tutorial", ports[2]))}
        pids = [ours.process.pid, ours.workers[1].pid]
        targets = {"slipway": (f"http://127.0.0.1:{ours.port}/predict/echo", text),
                   "slipway without auth": (f"http://127.0.0.1:{public.port}/predict/echo", text),
                   "nginx": (f"http://127.0.0.1:{ports[0]}/", text),
                   "raw": (f"http://127.0.0.1:{ports[1]}/predict/echo", text),
                   "tutorial": (f"http://127.0.0.1:{ports[2]}/predict/echo", item)}
        assert all(process.poll() is None for process in peers.values())
        rates, spent = {name: [] for name in targets}, []
        for number in range(ROUNDS):
            say(f"round {number + 1} of {ROUNDS}")
            for name, target in targets.items():
                before = cpu_seconds(pids)
                rates[name].append(load(*target))
                if name == "slipway":
                    spent.append((cpu_seconds(pids) - before) / (rates[name][-1] * SECONDS) * 1e6)

    def ratio(a, b):
        return statistics.median(x / y for x, y in zip(rates[a], rates[b]))

    for name, values in rates.items():
        report.add(f"{name}, requests", statistics.median(values), "/s")
    report.add("slipway, processor time of gateway and worker per request", statistics.median(spent), "µs")
    report.at_least("against nginx returning a constant", ratio("slipway", "nginx"), 0.6, "×")
    report.at_least("against raw FastAPI", ratio("slipway", "raw"), 2.5, "×")
    report.at_least("against FastAPI as in its tutorial", ratio("slipway", "tutorial"), 5, "×")
    report.at_least("with auth against without", ratio("slipway", "slipway without auth"), 0.97, "×")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
