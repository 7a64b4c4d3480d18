"""HubSpot. https://developers.hubspot.com/docs/api-reference/crm-pipelines-v3/guide"""

from __future__ import annotations

from typing import Any

from unified_crm.mapping import Field, Table, timestamp
from unified_crm.provider import (
    Call,
    Editor,
    Entities,
    Flow,
    Pipelines,
    Provider,
    RateLimit,
    Record,
    Reply,
    Request,
    Rule,
    TokenEndpoint,
    bearer,
    segment,
)
from unified_crm.spread import spread

PIPELINES = "/crm/v3/pipelines"
VALIDATE = ("validateReferencesBeforeDelete", "validateDealStageUsagesBeforeDelete")
ENTITIES = Entities({"contact": "contacts", "account": "companies", "opportunity": "deals"}, others=True)

# unified: HubSpot's metadata. An active deal stage needs a probability between the others: `_complete`.
DEAL_STATUS = {"won": {"probability": "1.0"}, "lost": {"probability": "0.0"}, "active": {"probability": None}}
OPEN, CLOSED = {"ticketState": "OPEN"}, {"ticketState": "CLOSED"}
TICKET_STATUS = {"active": OPEN, "closed": CLOSED, "won": CLOSED, "lost": CLOSED}
OTHER_STATUS: dict[str, Record] = {"active": {}}


def _deal_status(metadata: Any) -> str | None:
    """By `probability`, never by the label: a live "Closed Lost" stage was seen with probability 0.1."""
    number = _number(metadata)
    return _state(metadata) if number is None else "won" if number == 1 else "active" if number else "lost"


def _state(metadata: Any) -> str | None:
    """Tickets say `ticketState`, custom objects may say `state`, later reads add `isClosed`; nothing said is null."""
    if not isinstance(metadata, dict) or not metadata:
        return None
    state = str(metadata.get("ticketState") or metadata.get("state")).upper()
    return "closed" if state == "CLOSED" or str(metadata.get("isClosed")).lower() == "true" else "active"


def _display_order(record: Any) -> tuple[float, str]:
    """Lists come unsorted; equal orders stand by their labels."""
    order = record.get("displayOrder")
    return order if isinstance(order, (int, float)) else 0, str(record.get("label"))


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
    "tickets": _pipeline(_stage(Field("status", "metadata", values=TICKET_STATUS, read=_state, absent="active"))),
}
OTHER_PIPELINE = _pipeline(_stage(Field("status", "metadata", values=OTHER_STATUS, read=_state, fixed=True)))


def _table(entity: str) -> Table:
    return PIPELINE.get(entity, OTHER_PIPELINE)


def list_(call: Call) -> Flow:
    """HubSpot answers all pipelines of an object type at once; there is no paging."""
    return (yield Request("GET", _path(call), main=True)).records("results")


def get(call: Call, id_: str) -> Flow:
    """One pipeline with its stages."""
    return (yield Request("GET", _path(call, id_), main=True)).object()


def create(call: Call) -> Flow:
    """One call makes the pipeline with its stages, or nothing."""
    body = {"displayOrder": 0, **_table(call.entity).to_remote(call.values)}
    body["stages"] = _complete(call, body.get("stages", []))
    return (yield Request("POST", _path(call), json=body, main=True, creates=Reply.object)).created


def _path(call: Call, *ids: str) -> str:
    return "/".join((PIPELINES, segment(call.entity), *map(segment, ids)))


def _write(call: Call, pipeline: Record, body: Record) -> Request:
    return Request("PATCH", _path(call, pipeline["id"]), query=_validate(call, VALIDATE[1]), json=body)


def _change(call: Call, pipeline: Record, stage: Record, body: Record) -> Request:
    """A stage's PATCH wants its metadata, and puts it in the place of all there was."""
    metadata = dict(body.get("metadata", stage.get("metadata")) or {})
    if "metadata" in body:
        metadata.pop("isClosed", None)  # HubSpot works it out from the rest
    path = _path(call, pipeline["id"], "stages", stage["id"])
    return Request("PATCH", path, json={**body, "metadata": metadata})


def _remove(call: Call, pipeline: Record, stage: Record) -> Request:
    path = _path(call, pipeline["id"], "stages", stage["id"])
    return Request("DELETE", path, query=_validate(call, VALIDATE[0]))


def _validate(call: Call, *names: str) -> tuple[tuple[str, str], ...]:
    """Said in any case, since the default differs between versions."""
    return tuple((name, "false" if call.force else "true") for name in names)


def _again(stage: Record) -> Record:
    """With its own id, so that what pointed at it does again."""
    kept: Record = {key: stage[key] for key in ("label", "displayOrder", "metadata") if key in stage}
    return {"stageId": stage["id"], **kept}


def _complete(call: Call, stages: list[Record]) -> list[Record]:
    """Every stage needs `metadata`, and a deal's a probability: an active one's is spread between its neighbours'."""
    stages = [{"metadata": {}, **stage} for stage in stages]
    numbers = [(stage, _number(stage["metadata"])) for stage in stages if call.entity == "deals"]
    open_ = [each for each in numbers if each[1] not in (0, 1)]
    for (stage, _), value in zip(open_, spread([number for _, number in open_], step=0.1), strict=True):
        if isinstance(stage["metadata"], dict) and stage["metadata"].get("probability") is None:
            stage["metadata"] = {**stage["metadata"], "probability": f"{value:.1f}"}
    return stages


def _number(metadata: Any) -> float | None:
    try:
        return float(metadata["probability"])
    except (LookupError, TypeError, ValueError):
        return None


PROVIDER = Provider(
    name="hubspot",
    label="HubSpot",
    docs=("https://developers.hubspot.com/docs/api-reference/crm-pipelines-v3/guide",),
    base_url="https://api.hubapi.com",
    auth={"bearer": bearer, "oauth2": bearer},
    entities=ENTITIES,
    pipelines=Pipelines(
        table=_table,
        list=list_,
        get=get,
        create=create,
        editor=Editor(
            insert=lambda call, pipeline, body: Request("POST", _path(call, pipeline["id"], "stages"), json=body),
            change=_change,
            remove=_remove,
            write=_write,
            delete=lambda call, id_: Request("DELETE", _path(call, id_), query=_validate(call, *VALIDATE)),
            order="displayOrder",
            again=_again,
            complete=_complete,
        ),
    ),
    errors=(
        Rule("in_use", 400, r"IN_USE|\bin use\b"),
        Rule("duplicate", 400, r"already exists|STAGE_LABEL_EXISTS"),
        Rule("missing_scope", 403, r"MISSING_SCOPES"),
    ),
    # Private apps of the smaller plans; headers tell the account's own: https://developers.hubspot.com/docs/api/usage-details
    rate_limit=RateLimit(
        limit=100,
        limit_header="x-hubspot-ratelimit-max",
        remaining_header="x-hubspot-ratelimit-remaining",
        window_ms_header="x-hubspot-ratelimit-interval-milliseconds",
        waits={"TEN_SECONDLY_ROLLING": 10, "SECONDLY": 1, "DAILY": 3600},  # it ends at midnight: an hour is a guess
    ),
    oauth=TokenEndpoint(  # v1 is deprecated from 2027-02-16
        "https://api.hubapi.com/oauth/v3/token", "https://app.hubspot.com/oauth/authorize", rotates=False
    ),
    query_credentials=frozenset({"hapikey"}),
    scope_keys=("requiredGranularScopes", "requiredScopes"),
)
