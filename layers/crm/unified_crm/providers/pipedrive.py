"""Pipedrive, API v2.

Pipelines: https://developers.pipedrive.com/docs/api/v1/Pipelines
Their stages: https://developers.pipedrive.com/docs/api/v1/Stages
v2 is described on the same pages, and in https://pipedrive.readme.io/docs/pipedrive-api-v2-migration-guide
"""

from __future__ import annotations

from unified_crm.mapping import Field, Table, timestamp, whole
from unified_crm.paging import ByCursor, every
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
    Setting,
    TokenEndpoint,
    bearer,
    key_in,
    segment,
)

# Ids go in and out as JSON numbers; v2 refuses "1". The largest is that of a signed 64-bit integer.
ID = r"[0-9]{1,18}"
PAGING = ByCursor("data", next="additional_data.next_cursor", limit=("limit", 500))


def _order(record: Record) -> tuple[int, int]:
    """`order_nr` begins at 0 or 1, jumps, and is Pipedrive's alone to write."""
    return whole(record.get("order_nr")) or 0, whole(record.get("id")) or 0


STAGE = Table(
    Field("id", read_only=True, read=str),
    Field("name", required=True),
    # Won and lost are a deal's own. `deal_probability` is 100 on every new stage and says nothing of that.
    Field("status", values={"active": None}, derive=lambda _: "active"),
    Field("created_at", "add_time", read_only=True, read=timestamp),
    Field("updated_at", "update_time", read_only=True, read=timestamp),
    order=_order,
)
PIPELINE = Table(
    Field("id", read_only=True, read=str),
    Field("name", required=True),
    Field("stages", each=STAGE, apart=True),
    Field("created_at", "add_time", read_only=True, read=timestamp),
    Field("updated_at", "update_time", read_only=True, read=timestamp),
    order=_order,
)


def list_(_: Call) -> Flow:
    """All pipelines, and all stages, which are a list of their own."""
    pipelines = yield from every(Request("GET", "/pipelines", main=True), PAGING)
    stages = yield from every(Request("GET", "/stages"), PAGING)
    return [_with(each, stages) for each in pipelines if not each.get("is_deleted")]


def get(_: Call, id_: str) -> Flow:
    """One pipeline and its stages; the pipeline last, so that this is what a caller sees as the raw reply."""
    stages = yield from _stages(id_)
    return _with((yield Request("GET", f"/pipelines/{segment(id_)}", main=True)).object("data"), stages)


def _stages(pipeline_id: str) -> Flow:
    return (yield from every(Request("GET", "/stages", query=(("pipeline_id", pipeline_id),)), PAGING))


def _with(pipeline: Record, stages: list[Record]) -> Record:
    own = [each for each in stages if each.get("pipeline_id") == pipeline.get("id") and not each.get("is_deleted")]
    return {**pipeline, "stages": own}


def create(call: Call) -> Flow:
    """The pipeline alone: a request for it takes no stages, and each is a call of its own.

    v1 made no stages of its own; that v2 does not is a guess, so what is there is asked for.
    """
    body = PIPELINE.to_remote(call.values)
    pipeline = (yield Request("POST", "/pipelines", json=body, main=True, creates=_data)).created
    return _with(pipeline, (yield from _stages(str(pipeline["id"]))))


def _data(reply: Reply) -> Record:
    return reply.object("data")


def _occupied(_: Call, pipeline: Record, stage: Record | None) -> Flow:
    """A deletion takes effect whatever is there, and what it does to deals is not documented: they are looked for."""
    where = ("pipeline_id", str(pipeline["id"])) if stage is None else ("stage_id", str(stage["id"]))
    deals = yield Request("GET", "/deals", query=(where, ("limit", "1")))
    none = {"data": None}.items() <= deals.object().items()  # as v1 answers an empty list
    return not none and bool(deals.records("data"))


def _insert(_: Call, pipeline: Record, body: Record) -> Request:
    """A new stage goes to the end: no request takes a place."""
    return Request("POST", "/stages", json={**body, "pipeline_id": pipeline["id"]})


PROVIDER = Provider(
    name="pipedrive",
    label="Pipedrive",
    docs=(
        "https://developers.pipedrive.com/docs/api/v1/Pipelines",
        "https://developers.pipedrive.com/docs/api/v1/Stages",
        "https://pipedrive.readme.io/docs/pipedrive-api-v2-migration-guide",
    ),
    base_url="{api_domain}/api/v2",
    settings=(
        Setting(
            "api_domain",
            "the company's own origin, https://{company}.pipedrive.com, as the token reply names it",
            default="https://api.pipedrive.com",
            suffixes=("pipedrive.com",),
        ),
    ),
    auth={"api_key": key_in("x-api-token"), "oauth2": bearer},
    oauth=TokenEndpoint(
        url="https://oauth.pipedrive.com/oauth/token",
        authorize="https://oauth.pipedrive.com/oauth/authorize",
        client_auth="basic",
        # One page says that the same refresh token comes back, another that a used one is refused: what comes is kept.
        rotates=True,
        scopes=("deals:read", "admin"),
        base_url_key="api_domain",
    ),
    entities=Entities({"opportunity": "deal"}),
    pipelines=Pipelines(
        table=lambda _: PIPELINE,
        list=list_,
        get=get,
        create=create,
        id=ID,
        stage_id=ID,
        gone=lambda pipeline: bool(pipeline.get("is_deleted")),
        settles=True,
        editor=Editor(
            insert=_insert,
            inserted=lambda reply, _: _data(reply),
            change=lambda _, __, stage, body: Request("PATCH", f"/stages/{stage['id']}", json=body),
            remove=lambda _, __, stage: Request("DELETE", f"/stages/{stage['id']}"),
            write=lambda _, pipeline, body: Request("PATCH", f"/pipelines/{pipeline['id']}", json=body),
            delete=lambda _, id_: Request("DELETE", f"/pipelines/{segment(id_)}"),
            stages_outlive=True,
            again=lambda stage: {
                key: stage[key]
                for key in ("name", "deal_probability", "is_deal_rot_enabled", "days_to_rotten")
                if stage.get(key) is not None
            },
            occupied=_occupied,
        ),
    ),
    errors=(
        Rule("missing_scope", 403, r"Scope and URL mismatch"),
        Rule("rate_limited", 403, r"<html|cloudflare"),  # what comes of going on after many a 429
        Rule("forbidden", 402),
    ),
    rate_limit=RateLimit(
        limit=20,  # the smallest plan's, in two seconds
        limit_header="x-ratelimit-limit",
        remaining_header="x-ratelimit-remaining",
        daily_header="x-daily-ratelimit-token-remaining",
        waits={"<html": 300},  # the block; how long it lasts is not documented
        window=2,
    ),
    query_credentials=frozenset({"api_token"}),
    success_key="success",
)
