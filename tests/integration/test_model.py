"""The registry by hand: push, addresses, aliases, comparison, records, removal."""

import io
import json
import sqlite3
import struct
import zipfile

import pytest

MODEL = "def init():\n    pass\n\ndef predict(text):\n    return text\n"


def safetensors(**tensors):
    """F32 vectors by name."""
    header, data = {}, b""
    for name, values in sorted(tensors.items()):
        raw = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": [len(values)], "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def package(tmp_path):
    directory = tmp_path / "package"
    directory.mkdir()
    (directory / "model.py").write_text(MODEL)
    return directory


@pytest.fixture
def weights(tmp_path):
    def weights(**tensors):
        path = tmp_path / f"w{len(list(tmp_path.glob('w*.safetensors')))}.safetensors"
        path.write_bytes(safetensors(**tensors))
        return path

    return weights


@pytest.fixture
def three(cli, package, weights):
    """vision/digits with versions 1 = 1.1, 2 = 1.2, 3 = 1.3."""
    for values in ([1, 2, 3, 4], [1, 2, 4, 0], [1, 2, 4, 0.5]):
        cli("model", "push", "vision/digits", package, "--weights", weights(w=values, b=[0]))


def test_push_and_addresses(cli, three, package):
    assert [v["code_weights"] for v in cli.json("model", "ls", "vision/digits")] == ["1.3", "1.2", "1.1"]
    for address, version in (("", 3), ("@2", 2), ("@1.1", 1), ("@newest", 3)):
        assert cli.json("model", "show", "vision/digits" + address)["version"] == version
    assert cli("model", "show", "vision/digits@9", check=False).returncode == 3
    assert "vision/digits@3" in cli("model", "show", "vision/digits@9", check=False).stderr
    assert cli("model", "show", "digits", check=False).returncode == 2
    # The same package and weights make no second version, a changed package does.
    assert cli.json("model", "push", "vision/digits", package)["version"] == 4
    assert cli.json("model", "push", "vision/digits", package)["version"] == 4
    (package / "model.py").write_text(MODEL + "# changed\n")
    assert cli.json("model", "push", "vision/digits", package)["code_weights"] == "2"


def test_tree(cli, three, package):
    cli("model", "push", "text/spam", package)
    cli("model", "promote", "vision/digits@2")
    tree = cli("model", "tree").stdout
    assert tree.index("text") < tree.index("spam") < tree.index("vision") < tree.index("digits")
    assert "@2  (1.2)" in tree and "@production" in tree
    assert {m["name"] for m in cli.json("model", "tree")} == {"text/spam", "vision/digits"}


def test_aliases(cli, three):
    cli("model", "promote", "vision/digits@1")
    cli("model", "promote", "vision/digits@3")
    cli("model", "promote", "vision/digits@3", "--alias", "candidate")
    assert cli.json("model", "show", "vision/digits@production")["aliases"] == ["candidate", "production"]
    assert cli.json("model", "rollback", "vision/digits")["version"] == 1
    assert cli("model", "rollback", "vision/digits", check=False).returncode == 4
    for bad in ("7up", "newest", "a b"):
        assert cli("model", "promote", "vision/digits@1", "--alias", bad, check=False).returncode == 2


def test_diff(cli, three):
    diff = cli.json("model", "diff", "vision/digits@1", "2")
    row = next(t for t in diff["tensors"] if t["name"] == "w")
    assert row["relative_l2"] == pytest.approx((17 / 21) ** 0.5, rel=1e-12)
    assert row["cosine"] == pytest.approx(17 / (30 * 21) ** 0.5, rel=1e-12)
    assert row["max_abs"] == 4
    assert next(t for t in diff["tensors"] if t["name"] == "b")["status"] == "same"
    assert "REL L2" in cli("model", "diff", "vision/digits@1", "vision/digits@2").stdout


def test_removal(cli, three):
    cli("model", "promote", "vision/digits@2")
    refused = cli("model", "rm", "vision/digits@2", check=False)
    assert refused.returncode == 4 and "alias production" in refused.stderr
    cli("model", "rm", "vision/digits@1")
    assert cli("model", "show", "vision/digits@1", check=False).returncode == 3
    assert cli("model", "rm", "vision/digits", check=False).returncode == 2
    assert cli.json("model", "verify", "vision/digits")["ok"]
    cli("model", "rm", "vision/digits", "--all")
    assert cli.json("model", "ls") == []


def test_numbers_are_not_given_twice(cli, three, package):
    cli("model", "rm", "vision/digits", "--all")
    (package / "model.py").write_text(MODEL + "# other\n")
    assert cli.json("model", "push", "vision/digits", package)["version"] == 4


@pytest.mark.parametrize(
    "change, what",
    [
        ("UPDATE releases SET record = replace(record, '\"step\":null', '\"step\":7') WHERE sequence = 2", "hash"),
        ("UPDATE releases SET hash = replace(hash, 'a', 'b') WHERE sequence = 2", "hash"),
        ("UPDATE releases SET previous = replace(previous, 'a', 'b') WHERE sequence = 2", "previous"),
        ("DELETE FROM releases WHERE sequence = 2", "sequence"),
        ("UPDATE model_weights SET digest = (SELECT digest FROM model_weights WHERE number = 1) WHERE number = 2", "digest"),
    ],
)
def test_verify_names_the_broken_link(cli, daemon, three, change, what):
    assert cli.json("model", "verify", "vision/digits")["ok"]
    daemon.stop()
    with sqlite3.connect(daemon.data / "slipway.db") as db:
        assert db.execute(change).rowcount == 1
    db.close()
    daemon.start()
    result = cli("model", "verify", "vision/digits", "--json", check=False)
    report = json.loads(result.stdout)
    assert result.returncode == 1 and not report["ok"]
    assert report["broken"]["what"] == what
    assert report["broken"].get("sequence", report["broken"].get("version")) == 2


def test_verify_reads_the_blobs(cli, daemon, three):
    digest = cli.json("model", "show", "vision/digits@2")["weights_digest"].removeprefix("sha256:")
    daemon.stop()
    (path,) = [p for p in (daemon.data / "vault").rglob(f"{digest}*") if p.is_file()]
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    daemon.start()
    result = cli("model", "verify", "vision/digits", "--json", check=False)
    assert result.returncode == 1 and json.loads(result.stdout)["broken"]["what"] == "blob"


def test_pull(cli, three, package, tmp_path):
    cli("model", "pull", "vision/digits@1", "--output", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "out/package.zip") as z:
        assert z.read("model.py").decode() == MODEL
    assert (tmp_path / "out/weights.safetensors").read_bytes() == safetensors(w=[1, 2, 3, 4], b=[0])


def archive(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as z:
        for name in names:
            info = zipfile.ZipInfo(name)
            if name == "link":
                info.external_attr = 0o120777 << 16
                z.writestr(info, "/etc/passwd")
            elif name == "bomb":
                z.writestr(info, b"\0" * (300 << 20), zipfile.ZIP_DEFLATED)
            else:
                z.writestr(info, MODEL)
    return file.getvalue()


@pytest.mark.parametrize(
    "names, message",
    [
        (["model.py", "../../etc/cron.d/x"], ".."),
        (["model.py", "/etc/x"], "/etc/x"),
        (["model.py", "link"], "link"),
        (["model.py", "bomb"], ""),
        (["train.py"], "model.py"),
    ],
)
def test_hostile_packages(cli, client, tmp_path, names, message):
    path = tmp_path / "p.zip"
    path.write_bytes(archive(*names))
    result = cli("model", "push", "vision/digits", path, check=False)
    assert result.returncode in (1, 2) and message in result.stderr
    assert cli.json("model", "ls") == []


def test_bad_weights(cli, package, tmp_path):
    good = safetensors(w=[1, 2, 3])
    for content in (b"", b"x" * 100, good[:-1], good + b"x", struct.pack("<Q", 10 << 30) + b"{}"):
        path = tmp_path / "w.safetensors"
        path.write_bytes(content)
        result = cli("model", "push", "vision/digits", package, "--weights", path, check=False)
        assert result.returncode == 2, (content[:20], result.stderr)
    assert cli.json("model", "ls") == []


def test_requests_are_checked(client, cli, three):
    path = "/api/v1/models/vision/digits"
    for body in ({}, {"code": "sha256:xyz"}, {"code": 7}, {"code": "sha256:" + "0" * 64}, {"colour": 1}):
        reply = client.request("POST", path + "/versions", body)
        assert 400 <= reply.status < 500, body
    assert client.request("GET", path + "/versions/1/diff").status == 400
    assert client.request("PUT", path + "/aliases/x", {"version": "99"}).status == 404
    assert client.request("GET", "/api/v1/models/no%2Fslash/x").status in (400, 404)
    page = client.get(path + "/versions", query={"limit": 2})
    assert [v["version"] for v in page["items"]] == [3, 2]
    assert [v["version"] for v in client.get(path + "/versions", query={"after": page["next"]})["items"]] == [1]
