"""HighLevel (GoHighLevel), API v3.

Pipelines: https://marketplace.gohighlevel.com/docs/ghl/opportunities/create-pipeline
Changing one: https://marketplace.gohighlevel.com/docs/ghl/opportunities/update-pipeline
"""

from __future__ import annotations

from unified_crm.mapping import Field, Table, timestamp, whole
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
    segment,
)
from unified_crm.spread import spread

PIPELINES = "/opportunities/pipelines"
# What goes back with a PUT: it replaces all stages, and refuses fields of the pipeline that it fills in by itself.
STAGE_FIELDS = ("id", "name", "showInFunnel", "showInPieChart", "stageWinProbability", "color")
FLAGS = ("showInFunnel", "showInPieChart", "useOpportunityProbability")

STAGE = Table(
    Field("id", read_only=True),
    Field("name", required=True),
    # Won and lost are an opportunity's own, whatever the stage's probability.
    Field("status", values={"active": None}, derive=lambda _: "active"),
    order=lambda stage: whole(stage.get("position")) or 0,  # from 0, and in one documented example from 1
)
PIPELINE = Table(
    Field("id", read_only=True),
    Field("name", required=True),
    Field("stages", required=True, each=STAGE),
    Field("created_at", "dateAdded", read_only=True, read=timestamp),
    Field("updated_at", "dateUpdated", read_only=True, read=timestamp),
    order=lambda pipeline: str(pipeline.get("position") or ""),
)


def list_(call: Call) -> Flow:
    """All pipelines of the location, at once."""
    return (yield Request("GET", PIPELINES, query=_location(call), main=True)).records("pipelines")


def get(_: Call, id_: str) -> Flow:
    """One pipeline with its stages."""
    return _pipeline((yield Request("GET", _path(id_), main=True)))


def create(call: Call) -> Flow:
    """One call makes the pipeline with its stages, or nothing."""
    body = {**PIPELINE.to_remote(call.values), **dict(_location(call))}
    body["stages"] = [{**each, "position": index} for index, each in enumerate(body.get("stages", []))]
    return (yield Request("POST", PIPELINES, json=body, main=True, creates=_pipeline)).created


def _pipeline(reply: Reply) -> Record:
    """Bare as documented, or under `pipeline` as seen."""
    found = reply.object()
    return reply.object("pipeline") if isinstance(found.get("pipeline"), dict) else found


def _path(id_: str) -> str:
    return f"{PIPELINES}/{segment(id_)}"


def _location(call: Call) -> tuple[tuple[str, str], ...]:
    return (("locationId", str(call.settings.get("location_id"))),)


def _replace(_: Call, pipeline: Record, body: Record, stages: list[Record]) -> Request:
    """Name and stages are always both there: without stages it was seen to fail, whatever the documentation says."""
    kept = {key: pipeline[key] for key in FLAGS if key in pipeline}
    stored = {stage.get("id"): stage for stage in pipeline.get("stages") or []}
    sent = []
    for index, stage in enumerate(stages):
        before = stored.get(stage.get("id"), {})
        mine = {key: value for key, value in stage.items() if key in STAGE_FIELDS or key not in before}
        sent.append({**mine, "position": index})
    if kept.get("useOpportunityProbability"):
        sent = _with_probabilities(sent)
    return Request("PUT", _path(pipeline["id"]), json={**kept, "name": pipeline["name"], **body, "stages": sent})


def _with_probabilities(stages: list[Record]) -> list[Record]:
    """One stage without its own would have all of them replaced by an even ramp: a new one's is between its
    neighbours'."""
    said = [stage.get("stageWinProbability") for stage in stages]
    known = [each if isinstance(each, int | float) else None for each in said]
    filled = spread(known, step=1, high=100)
    return [{**stage, "stageWinProbability": value} for stage, value in zip(stages, filled, strict=True)]


def _again(stage: Record) -> Record:
    return {key: stage[key] for key in STAGE_FIELDS if key in stage and key != "id"}


def _occupied(call: Call, pipeline: Record, stage: Record | None) -> Flow:
    """Deleting a pipeline erases its opportunities for good, and those of a stage move without a word."""
    where = () if stage is None else (("pipelineStageId", str(stage["id"])),)
    query = (*_location(call), ("pipelineId", str(pipeline["id"])), *where, ("limit", "1"))
    return bool((yield Request("GET", "/opportunities/search", query=query)).records("opportunities"))


PROVIDER = Provider(
    name="highlevel",
    label="HighLevel",
    docs=(
        "https://marketplace.gohighlevel.com/docs/ghl/opportunities/create-pipeline",
        "https://marketplace.gohighlevel.com/docs/ghl/opportunities/update-pipeline",
    ),
    base_url="https://services.leadconnectorhq.com",
    headers={"version": "v3"},
    settings=(
        Setting("location_id", "the id of the location (sub-account)", pattern="[A-Za-z0-9_-]{1,64}", required=True),
    ),
    auth={"bearer": bearer, "oauth2": bearer},
    oauth=TokenEndpoint(
        url="https://services.leadconnectorhq.com/oauth/token",
        authorize="https://marketplace.gohighlevel.com/oauth/chooselocation",
        extra={"user_type": "Location"},
        scopes=("opportunities.readonly", "pipelines.readonly", "pipelines.create", "pipelines.write"),
    ),
    entities=Entities({"opportunity": "opportunity"}),
    pipelines=Pipelines(
        table=lambda _: PIPELINE,
        list=list_,
        get=get,
        create=create,
        lag=5,  # "by seconds": https://marketplace.gohighlevel.com/docs/ghl/opportunities/search-opportunity
        editor=Editor(
            replace=_replace,
            replaced=_pipeline,
            again=_again,
            delete=lambda _, id_: Request("DELETE", _path(id_)),
            occupied=_occupied,
        ),
    ),
    errors=(
        Rule("missing_scope", 401, r"not authorized for this scope"),
        Rule("duplicate", 400, r"already exists|duplicate|must be unique"),  # its status is not documented
        Rule("duplicate", 422, r"already exists|duplicate|must be unique"),
        Rule("not_found", 400, r"pipeline[^.]{0,40}(not found|does not exist)"),
        Rule("not_found", 422, r"pipeline[^.]{0,40}(not found|does not exist)"),
    ),
    rate_limit=RateLimit(
        limit=100,
        limit_header="x-ratelimit-max",
        remaining_header="x-ratelimit-remaining",
        window_ms_header="x-ratelimit-interval-milliseconds",
        window=10,  # a 429 has no Retry-After: one interval
        daily_header="x-ratelimit-daily-remaining",
        daily_reset_ms_header="x-ratelimit-daily-reset",
    ),
    success_key="success",
)
