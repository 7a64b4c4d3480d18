"""The API's description, OpenAPI 3.1: `functions/api/openapi.json` is this, written by docs/generate.py.

Nothing is told twice. Bodies and answers are the pydantic models of the contract, codes come from the tree of errors,
notes on providers from their field tables (by way of `describe.meta`, which callers are answered from too), and
examples are calls that a test plays in the local world: docs/openapi_examples.json.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from docs import answers
from unified_crm import changes, describe, errors, lists, models, providers
from unified_crm.provider import Provider

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs/openapi_examples.json"

SEGMENT = r"^(?!\.{1,2}$)(?!.*%[0-9A-Fa-f]{2})[^/\\?#\u0000-\u001f\u007f-\u009f]+$"
"""`models.path_segment` as a pattern."""
PATH_SEGMENT = r"^(?!\.{1,2}$)[^%/\\?#\u0000-\u001f\u007f-\u009f]+$"
"""The same in a path, which API Gateway decodes twice, so that a percent sign does not arrive."""

BAD = ("400", "401", "403", "404", "405", "409", "422", "429", "4XX", "500", "502", "503", "504")
MEANING: Mapping[str, tuple[str, str]] = {  # status: (component, what it means)
    "400": (
        "BadRequest",
        "Something in the request is missing, unknown or malformed, or the provider cannot express it; or the "
        "provider found it wrong. `code` tells which.",
    ),
    "401": (
        "Unauthorized",
        "There is no token. Or the provider refused the account's credentials: then `truto_is_remote_error` is true.",
    ),
    "403": (
        "Forbidden",
        "The token is unknown or has run out. Or the provider does not let the account do this: then "
        "`truto_is_remote_error` is true.",
    ),
    "404": (
        "NotFound",
        "There is no such integrated account for this token; or the provider has no such pipeline or stage.",
    ),
    "405": ("MethodNotAllowed", "The address does not take this method; `Allow` tells which it takes."),
    "409": (
        "Conflict",
        "The provider has one of this name or id already; or what was to be deleted is in use; or a call with this "
        "`Idempotency-Key` is at work still: send it again after `Retry-After` seconds.",
    ),
    "413": ("TooLarge", "The body is larger than 1 MiB."),
    "415": ("NotJson", "The body is not JSON by its media type."),
    "422": (
        "Invalid",
        "The provider found the data wrong. Or the `Idempotency-Key` was used before, with another body or query.",
    ),
    "429": (
        "TooManyRequests",
        "The provider, or this service, wants fewer calls: send it again after `Retry-After` seconds.",
    ),
    "4XX": ("OtherRemoteError", "Any other error that the provider answered, with the provider's own status."),
    "500": (
        "Failure",
        "A fault of this service; or something was left behind (`leftovers`), or cannot be known (`code` "
        "`outcome_unknown`). Look before sending it again.",
    ),
    "502": (
        "ProviderFailed",
        "The provider failed, could not be reached, or gave an answer that is none. Safe to send again.",
    ),
    "503": (
        "Unavailable",
        "The integrated account cannot be used until it is authorized or mended; or this service is short of "
        "something for a moment, which includes the table of idempotency keys.",
    ),
    "504": ("ProviderTimeout", "The provider did not answer in time. Safe to send again."),
}
BY_GATEWAY = ("400", "401", "403", "413", "429", "500", "503")
"""API Gateway answers with these itself, without asking the function, with its own short body."""

METHODS = {  # verb: (HTTP method, title)
    "list": ("get", "List {resource}"),
    "create": ("post", "Create a {one}"),
    "get": ("get", "Get a {one}"),
    "update": ("patch", "Update a {one}"),
    "delete": ("delete", "Delete a {one}"),
}
WRITES = ("create", "update", "delete")
ABOUT: Mapping[tuple[str, str], str] = {
    ("pipelines", "list"): "The pipelines of one object type, in the provider's order, with their stages.",
    ("pipelines", "create"): "Creates a pipeline with its stages: all of it, or nothing.\n\nWhat the provider cannot "
    "express is refused before anything is sent to it. Where it makes stages by itself, the answer shows what stands "
    "there in the end.",
    ("pipelines", "get"): "One pipeline with its stages.",
    ("pipelines", "update"): "Changes the fields that are given.\n\n`stages` with an `id` are changed, those without "
    "are created, and all of them come in the order given. Stages that are not named stay as they are, unless "
    "`prune_stages` is true.",
    ("pipelines", "delete"): "Deletes a pipeline with its stages: all of it, or nothing. Refused with code `in_use` "
    "while deals are in it, unless `truto_force_delete` is true and the provider can.",
    ("stages", "list"): "The stages of one pipeline, or of all pipelines of an object type, in order.",
    ("stages", "create"): "Creates a stage in a pipeline, at `position`, else at the end.",
    ("stages", "get"): "One stage.",
    ("stages", "update"): "Changes the fields that are given. A stage cannot be moved to another pipeline.",
    ("stages", "delete"): "Deletes a stage. Refused with code `in_use` while deals are on it, unless "
    "`truto_force_delete` is true and the provider can.",
}
ONE = {"pipelines": "pipeline", "stages": "stage"}
MODELS: Mapping[str, tuple[type[BaseModel], str, str, bool]] = {
    # component: (model, resource, the method whose fields it has, whether it is a stage within a pipeline)
    "PipelineWrite": (models.PipelineWrite, "pipelines", "create", False),
    "StageInPipelineWrite": (models.StageInPipelineWrite, "pipelines", "create", True),
    "PipelineUpdate": (changes.PipelineUpdate, "pipelines", "update", False),
    "StageInPipelineUpdate": (changes.StageInPipelineUpdate, "pipelines", "update", True),
    "StageWrite": (changes.StageWrite, "stages", "create", False),
    "StageUpdate": (changes.StageWrite, "stages", "update", False),
    "Pipeline": (answers.Pipeline, "pipelines", "get", False),
    "StageInPipeline": (answers.StageInPipeline, "pipelines", "get", True),
    "Stage": (answers.Stage, "stages", "get", False),
}
SAYS: Mapping[str, str] = {
    "id": "The provider's own id, or `{pipeline id}:{stage id}` where that alone does not name one stage.",
    "name": "Its name.",
    "entity": "The object type whose records go through the pipeline: `contact`, `account`, `opportunity`, or the "
    "provider's own name of another.",
    "stages": "Its stages, in order.",
    "status": "What it means that a record is on this stage.",
    "position": "Its place among the stages of its pipeline, from 0.",
    "pipeline": "The pipeline that it belongs to.",
    "created_at": "RFC 3339, in UTC.",
    "updated_at": "RFC 3339, in UTC.",
    "remote_data": "Goes into the provider's body as it is, last: objects are merged deeply, everything else replaced.",
}


def document() -> Json:
    """The whole description."""
    examples = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    return {
        "openapi": "3.1.0",
        "info": _info(),
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [
            {"name": "pipelines", "description": "Sales pipelines, with their stages."},
            {"name": "stages", "description": "The stages of pipelines, one by one."},
            {"name": "meta", "description": "What an account's provider requires and supports."},
            {"name": "description", "description": "This description. Needs no token."},
        ],
        "paths": _paths(examples),
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token belongs to one tenant and sees that tenant's integrated accounts.",
                }
            },
            "parameters": _parameters(),
            "schemas": _schemas(),
            "headers": _headers(),
            "responses": {name: _error(status, examples) for status, (name, _) in MEANING.items()},
        },
    }


def text() -> str:
    """The description as the file that is served."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def _info() -> Json:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        "title": "Unified CRM",
        "version": project["version"],
        "summary": project["description"],
        "description": "Every call names an integrated account (`integrated_account_id`), and is answered by that "
        "account's provider: " + ", ".join(each.label for each in _providers()) + ". The same request and the same "
        "answer fit all of them; what one of them cannot express is refused before it is called, with code "
        "`unsupported`.\n\nParameters that hold others are written with brackets, which nest: "
        "`remote_query[a][b]=c`. Lists come as `k=x&k=y`, `k[]=x&k[]=y`, `k[0]=x&k[1]=y`, or `k=x,y`. A query string "
        "has at most 8 KiB, 100 parameters and 5 levels. Parameters that are not known are ignored; body fields that "
        "are not known are refused.",
    }


# Paths


def _paths(examples: list[Json]) -> Json:
    paths: Json = {}
    for resource in describe.RESOURCES:
        collection, item = f"/unified/crm/{resource}", f"/unified/crm/{resource}/{{id}}"
        for verb, (method, _) in METHODS.items():
            path = collection if verb in ("list", "create") else item
            paths.setdefault(path, {})[method] = _operation(resource, verb, examples)
        paths[f"/unified/crm/{resource}/meta/{{method}}"] = {"get": _meta(resource, examples)}
    paths["/openapi.json"] = {"get": _document("getDescription", "This description", "application/json", "object")}
    paths["/docs"] = {"get": _document("getDocs", "A page to read and try it", "text/html", "string")}
    return paths


def operation_id(verb: str, resource: str) -> str:
    """`listPipelines`, `createStage`, …"""
    return verb + (resource if verb == "list" else ONE[resource]).capitalize()


def _operation(resource: str, verb: str, examples: list[Json]) -> Json:
    name = operation_id(verb, resource)
    operation: Json = {
        "operationId": name,
        "tags": [resource],
        "summary": METHODS[verb][1].format(resource=resource, one=ONE[resource]),
        "description": ABOUT[resource, verb] + _supported_in(resource, verb),
        "parameters": [{"$ref": f"#/components/parameters/{each}"} for each in _parameter_names(resource, verb)],
    }
    writes = verb in ("create", "update")
    if writes:
        component = ONE[resource].capitalize() + {"create": "Write", "update": "Update"}[verb]
        operation["requestBody"] = {
            "required": verb == "create",
            "content": {"application/json": {"schema": _ref(component), **_examples(examples, name, "body")}},
        }
    operation["responses"] = {"200": _success(resource, verb, examples)} | _refs(*BAD, *(("413", "415") * writes))
    return operation


def _success(resource: str, verb: str, examples: list[Json]) -> Json:
    one = ONE[resource].capitalize()
    answers = {"list": [f"{one}List"], "delete": ["DryRun", "Deleted", "ProviderReply"], "get": [one, "ProviderReply"]}
    names = answers.get(verb, ["DryRun", one, "ProviderReply"])  # the narrower first: clients take the first that fits
    schema = _ref(names[0]) if len(names) == 1 else {"anyOf": [_ref(each) for each in names]}
    success: Json = {
        "description": {
            "list": "A page of the list. It is never empty and followed by another.",
            "delete": "The id of what was deleted.",
        }.get(verb, f"The {ONE[resource]}, as it stands at the provider now."),
        "content": {"application/json": {"schema": schema, **_examples(examples, operation_id(verb, resource), "200")}},
    }
    if verb in WRITES:
        names_ = (*(("Truto-Outcome",) * (verb == "create")), "Idempotent-Replayed")
        success["headers"] = {each: {"$ref": f"#/components/headers/{each}"} for each in names_}
    if verb == "create":
        account = {"integrated_account_id": "$request.query.integrated_account_id"}
        entity = {"entity": "$response.body#/entity"} if resource == "pipelines" else {}
        success["links"] = {
            each: {
                "operationId": operation_id(each, resource),
                "parameters": {"id": "$response.body#/id", **account, **entity},
            }
            for each in ("get", "update", "delete")
        }
    return success


def _meta(resource: str, examples: list[Json]) -> Json:
    name = f"meta{resource.capitalize()}"
    parameters = [{"$ref": f"#/components/parameters/{each}"} for each in ("method", *_COMMON)]
    answer = {"schema": _ref("Meta"), **_examples(examples, name, "200")}
    return {
        "operationId": name,
        "tags": ["meta"],
        "summary": f"What a method on {resource} takes and answers",
        "description": f"For this account's provider: whether it has the method on {resource}, and of each field "
        "whether it is supported, required or read only, its values, and the provider's own field.",
        "parameters": parameters,
        "responses": {
            "200": {"description": "What the provider has.", "content": {"application/json": answer}},
            **_refs(*BAD),
        },
    }


def _document(name: str, summary: str, media_type: str, kind: str) -> Json:
    answer = {"description": summary + ".", "content": {media_type: {"schema": {"type": kind}}}}
    return {
        "operationId": name,
        "tags": ["description"],
        "summary": summary,
        "security": [],
        "responses": {"200": answer, **_refs("405", "429", "500", "503")},
    }


def _refs(*statuses: str) -> Json:
    return {each: {"$ref": f"#/components/responses/{MEANING[each][0]}"} for each in sorted(statuses)}


# Parameters

_COMMON = ("integrated_account_id", "entity", "truto_unsupported")
_READS = ("truto_response_format", "truto_ignore_remote_data", "truto_exclude_fields", "remote_query")


def _parameter_names(resource: str, verb: str) -> Iterator[str]:
    if verb not in ("list", "create"):
        yield "id"
    yield from _COMMON
    if resource == "stages":
        yield "pipeline"
    yield from ("truto_response_format", "remote_query") if verb == "delete" else _READS
    if verb == "list":
        yield from ("limit", "next_cursor", "created_at", "updated_at")
    if verb != "delete":
        yield "truto_explain"
    if verb in WRITES:
        yield "truto_dry_run"
        yield "Idempotency-Key"
    if (resource, verb) == ("pipelines", "update"):
        yield "prune_stages"
    if verb == "delete" or (resource, verb) == ("pipelines", "update"):
        yield "truto_force_delete"


def _parameters() -> Json:
    accounts = {
        name: {"summary": f"The demo account of {label} in the local world", "value": account}
        for name, label, account in _demo_accounts()
    }
    flag: Json = {"type": "boolean", "default": False}
    time = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]}
    times = {"type": "object", "properties": dict.fromkeys(lists.OPERATORS, time), "additionalProperties": False}
    return {
        "id": {
            "name": "id",
            "in": "path",
            "required": True,
            "description": "The id, as an answer gave it: one path segment, escaped.",
            "schema": {"type": "string", "minLength": 1, "pattern": PATH_SEGMENT},
        },
        "method": {
            "name": "method",
            "in": "path",
            "required": True,
            "description": "The method that is asked about.",
            "schema": {"type": "string", "enum": [*describe.METHODS]},
        },
        "integrated_account_id": {
            **_query("integrated_account_id", "The integrated account that the call is for."),
            "required": True,
            "schema": {"type": "string", "format": "uuid"},
            "examples": accounts,
        },
        "entity": {
            **_query(
                "entity",
                "The object type whose pipelines are meant: `contact`, `account`, `opportunity` or the provider's own "
                "name of another. Where neither this nor the body says it, `opportunity`. " + _entities(),
            ),
            "schema": {"type": "string", "minLength": 1, "pattern": SEGMENT},
        },
        "pipeline": {
            **_deep(
                "pipeline",
                "The pipeline of the stage or stages: `pipeline[id]=…`. It saves a look through all; where "
                "the body names one, too, it must be the same.",
            ),
            "schema": {
                "type": "object",
                "properties": {"id": {"type": "string", "minLength": 1, "pattern": SEGMENT}},
                "additionalProperties": False,
            },
        },
        "truto_response_format": {
            **_query(
                "truto_response_format",
                "`unified`: the unified fields, and `remote_data`, the provider's own. `normalized`: every unified "
                "field, null where the provider has none. `raw`: the provider's reply as it came, in a list its items.",
            ),
            "schema": {"type": "string", "enum": ["unified", "raw", "normalized"], "default": "unified"},
        },
        "truto_ignore_remote_data": {
            **_query("truto_ignore_remote_data", "Leave `remote_data` out of the answer."),
            "schema": flag,
        },
        "truto_exclude_fields": {
            **_query("truto_exclude_fields", "Top-level fields to leave out of the answer. Unknown ones are no error."),
            "schema": {"type": "array", "items": {"type": "string"}},
        },
        "remote_query": {
            **_deep(
                "remote_query",
                "Goes to the provider's main call as it is: `remote_query[key]=…`, objects and lists in the same "
                "form. It cannot carry a credential.",
            ),
            "schema": {
                "type": "object",
                "propertyNames": {"pattern": r"^[^\[\]\u0000\r\n]+$"},
                "additionalProperties": True,
            },
        },
        "truto_unsupported": {
            **_query(
                "truto_unsupported",
                "What to do with what the provider cannot express. `fail`: refuse, before any call. `skip`: leave it "
                "out, and say so in `truto_warnings`. What the provider requires is never skipped.",
            ),
            "schema": {"type": "string", "enum": ["fail", "skip"], "default": "fail"},
        },
        "truto_explain": {
            **_query("truto_explain", "Add `explain`: where each field came from, and what was done to it."),
            "schema": flag,
        },
        "truto_dry_run": {
            **_query("truto_dry_run", "Answer with the provider requests that this would send, and send none of them."),
            "schema": flag,
        },
        "Idempotency-Key": {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "Any text of the caller's, new for each thing that is to be done: a random UUID. For a day, "
            "a call that is sent again with it is not carried out again but answered as the first was, with "
            "`Idempotent-Replayed: true`. It must be the same call: another body or query is 422, and while the first "
            "is at work still, this is 409. A call that failed without effect does not use up the key. It belongs to "
            "the token's tenant, the integrated account, the method and the path. Dry runs pay no regard to it.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
        },
        "prune_stages": {
            **_query("prune_stages", "Delete the stages that `stages` does not name."),
            "schema": flag,
        },
        "truto_force_delete": {
            **_query("truto_force_delete", "Delete even what deals are in, which then go along or are moved."),
            "schema": flag,
        },
        "limit": {
            **_query("limit", "How many items a page has at most."),
            "schema": {"type": "integer", "minimum": 1, "maximum": lists.MAX_LIMIT, "default": lists.DEFAULT_LIMIT},
        },
        "next_cursor": {
            **_query(
                "next_cursor", "The `next_cursor`, or `prev_cursor`, of a page of the same list. Empty is the first."
            ),
            "schema": {"type": "string"},
        },
        "created_at": {
            **_deep("created_at", "Only what was created then: `created_at[gte]=2026-01-31T00:00:00Z`."),
            "schema": times,
        },
        "updated_at": {
            **_deep("updated_at", "Only what was changed then: `updated_at[gt]=2026-01-31T00:00:00Z`."),
            "schema": times,
        },
    }


def _query(name: str, description: str) -> Json:
    return {"name": name, "in": "query", "description": description}


def _deep(name: str, description: str) -> Json:
    """`name[key]=…`. Without an example, Swagger UI would make up some and send them."""
    return {**_query(name, description), "style": "deepObject", "explode": True, "example": {}}


def _demo_accounts() -> Iterator[tuple[str, str, str]]:
    """Each provider's name, label, and the account that the examples use, in the order of these."""
    labels = {provider.name: provider.label for provider in _providers()}
    seen: set[str] = set()
    for each in json.loads(EXAMPLES.read_text(encoding="utf-8")):
        if each["name"] in labels.keys() - seen:
            seen.add(each["name"])
            yield each["name"], labels[each["name"]], each["query"]["integrated_account_id"]


# Answers


def _headers() -> Json:
    whole = {"type": "integer", "minimum": 0}
    return {
        "Truto-Outcome": {
            "description": "`adopted` where the provider's answer was lost and what it had created was found.",
            "schema": {"type": "string", "enum": ["created", "adopted"]},
        },
        "Idempotent-Replayed": {
            "description": "`true` where this is the answer that the first call with the same `Idempotency-Key` got.",
            "schema": {"type": "string", "enum": ["true"]},
        },
        "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
        "ratelimit-limit": {"description": "Calls that the provider takes in its window.", "schema": whole},
        "ratelimit-remaining": {"description": "Calls that are left of them.", "schema": whole},
        "ratelimit-reset": {"description": "Seconds until the window begins anew.", "schema": whole},
        "Allow": {"description": "The methods that the address takes.", "schema": {"type": "string"}},
    }


def _error(status: str, examples: list[Json]) -> Json:
    if status == "4XX":
        schema: Json = {"allOf": [_ref("Error"), {"required": ["truto_is_remote_error"]}]}
    elif status in BY_GATEWAY:
        schema = {"anyOf": [_ref("Error"), _ref("Refusal")]}
    else:
        schema = _ref("Error")
    shown = {
        each["name"]: {"summary": each["summary"], "value": each["answer"]}
        for each in examples
        if str(each["status"]) == status
    }
    names = {
        "405": ("Allow",),
        "409": ("Retry-After",),
        "429": ("Retry-After", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"),
        "500": ("Idempotent-Replayed",),
        "503": ("Retry-After",),
    }.get(status, ())
    headers: Json = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    return {
        "description": MEANING[status][1],
        **({"headers": headers} if headers else {}),
        "content": {"application/json": {"schema": schema, **({"examples": shown} if shown else {})}},
    }


def _examples(examples: list[Json], operation: str, part: str) -> Json:
    """The examples of an operation: of its body, or of its answer with the status `part`."""
    found = {
        each["name"]: {"summary": each["summary"], "value": each["body"] if part == "body" else each["answer"]}
        for each in examples
        if each["operation"] == operation
        and (each.get("body") is not None if part == "body" else str(each["status"]) == part)
        and (part != "body" or each["status"] == 200)
    }
    return {"examples": found} if found else {}


# Schemas


def _schemas() -> Json:
    schemas: Json = {name: _model(name) for name in MODELS}
    for model in (answers.Reference, answers.NamedReference, changes.ReferenceWrite):
        schemas[model.__name__] = _tidy(model.model_json_schema())
    schemas["ReferenceWrite"]["properties"]["id"] |= {"minLength": 1, "pattern": SEGMENT}
    for name in ("Pipeline", "Stage"):
        answer = schemas[name]
        answer["properties"] |= {
            "remote_data": {"description": "The provider's own form of it. Only in the format `unified`."},
            "truto_outcome": {
                "type": "string",
                "enum": ["created", "adopted"],
                "description": "As the header `Truto-Outcome`. Only on creates in the format `unified`.",
            },
            "truto_warnings": {
                "type": "array",
                "items": _ref("Warning"),
                "description": "What was left out, with `truto_unsupported=skip`.",
            },
            "explain": {
                "type": "object",
                "additionalProperties": True,
                "description": "Of each field: the provider's own (`remote_field`), the `request` that it came from, "
                "and `how`: `copied`, `converted` or `defaulted`. Only with `truto_explain=true`.",
            },
        }
        schemas[f"{name}List"] = _list(name)
    return schemas | _other_schemas()


def _model(name: str) -> Json:
    model, resource, method, nested = MODELS[name]
    writes = method in ("create", "update")
    schema = _tidy(model.model_json_schema(ref_template="#/components/schemas/{model}"))
    for field, said in schema["properties"].items():
        if writes and field in ("id", "entity"):
            said |= {"minLength": 1, "pattern": SEGMENT}
        notes = [] if field == "remote_data" else _notes(resource, method, field, nested=nested)
        about = SAYS[field] if writes or field != "remote_data" else ""
        if field in ("created_at", "updated_at"):
            said["format"] = "date-time"
        schema["properties"][field] = _described(said, " ".join([about, *notes]).strip())
    if not writes:
        schema.pop("required", None)  # `truto_exclude_fields` leaves out any, and so does a provider that has none
    if name == "StageWrite":
        schema["required"] = ["pipeline"]
        said = schema["properties"]["pipeline"]["description"]
        schema["properties"]["pipeline"] = _described(_ref("ReferenceWrite"), said)
        schema["description"] = "A stage to create. What else is required depends on the provider."
    if name == "StageUpdate":
        schema["description"] = "What to change of a stage."
    return schema


def _tidy(schema: Json) -> Json:
    """Pydantic's schema without its titles, defaults of null and definitions; `X | None` as a list of types."""
    found: Json = {}
    for key, value in schema.items():
        if key in ("title", "$defs") or (key == "default" and value is None):
            continue
        if key == "properties":
            found[key] = {name: _tidy(each) for name, each in value.items()}
        elif key == "anyOf" and len(value) == 2 and value[1] == {"type": "null"}:
            found |= _or_null(_tidy(value[0]))
        else:
            found[key] = _tidy(value) if isinstance(value, dict) else value
    return found


def _or_null(schema: Json) -> Json:
    if "enum" in schema:
        return {"anyOf": [_ref("Status"), {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]} if "type" in schema else {"anyOf": [schema, {"type": "null"}]}


def _described(schema: Json, text_: str) -> Json:
    return {**schema, "description": text_} if text_ else schema


def _list(name: str) -> Json:
    cursor = {"type": ["string", "null"]}
    return {
        "type": "object",
        "required": ["result", "next_cursor", "prev_cursor", "result_count"],
        "properties": {
            "result": {"type": "array", "items": {"anyOf": [_ref(name), _ref("ProviderReply")]}},
            "next_cursor": {**cursor, "description": "To be sent as `next_cursor` for the next page; null is the end."},
            "prev_cursor": {**cursor, "description": "The same for the page before; null is the start."},
            "result_count": {"type": "integer", "minimum": 0, "description": "How many items this page has."},
        },
    }


def _other_schemas() -> Json:
    text_, flag = {"type": "string"}, {"type": "boolean"}
    free = {"type": "object", "additionalProperties": True}
    left = {"type": "array", "items": free}
    return {
        "Status": {"type": "string", "enum": [*get_args(models.Status)]},
        "Deleted": {"type": "object", "required": ["id"], "properties": {"id": text_}},
        "Warning": {
            "type": "object",
            "required": ["field", "message"],
            "properties": {"field": text_, "message": text_},
        },
        "ProviderReply": {"description": "With `truto_response_format=raw`: whatever the provider answered."},
        "DryRun": {
            "type": "object",
            "description": "With `truto_dry_run=true`: the provider requests, in order.",
            "required": ["dry_run", "requests"],
            "properties": {
                "dry_run": {"const": True},
                "requests": {"type": "array", "items": _ref("PlannedRequest")},
            },
        },
        "PlannedRequest": {
            "type": "object",
            "required": ["method", "url", "headers", "body", "sent"],
            "properties": {
                "method": text_,
                "url": {**text_, "description": "`{id of step 1}` stands for an id that is not known yet."},
                "headers": {
                    "type": "object",
                    "additionalProperties": text_,
                    "description": "Credentials are `[redacted]`.",
                },
                "body": {"description": "The JSON body, null where there is none."},
                "sent": {**flag, "description": "True for a read, which was needed to know what to write."},
            },
        },
        "Meta": {
            "type": "object",
            "required": ["provider", "resource", "method", "supported", "entity", "fields"],
            "properties": {
                "provider": {**text_, "enum": providers.names()},
                "resource": {**text_, "enum": [*describe.RESOURCES]},
                "method": {**text_, "enum": [*describe.METHODS]},
                "supported": {**flag, "description": "Whether the provider has this method."},
                "entity": text_,
                "fields": {"type": "object", "additionalProperties": _ref("MetaField")},
            },
        },
        "MetaField": {
            "type": "object",
            "required": ["supported", "required", "read_only"],
            "properties": {
                "supported": {**flag, "description": "Whether the provider has this field."},
                "required": {**flag, "description": "Whether the method refuses to go without it."},
                "read_only": {**flag, "description": "Whether the method cannot write it."},
                "remote_field": {"type": ["string", "null"], "description": "The provider's own field."},
                "values": {"type": "array", "items": text_, "description": "The values that it can have here."},
                "only_for_new": {**flag, "description": "Whether a stage can have it only when it is new."},
                "required_for_new": {**flag, "description": "Whether a new stage has to have it."},
                "fields": {"type": "object", "additionalProperties": _ref("MetaField")},
            },
        },
        "Error": {
            "type": "object",
            "required": ["statusCode", "error", "message", "code", "request_id"],
            "properties": {
                "statusCode": {"type": "integer", "minimum": 400, "maximum": 599},
                "error": {**text_, "description": "The name of the status."},
                "message": {**text_, "description": "For people. It may change."},
                "code": {**text_, "enum": _codes(), "description": "Stable; docs/errors.md tells what each means."},
                "request_id": {**text_, "description": "Finds the lines of the call in the log."},
                "truto_is_remote_error": {**flag, "description": "True: the provider answered with this error."},
                "raw_response": {"description": "The provider's own body: its JSON, else its text."},
                "truto_error_insight": {
                    "type": "object",
                    "additionalProperties": {
                        "type": "object",
                        "required": ["description", "value"],
                        "properties": {"description": text_, "value": {}},
                    },
                },
                "leftovers": {**left, "description": "What was made or changed and could not be put back."},
                "rolled_back": {**left, "description": "What was made or changed and was put back."},
            },
        },
        "Refusal": {
            "type": "object",
            "description": "API Gateway's own answer: the function was not asked.",
            "required": ["message"],
            "properties": {"message": {"type": ["string", "null"]}},
            "additionalProperties": False,
        },
    }


def _codes() -> list[str]:
    def kinds(kind: type[errors.UnifiedError]) -> Iterator[str]:
        yield kind.code
        for each in kind.__subclasses__():
            yield from kinds(each)

    return sorted({*kinds(errors.UnifiedError), *errors.REMOTE_CODES})


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


# Notes on providers


def _providers() -> list[Provider]:
    return [providers.load(name) for name in providers.names()]


def _supported_in(resource: str, verb: str) -> str:
    without = [each.label for each in _providers() if not describe.supports(each, resource, verb)]
    return f"\n\nNot supported in {_joined(without)}." if without else ""


def _entities() -> str:
    return " ".join(
        f"{each.label} has {_joined([f'`{name}`' for name in each.entities.names])}"
        + (", and any other by its own name." if each.entities.others else ".")
        for each in _providers()
    )


def _notes(resource: str, method: str, field: str, *, nested: bool = False) -> Iterator[str]:
    """What the providers' tables say about a field: where it is supported and required, and its values."""
    if field == "entity":
        yield _entities()
        return
    found = {each.label: _fields(each, resource, method, field, nested) for each in _providers()}
    if not any(found.values()):
        return
    writes = method in ("create", "update")
    yield from _where("Supported in", found, lambda said: _supported(said, writes), "no provider")
    yield from _where("Only for a new stage in", found, lambda said: said.get("only_for_new"))
    yield from _where("For a new stage required in", found, lambda said: said.get("required_for_new"))
    yield from _where("Required in", found, lambda said: writes and said["required"])
    for value in get_args(models.Status) if writes and field == "status" else ():
        yield from _where(f"`{value}`:", found, lambda said, value=value: value in said.get("values", ()))


def _fields(provider: Provider, resource: str, method: str, field: str, nested: bool) -> dict[str, Json]:
    """What `meta` says about a field, by object type; nothing where it is not a matter of the provider's."""
    names = [*provider.entities.names, *(["tickets", "others"] if provider.entities.others else [])]
    found = {}
    for name in names:
        remote = provider.entities.to_remote(name) or name
        fields = describe.meta(provider, remote, resource, method)["fields"]
        fields = fields["stages"].get("fields", {}) if nested else fields
        if field in fields:
            found[name] = fields[field]
    return found


def _supported(said: Json, writes: bool) -> bool:
    return bool(said["supported"] and not (writes and (said["read_only"] or said.get("only_for_new"))))


def _where(start: str, found: Mapping[str, Mapping[str, Json]], holds: Any, nobody: str = "") -> Iterator[str]:
    """`Supported in Close, HubSpot (`opportunity`).`"""
    places = []
    for label, entities in found.items():
        here = [f"`{entity}`" if entity != "others" else "others" for entity, said in entities.items() if holds(said)]
        if here:
            places.append(label if len(here) == len(entities) else f"{label} ({', '.join(here)})")
    if places or nobody:
        yield f"{start} {_joined(places) or nobody}."


def _joined(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
