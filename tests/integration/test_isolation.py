"""What a program in a container cannot do. Each attempt is made, from inside, and must be refused."""

import json
import os
import pathlib
import socket
import subprocess
import threading

import pytest

from conftest import wait_until
from test_engine import PYTHON, Engines

# The program: runs every attempt and prints its outcome as JSON: null if it was refused, else what it got.
ATTEMPTS = r'''
import ctypes, errno, json, os, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
facts = json.loads(os.environ["FACTS"])
outcome = {}

def attempt(name, function):
    try:
        outcome[name] = [None, repr(function())[:200]]
    except BaseException as e:
        outcome[name] = [type(e).__name__ + ": " + str(e)[:100], None]

def call(*args):
    ctypes.set_errno(0)
    r = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in args])
    if r < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return r

def read(path):
    with open(path, "rb") as f:
        return f.read(100)

def write(path):
    with open(path, "a") as f:
        f.write("x")

for path in facts["secret"]:
    attempt("read " + path, lambda: read(path))
    attempt("list " + os.path.dirname(path), lambda: [n for n in os.listdir(os.path.dirname(path)) if n == os.path.basename(path)] or 1 / 0)
for path in ("/etc/shadow", "/etc/gshadow", "/etc/ssh/ssh_host_rsa_key", "/proc/kcore", "/proc/1/mem", "/dev/mem", "/dev/kmsg",
             "/dev/vda", "/dev/sda", "/sys/firmware/dmi/tables/DMI", "/proc/sysrq-trigger"):
    attempt("read " + path, lambda: read(path) or 1 / 0)
for directory in ("/root", "/home", "/var/lib", "/srv", "/mnt", "/media", "/run", "/boot"):
    attempt("list " + directory, lambda: os.listdir(directory) or 1 / 0)
for path in ("/x", "/usr/x", "/usr/bin/python3", "/etc/x", "/etc/passwd", "/opt/x", "/slipway/code/x", "/slipway/x", "/slipway/params.json",
             "/slipway/data/digits/x", "/home/x", "/root/x", "/var/x", "/.slipway-init", "/proc/sys/kernel/hostname",
             "/proc/sys/kernel/core_pattern", "/sys/kernel/uevent_helper", "/proc/1/oom_score_adj", "/sys/fs/cgroup/x"):
    attempt("write " + path, lambda: write(path))
attempt("replace metrics", lambda: os.rename("/slipway/out", "/slipway/metrics.jsonl.d"))
for pid in facts["pids"]:
    attempt(f"signal {pid}", lambda: os.kill(pid, 0))
    attempt(f"trace {pid}", lambda: call(101, 16, pid, 0, 0))  # ptrace(PTRACE_ATTACH)
    attempt(f"see {pid}", lambda: os.listdir(f"/proc/{pid}"))
attempt("see processes", lambda: [p for p in os.listdir("/proc") if p.isdigit() and int(p) not in (1, os.getpid())] or 1 / 0)
attempt("trace init", lambda: call(101, 16, 1, 0, 0))
attempt("leave by /proc/1/root", lambda: os.listdir("/proc/1/root/root"))
attempt("network: host's loopback", lambda: socket.create_connection(("127.0.0.1", facts["port"]), 2))
attempt("network: address", lambda: socket.create_connection(("192.0.2.1", 80), 2))
attempt("network: datagram", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)))
attempt("network: abstract socket", lambda: socket.socket(socket.AF_UNIX).connect("\0" + facts["abstract"]))
attempt("network: raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("network: packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("network: hypervisor", lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
attempt("network: other devices", lambda: [n for _, n in socket.if_nameindex() if n not in ("lo", "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0")] or 1 / 0)
attempt("become root", lambda: os.setuid(0))
attempt("become another", lambda: os.setgroups([0]))
attempt("mount", lambda: libc.mount(b"proc", b"/tmp", b"proc", 0, None) == 0 or 1 / 0)
attempt("unmount", lambda: libc.umount2(b"/etc", 2) == 0 or 1 / 0)
attempt("user namespace", lambda: call(272, 0x10000000))       # unshare(CLONE_NEWUSER)
attempt("mount namespace", lambda: call(272, 0x00020000))
attempt("clone with namespaces", lambda: call(56, 0x10000000 | 17, 0, 0, 0, 0))
attempt("clone3", lambda: call(435, 0, 0))
attempt("chroot", lambda: os.chroot("/tmp"))
attempt("device node", lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(254, 0)))
attempt("host name", lambda: socket.sethostname("x"))
attempt("kernel keys", lambda: call(250, 0, -3, 0))
attempt("bpf", lambda: call(321, 0, 0, 0))
attempt("io_uring", lambda: call(425, 1, 0))
attempt("userfaultfd", lambda: call(323, 0))
attempt("perf", lambda: call(298, 0, 0, 0, 0, 0))
attempt("kernel module", lambda: call(313, 0, 0, 0))
attempt("reboot", lambda: call(169, 0, 0, 0, 0))
attempt("clock", lambda: call(227, 0, 0))
attempt("open by handle", lambda: call(304, 0, 0, 0))
attempt("raise priority", lambda: os.nice(-5))
attempt("more processes", lambda: os.sched_setaffinity(0, []))
# What must work, or the rest proves nothing.
works = {}
outcome, works = works, outcome
attempt("own files", lambda: write("/tmp/x") or write("/slipway/out/x") or write("x"))
attempt("own loopback", lambda: (lambda s: (s.bind(("127.0.0.1", 0)), s.listen(), socket.create_connection(s.getsockname()))) (socket.socket()))
attempt("own children", lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0))
attempt("data", lambda: read("/slipway/data/digits/secret"))
attempt("threads", lambda: __import__("concurrent.futures").futures.ThreadPoolExecutor(2).submit(int).result())
attempt("shared memory", lambda: write("/dev/shm/x"))
outcome, works = works, outcome
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
print(json.dumps({"refused": outcome, "works": works, "status": {k: status[k].strip() for k in
      ("CapEff", "CapBnd", "CapPrm", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Groups")}}))
'''


@pytest.fixture
def engines(tmp_path, environment):
    engines = Engines(tmp_path, "local", environment)
    yield engines
    engines.close()


@pytest.fixture
def secrets(engines):
    """Files that everybody on the host may read; only the view keeps the program from them."""
    mark = f"slipway-isolation-{os.getpid()}"
    paths = [engines.data / name for name in ("vault/ab/cd/secret", "slipway.db", "secrets/token", "runs/other/0/view/out/result")]
    paths += [pathlib.Path(directory) / mark for directory in ("/root", "/home", "/srv", "/mnt", "/var/lib", "/var/tmp", "/tmp", "/run")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret\n")
        path.chmod(0o644)
    for path in engines.data.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    engines.data.chmod(0o755)
    yield [str(path) for path in paths]
    for path in paths:
        path.unlink(missing_ok=True)


@pytest.fixture
def listeners():
    """A TCP port and an abstract socket of the host."""
    tcp, unix = socket.socket(), socket.socket(socket.AF_UNIX)
    tcp.bind(("127.0.0.1", 0))
    name = f"slipway-isolation-{os.getpid()}"
    unix.bind("\0" + name)
    accepted = []
    for listener in (tcp, unix):
        listener.listen()
        threading.Thread(target=lambda s=listener: accept_all(s, accepted), daemon=True).start()
    yield tcp.getsockname()[1], name, accepted
    for listener in (tcp, unix):
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def accept_all(listener, accepted):
    try:
        while True:
            accepted.append(listener.accept())
    except OSError:
        pass


def attempts(engines, secrets, listeners, tmp_path, **spec):
    port, abstract, _ = listeners
    other = engines.start(engines.node(["sleep", "120"]))
    wait_until(lambda: (other.directory / "intake.jsonl").exists() and other.intake("started"))
    program = other.intake("started")[0]["pid"]
    code, data = tmp_path / "code", tmp_path / "digits"
    code.mkdir()
    data.mkdir()
    (code / "attempts.py").write_text(ATTEMPTS)
    (data / "secret").write_text("data")
    facts = {"secret": secrets, "pids": [os.getpid(), other.monitor_pid, program, other.process.pid], "port": port, "abstract": abstract}
    facts["secret"] = secrets + [str(other.directory / "log"), f"/proc/{os.getpid()}/environ"]
    run = engines.start(engines.node([PYTHON, "attempts.py"], code=str(code), environment=[f"FACTS={json.dumps(facts)}"],
                                     mounts=[{"source": str(data), "target": "/slipway/data/digits"}], **spec)).wait()
    assert run.record["exit_code"] == 0, (run.record, run.text("stderr"))
    result = json.loads(run.text()[-1] if len(run.log()) == 1 else "".join(run.text()))
    assert (data / "secret").read_text() == "data" and os.listdir(data) == ["secret"] and os.listdir(code) == ["attempts.py"]
    other.signal(10)
    other.wait()
    return result


def test_everything_is_refused(engines, secrets, listeners, tmp_path):
    before = {path: pathlib.Path(path).read_bytes() for path in ("/etc/passwd", "/usr/bin/env")}
    result = attempts(engines, secrets, listeners, tmp_path)
    got = {name: value for name, (refusal, value) in result["refused"].items() if refusal is None}
    assert got == {}
    assert len(result["refused"]) > 100
    assert {name: refusal for name, (refusal, _) in result["works"].items() if refusal} == {}
    status = result["status"]
    assert {status[f"Cap{kind}"] for kind in ("Eff", "Bnd", "Prm", "Inh", "Amb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    uids = set(status["Uid"].split())
    assert len(uids) == 1 and 200000 <= int(uids.pop()) < 265536
    assert listeners[2] == [], "somebody got through"
    assert {path: pathlib.Path(path).read_bytes() for path in before} == before


def test_network_is_asked_for(engines, secrets, listeners, tmp_path):
    """With the host's network the program reaches the host's loopback, and nothing else more."""
    result = attempts(engines, secrets, listeners, tmp_path, network=True)
    got = {name for name, (refusal, value) in result["refused"].items() if refusal is None}
    assert "network: host's loopback" in got
    assert {name for name in got if not name.startswith("network: ")} == set()
    assert "network: raw socket" not in got and "network: packet socket" not in got


def test_nodes_are_different_users(engines):
    nodes = [engines.node([PYTHON, "-c", "import os; print(os.getuid(), os.getgid())"]) for _ in range(6)]
    engines.start(*nodes).wait()
    assert len({node.text()[0] for node in nodes}) == 6


def test_data_directory_within_what_is_seen(tmp_path):
    """A data directory below /opt, which is seen: covered all the same."""
    root = pathlib.Path(f"/opt/slipway-isolation-{os.getpid()}")
    root.mkdir()
    engines = Engines(root, "local")
    try:
        (engines.data / "slipway.db").write_text("secret")
        engines.data.chmod(0o755)
        run = engines.start(engines.node([PYTHON, "-c", f"import os; print(os.path.exists('{engines.data}/slipway.db'), os.listdir('/slipway/out'))"])).wait()
        assert run.text() == ["False []"], run.text("stderr")
    finally:
        engines.close()
        subprocess.run(["rm", "-rf", str(root)], check=True)


def test_root_file_system_of_its_own(engines, tmp_path):
    """An unpacked image: a static shell and nothing of the host's."""
    busybox = next((p for p in ("/usr/bin/busybox", "/bin/busybox") if os.path.exists(p)), None)
    root = tmp_path / "image"
    for name in ("bin", "proc", "sys", "dev", "tmp", "slipway", "etc"):
        (root / name).mkdir(parents=True)
    if busybox:
        (root / "bin/sh").write_bytes(pathlib.Path(busybox).read_bytes())
    else:
        source = tmp_path / "sh.c"
        source.write_text('#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf("image %d\\n", access("/usr/bin/env", F_OK)); return 0; }\n')
        subprocess.run(["gcc", "-static", "-o", str(root / "bin/sh"), str(source)], check=True)
    (root / "bin/sh").chmod(0o755)
    argv = ["/bin/sh", "-c", "if [ -e /usr/bin/env ]; then echo image 0; else echo image -1; fi"]
    run = engines.start(engines.node(argv, root=str(root))).wait()
    assert run.text() == ["image -1"], (run.record, run.text("stderr"))
    assert run.record["exit_code"] == 0
