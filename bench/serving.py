"""The serving plane against its peers, each with a Python echo: nginx returning a constant, FastAPI on uvicorn
(uvloop, httptools) raw and as its tutorial writes it, both behind a bearer token, and MLServer with its default
of parallel workers, which knows no tokens. 32 connections, wrk on the same processors; peers take turns, and
the ratio is the median of the rounds'. Processor time per request stands beside, because it does not depend on
what else the machine does. One row compares the count of `slipway bench` with wrk's.

About 2 minutes, and one to install the peers.

usage: serving.py [--quick]
"""

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from common import QUICK, ROOT, SLIPWAY, Report, cpu_nanoseconds, cpu_seconds, free_port, peer_python, say

sys.path.insert(0, os.path.join(ROOT, "tests", "conformance"))
from gateway import serving  # noqa: E402

ROUNDS, SECONDS, CONNECTIONS = (2, 2, 32) if QUICK else (5, 3, 32)
PAIRS = 4 if QUICK else 30
BODY = "[1,2,3,4,5,6,7,8]"
TEXT = (BODY, "text/plain")
ITEM = (json.dumps({"text": BODY}), "application/json")
TENSOR = (json.dumps({"inputs": [{"name": "x", "shape": [8], "datatype": "INT64", "data": json.loads(BODY)}]}),
          "application/json")  # fmt: skip
PEERS = os.path.join(ROOT, "bench", "serve")


def script(directory, body, content_type):
    """A file that makes wrk post this body with a bearer token."""
    fd, path = tempfile.mkstemp(suffix=".lua", dir=directory)
    with open(fd, "w") as f:
        f.write(f"wrk.method = 'POST'\nwrk.body = '{body}'\nwrk.headers['Content-Type'] = '{content_type}'\n"
                "wrk.headers['Authorization'] = 'Bearer good'\n")
    return path


def load(url, lua, seconds=SECONDS):
    """Requests a second."""
    text = subprocess.run(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", lua, url],
                          capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"{url} answered with errors:\n{text}")
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])


def load_with_ours(url):
    """The same by our generator: closed loop, as wrk's is."""
    text = subprocess.run([SLIPWAY, "bench", url, "-c", str(CONNECTIONS), "-d", f"{SECONDS}s", "--body", BODY,
                           "--bearer", "good", "--json"], capture_output=True, text=True, check=True).stdout
    result = json.loads(text)["result"]
    if result["accepted"] != result["requests"]:
        raise SystemExit(f"{url} answered with errors:\n{text}")
    return result["requests_per_second"]


def answers(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=1):
            return True
    except urllib.error.HTTPError as error:
        return path == "/" and error.code != 503
    except OSError:
        return False


@contextlib.contextmanager
def program(command, port, ready="/", **options):
    """Starts a peer and waits until it answers the path `ready`; any answer will do at "/"."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)
        try:
            deadline = time.monotonic() + 60
            while not answers(port, ready):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise SystemExit(f"{command[0]} did not come up:\n{log.read()[-2000:]}")
                time.sleep(0.05)
            yield process
        finally:
            process.terminate()
            process.wait()


def nginx(directory, port):
    path = os.path.join(directory, "nginx.conf")
    with open(path, "w") as f:
        f.write(f"""daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx.log; worker_processes auto;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {directory}/body;
server {{ listen 127.0.0.1:{port}; location / {{ default_type text/plain; return 200 "{BODY}"; }} }} }}
""")
    return program(["nginx", "-c", path], port)


def uvicorn(python, module, port):
    return program([python, "-m", "uvicorn", "--app-dir", PEERS, "--port", str(port), "--loop", "uvloop", "--http",
                    "httptools", "--no-access-log", "--log-level", "critical", f"{module}:app"], port)  # fmt: skip


def mlserver(python, port):
    source = os.path.join(PEERS, "mlserver")
    settings = {"MLSERVER_HOST": "127.0.0.1", "MLSERVER_HTTP_PORT": port, "MLSERVER_GRPC_PORT": free_port(),
                "MLSERVER_METRICS_PORT": free_port(), "MLSERVER_DEBUG": "false"}  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": source, **{key: str(value) for key, value in settings.items()}}
    return program([os.path.join(os.path.dirname(python), "mlserver"), "start", source], port,
                   ready="/v2/models/echo/ready", env=environment)  # fmt: skip


def auth_pairs(gateway, url, lua):
    """(requests, processor time per request) with the check of tokens over that without, for each of PAIRS pairs: the
    same gateway and worker, whose endpoint is public and not in turns, since two processes of one program differ by
    more than a check costs."""
    pids = [gateway.process.pid, gateway.workers[1].pid]

    def one(public):
        gateway.configure(gateway.endpoint("echo", public=public))
        before = cpu_nanoseconds(pids)
        rate = load(url, lua, 1)
        return rate, (cpu_nanoseconds(pids) - before) / rate

    pairs = []
    for number in range(PAIRS):
        say(f"with auth and without, {number + 1} of {PAIRS}")
        one_way = [one(public) for public in (number % 2 == 0, number % 2 != 0)]
        without, checked = one_way if number % 2 == 0 else reversed(one_way)
        pairs.append((checked[0] / without[0], checked[1] / without[1]))
    return pairs


def main():
    report = Report("serving", f"Serving: a Python echo with bearer auth, {CONNECTIONS} connections")
    fastapi_python = peer_python("fastapi", "fastapi==0.115.6", "uvicorn==0.34.0", "uvloop==0.21.0", "httptools==0.6.4")
    # MLServer 1.7.1 takes any newer uvloop, but asks for an event loop before there is one, which these refuse.
    mlserver_python = peer_python("mlserver", "mlserver==1.7.1", "uvloop==0.21.0", "uvicorn==0.34.0", "httptools==0.6.4")
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        directory = enter(tempfile.TemporaryDirectory(prefix="slipway-bench-"))
        ours = enter(serving())
        ports = [free_port() for _ in range(4)]
        peers = [enter(nginx(directory, ports[0])), enter(uvicorn(fastapi_python, "fastapi_raw", ports[1])),
                 enter(uvicorn(fastapi_python, "fastapi_tutorial", ports[2])),
                 enter(mlserver(mlserver_python, ports[3]))]  # fmt: skip
        targets = {  # name: URL, what is sent, processes that serve it
            "slipway": (f"http://127.0.0.1:{ours.port}/predict/echo", TEXT, [ours.process.pid, ours.workers[1].pid]),
            "nginx": (f"http://127.0.0.1:{ports[0]}/", TEXT, [peers[0].pid]),
            "raw FastAPI": (f"http://127.0.0.1:{ports[1]}/predict/echo", TEXT, [peers[1].pid]),
            "tutorial FastAPI": (f"http://127.0.0.1:{ports[2]}/predict/echo", ITEM, [peers[2].pid]),
            "MLServer": (f"http://127.0.0.1:{ports[3]}/v2/models/echo/infer", TENSOR, [peers[3].pid]),
        }
        scripts = {name: script(directory, *sent) for name, (_, sent, _) in targets.items()}
        rates, spent = {name: [] for name in targets}, {name: [] for name in targets}
        counted = []
        for number in range(ROUNDS):
            say(f"round {number + 1} of {ROUNDS}")
            for name, (url, _, pids) in targets.items():
                before = cpu_seconds(pids)
                rates[name].append(load(url, scripts[name]))
                spent[name].append((cpu_seconds(pids) - before) / (rates[name][-1] * SECONDS) * 1e6)
            counted.append(load_with_ours(targets["slipway"][0]) / rates["slipway"][-1])
        auth = auth_pairs(ours, targets["slipway"][0], scripts["slipway"])

    def ratio(a, b):
        return [x / y for x, y in zip(rates[a], rates[b])]

    def compare(what, values, least):
        report.at_least(what, statistics.median(values), least, "×", values)

    for name in targets:
        report.add(f"{name}, requests", statistics.median(rates[name]), "/s", all=rates[name])
        report.add("  processor time per request", statistics.median(spent[name]), "µs", all=spent[name])
    compare("against nginx returning a constant", ratio("slipway", "nginx"), 0.6)
    compare("against raw FastAPI", ratio("slipway", "raw FastAPI"), 2.5)
    compare("against FastAPI as in its tutorial", ratio("slipway", "tutorial FastAPI"), 5)
    compare("against MLServer", ratio("slipway", "MLServer"), 10)
    compare("with auth against without", [rate for rate, _ in auth], 0.97)
    report.add("  processor time per request", statistics.median(spent for _, spent in auth), "×", all=[spent for _, spent in auth])
    report.add("counted by slipway bench against wrk", statistics.median(counted), "×", all=counted)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
