"""Nodes under the engines `process` and `local`, without a daemon: what happens to a program that behaves badly.

tests/tools/engine-launch drives the engine; the monitor and the containers are the real ones.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import uuid

import pytest

from conftest import BINARY, is_instrumented, runtime_root, wait_until

BUILD = pathlib.Path(BINARY).resolve().parents[1]
LAUNCH = str(BUILD / "tests/tools/engine-launch")
PYTHON = "/usr/bin/python3"  # one that containers see, too


class Node:
    def __init__(self, directory, spec):
        self.directory, self.spec = pathlib.Path(directory), spec

    @property
    def name(self):
        return f"{self.spec['run_id']}-1-{self.spec.get('node', 0)}"

    def read(self, name):
        return (self.directory / name).read_bytes()

    @property
    def record(self):
        return json.loads(self.read("exit.json"))

    def intake(self, kind=None):
        lines = [json.loads(line) for line in self.read("intake.jsonl").splitlines()]
        assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1)), "seq has gaps"
        return [line for line in lines if kind in (None, line["type"])]

    def warnings(self):
        return [line["code"] for line in self.intake("warning")]

    def log(self, stream=None):
        """Entries (stream, tag, text)."""
        entries = [line.split(b" ", 3)[1:] for line in self.read("log").splitlines()]
        return [(s.decode(), t.decode(), x.decode(errors="replace")) for s, t, x in entries if stream in (None, s.decode())]

    def text(self, stream="stdout"):
        return [x for _, _, x in self.log(stream)]

    @property
    def monitor_pid(self):
        return json.loads(self.read("monitor.json"))["pid"]


class Run:
    """A running engine-launch with its nodes."""

    def __init__(self, process, nodes, lines):
        self.process, self.nodes, self.lines = process, nodes, lines

    def __getattr__(self, name):  # of the only node
        return getattr(self.nodes[0], name)

    def wait(self, seconds=60):
        out, err = self.process.communicate(timeout=seconds)
        self.lines += [json.loads(line) for line in out.splitlines()]
        assert self.process.returncode == 0, (self.lines, err)
        return self

    @property
    def events(self):
        return [line["event"] for line in self.lines if "event" in line]

    def signal(self, number):
        self.process.send_signal(number)


def read_line(fd):
    """Not through process.stdout: communicate() would not see what that has read ahead."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(fd, 1)):
        line += byte
    return line


class Engines:
    def __init__(self, root, kind, environment=None):
        self.root, self.kind, self.runs, self.environment = pathlib.Path(root), kind, [], environment
        self.data = self.root / "data"
        self.data.mkdir(mode=0o700)

    def node(self, argv, **spec):
        run_id = uuid.uuid4().hex
        directory = self.root / "data/runs" / run_id / "0"
        directory.mkdir(parents=True, mode=0o700)
        return Node(directory, dict(spec, run_id=run_id, directory=str(directory), argv=argv))

    def start(self, *nodes, attach=False, options=None):
        request = {"engine": self.kind, "data": str(self.data), "attach": attach,
                   "options": dict(options or {}, program=BINARY), "nodes": [node.spec for node in nodes]}
        # Unbuffered: what readline() took beyond the first line, communicate() would not see.
        process = subprocess.Popen([LAUNCH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                                   env=self.environment)
        process.stdin.write(json.dumps(request).encode())
        process.stdin.close()
        process.stdin = None
        first = json.loads(read_line(process.stdout.fileno()))
        run = Run(process, list(nodes), [first])
        self.runs.append(run)
        if "error" in first:
            process.wait()
            if first["error"] == "unsupported":
                pytest.skip(f"containers: {first['message']}")
        return run

    def python(self, source, **spec):
        """Starts a Python program that sees DIR, the root of the run contract's tree."""
        source = "import os, sys, time, json\nDIR = os.environ['SLIPWAY_DIR']\n" + source
        return self.start(self.node([PYTHON, "-c", source], **spec))

    def close(self):
        for run in self.runs:
            if run.process.poll() is None:
                run.process.kill()
                run.process.wait()
            for node in run.nodes:
                try:
                    os.kill(node.monitor_pid, signal.SIGKILL)
                except (OSError, ValueError):
                    pass
                self.clean(node)
        shutil.rmtree(runtime_root(self.data), ignore_errors=True)

    @staticmethod
    def clean(node):
        def gone():
            groups = control_groups(node.name)
            for group in groups:
                for pid in (group / "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                try:
                    group.rmdir()
                except OSError:
                    pass
            return not groups
        try:
            wait_until(gone, 10, "end of control groups")
        except OSError:
            pass


def control_groups(name):
    root = pathlib.Path("/sys/fs/cgroup")
    return [group for pattern in (f"slipway/{name}", f"*/slipway/{name}") for group in root.glob(pattern)]


@pytest.fixture(params=["process", "local"])
def engines(request, tmp_path, environment):
    engines = Engines(tmp_path, request.param, environment)
    yield engines
    engines.close()


@pytest.fixture
def process(tmp_path, environment):
    engines = Engines(tmp_path, "process", environment)
    yield engines
    engines.close()


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def processes_with(text):
    """Pids whose command line holds a text."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


# -- the contract --


def test_contract(engines, tmp_path):
    code, data = tmp_path / "code", tmp_path / "digits"
    (code / "sub").mkdir(parents=True)
    (code / "t.py").write_text("x = 1\n")
    (code / "sub/m.py").write_text("y = 2\n")
    data.mkdir()
    (data / "data.safetensors").write_bytes(b"123")
    run = engines.python("""
sys.path.insert(0, '.')
import t
open('scratch', 'w').write('x')
print(t.x, sorted(os.listdir('.')), open(DIR + '/params.json').read(), os.environ['SLIPWAY_PARAM_LR'])
print(open(DIR + '/data/digits/data.safetensors').read(), open(DIR + '/code/sub/m.py').read().strip())
print('oops', file=sys.stderr)
os.makedirs(DIR + '/out/sub')
open(DIR + '/out/sub/b', 'w').write('bb')
open(DIR + '/out/a', 'w').write('a')
os.symlink('/etc/passwd', DIR + '/out/link')
with open(DIR + '/metrics.jsonl', 'a') as f:
    for i in range(3): f.write(json.dumps({'step': i, 'loss': 1 / (i + 1)}) + '\\n')
""", code=str(code), params='{"lr": 0.5}', environment=["SLIPWAY_PARAM_LR=0.5"],
                         mounts=[{"source": str(data), "target": "/slipway/data/digits"}]).wait()
    assert run.record["reason"] == "exited" and run.record["exit_code"] == 0, run.text("stderr")
    assert run.text() == ["1 ['__pycache__', 'scratch', 'sub', 't.py'] {\"lr\": 0.5} 0.5", "123 y = 2"]
    assert run.text("stderr") == ["oops"]
    assert [line["values"]["step"] for line in run.intake("metric")] == [0, 1, 2]
    assert run.record["artifacts"] == [{"path": "a", "size": 1}, {"path": "sub/b", "size": 2}]
    assert (run.directory / "out/sub/b").read_text() == "bb"
    assert run.warnings() == ["output_dropped"]  # the link
    assert run.record["cpu_seconds"] > 0 and run.record["memory_peak_bytes"] > 1 << 20
    assert not (run.directory / "work").exists() and not (run.directory / "view").exists()
    assert sorted(os.listdir(code)) == ["sub", "t.py"], "the code was changed"
    assert run.intake()[-1]["type"] == "exited" and run.events[-1] == "exited"


def weights_file(path, size=16, cut=0):
    """Python source that writes a safetensors file of `size` bytes of data, `cut` bytes short."""
    return f"""
import struct
def write(path):
    header = json.dumps({{'w': {{'dtype': 'U8', 'shape': [{size}], 'data_offsets': [0, {size}]}}}}).encode()
    open(path, 'wb').write(struct.pack('<Q', len(header)) + header + bytes({size} - {cut}))
write({path})
"""


def test_weights_become_generations(engines):
    run = engines.python(weights_file("DIR + '/weights/.tmp'", size=10_000_000) + """
os.rename(DIR + '/weights/.tmp', DIR + '/weights/first.safetensors')
for i in range(2, 6):
    write(DIR + '/weights/.tmp')
    os.rename(DIR + '/weights/.tmp', DIR + f'/weights/step-{i}.safetensors')
write(DIR + '/weights/.tmp')  # never renamed: none
""").wait()
    generations = run.intake("weights")
    assert [(g["generation"], g["name"]) for g in generations] == [(1, "first.safetensors")] + [
        (i, f"step-{i}.safetensors") for i in range(2, 6)]
    for g in generations:
        assert os.path.getsize(run.directory / g["file"]) == g["size"] > 10_000_000
    assert run.record["generations"] == 5 and run.warnings() == []


def test_metrics_come_before_the_generation_they_led_to(engines):
    run = engines.python(weights_file("DIR + '/weights/.tmp'") + """
metrics = open(DIR + '/metrics.jsonl', 'a', buffering=1)
for generation in range(20):
    for step in range(50):
        metrics.write(json.dumps({'step': generation * 50 + step}) + '\\n')
    write(DIR + '/weights/.tmp')
    os.rename(DIR + '/weights/.tmp', DIR + f'/weights/{generation}.safetensors')
""").wait()
    steps = weights = 0
    for line in run.intake():
        steps += line["type"] == "metric"
        weights += line["type"] == "weights"
        assert steps >= 50 * weights, f"generation {weights} came after {steps} steps only"
    assert (steps, weights) == (1000, 20), run.warnings()


def test_half_a_weights_file(engines):
    run = engines.python(weights_file("DIR + '/weights/.tmp'", cut=8) + """
os.rename(DIR + '/weights/.tmp', DIR + '/weights/half.safetensors')
open(DIR + '/weights/unfinished.safetensors', 'w').write('not yet')
os.symlink('/etc/passwd', DIR + '/weights/link.safetensors')
os.mkdir(DIR + '/weights/directory.safetensors')
os.mkfifo(DIR + '/weights/fifo.safetensors')
open(DIR + '/weights/\\udcff.safetensors', 'w').write('name that is no UTF-8')
""").wait()
    assert run.record["exit_code"] == 0, run.text("stderr")
    assert run.intake("weights") == [] and run.record["generations"] == 0
    assert run.warnings() == ["weights_invalid"] * 6
    assert not list((run.directory / "weights").iterdir())


# -- metrics --


def test_metrics_that_are_none(engines):
    lines = ['{"step": 1, "loss": NaN}', "not json", '{"step": 2, "loss": -Infinity, "x": "NaN"}', "[1]", "",
             '{"step": 3, "loss": 0.5}', '{"a": 1', '{"step": 1e999}', '{"step": 4, "note": "text"}', "\\xff\\xfe",
             '{"loss": ' + "1" * 70000 + "}", '{"step": 5}']
    run = engines.python(f"""
lines = {lines!r}
with open(DIR + '/metrics.jsonl', 'ab') as f:
    for line in lines: f.write(line.encode('latin-1') + b'\\n')
    f.write(b'{{"step": 6}}')
""").wait()
    assert [m["values"] for m in run.intake("metric")] == [
        {"step": 1, "loss": None}, {"step": 2, "loss": None}, {"step": 3, "loss": 0.5}, {"step": 4}, {"step": 5}, {"step": 6}]
    assert sorted(run.warnings()) == ["metric_invalid"] * 8 + ["metric_too_long"], run.intake("warning")


def test_metrics_file_cut(engines):
    run = engines.python("""
path = DIR + '/metrics.jsonl'
open(path, 'a').write('{"step": 1}\\n' * 100)
time.sleep(0.5)
open(path, 'w').write('{"step": 2}\\n')
""").wait()
    assert [m["values"]["step"] for m in run.intake("metric")] == [1] * 100 + [2]
    assert run.warnings() == ["metrics_truncated"]


@pytest.mark.slow
def test_million_metrics(process):
    run = process.python("""
with open(DIR + '/metrics.jsonl', 'a') as f:
    for i in range(1000000): f.write('{"step": %d, "loss": 0.25}\\n' % i)
""").wait(120)
    steps = [m["values"]["step"] for m in run.intake("metric")]
    assert steps == list(range(1_000_000))


# -- ends --


@pytest.mark.parametrize("code, exit_code, number, reason", [
    ("sys.exit(7)", 7, None, "exited"),
    ("os.kill(os.getpid(), 9)", None, 9, "signaled"),
    ("os.abort()", None, 6, "signaled"),
    ("raise ValueError('no')", 1, None, "exited"),
], ids=["exits", "killed", "aborts", "raises"])
def test_ends(engines, code, exit_code, number, reason):
    record = engines.python(code).wait().record
    assert (record["exit_code"], record["signal"], record["reason"]) == (exit_code, number, reason)
    assert record["oom_killed"] is False


@pytest.mark.parametrize("argv, text", [
    (["no-such-program"], "No such file"), (["/etc/passwd"], "Permission denied"), (["/etc"], "Permission denied")])
def test_cannot_start(engines, argv, text):
    run = engines.start(engines.node(argv)).wait()
    assert run.record["reason"] == "start_failed" and text in run.record["message"], run.record
    assert run.record["started_at"] is None and run.intake("started") == []


def test_forks_away(engines):
    mark = uuid.uuid4().hex
    run = engines.python(f"""
for i in range(20):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp('sh', ['sh', '-c', 'trap "" TERM HUP; while :; do sleep 1; done', '{mark}'])
        os._exit(0)
time.sleep(0.5)
print('parent ends')
""").wait()
    assert run.record["exit_code"] == 0 and run.text() == ["parent ends"]
    assert processes_with(mark) == []


def test_stop_and_grace(engines):
    run = engines.python("""
import signal
def stop(*_):
    print('asked'); sys.exit(5)
signal.signal(signal.SIGTERM, stop)
print('ready')
time.sleep(60)
""")
    wait_until(lambda: (run.directory / "log").exists() and b"ready" in run.read("log"))
    run.signal(signal.SIGTERM)
    record = run.wait().record
    assert (record["exit_code"], record["reason"]) == (5, "stopped") and run.text() == ["ready", "asked"]


def test_ignores_sigterm(engines):
    run = engines.python("""
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready')
time.sleep(60)
""", grace_ms=300)
    wait_until(lambda: (run.directory / "log").exists() and b"ready" in run.read("log"))
    run.signal(signal.SIGTERM)
    record = run.wait().record
    assert (record["exit_code"], record["signal"], record["reason"]) == (None, 9, "stopped")


def test_does_not_handle_sigterm(engines):
    run = engines.start(engines.node(["sleep", "60"], grace_ms=60000))
    wait_until(lambda: (run.directory / "intake.jsonl").exists() and run.intake("started"))
    run.signal(signal.SIGTERM)
    assert run.wait().record["signal"] == 15


def test_timeout(engines):
    record = engines.start(engines.node(["sleep", "60"], timeout_ms=300, grace_ms=300)).wait().record
    assert (record["signal"], record["reason"]) == (15, "timeout") and "300 ms" in record["message"]


def test_passes_its_memory(engines):
    run = engines.python("""
blocks = []
for i in range(100): blocks.append(bytearray(b'x' * (10 << 20)))
""", memory=64 << 20).wait()
    assert run.record["reason"] == "oom" and run.record["oom_killed"], run.record
    assert 32 << 20 < run.record["memory_peak_bytes"] <= 65 << 20


def test_too_many_processes(engines):
    run = engines.python("""
n = 0
try:
    for i in range(100):
        if os.fork() == 0: time.sleep(60)
        n += 1
except BlockingIOError:
    print('refused after', n < 20)
""", pids=20).wait()
    assert run.text() == ["refused after True"]


def test_limits_of_a_process_without_control_groups(process):
    run = process.start(process.node([PYTHON, "-c", "import os; print(len(os.sched_getaffinity(0))); bytearray(1 << 30)"],
                                     memory=200 << 20, cpus=1), options={"cgroups": False}).wait()
    assert "approximate" in run.lines[0]["capacity"]["note"]
    assert run.text() == ["1"] and "MemoryError" in "".join(run.text("stderr"))


# -- output --


@pytest.mark.slow
def test_prints_a_gigabyte(engines):
    run = engines.start(engines.node(["sh", "-c", "yes 'a line of output that is not short' | head -c 1073741824; echo; echo end >&2"])).wait(300)
    size = os.path.getsize(run.directory / "log")
    assert 255 << 20 < size <= 256 << 20
    assert run.record["log_bytes"] + run.record["log_dropped_bytes"] >= 1 << 30
    assert run.warnings() == ["log_truncated"] and run.record["exit_code"] == 0
    assert run.read("log").endswith(b"\n")


@pytest.mark.slow
def test_endless_line(engines):
    run = engines.start(engines.node(["sh", "-c", "head -c 50000000 /dev/zero | tr '\\0' x"])).wait(120)
    entries = run.log()
    assert all(len(text) <= 16384 for _, _, text in entries)
    assert [tag for _, tag, _ in entries] == ["P"] * (len(entries) - 1) + ["F"]
    assert sum(len(text) for _, _, text in entries) == 50_000_000


def test_closes_its_outputs(engines):
    run = engines.python("""
print('before')
for fd in (0, 1, 2): os.close(fd)
time.sleep(0.5)
open(DIR + '/out/after', 'w').write('x')
os._exit(3)
""").wait()
    assert run.record["exit_code"] == 3 and run.text() == ["before"]
    assert run.record["artifacts"] == [{"path": "after", "size": 1}]


def test_reads_standard_input(engines):
    assert engines.python("print(repr(sys.stdin.read()))").wait().text() == ["''"]


def test_opens_its_outputs_by_name(engines):
    assert engines.python("open('/dev/stdout', 'w').write('by name\\n')").wait().text() == ["by name"]


# -- the disk is full --


@pytest.fixture
def small_disk(tmp_path):
    point = tmp_path / "small"
    point.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(point)]).returncode:
        pytest.skip("mounting is not permitted")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


def test_fills_the_disk(engines, small_disk):
    """The program's own files fill it; they go when it ends, so that the record fits."""
    node = engines.node([PYTHON, "-c", """
import os, sys
d = os.environ['SLIPWAY_DIR']
f = open('big', 'wb')
try:
    while True: f.write(b'x' * 65536); f.flush()
except OSError as e:
    print('full', e.errno)
m = os.open(d + '/metrics.jsonl', os.O_WRONLY | os.O_APPEND)
try:
    for i in range(1000): os.write(m, b'{"step": %d}\\n' % i)
except OSError: print('metrics full')
os._exit(2)
"""])
    directory = small_disk / "0"
    directory.mkdir(mode=0o700)
    node.directory, node.spec["directory"] = directory, str(directory)
    run = engines.start(node).wait()
    assert run.record["exit_code"] == 2, (run.record["message"], run.text())
    steps = [m["values"]["step"] for m in run.intake("metric")]
    assert steps == list(range(len(steps)))


def test_full_disk_delays_the_record(engines, small_disk):
    """Somebody else fills it: nothing is corrupt, and the record comes when there is room."""
    node = engines.node(["sh", "-c", "while [ ! -e $SLIPWAY_DIR/data/go ]; do sleep 0.1; done;"
                                     "echo late; echo '{\"step\": 1}' >> $SLIPWAY_DIR/metrics.jsonl; exit 4"])
    directory, flag = small_disk / "0", small_disk / "flag"
    directory.mkdir(mode=0o700)
    flag.mkdir()
    node.directory, node.spec["directory"] = directory, str(directory)
    node.spec["mounts"] = [{"source": str(flag), "target": "/slipway/data"}] if engines.kind == "local" else []
    if engines.kind == "process":
        flag = directory / "view/data"
    run = engines.start(node)
    wait_until(lambda: (directory / "intake.jsonl").exists() and run.intake("started"))
    (flag / "soon").touch()
    blob = small_disk / "blob"
    with open(blob, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass
    (flag / "soon").rename(flag / "go")
    time.sleep(1.5)
    assert not (directory / "exit.json").exists() and run.process.poll() is None
    for line in run.read("intake.jsonl").splitlines():
        json.loads(line)
    blob.unlink()
    run.wait()
    assert run.record["exit_code"] == 4
    assert run.intake()[-1]["type"] == "exited"


# -- bad luck with the monitor and the daemon --


def test_monitor_killed(engines):
    mark = uuid.uuid4().hex
    run = engines.start(engines.node(["sh", "-c", "trap '' TERM HUP; while :; do sleep 1; done", mark]))
    wait_until(lambda: (run.directory / "intake.jsonl").exists() and run.intake("started"))
    assert processes_with(mark)
    os.kill(run.monitor_pid, signal.SIGKILL)
    run.wait()
    assert run.events[-1] == "lost" and not (run.directory / "exit.json").exists()
    wait_until(lambda: not processes_with(mark), 10, "end of the program")
    assert not control_groups(run.name)


def test_monitor_killed_while_nobody_looks(engines):
    mark = uuid.uuid4().hex
    node = engines.node(["sh", "-c", "while :; do sleep 1; done", mark])
    run = engines.start(node)
    wait_until(lambda: (run.directory / "intake.jsonl").exists() and run.intake("started"))
    run.signal(signal.SIGHUP)
    run.process.wait()
    os.kill(node.monitor_pid, signal.SIGKILL)
    wait_until(lambda: not processes_with(mark), 10, "end of the program")
    events = engines.start(node, attach=True).wait().events  # of the intake, perhaps, what nobody had looked at yet
    assert [event for event in events if event != "intake"] == ["lost"]


def test_engine_killed(engines):
    """The run goes on, and whoever comes next finds it."""
    node = engines.node([PYTHON, "-c", "import os, time\nfor i in range(20):\n    print(i); "
                                       "open(os.environ['SLIPWAY_DIR'] + '/metrics.jsonl', 'a').write('{\"step\": %d}\\n' % i); time.sleep(0.05)"])
    run = engines.start(node)
    for _ in range(5):
        time.sleep(0.1)
        run.process.kill()
        run.process.wait()
        run = engines.start(node, attach=True)
    run.wait()
    assert node.text() == [str(i) for i in range(20)]
    assert [m["values"]["step"] for m in node.intake("metric")] == list(range(20))
    assert run.events[-1] == "exited"


def test_several_at_once(engines):
    nodes = [engines.node([PYTHON, "-c", f"print({i})"]) for i in range(8)]
    run = engines.start(*nodes).wait(120)
    assert [node.text() for node in nodes] == [[str(i)] for i in range(8)]
    assert run.events.count("exited") == 8


def test_replica_restarts(engines):
    run = engines.python("""
n = len(os.listdir(DIR + '/out'))
open(DIR + f'/out/{n}', 'w')
print('start', n)
if n < 2: os.kill(os.getpid(), 9)
time.sleep(60)
""", restart=True)
    wait_until(lambda: (run.directory / "log").exists() and b"start 2" in run.read("log"))
    run.signal(signal.SIGTERM)
    run.wait()
    assert run.text() == ["start 0", "start 1", "start 2"]
    assert [(line["restarts"], line["delay_ms"], line["signal"]) for line in run.intake("restarted")] == [(1, 0, 9), (2, 1000, 9)]
    assert run.record["reason"] == "stopped" and run.record["restarts"] == 2


def test_stop_while_a_replica_waits(engines):
    run = engines.start(engines.node(["false"], restart=True))
    wait_until(lambda: (run.directory / "intake.jsonl").exists() and len(run.intake("restarted")) == 3)
    run.signal(signal.SIGTERM)
    assert run.wait(10).record["reason"] == "stopped"


def test_monitor_is_small(engines):
    run = engines.start(engines.node(["sleep", "60"]))
    wait_until(lambda: (run.directory / "intake.jsonl").exists() and run.intake("started"))
    time.sleep(0.3)
    smaps = pathlib.Path(f"/proc/{run.monitor_pid}/smaps_rollup").read_text()
    private = sum(int(line.split()[1]) for line in smaps.splitlines() if line.startswith(("Private_Clean", "Private_Dirty")))
    before = pathlib.Path(f"/proc/{run.monitor_pid}/stat").read_text().split()[13:15]
    time.sleep(2)
    after = pathlib.Path(f"/proc/{run.monitor_pid}/stat").read_text().split()[13:15]
    assert sum(map(int, after)) - sum(map(int, before)) <= 1, "it is not idle"
    run.signal(signal.SIGUSR1)
    run.wait()
    if not is_instrumented():
        assert private <= 3 * 1024, f"{private} KiB private"


def test_directory_removed(engines):
    """The monitor does not wait for ever for a place to write its record."""
    node = engines.node(["sleep", "60"])
    run = engines.start(node)
    wait_until(lambda: (run.directory / "intake.jsonl").exists() and run.intake("started"))
    pid = run.monitor_pid
    shutil.rmtree(run.directory, ignore_errors=True)
    wait_until(lambda: not run.directory.exists() or shutil.rmtree(run.directory, ignore_errors=True), 10, "removal")
    with contextlib.suppress(ProcessLookupError):  # it looks for its directory now and then
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_alive(pid), 20, "end of the monitor")
    run.wait()
    assert run.events[-1] == "lost"
