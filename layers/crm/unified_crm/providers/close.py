"""Close.

Pipelines: https://developer.close.com/api/resources/pipelines
Their stages: https://developer.close.com/api/resources/opportunity-statuses
"""

from __future__ import annotations

from unified_crm.mapping import Field, Table, merge, timestamp
from unified_crm.paging import ByOffset, every
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
    basic_key,
    bearer,
    segment,
)

STATUS = {"active": "active", "won": "won", "lost": "lost"}  # unified: Close

STAGE = Table(
    Field("id", read_only=True),
    Field("name", "label", required=True),
    Field("status", "type", values=STATUS, absent="active", fixed=True),  # no call is documented to change it
)
PIPELINE = Table(
    Field("id", read_only=True),
    Field("name", required=True),
    Field("stages", "statuses", each=STAGE),
    Field("created_at", "date_created", read_only=True, read=timestamp),
    Field("updated_at", "date_updated", read_only=True, read=timestamp),
)

# No paging is documented; replies carry `has_more`, and Close's other lists page like this.
PAGING = ByOffset("data", "_skip", more="has_more", limit=("_limit", 100), bare_first=True)


def list_(_: Call) -> Flow:
    """All pipelines with their statuses."""
    return (yield from every(Request("GET", "/pipeline/", main=True), PAGING))


def get(_: Call, id_: str) -> Flow:
    """One pipeline with its statuses."""
    return (yield Request("GET", _pipeline(id_), main=True)).object()


def create(call: Call) -> Flow:
    """One call where Close makes the statuses along with the pipeline, else one more for each of them.

    Close's own example script sends `statuses` with the pipeline and its API description knows only `name`, so what
    came back decides: https://github.com/closeio/closeio-api-scripts
    """
    body = merge(PIPELINE.to_remote(call.values), call.remote_data)
    reply = yield Request("POST", "/pipeline/", json=body, main=True, creates=Reply.object)
    pipeline = reply.object()
    wanted = _statuses(body)
    present = _statuses(pipeline)
    if not wanted or _same(present, wanted):
        return pipeline
    taken = [_take(present, status) for status in wanted]
    for stranger in present:  # what Close made by itself, or not as asked; nothing uses it yet
        yield _remove(call, pipeline, stranger)
    made: list[Record] = []
    for found, status in zip(taken, wanted, strict=True):
        made.append(found or (yield _insert(call, pipeline, status)).object())
    path = _pipeline(pipeline["id"])
    shown = (yield Request("GET", path, fallback={**pipeline, "statuses": made})).object()
    strangers = [each for each in _statuses(shown) if each["id"] not in [status["id"] for status in made]]
    for stranger in strangers:  # honoured after all, though the first reply did not show it
        yield _remove(call, pipeline, stranger)
    if not any(taken) and not strangers and _same(_statuses(shown), wanted):
        return shown
    pipeline = {**pipeline, "statuses": made}
    return {**pipeline, **(yield _write(call, pipeline, {})).object()}


def _write(_: Call, pipeline: Record, body: Record) -> Request:
    """What PUT does with a name or statuses that it leaves out is not documented: both are always there, in order."""
    statuses = [{"id": status["id"]} for status in _statuses(pipeline)]
    return Request("PUT", _pipeline(pipeline["id"]), json={"name": pipeline["name"], "statuses": statuses, **body})


def _insert(_: Call, pipeline: Record, body: Record) -> Request:
    return Request("POST", "/status/opportunity/", json={**body, "pipeline_id": pipeline["id"]})


def _change(_: Call, __: Record, status: Record, body: Record) -> Request:
    return Request("PUT", _status(status["id"]), json=body)


def _delete(_: Call, id_: str) -> Request:
    return Request("DELETE", _pipeline(id_))


def _remove(_: Call, __: Record, status: Record) -> Request:
    return Request("DELETE", _status(status["id"]))


def _pipeline(id_: str) -> str:
    return f"/pipeline/{segment(id_)}/"


def _status(id_: str) -> str:
    return f"/status/opportunity/{segment(id_)}/"


def _statuses(pipeline: Record) -> list[Record]:
    return [status for status in pipeline.get("statuses") or [] if isinstance(status, dict)]


def _same(present: list[Record], wanted: list[Record]) -> bool:
    return len(present) == len(wanted) and all(map(_alike, present, wanted))


def _take(present: list[Record], wanted: Record) -> Record | None:
    for index, each in enumerate(present):
        if _alike(each, wanted):
            return present.pop(index)
    return None


def _alike(present: Record, wanted: Record) -> bool:
    """By id where the caller's own `remote_data` names one, which Close then moves here."""
    if "id" in wanted:
        return bool(present.get("id") == wanted["id"])
    return (present.get("label"), present.get("type") or "active") == (
        wanted.get("label"),
        wanted.get("type") or "active",
    )


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
    pipelines=Pipelines(
        table=lambda _: PIPELINE,
        list=list_,
        get=get,
        create=create,
        editor=Editor(
            insert=_insert,
            change=_change,
            remove=_remove,
            write=_write,
            arrange=lambda call, pipeline, statuses: _write(call, {**pipeline, "statuses": statuses}, {}),
            again=lambda status: {"label": status["label"], "type": status.get("type") or "active"},
            delete=_delete,
            stages_first=True,  # Close deletes a pipeline only when it holds no statuses
        ),
    ),
    errors=(
        Rule("in_use", 400, method="DELETE"),  # its text is not documented, and a deletion has nothing else to refuse
        Rule("duplicate", 400, r"already exists|\bduplicate\b|must be unique"),
    ),
    rate_limit=RateLimit(limit=100),
)
