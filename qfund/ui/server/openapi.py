"""What ``/api/v1`` takes and gives, as an OpenAPI document: from the kinds' own types."""

from functools import cache
from typing import Any

import msgspec

from qfund.core.feature import lazily
from qfund.engine.kinds import KINDS
from qfund.version import VERSION

_PROBLEM = {
    "type": "object",
    "required": ["error", "message", "remedy"],
    "properties": {name: {"type": "string"} for name in ("error", "message", "remedy")},
}
_STATES = ["queued", "running", "done", "failed", "cancelled", "lost"]


def _answers(result: Any, *codes: str) -> dict[str, Any]:
    state = {
        "type": "object",
        "required": ["kind", "key", "url", "state"],
        "properties": {
            "kind": {"type": "string"},
            "key": {"type": "string"},
            "url": {"type": "string"},
            "state": {"enum": _STATES},
            "phase": {"type": "string"},
            "share": {"type": "number", "minimum": 0, "maximum": 1},
            "position": {"type": "integer", "description": "1 is next; 0 does not wait"},
            "wait": {"type": ["number", "null"], "description": "seconds until its turn"},
            "problem": {"$ref": "#/components/schemas/Problem"},
            "result": result,
        },
    }
    told = {"description": "What is known.", "content": {"application/json": {"schema": state}}}
    problem = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    wrong = {"description": "What is wrong, and what to do.", "content": problem}
    return {code: told if code < "300" else wrong for code in codes}


@cache
def document() -> dict[str, Any]:
    """The whole of it."""
    types = [lazily(name) for kind in KINDS.values() for name in (kind.request, kind.result)]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths: dict[str, Any] = {}
    for number, kind in enumerate(KINDS.values()):
        asked, given = schemas[2 * number], schemas[2 * number + 1]
        paths[f"/api/v1/{kind.name}"] = {
            "post": {
                "operationId": f"ask_{kind.name.replace('-', '_')}",
                "summary": f"Ask for: {kind.name}",
                "requestBody": {"required": True, "content": {"application/json": {"schema": asked}}},
                "responses": _answers(given, "200", "202", "400", "401", "404", "408", "413", "415", "422", "429"),
            }
        }
        paths[f"/api/v1/{kind.name}/{{key}}"] = {
            "get": {
                "operationId": f"read_{kind.name.replace('-', '_')}",
                "summary": f"Read what is known of: {kind.name}",
                "parameters": [{"name": "key", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": _answers(given, "200", "401", "404", "429"),
            }
        }
    row = {name: {"type": "string"} for name in ("kind", "key", "url")} | {"created": {"type": "number"}}
    listed = {"type": "array", "items": {"type": "object", "required": list(row), "properties": row}}
    mine = _answers({}, "200", "401", "429")
    mine["200"] = {
        "description": "The latest first.",
        "content": {"application/json": {"schema": {"type": "object", "properties": {"results": listed}}}},
    }
    paths["/api/v1/mine"] = {
        "get": {
            "operationId": "list_mine",
            "summary": "Results of what somebody who has signed in asked for of their own",
            "security": [{"person": []}],
            "responses": mine,
        }
    }
    person = {"type": "http", "scheme": "bearer", "description": "A key that a person who has signed in has made."}
    return {
        "openapi": "3.1.0",
        "info": {"title": "qfund", "version": VERSION, "description": "What lower precision costs a neural network."},
        "paths": paths,
        "security": [{}, {"person": []}],
        "components": {
            "securitySchemes": {"person": person},
            "schemas": components | {"Problem": _PROBLEM},
        },
    }
