"""Projects, tokens, events, blobs, garbage, backup, restore, doctor: through the program and over HTTP."""

import base64
import hashlib
import json
import os
import pathlib
import shutil
import sqlite3
import subprocess
import threading
import time

import pytest

from conftest import BINARY, UNDER, hot_directories, kill_tree, processes_of, wait_until


def upload(client, content, **query):
    reply = client.request("POST", "/api/v1/blobs", body=content, query=query or None)
    assert reply.status == 201, reply.body
    return reply.json


def digest_of(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def make_token(client, scopes, **fields):
    return client.post("/api/v1/tokens", {"scopes": scopes, **fields})["token"]


# -- projects and tokens --


def test_project_life(cli):
    assert "team-a is there" in cli("project", "create", "team-a", "--description", "the first").stdout
    assert {p["name"] for p in cli.json("project", "ls")} == {"default", "team-a"}
    assert cli("project", "create", "team-a", check=False).returncode == 4
    assert cli("project", "create", "Team A", check=False).returncode == 2
    assert cli("project", "rm", "default", check=False).returncode == 4
    cli("project", "rm", "team-a")
    result = cli("project", "rm", "team-a", check=False)
    assert result.returncode == 3
    assert "there are default" in result.stderr


def test_token_is_shown_once(cli, daemon):
    secret = cli("token", "create", "alice", "--scope", "develop", "--scope", "predict:digits").stdout.strip()
    assert secret.startswith("slw_")
    (listed,) = cli.json("token", "ls")
    assert listed["name"] == "alice" and listed["scopes"] == "develop predict:digits"
    for path in daemon.data.glob("slipway.db*"):
        assert secret.encode() not in path.read_bytes(), path
    assert secret not in json.dumps(cli.json("events"))


def test_scopes(daemon, client):
    view = daemon.client(make_token(client, "view"), daemon.url)
    develop = daemon.client(make_token(client, "develop"), daemon.url)
    admin = daemon.client(make_token(client, "admin"), daemon.url)
    predict = daemon.client(make_token(client, "predict:digits"), daemon.url)
    nobody = daemon.client(None, daemon.url)
    rows = [
        # method, path, what each of nobody, predict, view, develop, admin gets
        ("GET", "/api/v1/projects", (401, 403, 200, 200, 200)),
        ("POST", "/api/v1/blobs", (401, 403, 403, 201, 201)),
        ("GET", "/api/v1/tokens", (401, 403, 403, 403, 200)),
        ("GET", "/api/v1/vault", (401, 403, 403, 403, 200)),
    ]
    for method, path, expected in rows:
        got = tuple(
            who.request(method, path, body=b"x" if method == "POST" else None).status
            for who in (nobody, predict, view, develop, admin)
        )
        assert got == expected, (method, path)


def test_token_of_a_project(daemon, client):
    client.post("/api/v1/projects", {"name": "team-a"})
    mine = daemon.client(make_token(client, "develop", project="team-a"), daemon.url)
    assert [p["name"] for p in mine.get("/api/v1/projects")["items"]] == ["team-a"]
    assert mine.request("GET", "/api/v1/projects/default").status == 403
    assert mine.request("GET", "/api/v1/events?project=default").status == 403
    assert {e["project"] for e in mine.get("/api/v1/events")["items"]} == {"team-a"}
    assert client.request("POST", "/api/v1/tokens", {"scopes": "admin", "project": "team-a"}).error == "invalid_argument"


def test_revoked_and_expired(daemon, client, cli):
    secret = make_token(client, "view", name="bob")
    who = daemon.client(secret, daemon.url)
    assert who.request("GET", "/api/v1/projects").status == 200
    cli("token", "revoke", "bob")
    reply = who.request("GET", "/api/v1/projects")
    assert (reply.status, reply.error) == (401, "unauthenticated")
    assert "Bearer" in reply.headers["www-authenticate"]

    short = daemon.client(make_token(client, "view", ttl_ms=300), daemon.url)
    assert short.request("GET", "/api/v1/projects").status == 200
    wait_until(lambda: short.request("GET", "/api/v1/projects").status == 401, what="the end of the token")


@pytest.mark.parametrize(
    "body, named",
    [
        ({}, "scopes"),
        ({"scopes": 1}, "scopes"),
        ({"scopes": "view", "scope": "view"}, "'scope'"),
        ({"scopes": "view", "ttl_ms": -1}, "ttl_ms"),
        ({"scopes": "view", "ttl_ms": "1h"}, "ttl_ms"),
        ({"scopes": "view", "name": "A B"}, "A B"),
        ({"scopes": "root"}, "root"),
        ([], "object"),
    ],
)
def test_bad_requests_name_what_is_wrong(client, body, named):
    reply = client.request("POST", "/api/v1/tokens", body)
    assert (reply.status, reply.error) == (400, "invalid_argument")
    assert named in reply.json["error"]["message"]


def test_introspection(daemon, client):
    def introspect(token):
        return client.call(
            "POST",
            "/api/v1/oauth2/introspect",
            body=f"token={token}",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )

    secret = make_token(client, "view predict:digits", name="app", ttl_ms=60000)
    answer = introspect(secret)
    assert answer["active"] and answer["scope"] == "view predict:digits" and answer["client_id"] == "app"
    assert time.time() < answer["exp"] <= time.time() + 61
    assert introspect("nonsense") == {"active": False}
    client.delete("/api/v1/tokens/app")
    assert introspect(secret) == {"active": False}


def test_client_credentials(daemon, client):
    secret = make_token(client, "develop predict:*", name="app")
    anybody = daemon.client(None, daemon.url)
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    def grant(fields, headers=()):
        return anybody.request("POST", "/api/v1/oauth2/token", body=fields, headers={**form, **dict(headers)})

    reply = grant(f"grant_type=client_credentials&client_id=app&client_secret={secret}&scope=view&expires_in=60")
    assert reply.status == 200, reply.body
    assert reply.headers["cache-control"] == "no-store"
    assert reply.json["token_type"] == "Bearer" and reply.json["expires_in"] == 60 and reply.json["scope"] == "view"
    issued = daemon.client(reply.json["access_token"], daemon.url)
    assert issued.request("GET", "/api/v1/projects").status == 200
    assert issued.request("POST", "/api/v1/blobs", body=b"x").status == 403

    basic = base64.b64encode(f"app:{secret}".encode()).decode()
    assert grant("grant_type=client_credentials", {"Authorization": f"Basic {basic}"}).status == 200
    for fields, status, code in [
        ("grant_type=password&client_id=app&client_secret=x", 400, "unsupported_grant_type"),
        ("grant_type=client_credentials&client_id=app&client_secret=x", 401, "invalid_client"),
        (f"grant_type=client_credentials&client_id=other&client_secret={secret}", 401, "invalid_client"),
        ("grant_type=client_credentials", 401, "invalid_client"),
        (f"grant_type=client_credentials&client_id=app&client_secret={secret}&scope=admin", 400, "invalid_scope"),
        (f"grant_type=client_credentials&client_id=app&client_secret={secret}&expires_in=0", 400, "invalid_request"),
    ]:
        reply = grant(fields)
        assert (reply.status, reply.json["error"]) == (status, code), fields

    client.delete("/api/v1/tokens/app")
    assert issued.request("GET", "/api/v1/projects").status == 401


# -- events --


def test_events_are_paged_and_have_no_gaps(client):
    for i in range(25):
        client.post("/api/v1/projects", {"name": f"p{i}"})
    seen, after = [], None
    while True:
        page = client.get("/api/v1/events", query={"limit": 10, **({"after": after} if after else {})})
        seen += [e["sequence"] for e in page["items"]]
        after = page["next"]
        if not after:
            break
    assert seen == list(range(1, 26))
    newest = client.get("/api/v1/events?newest=true&limit=3")["items"]
    assert [e["sequence"] for e in newest] == [23, 24, 25]
    assert client.request("GET", "/api/v1/events?after=x").status == 400


def follow(daemon, environment, *arguments):
    return subprocess.Popen(
        [*UNDER, BINARY, "events", "--follow", "--json", "--data", str(daemon.data), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def test_follow_survives_a_killed_daemon(daemon, environment):
    """Nothing lost, nothing twice, in order, over three crashes."""
    client = daemon.client()
    client.post("/api/v1/projects", {"name": "before"})
    follower = follow(daemon, environment, "--after", "0")
    received = []
    reader = threading.Thread(target=lambda: received.extend(json.loads(line) for line in follower.stdout))
    reader.start()
    try:
        made = 1
        for round in range(3):
            for i in range(20):
                client.post("/api/v1/projects", {"name": f"p{round}-{i}"})
                made += 1
            daemon.kill()
            daemon.start()
        wait_until(lambda: len(received) >= made, what="the last event")
    finally:
        follower.terminate()
        follower.wait()
        reader.join()
    assert [e["sequence"] for e in received] == list(range(1, made + 1))


def test_follow_filters(daemon, environment):
    client = daemon.client()
    follower = follow(daemon, environment, "--after", "0", "--type", "slipway.token.")
    try:
        client.post("/api/v1/projects", {"name": "other"})
        make_token(client, "view", name="one")
        event = json.loads(follower.stdout.readline())
        assert event["type"] == "slipway.token.created" and event["subject"] == "token/one"
    finally:
        follower.terminate()
        follower.wait()


# -- blobs --


@pytest.mark.parametrize("content", [b"", b"x", b"0" * 5_000_000, os.urandom(3_000_000)], ids=["0", "1", "packs", "noise"])
def test_blob_there_and_back(client, content):
    stored = upload(client, content)
    assert stored == {"digest": digest_of(content), "size": len(content)}
    assert client.request("GET", f"/api/v1/blobs/{stored['digest']}").body == content
    head = client.request("HEAD", f"/api/v1/blobs/{stored['digest']}")
    assert (head.status, head.headers["content-length"]) == (200, str(len(content)))
    if len(content) > 100:
        part = client.request("GET", f"/api/v1/blobs/{stored['digest']}", headers={"Range": "bytes=10-19"})
        assert (part.status, part.body) == (206, content[10:20])


def test_blob_with_another_digest_is_not_stored(client):
    reply = client.request("POST", "/api/v1/blobs", body=b"content", query={"digest": digest_of(b"other")})
    assert reply.error == "corrupt"
    assert client.get("/api/v1/vault")["blobs"] == 0
    upload(client, b"content", digest=digest_of(b"content"))


def test_unknown_blob(client):
    assert client.request("GET", f"/api/v1/blobs/{digest_of(b'nothing')}").status == 404
    assert client.request("GET", "/api/v1/blobs/sha256:xyz").status == 400


def test_acknowledged_blobs_survive_kill(daemon, client):
    stored = []
    for round in range(3):
        for i in range(10):
            stored.append(upload(client, os.urandom(1000 * (i + 1)))["digest"])
        daemon.kill()
        daemon.start()
    for digest in stored:
        assert digest_of(client.request("GET", f"/api/v1/blobs/{digest}").body) == digest
    assert not list((daemon.data / "vault/incoming").iterdir())


def warm(daemon, content):
    """Has the content in memory; returns where."""
    digest = upload(daemon.client(), content)["digest"]
    assert daemon.client().request("GET", f"/api/v1/blobs/{digest}").body == content
    hot = hot_directories(daemon.data)
    assert len(hot) == 1 and (hot[0] / digest.removeprefix("sha256:")).exists()
    return hot[0]


def test_memory_of_a_killed_daemon_is_used_again(daemon):
    hot = warm(daemon, b"a" * 100_000)
    daemon.kill()
    assert hot.exists()
    daemon.start()
    assert hot_directories(daemon.data) == [hot]
    daemon.stop()
    assert not hot.exists()


def test_memory_of_a_killed_daemon_goes_with_its_data(make_daemon):
    gone, kept = make_daemon(), make_daemon()
    hot_of_gone, hot_of_kept = warm(gone, b"a" * 100_000), warm(kept, b"b" * 100_000)
    alive = make_daemon()
    hot_of_alive = warm(alive, b"c" * 100_000)
    gone.kill()
    kept.kill()
    kill_tree(processes_of(gone.data))  # its gateway would go on
    shutil.rmtree(gone.data)
    make_daemon()
    assert not hot_of_gone.exists()
    assert hot_of_kept.exists() and hot_of_alive.exists()


def test_damaged_blob_is_reported_and_mended(daemon, client):
    content = os.urandom(100_000)
    digest = upload(client, content)["digest"]
    hexed = digest.removeprefix("sha256:")
    path = daemon.data / "vault" / hexed[:2] / hexed
    path.chmod(0o600)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    reply = client.request("GET", f"/api/v1/blobs/{digest}")
    assert reply.error == "corrupt" and digest in reply.json["error"]["message"]
    upload(client, content)
    assert client.request("GET", f"/api/v1/blobs/{digest}").body == content


def test_gc(daemon, client, cli):
    digest = upload(client, b"nobody names me")["digest"]
    assert "0 of 1 blobs" in cli("gc").stdout
    dry = cli("gc", "--dry-run", "--grace", "0s").stdout
    assert digest in dry and "would be removed" in dry
    assert "nothing names it" in cli("blob", "why", digest).stdout
    assert "1 of 1 blobs (15 B) were removed" in cli("gc", "--grace", "0s").stdout
    assert cli("blob", "why", digest, check=False).returncode == 3
    assert client.get("/api/v1/vault")["blobs"] == 0
    assert cli.json("events", "--type", "slipway.vault.")[-1]["data"] == {"blobs": 1, "bytes": 15}


# -- backup and restore --


def test_backup_and_restore(daemon, cli, client, make_daemon, tmp_path):
    digests = [upload(client, os.urandom(10_000))["digest"] for _ in range(5)]
    client.post("/api/v1/projects", {"name": "team-a"})
    secret = make_token(client, "view", name="alice")
    backup = tmp_path / "backup"

    # Others write all the while.
    stop = threading.Event()

    def disturb():
        while not stop.is_set():
            upload(daemon.client(), os.urandom(2000))

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        first = cli.json("backup", backup)
        second = cli.json("backup", backup)
    finally:
        stop.set()
        thread.join()
    assert first["blobs"] >= 5 and second["copied_bytes"] < second["bytes"]

    # What happens afterwards is not in it.
    client.post("/api/v1/projects", {"name": "later"})
    data = tmp_path / "other" / "restored"
    assert "restored" in cli("restore", backup, "--data", data).stdout
    assert cli("restore", backup, "--data", data, check=False).returncode == 4
    other = make_daemon(data=data)
    assert {p["name"] for p in other.client().get("/api/v1/projects")["items"]} == {"default", "team-a"}
    for digest in digests:
        assert digest_of(other.client().request("GET", f"/api/v1/blobs/{digest}").body) == digest
    assert other.client(secret, other.url).request("GET", "/api/v1/projects").status == 200


def test_backup_refuses(daemon, cli, client, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thing").write_text("of somebody")
    assert cli("backup", tmp_path / "full", check=False).returncode == 4
    assert cli("restore", tmp_path / "full", "--data", tmp_path / "x", check=False).returncode == 3
    assert client.request("POST", "/api/v1/backup", {"directory": "relative"}).status == 400
    admin = daemon.client(make_token(client, "admin"), daemon.url)
    assert admin.request("POST", "/api/v1/backup", {"directory": str(tmp_path / "b")}).status == 403
    assert not (tmp_path / "b").exists()


# -- bad luck --


def test_data_of_a_newer_version_is_refused(daemon, program):
    daemon.stop()
    with sqlite3.connect(daemon.data / "slipway.db") as db:
        db.execute("PRAGMA user_version = 9999")
    result = program("serve", "--data", daemon.data, "--listen", "127.0.0.1:0", "--serve", "none", check=False)
    assert result.returncode != 0
    assert "newer version" in result.stderr
    with sqlite3.connect(daemon.data / "slipway.db") as db:
        db.execute("PRAGMA user_version = 5")


def small_disk(directory, size):
    """A file system of a few MiB, or a skip where that is not allowed."""
    directory.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", directory], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")


def test_full_disk(make_daemon, tmp_path):
    """Uploads fail with no_space and leave nothing; what was there is there; small things go on."""
    daemon = make_daemon("--hot-size", "1M", start=False)
    small_disk(daemon.data, "24m")
    try:
        daemon.start()
        client = daemon.client()
        content = os.urandom(100_000)
        kept = upload(client, content)["digest"]
        for _ in range(3):
            reply = client.request("POST", "/api/v1/blobs", body=os.urandom(30_000_000))
            assert (reply.status, reply.error) == (507, "no_space"), reply.body[:300]
        assert client.get("/api/v1/vault")["blobs"] == 1
        assert not list((daemon.data / "vault/incoming").iterdir())
        assert client.request("GET", f"/api/v1/blobs/{kept}").body == content
        client.post("/api/v1/projects", {"name": "still-works"})
        daemon.restart()
        assert client.request("GET", f"/api/v1/blobs/{kept}").body == content
    finally:
        daemon.release()
        subprocess.run(["umount", "-l", daemon.data], capture_output=True)


# -- doctor --


def test_doctor(cli, daemon):
    findings = {f["check"]: f for f in cli.json("doctor")}
    assert f"pid {daemon.process.pid}" in findings["daemon"]["message"]
    assert findings["data directory"]["verdict"] == "ok"
    assert findings["disk"]["verdict"] in ("ok", "missing")
    text = cli("doctor").stdout
    for name in findings:
        assert name in text


def test_doctor_asks_the_daemon_for_its_ports(cli, daemon):
    ports = next(f for f in cli.json("doctor") if f["check"] == "ports")
    assert ports["verdict"] == "ok"
    assert daemon.url in ports["message"] and daemon.serve_url in ports["message"]
    assert "8470" not in ports["message"] and "8480" not in ports["message"]


def test_doctor_looks_for_python_where_runs_do(cli, tmp_path):
    impostor = tmp_path / "bin" / "python3"
    impostor.parent.mkdir()
    impostor.write_text("#!/bin/sh\necho Python 9.9.9\n")
    impostor.chmod(0o755)
    path = f"{impostor.parent}:{os.environ['PATH']}"
    python = next(f for f in cli.json("doctor", env={"PATH": path}) if f["check"] == "Python")
    inside = shutil.which("python3", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    assert "9.9.9" not in python["message"]
    assert python["message"].startswith(f"{inside}, Python 3") if inside else python["verdict"] == "missing"


def test_doctor_without_a_daemon(program):
    findings = {f["check"]: f for f in program.json("doctor")}
    assert findings["daemon"]["verdict"] == "note"
    assert findings["daemon"]["mend"] == "slipway serve"
