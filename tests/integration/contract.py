"""Answers of a daemon against the OpenAPI document that it serves itself."""

import re
import urllib.parse

import jsonschema
import referencing
import referencing.jsonschema

BASE = "urn:slipway:openapi"


class Contract:
    """Checks (method, path, status, JSON) of real answers; AssertionError says what is against the document."""

    def __init__(self, document):
        self.document = document
        resource = referencing.jsonschema.DRAFT202012.create_resource(document)
        self.registry = referencing.Registry().with_resource(BASE, resource)
        # The most words first: /runs/{id}/metrics before /runs/{id}, whose parameter may have slashes.
        self.paths = sorted(
            ((self.pattern(template), template, item) for template, item in document["paths"].items()),
            key=lambda row: -len(re.sub(r"\{[^}]+\}", "", row[1])),
        )

    @staticmethod
    def pattern(template):
        """The last parameter may take slashes with it, as names of models do."""
        parts = re.split(r"(\{[^}]+\})", template)
        last = max((i for i, part in enumerate(parts) if part.startswith("{")), default=-1)
        text = "".join(
            (".+" if i == last else "[^/]+") if part.startswith("{") else re.escape(part) for i, part in enumerate(parts)
        )
        return re.compile(text + "$")

    def operation(self, method, path):
        """(template, operation) of a request, or None. Several templates may match; the first with the method."""
        path = urllib.parse.unquote(path.partition("?")[0])
        for pattern, template, item in self.paths:
            if pattern.match(path) and method.lower() in item:
                return template, item[method.lower()]
        return None

    def resolve(self, value):
        while "$ref" in value:
            target = self.document
            for part in value["$ref"].removeprefix("#/").split("/"):
                target = target[part.replace("~1", "/").replace("~0", "~")]
            value = target
        return value

    def check(self, method, path, status, content_type, value):
        if method == "HEAD":
            assert value is None, f"{method} {path} has a body"
            return
        found = self.operation(method, path)
        if not found:
            assert status >= 400, f"{method} {path} answers {status}, and is not in the OpenAPI document"
            return
        template, operation = found
        responses = operation["responses"]
        status = 200 if status == 206 else status  # a range of it
        response = responses.get(str(status)) or (responses.get("default") if status >= 400 else None)
        assert response is not None, f"{method} {template}: status {status} is not in the OpenAPI document"
        content = self.resolve(response).get("content", {})
        if value is None:
            return
        media = content.get(content_type.partition(";")[0])
        assert media is not None, f"{method} {template}: {content_type} for {status} is not in the OpenAPI document"
        self.validate(media.get("schema", {}), value, f"{method} {template} {status}")

    def validate(self, schema, value, what):
        absolute = self.absolute(schema)
        validator = jsonschema.Draft202012Validator(absolute, registry=self.registry)
        problem = jsonschema.exceptions.best_match(validator.iter_errors(value))
        if problem:
            raise AssertionError(f"{what}: {problem.json_path}: {problem.message[:500]}")

    def absolute(self, schema):
        """References of a part of the document, made absolute."""
        if isinstance(schema, dict):
            return {
                key: BASE + value if key == "$ref" and value.startswith("#") else self.absolute(value)
                for key, value in schema.items()
            }
        return [self.absolute(value) for value in schema] if isinstance(schema, list) else schema
