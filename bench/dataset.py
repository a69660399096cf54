"""Datasets: attaching 1 GiB in a new container, eight readers of it at the same time, and reading against Redis and
against JSON.

Attached is what has its tensors as arrays: how much later the first line of a run comes that has the dataset than
of one that has none, and what opening it takes there. Memory of readers is what the machine's shared memory grew by
while they have read every byte, and what they took for themselves.

Read is from nothing to a numpy array of all the values: Slipway's run opens its dataset; Redis GETs the bytes over
a Unix socket into a buffer that waits for them, which is the least a client can do; JSON parses a list of numbers
that is in memory already. Beside it stands the same with every byte used once (a sum), where each needs what memory
needs.

About a minute; 4 GiB of memory.

usage: dataset.py [--quick]
"""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
from common import QUICK, ROOT, Daemon, Report, code_zip, printed_time, say

from slipway import write_safetensors  # common has put it on the path

SIZE = (64 if QUICK else 1024) << 20
REDIS_SIZE = min(SIZE, 256 << 20)  # a value of Redis has at most 512 MiB
JSON_SIZE = min(SIZE, 16 << 20)
READERS = 8
TIMES = 5 if QUICK else 15


def source(name):
    with open(os.path.join(ROOT, "bench", "runs", name)) as f:
        return f.read()


def write_dataset(daemon, name, values):
    """A dataset of this name with the array as its matrix x."""
    with tempfile.TemporaryDirectory(dir=daemon.directory) as directory:
        path = os.path.join(directory, "x.safetensors")
        write_safetensors(path, {"x": values})
        daemon.cli("dataset", "import", name, path)


def finished(client, code, entry, dataset):
    """The time of submission, s, and what the run printed."""
    body = {"code": code, "entry": entry, "datasets": [dataset] if dataset else []}
    begin = time.time()
    run = client.wait(client.request("POST", "/api/v1/runs", body)["id"], timeout=120, poll=0.01)
    log = log_of(client, run)
    if run["state"] != "succeeded":
        raise SystemExit(f"the run ended as {run['state']}: {run.get('reason')}\n{log}")
    return begin, log


def log_of(client, run):
    return client.request("GET", f"/api/v1/runs/{run['id']}/nodes/0/log").decode()


def last_json(log):
    """The line of JSON in a log, whose lines begin with time and stream."""
    return json.loads(log[log.rindex("{") :].splitlines()[0])


def attach(report, client):
    date = client.upload(code_zip("exec date +%s.%N\n"))
    opening = client.upload(code_zip(source("open.py"), "main.py"))
    waits = {"big": [], None: []}
    opened = []
    say("attaching it in new containers")
    for _ in range(TIMES + 1):
        for dataset, found in waits.items():
            begin, log = finished(client, date, ["sh", "main.sh"], dataset)
            found.append((printed_time(log) - begin) * 1000)
        opened.append(last_json(finished(client, opening, ["python3", "main.py"], "big")[1])["open"] * 1000)
    later = statistics.median(waits["big"][1:]) - statistics.median(waits[None][1:])  # the first unpacks the code
    opens = statistics.median(opened[1:])
    report.add("submit to first line without a dataset", statistics.median(waits[None][1:]), "ms", all=waits[None][1:])
    report.add("  with it", statistics.median(waits["big"][1:]), "ms", all=waits["big"][1:])
    report.add("  opening it there", opens, "ms", all=opened[1:])
    report.at_most("attaching it: later start and opening", max(later, 0) + opens, 5, "ms")


# -- eight readers --


def shared_memory():
    """What files in memory take on this machine, bytes; the vault's are among them."""
    with open("/proc/meminfo") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Shmem:")) * 1024


def readers(report, daemon, client, before):
    """`before`: shared memory without the dataset."""
    say(f"{READERS} readers at a time")
    code = client.upload(code_zip(source("hold.py"), "main.py"))
    body = {"code": code, "entry": ["python3", "main.py"], "datasets": ["big"], "resources": {"cpus": 0.1}}
    runs = [client.request("POST", "/api/v1/runs", body) for _ in range(READERS)]
    deadline = time.monotonic() + 120
    told = []
    while len(told) < READERS:
        told = [log for log in (log_of(client, run) for run in runs) if "{" in log]
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(told)} of {READERS} readers have read: {log_of(client, runs[-1])}")
        time.sleep(0.1)
    own = sum(last_json(log)["own"] for log in told)
    shared = shared_memory() - before
    for run in runs:
        client.stop(run["id"])
    for run in runs:
        client.wait(run["id"], timeout=30)
    report.add(f"memory of {READERS} readers: shared", shared / 2**20, "MiB")
    report.add("  their own, together", own / 2**20, "MiB")
    report.at_most("  against one copy", (shared + own) / SIZE, 1.02, "×")


# -- reading --


@contextlib.contextmanager
def redis():
    """The path of the socket of a Redis that keeps nothing."""
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as directory:
        path = os.path.join(directory, "redis.sock")
        process = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no",
                                    "--dir", directory], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)  # fmt: skip
        try:
            deadline = time.monotonic() + 20
            while not os.path.exists(path):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("redis-server did not come up")
                time.sleep(0.02)
            yield path
        finally:
            process.terminate()
            process.wait()


def redis_get(connection, buffer):
    """GETs the value `x` into the buffer, which is as long."""
    connection.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nx\r\n")
    head = b""
    while not head.endswith(b"\r\n"):
        head += connection.recv(1)
    if head != b"$%d\r\n" % len(buffer):
        raise SystemExit(f"Redis answered {head!r}")
    view = memoryview(buffer)
    while view:
        view = view[connection.recv_into(view) :]
    connection.recv(2, socket.MSG_WAITALL)


def timed(prepare, sum_it):
    """Medians over 5 of the time, s, until prepare() has made an array, and until it is summed, too."""
    there, used = [], []
    for _ in range(5):
        begin = time.perf_counter()
        array = prepare()
        there.append(time.perf_counter() - begin)
        sum_it(array)
        used.append(time.perf_counter() - begin)
    return statistics.median(there), statistics.median(used)


def total(array):
    return numpy.add.reduce(array, dtype="float64")


def read_from_redis(values):
    data = values.tobytes()
    buffer = bytearray(len(data))
    with redis() as path, socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$%d\r\n" % len(data))
        connection.sendall(data + b"\r\n")
        if connection.recv(5, socket.MSG_WAITALL) != b"+OK\r\n":
            raise SystemExit("Redis did not take the value")

        def get():
            redis_get(connection, buffer)
            return numpy.frombuffer(buffer, dtype="float32")

        return timed(get, total)


def read_from_json(values):
    text = json.dumps(values.tolist())
    return timed(lambda: numpy.array(json.loads(text), dtype="float32"), total)


def read_ours(daemon, client, name):
    """The same of a run: until the array is there, and until it is summed."""
    code = client.upload(code_zip(source("open.py").replace('"big"', f'"{name}"'), "main.py"))
    results = [last_json(finished(client, code, ["python3", "main.py"], name)[1]) for _ in range(5)]
    return (statistics.median(r["open"] for r in results), statistics.median(r["open"] + r["sum"] for r in results))


def compare(report, daemon, client, values):
    for peer, size, read, least in (("Redis GET", REDIS_SIZE, read_from_redis, 50), ("JSON", JSON_SIZE, read_from_json, 1000)):
        say(f"reading {size >> 20} MiB against {peer}")
        part = values[: size // 4]
        name = "part" + str(size >> 20)
        write_dataset(daemon, name, part)
        finished(client, client.upload(code_zip("true\n")), ["sh", "main.sh"], name)  # comes to memory
        ours, theirs = read_ours(daemon, client, name), read(part)
        report.add(f"{size >> 20} MiB as an array, of a dataset", ours[0] * 1000, "ms")
        report.add(f"  {peer}", theirs[0] * 1000, "ms")
        report.at_least(f"  against {peer}", theirs[0] / ours[0], least, "×")
        report.add(f"  against {peer}, with every byte used once", theirs[1] / ours[1], "×")


def main():
    report = Report("dataset", f"Datasets: {SIZE >> 20} MiB")
    values = numpy.random.default_rng(1).standard_normal(SIZE // 4, dtype="float32")
    with Daemon() as daemon:
        client = daemon.client()
        say(f"importing {SIZE >> 20} MiB")
        before = shared_memory()
        begin = time.monotonic()
        write_dataset(daemon, "big", values)
        report.add("import, of safetensors that are written first", SIZE / (time.monotonic() - begin) / 1e6, "MB/s")
        finished(client, client.upload(code_zip("true\n")), ["sh", "main.sh"], "big")  # comes to memory
        attach(report, client)
        readers(report, daemon, client, before)
        compare(report, daemon, client, values)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
