"""What the benchmarks share: a daemon of their own, repeated measurements, peers in their own
environments, and one way to print and keep results.

Every figure is measured in the run that prints it; a comparison is a ratio of two figures of the same
run on the same machine. Results go to standard output as a table and to build/bench/NAME.json.
"""

import concurrent.futures
import contextlib
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

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SLIPWAY = os.path.abspath(os.environ.get("SLIPWAY_BINARY") or os.path.join(ROOT, "build", "src", "slipway"))
BUILD = os.path.dirname(os.path.dirname(SLIPWAY))  # where the program was built, and the small programs beside it
QUICK = "--quick" in sys.argv
sys.path.insert(0, os.path.join(ROOT, "sdk", "python"))

from slipway import Client  # noqa: E402


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

    def end_what_survives(self):
        """The gateway and monitors outlive a daemon on purpose; they are known by the data directory."""
        mine = os.fsencode(self.directory) + b"/"
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open(f"/proc/{name}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
                if any(word.startswith(mine) for word in words) and int(name) != os.getpid():
                    os.kill(int(name), signal.SIGTERM)

    def client(self):
        return Client(f"unix:{self.directory}/slipway.sock", serve_url=f"http://127.0.0.1:{self.serve_port}")

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
        used = 0
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{self.process.pid}/task/{thread}/schedstat") as f:
                used += int(f.read().split()[0])
        return used / 1e9

    def __enter__(self):
        self.boot_seconds = self.start()
        return self

    def __exit__(self, *_):
        try:
            self.stop()
        finally:
            if not self.keep:
                shutil.rmtree(self.directory, ignore_errors=True)


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


def median_seconds(call, times=5):
    """Median wall time of call(), s."""
    seconds = []
    for _ in range(times):
        begin = time.monotonic()
        call()
        seconds.append(time.monotonic() - begin)
    return statistics.median(seconds)


class Report:
    """Rows of (what, value, unit, target, holds), printed and kept when the benchmark ends."""

    def __init__(self, name, title):
        self.name, self.title, self.rows = name, title, []

    def add(self, what, value, unit="", target=None, holds=None):
        """`target` is text such as '≤ 50 ms'; `holds` whether the value meets it."""
        self.rows.append({"what": what, "value": value, "unit": unit, "target": target, "holds": holds})

    def at_most(self, what, value, limit, unit="", all=None):
        """`all`: the single values whose median the value is."""
        self.add(what, value, unit, f"≤ {limit:g} {unit}".strip(), value <= limit)
        self.rows[-1]["all"] = all

    def at_least(self, what, value, limit, unit="", all=None):
        self.add(what, value, unit, f"≥ {limit:g} {unit}".strip(), value >= limit)
        self.rows[-1]["all"] = all

    def finish(self):
        load = os.getloadavg()[0]
        print(f"\n{self.title}  ({os.cpu_count()} processors, {platform.machine()}, Linux {platform.release()}, "
              f"load {load:.1f})")
        cells = [("", "", "target", "")] + [
            (r["what"] + (f", {len(r['all'])} times {min(r['all']):.3g} to {max(r['all']):.3g}" if r.get("all") else ""), f"{r['value']:.4g} {r['unit']}".strip() if isinstance(r["value"], float) else f"{r['value']} {r['unit']}".strip(),
             r["target"] or "", {True: "holds", False: "MISSED", None: ""}[r["holds"]]) for r in self.rows]
        widths = [max(len(c[i]) for c in cells) for i in range(4)]
        for c in cells:
            print(f"  {c[0]:<{widths[0]}}  {c[1]:>{widths[1]}}  {c[2]:<{widths[2]}}  {c[3]}".rstrip())
        directory = os.path.join(ROOT, "build", "bench")
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, f"{self.name}.json"), "w") as f:
            json.dump({"title": self.title, "processors": os.cpu_count(), "load": load, "rows": self.rows}, f, indent=2)
        return 0 if all(r["holds"] is not False for r in self.rows) else 1
