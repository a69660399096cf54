"""What the benchmarks share: a daemon of their own, repeated measurements, peers in their own
environments, and one way to print and keep results.

Every figure is measured in the run that prints it; a comparison is a ratio of two figures of the same
run on the same machine. Results go to standard output as a table and to build/bench/NAME.json.
"""

import concurrent.futures
import contextlib
import io
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SLIPWAY = os.path.abspath(os.environ.get("SLIPWAY_BINARY") or os.path.join(ROOT, "build", "src", "slipway"))
BUILD = os.path.dirname(os.path.dirname(SLIPWAY))  # where the program was built, and the small programs beside it
QUICK = "--quick" in sys.argv
sys.path.insert(0, os.path.join(ROOT, "sdk", "python"))

from slipway import Client  # noqa: E402

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def say(text):
    print(f"  … {text}", file=sys.stderr, flush=True)


class Connection:
    """A kept-alive HTTP connection that costs the measuring side next to nothing."""

    def __init__(self, daemon):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(os.path.join(daemon.directory, "slipway.sock"))

    @staticmethod
    def request(method, path, body=None):
        text = b"" if body is None else json.dumps(body).encode()
        return (f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(text)}\r\n\r\n").encode() + text

    def exchange(self, request):
        """Sends the bytes of a request; the body of the answer, which must be a success."""
        self.socket.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.receive()
        head, _, body = data.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        while len(body) < length:
            body += self.receive()
        if head[9:10] != b"2":
            raise SystemExit(f"the daemon answered {head.decode()}: {body.decode()}")
        return body

    def receive(self):
        data = self.socket.recv(65536)
        if not data:
            raise SystemExit("the daemon closed the connection")
        return data

    def json(self, method, path, body=None):
        return json.loads(self.exchange(self.request(method, path, body)))

    def close(self):
        self.socket.close()


def exchange_many(daemon, request, count, connections):
    """Seconds to make `count` equal requests over so many connections at once."""
    def one(connection):
        for _ in range(count // connections):
            connection.exchange(request)

    opened = [Connection(daemon) for _ in range(connections)]
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(connections) as pool:
        for done in [pool.submit(one, connection) for connection in opened]:
            done.result()
    seconds = time.monotonic() - begin
    for connection in opened:
        connection.close()
    return seconds


class Daemon:
    """A daemon on a private data directory; `with Daemon() as d:` ends and removes it."""

    def __init__(self, *arguments, directory=None):
        self.directory = directory or tempfile.mkdtemp(prefix="slipway-bench-")
        self.keep = directory is not None
        self.arguments = arguments
        self.port, self.serve_port = free_port(), free_port()
        self.process = None

    def start(self):
        """Starts it and returns the seconds until it answered its health call."""
        self.log = open(os.path.join(self.directory, "daemon.log"), "ab")
        begin = time.monotonic()
        self.process = subprocess.Popen(
            [SLIPWAY, "serve", "--data", self.directory, "--listen", f"127.0.0.1:{self.port}",
             "--serve", f"127.0.0.1:{self.serve_port}", *self.arguments],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        path = os.path.join(self.directory, "slipway.sock")
        while time.monotonic() - begin < 30:
            if self.process.poll() is not None:
                break
            try:
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(path)
                    s.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    if s.recv(12) == b"HTTP/1.1 200":
                        return time.monotonic() - begin
            except OSError:
                time.sleep(0.001)
        with open(os.path.join(self.directory, "daemon.log"), errors="replace") as f:
            raise SystemExit(f"the daemon did not start:\n{f.read()[-2000:]}")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None
        self.end_what_survives()
        self.log.close()

    def processes(self):
        """Ids of the daemon, its gateway and monitors, which are known by the data directory, and of all that
        they started."""
        mine = os.fsencode(self.directory)
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open(f"/proc/{name}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
                if any(word == mine or word.startswith(mine + b"/") for word in words) and int(name) != os.getpid():
                    yield int(name)

    def end_what_survives(self):
        """The gateway and monitors outlive a daemon on purpose."""
        for pid in self.processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)

    def client(self):
        return Client(f"unix:{self.directory}/slipway.sock", serve_url=f"http://127.0.0.1:{self.serve_port}")

    def served(self, path):
        """The body of an answer of the serving port."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.serve_port}{path}", timeout=10) as reply:
            return reply.read()

    def cli(self, *arguments):
        return subprocess.run([SLIPWAY, "--data", self.directory, *arguments], capture_output=True, text=True, check=True).stdout

    def memory(self):
        """Proportional memory of the daemon itself, bytes (Pss of /proc/PID/smaps_rollup)."""
        with open(f"/proc/{self.process.pid}/smaps_rollup") as f:
            for line in f:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024

    def processor_seconds(self):
        """What the threads that it has now have used so far."""
        return cpu_nanoseconds([self.process.pid]) / 1e9

    def __enter__(self):
        self.boot_seconds = self.start()
        return self

    def __exit__(self, *_):
        try:
            self.stop()
        finally:
            if not self.keep:
                shutil.rmtree(self.directory, ignore_errors=True)


# -- runs --


def code_zip(text, name="main.sh"):
    """The code of a run that is one file, as a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)
    return buffer.getvalue()


def printed_time(text):
    """The seconds since 1970 that `date +%s.%N` left in a log."""
    return next(float(word) for word in text.split() if word.count(".") == 1 and word.replace(".", "").isdigit())


# -- the served echo --


def serve_echo(daemon, versions=1):
    """An endpoint `echo` with its first version, of so many equal ones; a token for it."""
    with tempfile.TemporaryDirectory() as directory:
        for i in range(versions):
            with open(os.path.join(ROOT, "bench", "serve", "echo", "model.py")) as source:
                text = source.read()
            with open(os.path.join(directory, "model.py"), "w") as f:
                f.write(f"{text}# {i + 1}\n")
            daemon.cli("model", "push", "bench/echo", directory)
    daemon.cli("endpoint", "create", "echo", "bench/echo@1")
    return daemon.client().request("POST", "/api/v1/tokens", {"scopes": "predict:echo"})["token"]


def deploy_echo(client, version):
    """Deploys a version of it and returns when it is live."""
    deployment = client.request("POST", "/api/v1/endpoints/echo/deploy", {"version": str(version)})
    while deployment["state"] not in ("live", "failed"):
        time.sleep(0.02)
        deployment = client.request("GET", "/api/v1/endpoints/echo")["deployment"]
    if deployment["state"] == "failed":
        raise SystemExit(f"version {version} was not deployed: {deployment}")


def open_load(daemon, token, rate, seconds, connections):
    """A Poisson flow of requests to the echo by `slipway bench`; its result."""
    text = daemon.cli("bench", f"http://127.0.0.1:{daemon.serve_port}/predict/echo", "--bearer", token, "--rate", str(rate),
                      "-d", f"{seconds}s", "-c", str(connections), "--body", "[1,2,3,4,5,6,7,8]", "--json")  # fmt: skip
    return json.loads(text)["result"]


def peer_python(name, *packages):
    """Path of the python of a virtual environment with these packages (NAME==VERSION), made once under
    build/bench/peers/."""
    directory = os.path.join(ROOT, "build", "bench", "peers", name)
    python = os.path.join(directory, "bin", "python")
    stamp = os.path.join(directory, "packages")
    wanted = "\n".join(packages)
    with contextlib.suppress(FileNotFoundError):
        if open(stamp).read() == wanted:
            return python
    say(f"installing {', '.join(packages)}")
    shutil.rmtree(directory, ignore_errors=True)
    subprocess.run(["/usr/bin/python3", "-m", "venv", directory], check=True)
    subprocess.run([python, "-m", "pip", "-q", "install", "--disable-pip-version-check", *packages], check=True)
    with open(stamp, "w") as f:
        f.write(wanted)
    return python


def descendants(pid):
    """The process and all that descend from it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as f:
                for child in f.read().split():
                    found += descendants(int(child))
    return found


def cpu_nanoseconds(pids):
    """What the threads that these processes have now have used so far, by the scheduler's own clock."""
    used = 0
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/schedstat") as f:
                used += int(f.read().split()[0])
    return used


def cpu_seconds(pids):
    """Processor time that these processes and their descendants have used so far."""
    seconds = 0
    for pid in {one for root in pids for one in descendants(root)}:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(") ", 1)[1].split()
            seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def median_seconds(call, times=5):
    """Median wall time of call(), s."""
    seconds = []
    for _ in range(times):
        begin = time.monotonic()
        call()
        seconds.append(time.monotonic() - begin)
    return statistics.median(seconds)


def number(value):
    """A figure for people: four digits that matter, thousands apart."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class Report:
    """Rows of (what, value, unit, target, holds), printed and kept when the benchmark ends."""

    def __init__(self, name, title):
        self.name, self.title, self.rows, self.began = name, title, [], time.monotonic()

    def add(self, what, value, unit="", target=None, holds=None, all=None):
        """`target` is text such as '≤ 50 ms'; `holds` whether the value meets it; `all` the single values whose
        median the value is."""
        self.rows.append({"what": what, "value": value, "unit": unit, "target": target, "holds": holds, "all": all})

    def at_most(self, what, value, limit, unit="", all=None):
        self.add(what, value, unit, f"≤ {limit:g} {unit}".strip(), value <= limit, all)

    def at_least(self, what, value, limit, unit="", all=None):
        self.add(what, value, unit, f"≥ {limit:g} {unit}".strip(), value >= limit, all)

    @staticmethod
    def cells(row):
        what = row["what"]
        if row["all"]:
            what += f", {len(row['all'])} times {number(float(min(row['all'])))} to {number(float(max(row['all'])))}"
        return (what, f"{number(row['value'])} {row['unit']}".strip(), row["target"] or "",
                {True: "holds", False: "MISSED", None: ""}[row["holds"]])  # fmt: skip

    def finish(self):
        load, seconds = os.getloadavg()[0], time.monotonic() - self.began
        print(f"\n{self.title}  ({os.cpu_count()} processors, {platform.machine()}, Linux {platform.release()}, "
              f"load {load:.1f}, {seconds:.0f} s)")  # fmt: skip
        cells = [("", "", "target", "")] + [self.cells(row) for row in self.rows]
        widths = [max(len(c[i]) for c in cells) for i in range(4)]
        for c in cells:
            print(f"  {c[0]:<{widths[0]}}  {c[1]:>{widths[1]}}  {c[2]:<{widths[2]}}  {c[3]}".rstrip())
        sys.stdout.flush()
        directory = os.path.join(ROOT, "build", "bench")
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, f"{self.name}.json"), "w") as f:
            json.dump({"title": self.title, "processors": os.cpu_count(), "load": load, "seconds": seconds,
                       "rows": self.rows}, f, indent=2)  # fmt: skip
        return 0 if all(r["holds"] is not False for r in self.rows) else 1
