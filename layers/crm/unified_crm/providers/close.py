"""Close.

Pipelines: https://developer.close.com/api/resources/pipelines
Their stages: https://developer.close.com/api/resources/opportunity-statuses
"""

from __future__ import annotations

from unified_crm.mapping import Field, Table, timestamp
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
    TokenEndpoint,
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
    """One call, where Close makes the statuses along with the pipeline; those that it does not are made one by one.

    Close's own example script sends `statuses` with the pipeline and its API description knows only `name`, so what
    came back decides: https://github.com/closeio/closeio-api-scripts
    """
    body = PIPELINE.to_remote(call.values)
    return (yield Request("POST", "/pipeline/", json=body, main=True, creates=Reply.object)).created


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
        settles=True,
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
    oauth=TokenEndpoint(url="https://api.close.com/oauth2/token/", authorize="https://app.close.com/oauth2/authorize/"),
)
