"""ActiveCampaign, API v3. A pipeline is a `dealGroup` there, a stage a `dealStage`.

Pipelines: https://developers.activecampaign.com/reference/create-a-pipeline
Their stages: https://developers.activecampaign.com/reference/create-a-deal-stage
"""

from __future__ import annotations

from unified_crm.mapping import Field, Table, timestamp, whole
from unified_crm.paging import ByOffset, every
from unified_crm.provider import (
    Call,
    Editor,
    Entities,
    Flow,
    Need,
    Pipelines,
    Provider,
    RateLimit,
    Record,
    Reply,
    Request,
    Rule,
    Setting,
    key_in,
    segment,
)

# Stages of deleted pipelines stay in this list; those that are in no pipeline are dropped.
ALL_STAGES = ByOffset("dealStages", total="meta.total")
MAX_PAGES = 100


def _order(stage: Record) -> tuple[int, int]:
    """Texts in reads, numbers in replies to creates; equal orders are allowed, and what they mean is not defined."""
    return whole(stage.get("order")) or 0, whole(stage.get("id")) or 0


STAGE = Table(
    Field("id", read_only=True, read=str),
    Field("name", "title", required=True),
    Field("status", values={"active": None}, derive=lambda _: "active"),  # won and lost are a deal's own
    Field("created_at", "cdate", read_only=True, read=timestamp),
    # After a deletion `udate` was seen to hold the UTC clock under the account's own offset: hours ahead.
    Field("updated_at", "udate", read_only=True, read=timestamp, filterable=False),
    order=_order,
    envelope="dealStage",
)
PIPELINE = Table(
    Field("id", read_only=True, read=str),
    Field("name", "title", required=True),
    Field("stages", "dealStages", each=STAGE, apart=True),  # `stages` itself is a list of ids, in no promised order
    Field("created_at", "cdate", read_only=True, read=timestamp),
    Field("updated_at", "udate", read_only=True, read=timestamp, filterable=False),
    order=lambda pipeline: whole(pipeline.get("id")) or 0,
    envelope="dealGroup",
)


def list_(_: Call) -> Flow:
    """All pipelines, page by page; each page shows the stages of its pipelines, else they are read by themselves."""
    pipelines: list[Record] = []
    stages: list[Record] = []
    for _page in range(MAX_PAGES):
        query = (("limit", "100"), ("offset", str(len(pipelines)))) if pipelines else (("limit", "100"),)
        reply = yield Request("GET", "/dealGroups", query=query, main=True)
        found = reply.records("dealGroups")
        pipelines += found
        stages += reply.records("dealStages") if "dealStages" in reply.object() else []
        total = whole((reply.object().get("meta") or {}).get("total"))  # a number, documented as a text
        if not found or (total is not None and len(pipelines) >= total):
            break
    if not _all_shown(pipelines, stages):
        stages = yield from every(Request("GET", "/dealStages"), ALL_STAGES)
    return [_with(each, stages) for each in pipelines]


def get(_: Call, id_: str) -> Flow:
    """One pipeline with its stages."""
    group = _group((yield Request("GET", _pipeline(id_), main=True)))
    if _all_shown([group], group.get("dealStages") or []):
        return group
    of_this = Request("GET", "/dealStages", query=(("filters[d_groupid]", id_),))
    return _with(group, (yield from every(of_this, ALL_STAGES)))


def create(call: Call) -> Flow:
    """The pipeline, and with it three stages that nobody asked for: they are renamed, or deleted, as it takes."""
    body = PIPELINE.to_remote(call.values)
    if call.settings.get("currency"):
        body["currency"] = call.settings["currency"].lower()
    request = Request("POST", "/dealGroups", json={"dealGroup": body}, main=True, creates=_group)
    return (yield request).created


def _group(reply: Reply) -> Record:
    group = reply.object("dealGroup")
    return _with(group, reply.records("dealStages")) if "dealStages" in reply.object() else group


def _all_shown(groups: list[Record], stages: list[Record]) -> bool:
    shown = {str(each.get("id")) for each in stages}
    return all(str(id_) in shown for each in groups for id_ in each.get("stages") or [])


def _with(group: Record, stages: list[Record]) -> Record:
    return {**group, "dealStages": [each for each in stages if str(each.get("group")) == str(group["id"])]}


def _write(_: Call, pipeline: Record, body: Record) -> Request:
    """PUT documents defaults for three flags: they are sent back as they were read [guess: it would reset them]."""
    kept = {key: pipeline[key] for key in ("allgroups", "allusers", "autoassign") if key in pipeline}
    return Request("PUT", _pipeline(pipeline["id"]), json={"dealGroup": {**kept, **body}})


def _insert(_: Call, pipeline: Record, body: Record) -> Request:
    return Request("POST", "/dealStages", json={"dealStage": {**body, "group": pipeline["id"]}})


def _change(_: Call, __: Record, stage: Record, body: Record) -> Request:
    return Request("PUT", f"/dealStages/{segment(stage['id'])}", json={"dealStage": body})


def _remove(_: Call, __: Record, stage: Record) -> Request:
    return Request("DELETE", f"/dealStages/{segment(stage['id'])}")


def _occupied(_: Call, pipeline: Record, stage: Record | None) -> Flow:
    """Deletions destroy deals, and are never refused: https://developers.activecampaign.com/reference/delete-a-pipeline"""
    where = ("filters[group]", str(pipeline["id"])) if stage is None else ("filters[stage]", str(stage["id"]))
    reply = yield Request("GET", "/deals", query=(where, ("limit", "1")))
    total = whole((reply.object().get("meta") or {}).get("total"))
    return total > 0 if total is not None else bool(reply.records("deals"))


def _pipeline(id_: str) -> str:
    return f"/dealGroups/{segment(id_)}"


PROVIDER = Provider(
    name="activecampaign",
    label="ActiveCampaign",
    docs=(
        "https://developers.activecampaign.com/reference/create-a-pipeline",
        "https://developers.activecampaign.com/reference/create-a-deal-stage",
    ),
    base_url="{base_url}/api/3",
    settings=(
        Setting(
            "base_url",
            "the API URL that the account's page Settings, Developer shows, such as https://acme.api-us1.com",
            required=True,
            suffixes=("api-us1.com", "activehosted.com"),
        ),
        Setting("currency", "the currency of new pipelines, three letters, such as usd", pattern="[A-Za-z]{3}"),
    ),
    auth={"api_key": key_in("api-token")},
    entities=Entities({"opportunity": "deal"}),
    pipelines=Pipelines(
        table=lambda _: PIPELINE,
        list=list_,
        get=get,
        create=create,
        id="[0-9]{1,18}",
        stage_id="[0-9]{1,18}",
        needs=(Need("dealGroup.currency", "currency"),),
        settles=True,
        ready_made=("To Contact", "In Contact", "Follow Up"),
        editor=Editor(
            insert=_insert,
            inserted=lambda reply, _: reply.object("dealStage"),
            change=_change,
            remove=_remove,
            write=_write,
            delete=lambda _, id_: Request("DELETE", _pipeline(id_)),
            stages_outlive=True,
            order="order",
            again=lambda stage: {key: stage[key] for key in ("title", "order", "color", "width") if stage.get(key)},
            occupied=_occupied,
        ),
    ),
    errors=(
        # All guesses: errors are documented for other resources only. A wrong key is 403, and not 401.
        Rule("forbidden", 403, r'"(message|title|detail)"\s*:\s*"Forbidden"'),
        Rule("needs_reauth", 403),
        Rule("duplicate", 422, r'"duplicate"'),
        Rule("rate_limited", 503, r"rate limit|too many"),
    ),
    rate_limit=RateLimit(limit=5, pace=5),
    query_credentials=frozenset({"api_key"}),
)
