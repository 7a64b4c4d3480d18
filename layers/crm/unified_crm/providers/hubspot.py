"""HubSpot. https://developers.hubspot.com/docs/api-reference/crm-pipelines-v3/guide"""

from __future__ import annotations

from functools import partial
from typing import Any

from unified_crm.mapping import Field, Table, timestamp
from unified_crm.provider import (
    Call,
    Entities,
    Flow,
    Provider,
    RateLimit,
    Record,
    Reply,
    Request,
    Resource,
    Rule,
    Undo,
    bearer,
    segment,
)

PIPELINES = "/crm/v3/pipelines"
ENTITIES = Entities({"contact": "contacts", "account": "companies", "opportunity": "deals"}, others=True)

# unified: HubSpot's metadata. An active deal stage needs a probability between the two others: `_probabilities`.
DEAL_STATUS = {"won": {"probability": "1.0"}, "lost": {"probability": "0.0"}, "active": {}}
TICKET_STATUS = {
    "active": {"ticketState": "OPEN"},
    "closed": {"ticketState": "CLOSED"},
    "won": {"ticketState": "CLOSED"},
    "lost": {"ticketState": "CLOSED"},
}
OTHER_STATUS: dict[str, Record] = {"active": {}}


def _deal_status(metadata: Any) -> str | None:
    """By `probability`, never by the label: a live "Closed Lost" stage was seen with probability 0.1."""
    try:
        probability = float(metadata["probability"])
    except (LookupError, TypeError, ValueError):
        return _state(metadata)
    return {1.0: "won", 0.0: "lost"}.get(probability, "active")


def _state(metadata: Any) -> str | None:
    """Tickets say `ticketState`, custom objects may say `state`, later reads add `isClosed`; nothing said is null."""
    if not isinstance(metadata, dict) or not metadata:
        return None
    state = str(metadata.get("ticketState") or metadata.get("state")).upper()
    return "closed" if state == "CLOSED" or str(metadata.get("isClosed")).lower() == "true" else "active"


def _display_order(record: Any) -> tuple[float, str]:
    """Lists come unsorted; equal orders stand by their labels."""
    order = record.get("displayOrder")
    return order if isinstance(order, int | float) else 0, str(record.get("label"))


def _stage(status: Field) -> Table:
    return Table(
        Field("id", read_only=True),
        Field("name", "label", required=True),
        Field("position", "displayOrder"),
        status,
        Field("created_at", "createdAt", read_only=True, read=timestamp),
        Field("updated_at", "updatedAt", read_only=True, read=timestamp),
        order=_display_order,
    )


def _pipeline(stage: Table) -> Table:
    return Table(
        Field("id", read_only=True),
        Field("name", "label", required=True),
        Field("stages", required=True, each=stage),
        Field("created_at", "createdAt", read_only=True, read=timestamp),
        Field("updated_at", "updatedAt", read_only=True, read=timestamp),
        order=_display_order,
    )


PIPELINE = {
    "deals": _pipeline(_stage(Field("status", "metadata", values=DEAL_STATUS, read=_deal_status))),
    "tickets": _pipeline(_stage(Field("status", "metadata", values=TICKET_STATUS, read=_state))),
}
OTHER_PIPELINE = _pipeline(_stage(Field("status", "metadata", values=OTHER_STATUS, read=_state)))


def _table(entity: str) -> Table:
    return PIPELINE.get(entity, OTHER_PIPELINE)


def create(call: Call) -> Flow:
    """One call makes the pipeline with its stages, or nothing."""
    body = {"displayOrder": 0, **_table(call.entity).to_remote(call.values)}
    body["stages"] = _with_metadata(body.get("stages", []), call.entity)
    reply = yield Request("POST", _path(call.entity), json=body, main=True, undo=partial(_delete_made, call.entity))
    return reply.object()


def list_(call: Call) -> Flow:
    """HubSpot answers all pipelines of an object type at once; there is no paging."""
    return (yield Request("GET", _path(call.entity), main=True)).records("results")


def _path(entity: str, *ids: str) -> str:
    return "/".join((PIPELINES, segment(entity), *map(segment, ids)))


def _delete_made(entity: str, reply: Reply) -> Undo:
    pipeline = reply.object()
    return Undo("pipeline", pipeline["id"], pipeline.get("label"), lambda: _delete(entity, pipeline["id"]))


def _delete(entity: str, id_: str) -> Flow:
    yield Request("DELETE", _path(entity, id_))


def _with_metadata(stages: list[Record], entity: str) -> list[Record]:
    """Every stage needs `metadata`, and a deal's stage a probability in it.

    Active stages without one get theirs spread evenly and strictly between 0 and 1, in steps of 0.1, never falling.
    """
    stages = [{"metadata": {}, **stage} for stage in stages]
    if entity != "deals":
        return stages
    open_ = [
        stage for stage in stages if isinstance(stage["metadata"], dict) and "probability" not in stage["metadata"]
    ]
    for index, stage in enumerate(open_):
        tenths = min(9, max(1, round((index + 1) * 10 / (len(open_) + 1))))
        stage["metadata"] = {"probability": f"0.{tenths}", **stage["metadata"]}
    return stages


def _wait(reply: Reply) -> int | None:
    """A 429 often has no Retry-After. The daily budget ends at midnight: an hour is a guess."""
    text = reply.body.decode("utf-8", "replace")
    return next((seconds for policy, seconds in POLICIES.items() if policy in text), None)


POLICIES = {"TEN_SECONDLY_ROLLING": 10, "SECONDLY": 1, "DAILY": 3600}


def _scopes(body: Any) -> list[str]:
    """`errors[].context` names them, under either key."""
    errors = body.get("errors") if isinstance(body, dict) else None
    contexts = [each.get("context") for each in errors or [] if isinstance(each, dict)]
    found = [
        scope
        for context in contexts
        if isinstance(context, dict)
        for key in ("requiredGranularScopes", "requiredScopes")
        for scope in context.get(key) or []
    ]
    return list(dict.fromkeys(map(str, found)))


PROVIDER = Provider(
    name="hubspot",
    label="HubSpot",
    docs=("https://developers.hubspot.com/docs/api-reference/crm-pipelines-v3/guide",),
    base_url="https://api.hubapi.com",
    auth={"bearer": bearer, "oauth2": bearer},
    entities=ENTITIES,
    pipelines=Resource(table=_table, create=create, list=list_),
    errors=(
        Rule("in_use", 400, r"STAGE_ID_IN_USE"),
        Rule("duplicate", 400, r"already exists|STAGE_LABEL_EXISTS"),
        Rule("missing_scope", 403, r"MISSING_SCOPES"),
    ),
    # Private apps of the smaller plans; headers tell the account's own: https://developers.hubspot.com/docs/api/usage-details
    rate_limit=RateLimit(
        limit=100,
        window=10,
        limit_header="x-hubspot-ratelimit-max",
        remaining_header="x-hubspot-ratelimit-remaining",
        window_ms_header="x-hubspot-ratelimit-interval-milliseconds",
        wait=_wait,
    ),
    query_credentials=frozenset({"hapikey"}),
)
