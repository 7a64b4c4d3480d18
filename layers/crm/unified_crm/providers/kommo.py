"""Kommo, and amoCRM, which is the same under another name.

Pipelines and their stages: https://developers.kommo.com/reference/leads-pipelines-and-stages
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from unified_crm.mapping import Field, Table, whole
from unified_crm.provider import (
    LABEL,
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
    segment,
)

PIPELINES = "/leads/pipelines"
# These two are in every pipeline, under the same ids, and can be neither moved nor deleted.
WON, LOST = 142, 143
STATUS = {"active": None, "won": WON, "lost": LOST}  # unified: the id of the status that means it
INCOMING = 1


def _closing_last(stages: list[dict[str, Any]]) -> Iterable[tuple[int, str, str]]:
    """There is one won stage and one lost, and they stand behind all others."""
    seen: set[str] = set()
    said = [each.get("status") or "active" for each in stages]
    for index, status in enumerate(said):
        if status in seen:
            yield index, "status", f"Kommo has one stage {status!r} in a pipeline"
        elif status != "active" and "active" in said[index:]:
            yield index, "status", f"Kommo keeps the stage {status!r} behind those that are active"
        elif status == "won" and "lost" in seen:
            yield index, "status", "Kommo keeps the stage 'won' before the stage 'lost'"
        else:
            seen |= {status} - {"active"}


def _sort(record: Record) -> tuple[int, int]:
    return whole(record.get("sort")) or 0, whole(record.get("id")) or 0


STAGE = Table(
    Field("id", read_only=True, derive=lambda status: f"{status['pipeline_id']}:{status['id']}"),
    Field("name", required=True),
    Field(
        "status",
        "id",
        values=STATUS,
        absent="active",
        read=lambda id_: {WON: "won", LOST: "lost"}.get(id_, "active"),
        fixed=True,
        with_pipeline=("won", "lost"),
    ),
    order=_sort,
    judge=_closing_last,
)
PIPELINE = Table(
    Field("id", read_only=True, read=str),
    Field("name", required=True),
    Field("stages", "_embedded.statuses", each=STAGE),
    order=_sort,
)


def list_(_: Call) -> Flow:
    """All pipelines at once; an account without any answers nothing [seen]."""
    reply = yield Request("GET", PIPELINES, main=True)
    return [] if reply.status == 204 else [_own(each) for each in reply.records("_embedded", "pipelines")]


def get(_: Call, id_: str) -> Flow:
    """One pipeline with its stages."""
    return _own((yield Request("GET", _path(id_), main=True)).object())


def create(call: Call) -> Flow:
    """One call makes the pipeline with its stages, or nothing."""
    body = PIPELINE.to_remote(call.values)
    statuses = body.get("_embedded", {}).get("statuses", [])
    for index, status in enumerate(statuses):
        if status.get("id") not in (WON, LOST):
            status.setdefault("sort", 20 + 10 * index)
    # `is_main` would replace the account's main pipeline, `is_unsorted_on` adds a stage of incoming leads.
    body = {"sort": 1000, "is_main": False, "is_unsorted_on": False, **body}
    return (yield Request("POST", PIPELINES, json=body, as_list=True, main=True, creates=_created)).created


def _created(reply: Reply) -> Record:
    return _own(reply.records("_embedded", "pipelines")[0])


def _own(pipeline: Record) -> Record:
    """With the pipeline's id in each status, by which alone one is told from that of another pipeline."""
    statuses = PIPELINE["stages"].remote_value(pipeline)
    listed = statuses if isinstance(statuses, list) else []
    return PIPELINE["stages"].into(pipeline, [{"pipeline_id": pipeline["id"], **each} for each in listed])


def _path(id_: Any, *more: Any) -> str:
    return "/".join((PIPELINES, segment(id_), *map(segment, more)))


def _insert(_: Call, pipeline: Record, body: Record) -> Request:
    return Request("POST", _path(pipeline["id"], "statuses"), json=body, as_list=True)


def _change(_: Call, pipeline: Record, status: Record, body: Record) -> Request:
    return Request("PATCH", _path(pipeline["id"], "statuses", status["id"]), json=body)


def _remove(_: Call, pipeline: Record, status: Record) -> Request:
    return Request("DELETE", _path(pipeline["id"], "statuses", status["id"]))


def _occupied(_: Call, pipeline: Record, status: Record | None) -> Flow:
    """Deleting a status moves its leads to the first one, silently. A pipeline with leads is not deleted by itself."""
    if status is None:
        return False
    where = "filter[statuses][0]"
    query = ((f"{where}[pipeline_id]", str(pipeline["id"])), (f"{where}[status_id]", str(status["id"])), ("limit", "1"))
    reply = yield Request("GET", "/leads", query=query)
    return reply.status != 204 and bool(reply.records("_embedded", "leads"))


PROVIDER = Provider(
    name="kommo",
    label="Kommo",
    docs=("https://developers.kommo.com/reference/leads-pipelines-and-stages",),
    base_url="https://{subdomain}.{domain}/api/v4",
    settings=(
        Setting("subdomain", "the account's own label, acme of acme.kommo.com", pattern=LABEL, required=True),
        Setting(
            "domain",
            "kommo.com, amocrm.ru or amocrm.com",
            pattern=r"kommo\.com|amocrm\.ru|amocrm\.com",
            default="kommo.com",
        ),
        Setting(
            "redirect_uri", "the integration's redirect URI, which a refresh must name", pattern=r"https://\S{1,500}"
        ),
    ),
    auth={"bearer": bearer, "oauth2": bearer},
    oauth=TokenEndpoint(
        url="https://{subdomain}.{domain}/oauth2/access_token",
        authorize="https://www.kommo.com/oauth",
        body="json",
        redirect_uri=True,
    ),
    entities=Entities({"opportunity": "lead"}),
    pipelines=Pipelines(
        table=lambda _: PIPELINE,
        list=list_,
        get=get,
        create=create,
        id="[0-9]{1,18}",
        stage_id="[0-9]{1,18}:[0-9]{1,18}",
        owner=lambda stage_id: stage_id.partition(":")[0],
        editor=Editor(
            insert=_insert,
            inserted=lambda reply, own: {"pipeline_id": own["id"], **reply.records("_embedded", "statuses")[0]},
            change=_change,
            remove=_remove,
            write=lambda _, pipeline, body: Request("PATCH", _path(pipeline["id"]), json=body),
            delete=lambda _, id_: Request("DELETE", _path(id_)),
            order="sort",
            renumbers=True,
            again=lambda status: {"name": status["name"], "sort": status["sort"]},
            fixed=lambda status: status.get("id") in (WON, LOST) or status.get("type") == INCOMING,
            occupied=_occupied,
        ),
    ),
    errors=(
        Rule("in_use", 400, method="DELETE"),  # refused for the last pipeline, and for one with leads; how, is not said
        Rule("in_use", 409, method="DELETE"),
        Rule("in_use", 422, method="DELETE"),
        Rule("rate_limited", 403, r"too many|blocked"),  # what comes of going on after many a 429
        Rule("forbidden", 402),
    ),
    # Going on after a 429 ends in a block: the waits where nothing tells them are guesses on the safe side.
    rate_limit=RateLimit(limit=7, pace=7, wait_key="retry_after", waits={"block": 3600}, window=5, blocks=True),
)
