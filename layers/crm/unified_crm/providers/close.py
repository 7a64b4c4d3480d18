"""Close.

Pipelines: https://developer.close.com/api/resources/pipelines
Their stages: https://developer.close.com/api/resources/opportunity-statuses
"""

from __future__ import annotations

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
    basic_key,
    bearer,
    segment,
)

STATUS = {"active": "active", "won": "won", "lost": "lost"}  # unified: Close

STAGE = Table(
    Field("id", read_only=True),
    Field("name", "label", required=True),
    Field("status", "type", values=STATUS, absent="active"),
)
PIPELINE = Table(
    Field("id", read_only=True),
    Field("name", required=True),
    Field("stages", "statuses", each=STAGE),
    Field("created_at", "date_created", read_only=True, read=timestamp),
    Field("updated_at", "date_updated", read_only=True, read=timestamp),
)


def create(call: Call) -> Flow:
    """One call where Close makes the statuses along with the pipeline, else one more for each of them.

    Close's own example script sends `statuses` with the pipeline and its API description knows only `name`, so what
    came back decides: https://github.com/closeio/closeio-api-scripts
    """
    body = PIPELINE.to_remote(call.values)
    reply = yield Request("POST", "/pipeline/", json=body, main=True, undo=_delete_made)
    pipeline = reply.object()
    wanted: list[Record] = body.get("statuses", [])
    present = _statuses(pipeline)
    if not wanted or _same(present, wanted):
        return pipeline
    statuses: list[Record | None] = [_take(present, status) for status in wanted]
    for stranger in present:  # what Close made by itself, or not as asked; nothing uses it yet
        yield Request("DELETE", f"/status/opportunity/{segment(stranger['id'])}/")
    for index, status in enumerate(wanted):
        if statuses[index] is None:
            made = yield Request("POST", "/status/opportunity/", json={**status, "pipeline_id": pipeline["id"]})
            statuses[index] = made.object()
    path = f"/pipeline/{segment(pipeline['id'])}/"
    order = [{"id": status["id"]} for status in statuses if status]
    shown = (yield Request("GET", path, fallback={**pipeline, "statuses": statuses})).object()
    strangers = [status for status in _statuses(shown) if {"id": status["id"]} not in order]
    for stranger in strangers:  # honoured after all, though the first reply did not show it
        yield Request("DELETE", f"/status/opportunity/{segment(stranger['id'])}/")
    if not strangers and _same(_statuses(shown), wanted):
        return shown
    return (yield Request("PUT", path, json={"name": pipeline["name"], "statuses": order})).object()


def list_(_: Call) -> Flow:
    """Close answers all pipelines at once and documents no paging."""
    return (yield Request("GET", "/pipeline/", main=True)).records("data")


def _delete_made(reply: Reply) -> Undo:
    pipeline = reply.object()
    return Undo("pipeline", pipeline["id"], pipeline.get("name"), lambda: _delete(pipeline["id"]))


def _delete(id_: str) -> Flow:
    """Close deletes a pipeline only when it holds no statuses."""
    path = f"/pipeline/{segment(id_)}/"
    for status in reversed(_statuses((yield Request("GET", path)).object())):
        yield Request("DELETE", f"/status/opportunity/{segment(status['id'])}/")
    yield Request("DELETE", path)


def _statuses(pipeline: Record) -> list[Record]:
    return [status for status in pipeline.get("statuses") or [] if isinstance(status, dict)]


def _same(present: list[Record], wanted: list[Record]) -> bool:
    return [_key(each) for each in present] == [_key(each) for each in wanted]


def _take(present: list[Record], wanted: Record) -> Record | None:
    for index, each in enumerate(present):
        if _key(each) == _key(wanted):
            return present.pop(index)
    return None


def _key(status: Record) -> tuple[str | None, str]:
    return status.get("label"), status.get("type") or "active"


PROVIDER = Provider(
    name="close",
    label="Close",
    docs=(
        "https://developer.close.com/api/resources/pipelines",
        "https://developer.close.com/api/resources/opportunity-statuses",
    ),
    base_url="https://api.close.com/api/v1",
    auth={"api_key": basic_key, "bearer": bearer, "oauth2": bearer},
    entities=Entities({"opportunity": "opportunity"}),
    pipelines=Resource(table=lambda _: PIPELINE, create=create, list=list_),
    errors=(
        Rule("duplicate", 400, r"already (exists|in use)|duplicate|unique"),
        Rule("in_use", 400, r"(still|has|have|contains?|used by|assigned).*(status|opportunit)"),
    ),
    rate_limit=RateLimit(limit=100, window=60),
)
