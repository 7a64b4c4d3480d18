"""What schemathesis cannot know from the description: what exists, and what no schema can say.

Most ids that are made up would only ever meet a 404. As far as they are valid, most of them are led to accounts,
pipelines and stages that exist.
"""

from __future__ import annotations

import json
import re
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID
from zlib import crc32

import schemathesis
from openapi_schema_validator import OAS31Validator
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import TestPhase
from schemathesis.openapi.checks import MissingHeaderNotRejected, RejectedPositiveData

from local import simulators
from unified_crm import providers

ENTITIES = {
    simulators.load(name).demo_account_id: (
        *providers.load(name).entities.names,
        *(["tickets"] if providers.load(name).entities.others else []),
    )
    for name in simulators.names()
}
KEPT = 20
DESCRIPTION = json.loads((Path(__file__).resolve().parents[2] / "functions/api/openapi.json").read_text("utf-8"))
STRICT = {
    "schemas": {
        **{
            name: {"additionalProperties": False, **each} if "properties" in each else each
            for name, each in DESCRIPTION["components"]["schemas"].items()
        },
        "ProviderReply": False,
    }
}
"""The schemas with nothing in them that is not named, and without the format `raw`."""

NAMES = {
    name: each["schema"]["properties"]
    for name, each in DESCRIPTION["components"]["parameters"].items()
    if "properties" in each["schema"]
}
"""Of each parameter that is an object: what it can hold."""

ONLY_CODE_CAN_TELL = re.compile(
    "|".join(
        (
            r".* (is|are) required by \w+",
            r"(entity|pipeline\[id\]) is .* in the query and .* in the body",
            r"next_cursor (is not one that a list answered|belongs to another list, or to other filters)",
            r"stages: one stage is given twice",
            r"stages\[\d+\]\.id: pipeline .* has no stage .*",
            r"remote_query\[.*\]: \w+ would take it for a credential",
            r"remote_query has brackets that do not match",
            r"remote_query must not hold line breaks",
            r"The body has a number beyond 64 bits",
            r"The query string (is longer than|has more than) .*",
            r".* is nested deeper than \d+",
        )
    ),
    re.DOTALL,
)
"""Refusals of a request that fits the description."""

_numbers = count()
_known: dict[tuple[str, str], list[tuple[str, str]]] = {}
"""What was answered: by account and resource, each id with its object type."""


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:  # noqa: ARG001
    """Lead a request to what exists. A step that follows a link has its ids from there."""
    query: dict[str, Any] = case.query or {}
    chosen = crc32(repr((query, case.path_parameters)).encode())
    account = str(query.get("integrated_account_id"))
    if case.meta is None:
        return
    headers: Any = case.headers or {}
    if re.fullmatch(r"[ -~]{1,200}", str(headers.get("Idempotency-Key", ""))):
        headers["Idempotency-Key"] = f"{headers['Idempotency-Key'].strip()}{next(_numbers)}"  # no two are the same call
    if case.meta.phase.name == TestPhase.STATEFUL:
        if case.method == "DELETE":
            query.pop("truto_dry_run", None)  # what was not deleted would be taken for what still is there
        if account in ENTITIES:
            return
    if _is_uuid(account) and account not in ENTITIES and chosen % 16:
        account = query["integrated_account_id"] = [*ENTITIES][chosen % len(ENTITIES)]
    if account not in ENTITIES or not chosen % 8:
        return
    entity = ENTITIES[account][chosen % len(ENTITIES[account])]
    if (pipelines := _known.get((account, "pipelines"))) and "stages" in case.path:
        pipeline, entity = pipelines[chosen % len(pipelines)]
        _put(query, "pipeline[id]", pipeline)
        _put(_object(case.body, "pipeline"), "id", pipeline)
    resource = case.path.split("/")[3]
    if (known := _known.get((account, resource))) and not case.meta.is_negative_at(ParameterLocation.PATH):
        id_, entity = known[chosen % len(known)]
        _put(case.path_parameters, "id", id_)
    _put(_object(case.body), "entity", entity)
    if case.method == "POST" and isinstance(case.body, dict) and case.body.get("name") is None:
        case.body["name"] = f"Made up {chosen}"  # every provider wants one, which may also come by `remote_data`
    if not _put(query, "entity", entity) and entity != "opportunity" and case.method != "POST":
        query["entity"] = entity


@schemathesis.hook
def after_call(context: HookContext, case: Case[Any], response: Response) -> None:  # noqa: ARG001
    """Remember what was answered."""
    if response.status_code != 200 or not case.path.startswith("/unified/crm/"):
        return
    query: dict[str, Any] = case.query or {}
    answer = response.json()
    known = _known.setdefault((str(query.get("integrated_account_id")), case.path.split("/")[3]), [])
    if case.method == "DELETE":
        known[:] = [each for each in known if each[0] != answer.get("id")]
        return
    for item in answer.get("result", [answer]):
        if isinstance(item, dict) and isinstance(item.get("id"), str):
            found = item["id"], item.get("entity") or query.get("entity") or "opportunity"
            if found not in known:
                known.append(found)
    del known[:-KEPT]


@schemathesis.check
def unified_answers_are_unified(ctx: schemathesis.CheckContext, response: Response, case: Case[Any]) -> None:  # noqa: ARG001
    """As the description has to allow anything in the format `raw`, it says little of the other two by itself."""
    operation = DESCRIPTION["paths"][case.path].get(case.method.lower(), {})
    form = (case.query or {}).get("truto_response_format", "unified")
    if response.status_code != 200 or form == "raw" or operation.get("security") == []:
        return
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    problem = next(OAS31Validator({**schema, "components": STRICT}).iter_errors(response.json()), None)
    assert problem is None, f"{problem.json_path}: {problem.message}"


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:  # noqa: ARG001
    """A request that fits may be refused by the provider, or for what the provider cannot express.

    One that does not fit may be answered where what was wrong did not come along: an empty list, say, is not sent.
    """
    if isinstance(failure, AcceptedNegativeData):
        data: Any = case.meta and case.meta.phase.data
        sent = [key for key, _ in parse_qsl(urlsplit(str(response.request.url)).query, keep_blank_values=True)]
        keys = [f"{data.parameter}[{name}]" for name in NAMES.get(data.parameter, ())]
        stray = [key for key in sent if key.startswith(f"{data.parameter}[") and key not in keys]
        return not (keys and "violates `additionalProperties`" in failure.message and not stray)
    if isinstance(failure, MissingHeaderNotRejected):
        return "'Authorization'" not in failure.message  # the run's own option puts it back
    if not isinstance(failure, RejectedPositiveData):
        return True
    answer = response.json()
    if answer.get("truto_is_remote_error") or answer["code"] == "unsupported":
        return False
    position = _object(case.body).get("position")
    if isinstance(position, float) and position.is_integer():
        return False  # 1.0 is an integer to JSON Schema
    return not ONLY_CODE_CAN_TELL.fullmatch(answer["message"])


def _put(where: dict[str, Any] | None, key: str, value: str) -> bool:
    """Put `value` in the place of a valid one; what is wrong on purpose stays wrong."""
    given = (where or {}).get(key)
    if where is None or not isinstance(given, str) or not re.fullmatch(r"[^%/\\?#\x00-\x1f\x7f-\x9f]+", given):
        return False
    if given in (".", ".."):
        return False
    where[key] = value
    return True


def _object(value: Any, *keys: str) -> dict[str, Any]:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
