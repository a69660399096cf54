"""Sums up a directory of results: meson's testlog.json (as NAME.meson.json), pytest's JUnit files (NAME.xml)
and single steps (NAME.step: "passed" or "failed"). Prints a line for each, what failed, and the total:

    4 rings: 312 passed, 0 failed, 1 skipped

A skipped test must be listed in tests/skips.txt with its reason, else it counts as failed."""

import fnmatch
import json
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree


class Tally:
    def __init__(self, name):
        self.name, self.passed, self.failed, self.skipped = name, 0, [], []


def of_meson(path):
    """Counts cmocka's cases, and programs that ended badly without having said why."""
    tally = Tally(path.name.removesuffix(".meson.json"))
    for line in path.read_text().splitlines():
        test = json.loads(line)
        output = test.get("stdout", "") + test.get("stderr", "")
        bad = re.findall(r"^\[  FAILED  \] (\w+)$", output, re.M)
        passed = len(re.findall(r"^\[       OK \] ", output, re.M))
        tally.skipped += [f"{test['name']}::{case}" for case in re.findall(r"^\[  SKIPPED \] (\w+)$", output, re.M)]
        tally.failed += [f"{test['name']}::{case}" for case in dict.fromkeys(bad)]
        if test["result"] not in ("OK", "SKIP", "EXPECTEDFAIL") and not bad:
            tally.failed.append(f"{test['name']}: {test['result']}")
        elif test["result"] == "SKIP":
            tally.skipped.append(test["name"])
        elif not passed and not bad:
            passed = 1
        tally.passed += passed
    return tally


def of_pytest(path):
    tally = Tally(path.stem)
    # A test that was run again stands there twice; what counts is its last outcome.
    cases = {f"{case.get('classname')}::{case.get('name')}": case for case in ElementTree.parse(path).iter("testcase")}
    for name, case in cases.items():
        if case.find("failure") is not None or case.find("error") is not None:
            tally.failed.append(name)
        elif case.find("skipped") is not None:
            tally.skipped.append(name)
        else:
            tally.passed += 1
    return tally


def of_step(path):
    tally = Tally(path.stem)
    if path.read_text().strip() == "passed":
        tally.passed = 1
    else:
        tally.failed.append(path.stem)
    return tally


def allowed_skips(path):
    for line in path.read_text().splitlines():
        pattern, separator, reason = line.partition("  ")
        if line.strip() and not line.startswith("#"):
            if not reason.strip():
                sys.exit(f"{path}: '{pattern}' is listed without a reason")
            yield pattern


def main(directory):
    directory = pathlib.Path(directory)
    skips = list(allowed_skips(pathlib.Path(__file__).parent / "skips.txt"))
    tallies = [of_meson(path) for path in sorted(directory.glob("*.meson.json"))]
    tallies += [of_pytest(path) for path in sorted(directory.glob("*.xml"))]
    tallies += [of_step(path) for path in sorted(directory.glob("*.step"))]
    for tally in tallies:
        for name in tally.skipped[:]:
            if not any(fnmatch.fnmatch(name, pattern) for pattern in skips):
                tally.skipped.remove(name)
                tally.failed.append(f"{name}: skipped, and not listed in tests/skips.txt")
        print(f"  {tally.name:24} {tally.passed:5} passed {len(tally.failed):4} failed {len(tally.skipped):4} skipped")
    for tally in tallies:
        for name in tally.failed:
            print(f"  FAILED {tally.name}: {name}")
    failed = sum(len(tally.failed) for tally in tallies)
    passed = sum(tally.passed for tally in tallies)
    print(f"{passed} passed, {failed} failed, {sum(len(tally.skipped) for tally in tallies)} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
