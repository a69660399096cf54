"""The command line itself: help, mistakes, exit statuses, completion. Needs no daemon."""

import json
import os
import pathlib
import pty
import re
import subprocess

import pytest

from conftest import BINARY, ROOT, UNDER


def commands(program):
    """Names of all commands, as the reference lists them."""
    return re.findall(r"^## slipway (.+)$", program("reference", "cli").stdout, re.M)


def test_help_lists_every_command(program):
    overview = program("help").stdout
    names = commands(program)
    assert len(names) > 4
    for name in names:
        first, *rest = name.split()
        line = re.search(rf"^  {re.escape(first)} +(.*(?:\n {{8,}}.*)*)", overview, re.M)
        assert line, f"{first} is not in the overview"
        if rest:
            assert " ".join(rest) in " ".join(line.group(1).split())


def test_every_command_has_help(program):
    for name in commands(program):
        by_option = program(*name.split(), "--help").stdout
        assert by_option.startswith(f"slipway {name}"), name
        assert by_option in program("help", *name.split()).stdout
        assert "Options of every command" in by_option


def test_no_arguments_show_the_overview(program):
    assert program().stdout == program("--help").stdout == program("help").stdout


def test_version(program):
    assert re.fullmatch(r"slipway \d+\.\d+\.\d+\n", program("version").stdout)
    assert program("--version").stdout == program("version").stdout
    assert program.json("version")["version"] in program("version").stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["hlep"], "did you mean 'slipway help'"),
        (["no-such-command-at-all"], "'slipway help' lists them"),
        (["version", "--jsn"], "did you mean --json?"),
        (["version", "extra"], "unexpected argument 'extra'"),
        (["completion"], "needs bash|zsh|fish"),
        (["completion", "csh"], "bash, zsh and fish"),
        (["version", "--project"], "needs a value"),
        (["version", "--json=1"], "takes no value"),
        (["help", "nonsense"], "no command 'nonsense'"),
        (["--jsn", "version"], "did you mean --json?"),
        ([""], "unknown command ''"),
    ],
)
def test_usage_errors(program, arguments, message):
    result = program(*arguments, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("slipway: ")
    assert message in result.stderr


def test_no_daemon_says_how_to_start_one(program):
    result = program("status", check=False)
    assert result.returncode == 6
    assert f"no daemon runs on the data directory {program.data}" in result.stderr
    assert f"hint: start it with 'slipway serve --data {program.data}'" in result.stderr

    result = program("status", "--json", check=False)
    assert result.returncode == 6
    error = json.loads(result.stderr)["error"]
    assert error["code"] == "unavailable" and "slipway serve" in error["hint"]


def test_no_daemon_at_a_url(program):
    result = program("status", "--url", "http://127.0.0.1:9", check=False)
    assert result.returncode == 6
    assert "127.0.0.1:9" in result.stderr


def test_bad_url(program):
    result = program("status", "--url", "gopher://x", check=False)
    assert result.returncode == 2
    assert "gopher" in result.stderr


def test_full_disk_is_a_failure(program, environment):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*UNDER, BINARY, "help"], stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
    assert result.returncode == 1
    assert "cannot write to standard output" in result.stderr


def run_on_terminal(arguments, environment, columns):
    """What the program writes to a terminal of that width."""
    import fcntl
    import struct
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [*UNDER, BINARY, *arguments], stdin=follower, stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    output = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:
            break
        if not chunk:
            break
        output += chunk
    os.close(leader)
    process.wait()
    return output.decode()


def test_colours_only_on_a_terminal(environment):
    colour = {**environment, "TERM": "xterm"}
    colour.pop("NO_COLOR")
    assert "\x1b[" in run_on_terminal(["help"], colour, 80)
    assert "\x1b[" not in run_on_terminal(["help"], {**colour, "NO_COLOR": "1"}, 80)
    assert "\x1b[" not in run_on_terminal(["help"], {**colour, "TERM": "dumb"}, 80)
    piped = subprocess.run([*UNDER, BINARY, "help"], env=colour, capture_output=True, text=True, check=True)
    assert "\x1b[" not in piped.stdout


@pytest.mark.parametrize("columns", [50, 80, 200])
def test_help_fits_the_terminal(environment, columns):
    lines = run_on_terminal(["help"], environment, columns).splitlines()
    assert len(lines) > 10
    # Terms and exit statuses are one line each; prose is wrapped.
    assert max(len(line) for line in lines if line.startswith("  ")) <= max(columns, 96)


COMPLETE_BASH = """
source <("$SLIPWAY" completion bash)
slipway() { :; }
complete -p slipway
COMP_WORDS=("$SLIPWAY" comple) COMP_CWORD=1
_slipway; printf '%s\\n' "${COMPREPLY[@]}"
COMP_WORDS=("$SLIPWAY" completion '') COMP_CWORD=2
_slipway; printf '%s\\n' "${COMPREPLY[@]}"
"""


def test_completion_in_bash(environment):
    script = f'SLIPWAY="{BINARY}"\n{COMPLETE_BASH}'
    result = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "complete -F _slipway slipway" in result.stdout
    assert result.stdout.split()[-4:] == ["completion", "bash", "zsh", "fish"]
    assert result.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_parse(program, shell, tmp_path):
    script = tmp_path / f"slipway.{shell}"
    script.write_text(program("completion", shell).stdout)
    result = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
    assert result.returncode == 0 and result.stderr == ""


def test_completion_in_fish(program, environment):
    script = f'{BINARY} completion fish | source; complete -C "slipway completion "'
    path = f"{pathlib.Path(BINARY).parent}:{environment['PATH']}"
    result = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env={**environment, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert sorted(result.stdout.split()) == ["bash", "fish", "zsh"], result.stderr


def test_candidates(program):
    def candidates(*words):
        return [line.split("\t")[0] for line in program("complete", "--", *words).stdout.splitlines()]

    assert candidates("vers") == ["version"]
    assert "--json" in candidates("version", "--")
    assert candidates("completion", "") == ["bash", "zsh", "fish"]
    # No daemon runs: names are simply not proposed.
    assert candidates("version", "--project", "") == []


def test_generated_documents_are_complete(program):
    """What the repository holds is compared by script/check-generated; here: that they have their parts."""
    man = program("reference", "man").stdout
    assert man.count(".SS ") == len(commands(program))
    result = subprocess.run(
        ["man", "-l", "--warnings", "-"], input=man, capture_output=True, text=True, check=False
    ) if os.path.exists("/usr/bin/man") else None
    if result:
        assert result.returncode == 0 and result.stderr == ""
    limits = program("reference", "limits").stdout
    defined = re.findall(r"^#define (LIMIT_\w+)", (ROOT / "src/util/limits.h").read_text(), re.M)
    assert len(defined) > 30
    assert re.findall(r"^\| `(LIMIT_\w+)` \| [^|]+ \| .+ \|$", limits, re.M) == defined
