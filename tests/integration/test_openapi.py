"""The document of the HTTP surface: valid, complete, and kept by the daemon (contract.py checks every answer)."""

import copy
import re

import openapi_spec_validator
import pytest

from contract import Contract


@pytest.fixture
def document(client):
    return client.get("/api/v1/openapi.json")


def test_is_valid(document):
    openapi_spec_validator.validate(document)
    assert document["openapi"].startswith("3.1")


def test_is_what_the_program_prints(document, cli):
    import json

    assert json.loads(cli("reference", "openapi").stdout) == document


def operations(document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def test_every_operation_is_described(document):
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    for method, path, operation in operations(document):
        assert operation["summary"], path
        assert operation["tags"], path
        in_path = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)", path)), path


def test_gets_answer_as_documented(document, client):
    """Every GET without parameters in its path, as an administrator; those of streams want a WebSocket."""
    count = 0
    for method, path, operation in operations(document):
        if method == "get" and "{" not in path and "101" not in operation["responses"]:
            reply = client.request("GET", path)
            assert reply.status in (200, 400), (path, reply.body[:300])
            count += reply.status == 200
    assert count >= 5


def test_unknown_things_are_404(document, client):
    for method, path, operation in operations(document):
        if method == "get" and "{" in path and "101" not in operation["responses"]:
            reply = client.request("GET", re.sub(r"\{[^}]+\}", "0" * 32, path))
            assert reply.status in (400, 404), (path, reply.status, reply.body[:300])
            assert reply.error in ("not_found", "invalid_argument"), path


def test_unknown_query_parameters_are_named(document, client):
    for method, path, operation in operations(document):
        if method == "get" and "{" not in path and operation.get("x-scope") != "none":
            reply = client.request("GET", path, query={"nonsense": "1"})
            assert reply.status == 400, path
            assert "nonsense" in reply.json["error"]["message"], path


def test_bodies_are_checked(document, client):
    """A body of a wrong type, and an unknown field, are named before anything happens."""
    for method, path, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {})
        if "application/json" in content:
            url = re.sub(r"\{[^}]+\}", "x", path)
            wrong = client.request(method.upper(), url, [1, 2])
            assert wrong.status == 400, (method, path, wrong.status, wrong.body[:300])
            unknown = client.request(method.upper(), url, {"no-such-field": 1})
            assert unknown.status in (400, 404), (method, path, unknown.status)
            broken = client.request(method.upper(), url, body=b"{", headers={"Content-Type": "application/json"})
            assert broken.status == 400, (method, path, broken.status, broken.body[:300])


def test_the_check_can_fail(document):
    contract = Contract(document)
    broken = copy.deepcopy(document)
    broken["components"]["schemas"]["Status"]["required"].append("no-such-field")
    status = {"version": 1}
    with pytest.raises(AssertionError, match="version|required"):
        contract.check("GET", "/api/v1/status", 200, "application/json", status)
    with pytest.raises(AssertionError, match="status 299"):
        contract.check("GET", "/api/v1/status", 299, "application/json", {})
    with pytest.raises(AssertionError, match="not in the OpenAPI document"):
        contract.check("GET", "/api/v1/nothing", 200, "application/json", {})
