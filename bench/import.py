"""The importer against what people read such files with: CSV against pandas.read_csv, libsvm text against
scikit-learn's load_svmlight_file. Every file is in the page cache; an import also computes statistics and the
digest of the source, and writes the tensors.

usage: import.py [--quick]
"""

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from common import SLIPWAY, Report, peer_python, say

SIZE = (20 if "--quick" in sys.argv else 120) * 10**6
TIMES = 3

NUMERIC = ",".join(f"c{i}" for i in range(20)) + "\n"
MIXED = "id,when,colour,city,price,amount,flag,y\n"
CITIES = [f"city {i}" for i in range(500)]


def numeric_row(rng):
    """Ten fractions with six decimals, five with full precision, five integers."""
    fields = [f"{rng.uniform(-1000, 1000):.6f}" for _ in range(10)]
    fields += [repr(rng.gauss(0, 1)) for _ in range(5)]
    return ",".join(fields + [str(rng.randrange(100000)) for _ in range(5)]) + "\n"


def mixed_row(rng):
    price = f"{rng.uniform(1, 500):.2f}" if rng.random() > 0.05 else ""
    return (f"{rng.randrange(10**9)},2026-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02},"
            f"{rng.choice(('red', 'green', 'blue'))},\"{rng.choice(CITIES)}, north\",{price},{rng.randrange(100)},"
            f"{rng.choice(('yes', 'no'))},{rng.randrange(10)}\n")  # fmt: skip


def libsvm_row(rng):
    features = sorted(rng.sample(range(1, 50000), 60))
    return f"{rng.choice((-1, 1))} " + " ".join(f"{f}:{rng.random():.6f}" for f in features) + "\n"


def generate(path, header, row):
    """A file of SIZE bytes; ten thousand different rows, repeated."""
    rng = random.Random(1)
    block = "".join(row(rng) for _ in range(10000)).encode()
    with open(path, "wb") as f:
        f.write(header.encode())
        while f.tell() < SIZE:
            f.write(block)
    return os.path.getsize(path)


def import_once(path, directory):
    """Wall time s, processor time s and peak memory MiB of an import, from the start of the program to its end."""
    out = os.path.join(directory, "out.safetensors")
    begin = time.monotonic()
    process = subprocess.Popen([SLIPWAY, "dataset", "convert", path, "--output", out],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the import of {path} failed")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


PEER = """
import os, time
{prepare}
times = []
for _ in range({times}):
    begin, used = time.monotonic(), os.times()
    data = {read}
    end = os.times()
    times.append((time.monotonic() - begin, end.user + end.system - used.user - used.system))
print(*(sorted(column)[len(times) // 2] for column in zip(*times)))
"""


def peer_seconds(python, prepare, read, path):
    """Median wall and processor time s of the read alone, without the start of the interpreter and its imports."""
    program = PEER.format(prepare=prepare, read=read.format(path=path), times=TIMES)
    output = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True).stdout
    return tuple(map(float, output.split()))


def compare(report, what, path, size, directory, peers):
    say(f"importing {what}")
    wall, used, memory = (statistics.median(column) for column in zip(*(import_once(path, directory) for _ in range(TIMES))))
    report.add(f"{what}: import", size / wall / 1e6, "MB/s")
    report.at_most(f"{what}: peak memory", memory, 200, "MiB")
    for name, (python, prepare, read), least in peers:
        say(f"reading {what} with {name}")
        their_wall, their_used = peer_seconds(python, prepare, read, path)
        report.add(f"{what}: {name}", size / their_wall / 1e6, "MB/s")
        report.at_least(f"{what}: speed over {name}", their_wall / wall, least, "×")
        report.add(f"{what}: processor time of {name} over import", their_used / used, "×")


def main():
    report = Report("import", "Import of files")
    python = peer_python("import", "pandas==2.3.3", "scikit-learn==1.7.2")
    pandas = (python, "import pandas", "pandas.read_csv({path!r})")
    round_trip = (python, "import pandas", "pandas.read_csv({path!r}, float_precision='round_trip')")
    sklearn = (python, "from sklearn.datasets import load_svmlight_file", "load_svmlight_file({path!r})")
    directory = tempfile.mkdtemp(prefix="slipway-bench-")
    try:
        path = os.path.join(directory, "numeric.csv")
        say("writing files")
        size = generate(path, NUMERIC, numeric_row)
        compare(report, "numeric CSV", path, size, directory, [
            ("pandas.read_csv", pandas, 1), ("pandas.read_csv, exact", round_trip, 1)])  # fmt: skip
        os.unlink(path)
        path = os.path.join(directory, "mixed.csv")
        size = generate(path, MIXED, mixed_row)
        compare(report, "mixed CSV", path, size, directory, [("pandas.read_csv", pandas, 1)])
        os.unlink(path)
        path = os.path.join(directory, "sparse.libsvm")
        size = generate(path, "", libsvm_row)
        compare(report, "libsvm", path, size, directory, [("load_svmlight_file", sklearn, 1)])
    finally:
        shutil.rmtree(directory)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
