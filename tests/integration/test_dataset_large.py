"""A dataset that is larger than the memory that may be used for it."""

import pathlib
import subprocess

import numpy as np
import pytest
from conftest import BINARY


def memory_of(pid, field):
    """VmRSS or VmHWM of a process, MiB."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024


@pytest.mark.slow
def test_larger_than_memory(daemon, environment, tmp_path):
    """A file of 420 MB through a command that may have 200 MiB of address space, most of it libraries and stacks."""
    sanitized = any(word in pathlib.Path(BINARY).read_bytes() for word in (b"__asan_init", b"__tsan_init"))
    source = tmp_path / "large.csv"
    rng = np.random.default_rng(5)
    block = rng.integers(-1000, 1000, (2000, 16)) / 8
    text = "".join(",".join(f"{value:.10f}" for value in row) + "\n" for row in block).encode()
    blocks = (20 if sanitized else 420) * 10**6 // len(text) + 1
    with source.open("wb") as out:
        out.write(",".join(f"c{i}" for i in range(16)).encode() + b"\n")
        for _ in range(blocks):
            out.write(text)
    before = memory_of(daemon.process.pid, "VmRSS")
    limit = [] if sanitized else ["prlimit", f"--as={200 * 2**20}"]
    command = [*limit, BINARY, "--data", str(daemon.data), "dataset", "import", "large", str(source), "--split", "a=0.5,b=0.5"]
    result = subprocess.run(command, env={**environment, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stderr
    schema = daemon.client().get("/api/v1/datasets/large")["schema"]
    assert schema["rows"] == 2000 * blocks
    assert schema["columns"][3]["mean"] == pytest.approx(block[:, 3].mean())
    if not sanitized:
        assert memory_of(daemon.process.pid, "VmHWM") - before < 64
    # Nothing is left of it in the place for temporary data.
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["large.csv"]
