"""The real program, on private data directories.

    daemon      a running `slipway serve`; start(), stop(), kill(), restart()
    client      HTTP to that daemon over its Unix socket (local admin); daemon.client(token, daemon.url) over TCP
    cli         cli("dataset", "ls") runs the program against that daemon; cli.json("dataset", "ls") parses
    make_daemon for tests that need several, or options: make_daemon(engine="process", start=False)

SLIPWAY_BINARY chooses the build (default build/src/slipway), SLIPWAY_RUN_UNDER a command before it. Whatever a
test started is gone when it ends: processes are found by the data directory on their command line. A report of
a sanitizer, by any process, fails the test.
"""

import hashlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import types
import urllib.parse

import pytest

from contract import Contract

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("SLIPWAY_BINARY", str(ROOT / "build/src/slipway"))
UNDER = os.environ.get("SLIPWAY_RUN_UNDER", "").split()
START_SECONDS = 30  # sanitizer builds on a busy machine


def is_instrumented():
    """A build with a sanitizer: sizes of processes mean nothing."""
    content = pathlib.Path(BINARY).read_bytes()
    return b"__asan_init" in content or b"__tsan_init" in content


def wait_until(condition, seconds=START_SECONDS, what="condition"):
    """Polls until condition() is true and returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come true within {seconds} s")
        time.sleep(0.02)


class Reply(types.SimpleNamespace):
    """status, headers (lower case), body (bytes), json (None if it is none)"""

    @property
    def error(self):
        """The code of the error in the body, or None."""
        return (self.json or {}).get("error", {}).get("code") if isinstance(self.json, dict) else None


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Client:
    """HTTP without a library between the test and the bytes. A connection per request. With a contract,
    every answer is checked against the daemon's own OpenAPI document."""

    def __init__(self, url, token=None, timeout=60, contract=None):
        self.url, self.token, self.timeout, self.contract = url, token, timeout, contract

    def connection(self):
        if self.url.startswith("unix:"):
            return UnixConnection(self.url[5:], self.timeout)
        parts = urllib.parse.urlsplit(self.url)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=self.timeout)

    def request(self, method, path, json_body=None, body=None, headers=None, query=None):
        headers = dict(headers or {})
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        if json_body is not None:
            body = json.dumps(json_body)
            headers.setdefault("Content-Type", "application/json")
        if query:
            path += "?" + urllib.parse.urlencode(query, doseq=True)
        connection = self.connection()
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        try:
            parsed = json.loads(content) if "json" in answer.getheader("Content-Type", "") else None
        except ValueError:
            parsed = None
        reply = Reply(
            status=answer.status,
            headers={name.lower(): value for name, value in answer.getheaders()},
            body=content,
            json=parsed,
        )
        if self.contract:
            self.contract.check(method, path, reply.status, reply.headers.get("content-type", ""), parsed)
        return reply

    def call(self, method, path, json_body=None, **options):
        """The JSON of a request that must succeed."""
        reply = self.request(method, path, json_body, **options)
        assert 200 <= reply.status < 300, f"{method} {path}: {reply.status} {reply.body[:2000]!r}"
        return reply.json

    def get(self, path, **options):
        return self.call("GET", path, **options)

    def post(self, path, json_body=None, **options):
        return self.call("POST", path, json_body, **options)

    def put(self, path, json_body=None, **options):
        return self.call("PUT", path, json_body, **options)

    def delete(self, path, **options):
        return self.call("DELETE", path, **options)


class Cli:
    """Runs the program. Values of `env` that are None unset the variable."""

    def __init__(self, environment, data=None):
        self.environment, self.data = environment, data

    def __call__(self, *arguments, check=True, input=None, env=None, cwd=None, timeout=120):
        environment = dict(self.environment)
        if self.data:
            environment["SLIPWAY_DATA"] = str(self.data)
        for name, value in (env or {}).items():
            environment.pop(name, None)
            if value is not None:
                environment[name] = value
        result = subprocess.run(
            [*UNDER, BINARY, *map(str, arguments)],
            stdin=subprocess.DEVNULL if input is None else None,
            input=input,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            env=environment,
            cwd=cwd,
            timeout=timeout,
        )
        if check:
            assert result.returncode == 0, f"{arguments}: exit {result.returncode}\n{result.stdout}{result.stderr}"
        return result

    def json(self, *arguments, **options):
        return json.loads(self(*arguments, "--json", **options).stdout)


def command_lines():
    """(pid, [argument…]) of every process."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                line = pathlib.Path(entry.path, "cmdline").read_bytes()
            except OSError:
                continue
            yield int(entry.name), [part.decode(errors="replace") for part in line.split(b"\0")]


def processes_of(directory):
    """Processes with a path in the directory on their command line: daemon, gateway, monitors, runtimes."""
    directory = str(directory)
    return [
        pid
        for pid, arguments in command_lines()
        if pid != os.getpid()
        and any(part == directory or f"{directory}/" in part or part.endswith(f"={directory}") for part in arguments)
    ]


def tree(pids):
    """The processes and all that descend from them."""
    parents = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = pathlib.Path(entry.path, "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = set(pids)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def kill_tree(pids):
    for pid in tree(pids):
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


def hot_directories(directory):
    """Those below /dev/shm that a daemon on this data directory has made: each says whose it is."""
    owned = f"{os.path.realpath(directory)}/"
    found = []
    for owner in pathlib.Path("/dev/shm").glob("slipway-*/.owner"):
        try:
            if owner.read_text().startswith(owned):
                found.append(owner.parent)
        except OSError:
            continue  # somebody else's, or removed meanwhile
    return found


def runtime_root(directory):
    """Where container runtimes keep the state of a data directory's containers."""
    return pathlib.Path("/run/slipway", hashlib.sha256(os.path.realpath(directory).encode()).hexdigest()[:16])


def control_groups(directory):
    """Those of the runs that a data directory holds."""
    runs = pathlib.Path(directory, "runs")
    names = os.listdir(runs) if runs.is_dir() else []
    trees = [*pathlib.Path("/sys/fs/cgroup").glob("slipway"), *pathlib.Path("/sys/fs/cgroup").glob("*/slipway")]
    return [group for tree in trees for name in names for group in tree.glob(f"{name}-*")]


def remove_control_group(group):
    def gone():
        try:
            for pid in (group / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            group.rmdir()
        except (FileNotFoundError, ProcessLookupError):
            pass
        except OSError:
            return False
        return not group.exists()

    wait_until(gone, what=f"end of {group}")


def remains(directory):
    """What is left of a data directory that was removed."""
    mounts = pathlib.Path("/proc/self/mounts").read_text().splitlines()
    return [
        *(f"process {pid}" for pid in processes_of(directory)),
        *(line for line in mounts if line.split()[1].startswith(f"{directory}/")),
        *hot_directories(directory),
        *(path for path in (pathlib.Path(directory), runtime_root(directory)) if path.exists()),
    ]


REMOVED = []  # the data directories of this session


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left():
    yield
    left = {directory: found for directory in REMOVED if (found := remains(directory))}
    assert not left


def remove_directory(directory):
    """Ends what still runs in the directory, takes mounts away, deletes it and what a killed daemon left in memory."""
    for _ in range(50):
        pids = processes_of(directory)
        if not pids:
            break
        kill_tree(pids)
        time.sleep(0.05)
    mounts = [line.split()[1] for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted((m for m in mounts if m.startswith(f"{directory}/")), key=len, reverse=True):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
    for group in control_groups(directory):
        remove_control_group(group)
    for path in (*hot_directories(directory), runtime_root(directory), directory):
        shutil.rmtree(path, ignore_errors=True)
    REMOVED.append(directory)


class Daemon:
    def __init__(self, data, environment, options):
        self.data, self.environment, self.options = pathlib.Path(data), environment, options
        self.process = None
        self.log = self.data.parent / "daemon.log"
        self.url = self.serve_url = self.contract = None

    @property
    def socket(self):
        return f"unix:{self.data}/slipway.sock"

    def command(self):
        return [*UNDER, BINARY, "serve", "--data", str(self.data), *self.options]

    def start(self, wait=True):
        assert self.process is None, "the daemon runs already"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment
            )
        if wait:
            self.wait_until_ready()
        return self

    def wait_until_ready(self):
        def ready():
            if self.process.poll() is not None:
                pytest.fail(f"the daemon ended with {self.process.returncode}:\n{self.log_text()}")
            try:
                reply = Client(self.socket).request("GET", "/api/v1/status")
            except OSError:
                return None
            return reply.json if reply.status == 200 else None

        status = wait_until(ready, what="the daemon's first answer")
        self.url = next((url for url in status.get("urls", []) if url.startswith("http")), None)
        self.serve_url = status.get("serve_url")
        if not self.contract:
            self.contract = Contract(Client(self.socket).get("/api/v1/openapi.json"))

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def stop(self, seconds=START_SECONDS):
        """SIGTERM; returns the exit status."""
        process, self.process = self.process, None
        process.terminate()
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            pytest.fail(f"the daemon did not stop within {seconds} s:\n{self.log_text()[-4000:]}")

    def kill(self):
        """SIGKILL: as a crash or a power cut would."""
        process, self.process = self.process, None
        process.kill()
        process.wait()

    def restart(self):
        self.stop()
        return self.start()

    def client(self, token=None, url=None):
        """Over the Unix socket, or to self.url with a token."""
        of_control = not url or url != self.serve_url
        return Client(url or self.socket, token, contract=self.contract if of_control else None)

    def release(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        remove_directory(self.data)


@pytest.fixture
def sanitizer_reports(tmp_path):
    """Where sanitizers write; a report fails the test, whoever wrote it."""
    directory = tmp_path / "sanitizer"
    directory.mkdir()
    directory.chmod(0o777)  # processes of other users report, too
    yield directory
    reports = sorted(directory.iterdir())
    if reports:
        text = "\n".join(report.read_text(errors="replace")[:8000] for report in reports[:3])
        pytest.fail(f"{len(reports)} sanitizer reports:\n{text}")


@pytest.fixture
def environment(sanitizer_reports, tmp_path):
    """The environment of every process: the caller's without SLIPWAY_*, and sanitizers that report."""
    values = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
    common = f"log_path={sanitizer_reports}/report:exitcode=99"
    suppressions = ROOT / "tests/sanitizer.supp"
    values["ASAN_OPTIONS"] = f"{common}:detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1"
    values["UBSAN_OPTIONS"] = f"{common}:print_stacktrace=1:halt_on_error=1"
    values["TSAN_OPTIONS"] = f"{common}:halt_on_error=1:second_deadlock_stack=1:suppressions={ROOT}/tests/tsan.supp"
    values["LSAN_OPTIONS"] = f"suppressions={suppressions}:print_suppressions=0"
    values["HOME"] = str(tmp_path)
    values["NO_COLOR"] = "1"
    values.pop("COLUMNS", None)
    return values


@pytest.fixture
def make_daemon(environment):
    daemons = []

    def make(*options, start=True, listen="127.0.0.1:0", serve="127.0.0.1:0", engine=None, data=None):
        if data is None:
            # Short, because a Unix socket's path may have 107 bytes; outside of pytest's 0700 directory.
            base = pathlib.Path(tempfile.mkdtemp(prefix="slipway-", dir="/tmp"))
            base.chmod(0o711)
            data = base / "data"
        arguments = list(options)
        for name, value in (("--listen", listen), ("--serve", serve), ("--engine", engine)):
            if value is not None:
                arguments += [name, value]
        daemon = Daemon(data, environment, arguments)
        daemons.append(daemon)
        return daemon.start() if start else daemon

    yield make
    for daemon in reversed(daemons):
        daemon.release()
    for daemon in daemons:
        shutil.rmtree(daemon.data.parent, ignore_errors=True)


@pytest.fixture
def daemon(make_daemon):
    return make_daemon()


@pytest.fixture
def client(daemon):
    return daemon.client()


@pytest.fixture
def cli(daemon, environment):
    return Cli(environment, daemon.data)


@pytest.fixture
def program(environment, tmp_path):
    """The program without a daemon: its data directory is empty."""
    return Cli(environment, tmp_path / "no-daemon")


def shares_of(run_id):
    """What the kernel gives a node: cpu.shares of version 1, cpu.weight of version 2."""
    for file in (*pathlib.Path("/sys/fs/cgroup").glob(f"*/slipway/{run_id}-1-0/cpu.shares"),
                 *pathlib.Path("/sys/fs/cgroup").glob(f"slipway/{run_id}-1-0/cpu.weight")):
        return int(file.read_text())
    pytest.skip("no control group of processors is seen here")
