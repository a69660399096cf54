"""What commands print: tables that fit, JSON that parses, progress that suits its reader."""

import json
import re

import pytest

from test_cli import run_on_terminal


@pytest.fixture
def many_datasets(cli, tmp_path):
    for index, name in enumerate(["a", "a-rather-long-name-that-takes-its-room", "größe-nicht-erlaubt"]):
        path = tmp_path / f"{index}.csv"
        path.write_text("x,y\n" + "".join(f"{row},{row % 2}\n" for row in range(50 * (index + 1))))
        result = cli("dataset", "import", name, path, "--label", "y", check=index < 2)
        if index == 2:
            assert result.returncode == 2, "a name with an umlaut is refused"


def lines_on_terminal(cli, columns, *arguments):
    environment = {**cli.environment, "SLIPWAY_DATA": str(cli.data), "TERM": "xterm"}
    return run_on_terminal(arguments, environment, columns).splitlines()


def test_table(cli, many_datasets):
    lines = cli("dataset", "ls").stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].split()[0] == "NAME"
    # Columns begin at the same place in every line, and nothing is cut in a pipe.
    assert any(line.startswith("a-rather-long-name-that-takes-its-room  ") for line in lines)
    assert all("…" not in line for line in lines)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_rows_do_not_wrap_on_a_terminal(cli, many_datasets, columns):
    lines = lines_on_terminal(cli, columns, "dataset", "ls")
    assert len(lines) == 3
    assert max(map(len, lines)) <= columns


def test_json_is_one_document(cli, many_datasets):
    items = json.loads(cli("dataset", "ls", "--json").stdout)
    assert [item["name"] for item in items] == sorted(item["name"] for item in items)
    assert all(isinstance(item, dict) for item in items)


def test_empty_lists(cli):
    for command in ("dataset ls", "model ls", "endpoint ls"):
        text = cli(*command.split()).stdout
        assert len(text.splitlines()) == 1 and not text.startswith("NAME"), text
        assert json.loads(cli(*command.split(), "--json").stdout) == []


def test_names_are_completed(cli, many_datasets):
    lines = cli("complete", "--", "dataset", "show", "a-").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["a-rather-long-name-that-takes-its-room"]


def test_not_found(cli):
    for command in ("dataset show no-such", "model show no/such", "endpoint show no-such"):
        result = cli(*command.split(), check=False)
        assert result.returncode == 3, command
        assert re.match(r"slipway: .*no.?such", result.stderr), result.stderr
        assert result.stdout == ""
        error = json.loads(cli(*command.split(), "--json", check=False).stderr)["error"]
        assert error["code"] == "not_found"


def test_strange_names_reach_the_daemon_as_they_are(cli):
    """They are encoded into the path: none may lead to another route."""
    for name in ("..", "../runs", "a b", "a?limit=1", "a#b", "%2e%2e", "ü", "a\nb", ""):
        result = cli("dataset", "show", name, check=False)
        assert result.returncode in (2, 3), (name, result.returncode, result.stdout, result.stderr)
        assert result.stderr.startswith("slipway: ")
        assert result.stderr.count("\n") <= 2


@pytest.mark.parametrize(
    "command",
    [
        ("endpoint", "requests", "none"),
        ("job", "code", "get", "none"),
        ("dataset", "export", "none"),
        ("dataset", "convert", "/none.csv"),
    ],
    ids=" ".join,
)
def test_a_failure_leaves_the_file_that_was_there(cli, tmp_path, command):
    file = tmp_path / "out"
    file.write_text("mine")
    assert cli(*command, "--output", file, check=False).returncode != 0
    assert file.read_text() == "mine" and list(tmp_path.glob("out*")) == [file]
