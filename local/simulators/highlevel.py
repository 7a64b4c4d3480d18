"""HighLevel, as https://marketplace.gohighlevel.com/docs/ghl/opportunities/create-pipeline, …/get-pipelines,
…/get-pipeline, …/update-pipeline, …/delete-pipeline and …/search-opportunity describe it.

[seen] is what others met when they called the live API, [guess] what nobody has written down."""

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from uuid import UUID

from local.simulators.base import Account, Received, Refused, Reply, Simulator, route

PIPELINES = "/opportunities/pipelines"
PIPELINE = "/opportunities/pipelines/{pipeline_id}"
SEARCH = "/opportunities/search"

LOCATION = "demoLocation00000001"
PHRASES = {400: "Bad Request", 404: "Not Found", 422: "Unprocessable Entity"}
# What a PUT may not send back [seen].
FIXED = ("id", "position", "dateAdded", "dateUpdated", "locationId")
# What a search can be narrowed by, and how parameters were called before v3.
FILTERS = ("locationId", "pipelineId", "pipelineStageId")
SNAKES = ("location_id", "pipeline_id", "pipeline_stage_id", "contact_id", "assigned_to")

Check = tuple[Callable[[Any], bool], str]
FLAG: Check = (lambda value: isinstance(value, bool), "must be a boolean value")
# What optional fields must be (null is as good as not there) and what is said of them otherwise.
PIPELINE_FIELDS: dict[str, Check] = {
    "showInFunnel": FLAG,
    "showInPieChart": FLAG,
    "useOpportunityProbability": FLAG,
    "colorRenderMode": (lambda value: value in ("dot", "bg-tint", "none"), "must be one of dot, bg-tint, none"),
}
STAGE_FIELDS: dict[str, Check] = {
    "showInFunnel": FLAG,
    "showInPieChart": FLAG,
    "id": (lambda value: isinstance(value, str), "must be a string"),
    "position": (lambda value: type(value) is int and value >= 0, "must be an integer number"),
    "stageWinProbability": (lambda v: type(v) in (int, float) and 0 <= v <= 100, "must be a number from 0 to 100"),
    "color": (lambda value: re.fullmatch("#[0-9A-Fa-f]{6}", str(value)) is not None, "must be a hexadecimal color"),
}


class HighLevelSimulator(Simulator):
    name = "highlevel"
    demo_account_id = "1e0be83d-ad41-40b2-95b9-bbcf19c94a08"
    demo_account: ClassVar[Account] = {
        "provider": "highlevel",
        "tenant": "demo",
        "credentials": {"type": "bearer", "token": "pit-demo-highlevel-4c1d7a92"},
        "settings": {"location_id": LOCATION},
    }
    accounts = (
        {
            "provider": "highlevel",
            "tenant": "demo",
            "credentials": {
                "type": "oauth2",
                "access_token": "highlevel-demo-access-token-5e0b",
                "refresh_token": "highlevel-demo-refresh-token-a83f",
                "expires_at": "2099-01-01T00:00:00Z",
                "client_id": "highlevel-demo-client",
                "client_secret": "highlevel-demo-client-secret-19c6",
            },
            "settings": {"location_id": LOCATION},
        },
    )
    worlds = ({}, {"wrapped": True, "created_status": 201})
    settings: ClassVar[dict[str, Any]] = {
        # A pipeline is answered bare [documented] or as {"pipeline": {…}, "traceId"} [seen].
        "wrapped": False,
        # 200 [documented] or 201 [seen].
        "created_status": 200,
        # For a pipeline that is not there: 404, 400 or 422 [guess].
        "missing_status": 404,
        # How many reads after a write still show what was there before it [seen, of the list]; writes never do.
        "lag": 0,
        # The reads that lag: "list", or "all" for those by id too.
        "lag_of": "list",
        # The token's scopes, such as `pipelines.write`; None is all of them.
        "scopes": None,
        # The position of a first stage in replies: 0 [recorded] or 1 [in a documented example].
        "counts_from": 0,
        # Whether a DELETE is answered without {"success": true} [guess].
        "bodyless_delete": False,
    }
    times = frozenset({"dateAdded", "dateUpdated", "createdAt", "updatedAt"})

    def fresh(self) -> dict[str, Any]:
        # What lagging reads show: pipelines before a write, and how often still, the oldest first.
        self._stale: list[tuple[list[dict[str, Any]], int]] = []
        return {"pipelines": [], "opportunities": []}

    def view(self, entity: str | None) -> list[dict[str, Any]]:
        if entity not in (None, "opportunity"):
            return []
        shown = []
        for pipeline in _in_order(self._pipelines):
            stages = [{"id": s["id"], "name": s["name"], "status": "active"} for s in _in_order(pipeline["stages"])]
            shown.append({"id": pipeline["id"], "name": pipeline["name"], "stages": stages})
        return shown

    def plant(self, name: str, stages: list[dict[str, Any]], entity: str | None, remote: dict[str, Any]) -> str:
        """A stage's `status` is passed over: HighLevel has none."""
        if entity not in (None, "opportunity"):
            raise ValueError(f"HighLevel has no pipelines for {entity}")
        made = self._stages([{"name": stage["name"]} for stage in stages], own=False)
        planted = [{**new, **stage.get("remote", {})} for new, stage in zip(made, stages, strict=True)]
        pipeline = {**self._new_pipeline({"name": name}, planted), **remote}
        self._pipelines.append(pipeline)
        for new, stage in zip(planted, stages, strict=True):
            self.fill(new["id"], stage.get("records", 0), pipeline["id"], None)
        return str(pipeline["id"])

    def fill(self, stage_id: str, records: int, pipeline_id: str, entity: str | None) -> None:  # noqa: ARG002
        home = next(each for each in self._pipelines if stage_id in [stage["id"] for stage in each["stages"]])
        others = [deal for deal in self.state["opportunities"] if deal["pipelineStageId"] != stage_id]
        self.state["opportunities"] = others + [self._opportunity(home, stage_id) for _ in range(records)]

    def admit(self, request: Received) -> None:
        credentials = [account["credentials"] for account in (self.demo_account, *self.accounts)]
        if request.bearer not in [value.get("token", value.get("access_token")) for value in credentials]:
            private = (request.bearer or "").startswith("pit-")
            raise self._refused(401, "Invalid Private Integration token" if private else "Invalid JWT")
        # The gateway's two answers to a wrong Version are 401 as well [seen].
        if "version" not in request.headers:
            raise self._refused(401, "version header was not found.")
        if request.headers["version"] != "v3":
            raise self._refused(401, "version header is invalid")
        if request.body and request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise self._refused(415, "Unsupported Media Type")  # [guess]

    def no_route(self, request: Received, allowed: tuple[str, ...]) -> Reply:  # noqa: ARG002
        """A wrong method is a wrong path here [seen]."""
        return self._error(f"Cannot {request.method} {request.path}", 404).reply

    def too_many(self, retry_after: int | None) -> Reply:
        headers = self.rate_headers(self.world["rate_limit"] or 100, 0, retry_after or self.world["rate_window"])
        if retry_after is not None:  # HighLevel never says; a test that cannot wait does
            headers["Retry-After"] = str(retry_after)
        return Reply(429, {"statusCode": 429, "message": "Too Many Requests"}, headers)

    def rate_headers(self, limit: int, remaining: int, reset: float) -> dict[str, str]:  # noqa: ARG002
        return {
            "x-ratelimit-max": str(limit),
            "x-ratelimit-remaining": str(remaining),
            "x-ratelimit-interval-milliseconds": str(round(self.world["rate_window"] * 1000)),
            "x-ratelimit-limit-daily": "200000",
            "x-ratelimit-daily-remaining": str(200_000 - len(self._received)),
            "x-ratelimit-daily-reset": "43200000",
        }

    # Pipelines

    @route("GET", PIPELINES)
    def list_pipelines(self, request: Received) -> Reply:
        self._scope("opportunities.readonly")
        self._location(dict(request.query).get("locationId"))
        found = [each for each in self._read() if each["locationId"] == LOCATION]
        return Reply(200, {"pipelines": [self._shown(each) for each in _in_order(found)], "traceId": self._uuid()})

    @route("POST", PIPELINES)
    def create_pipeline(self, request: Received) -> Reply:
        self._scope("pipelines.create")
        body = self._object(request)
        self._location(body.get("locationId"))
        faults = _name_faults("name", body.get("name")) + _faults("", PIPELINE_FIELDS, body)
        self._check(faults + _stage_faults(body))
        self._unique(body["name"])
        own = body.get("useOpportunityProbability") is True
        pipeline = self._new_pipeline(body, self._stages(body["stages"], own))
        self._write()
        self._pipelines.append(pipeline)
        return self._one(pipeline, self.world["created_status"])

    @route("GET", PIPELINE)
    def read_pipeline(self, request: Received, pipeline_id: str) -> Reply:  # noqa: ARG002
        self._scope("pipelines.readonly")
        pipelines = self._read() if self.world["lag_of"] == "all" else self._pipelines
        return self._one(self._find(pipelines, pipeline_id))

    @route("PUT", PIPELINE)
    def update_pipeline(self, request: Received, pipeline_id: str) -> Reply:
        """The stages are replaced as a whole: what a kept one is not sent again with falls to its default [guess]."""
        self._scope("pipelines.write")
        body = self._object(request)
        faults = [f"property {key} should not exist" for key in FIXED if key in body]
        faults += _name_faults("name", body["name"]) if body.get("name") is not None else []
        faults += _stage_faults(body) if body.get("stages") is not None else []
        self._check([*faults, *_faults("", PIPELINE_FIELDS, body)])
        pipeline = self._find(self._pipelines, pipeline_id)
        if body.get("stages") is None:  # the text and the form are [seen], the status is a [guess]
            nothing = "null" if "stages" in body else "undefined"
            message = f"Cannot read properties of {nothing} (reading 'map')"
            raise Refused(Reply(400, {"success": False, "message": message}))
        ids = [item["id"] for item in body["stages"] if item.get("id")]
        held = [stage["id"] for stage in pipeline["stages"]]
        self._check([f"Stage {each} does not exist" for each in ids if each not in held or ids.count(each) > 1])
        changed = {**pipeline, **_given(body, "name", *PIPELINE_FIELDS), "dateUpdated": self._timestamp()}
        self._unique(changed["name"], pipeline)
        changed["stages"] = self._stages(body["stages"], changed["useOpportunityProbability"], keep=True)
        self._write()
        pipeline.update(changed)
        left = [stage["id"] for stage in _in_order(pipeline["stages"])]
        for deal in self.state["opportunities"]:
            if deal["pipelineId"] == pipeline_id and deal["pipelineStageId"] not in left:
                deal["pipelineStageId"] = left[0]
        return self._one(pipeline)

    @route("DELETE", PIPELINE)
    def delete_pipeline(self, request: Received, pipeline_id: str) -> Reply:  # noqa: ARG002
        self._scope("pipelines.write")
        pipeline = self._find(self._pipelines, pipeline_id)
        self._write()
        self._pipelines.remove(pipeline)
        self.state["opportunities"] = [
            deal for deal in self.state["opportunities"] if deal["pipelineId"] != pipeline_id
        ]
        return Reply(200, None if self.world["bodyless_delete"] else {"success": True})

    @route("GET", SEARCH)
    def search(self, request: Received) -> Reply:
        self._scope("opportunities.readonly")
        query = dict(request.query)
        faults = [f"property {key} should not exist" for key in SNAKES if key in query]
        limit = query.get("limit", "20")
        if not re.fullmatch("0*([1-9][0-9]?|100)", limit):
            faults.append("limit must be a number from 1 to 100")
        self._check(faults)
        self._location(query.get("locationId"))
        found = [
            deal
            for deal in self.state["opportunities"]
            if all(deal[key] == query.get(key, deal[key]) for key in FILTERS)
        ]
        meta = {"total": len(found), "startAfter": None, "startAfterId": None}
        reply = {"opportunities": found[: int(limit)], "meta": meta, "aggregations": {}, "traceId": self._uuid()}
        return Reply(200, reply)

    # What is there

    @property
    def _pipelines(self) -> list[dict[str, Any]]:
        held: list[dict[str, Any]] = self.state["pipelines"]
        return held

    def _write(self) -> None:
        """Called before a change: keeps what the next reads may still show."""
        if self.world["lag"]:
            self._stale.append((copy.deepcopy(self._pipelines), self.world["lag"]))

    def _read(self) -> list[dict[str, Any]]:
        if not self._stale:
            return self._pipelines
        oldest = self._stale[0][0]
        self._stale = [(pipelines, left - 1) for pipelines, left in self._stale if left > 1]
        return oldest

    def _find(self, pipelines: list[dict[str, Any]], pipeline_id: str) -> dict[str, Any]:
        for pipeline in pipelines:
            if pipeline["id"] == pipeline_id:
                self._location(pipeline["locationId"])
                return pipeline
        status = self.world["missing_status"]
        raise self._error(["Pipeline not found"] if status == 422 else "Pipeline not found", status)

    def _new_pipeline(self, body: Mapping[str, Any], stages: list[dict[str, Any]]) -> dict[str, Any]:
        now = self._timestamp()
        return {
            "id": self.letters(20),
            "name": body["name"],
            "stages": stages,
            "showInFunnel": True,
            "showInPieChart": True,
            "useOpportunityProbability": False,
            "dateAdded": now,
            "dateUpdated": now,
            "locationId": LOCATION,
            "position": f"a{next(self.numbers):06}",
            **_given(body, *PIPELINE_FIELDS),
        }

    def _stages(self, asked: list[dict[str, Any]], own: bool, keep: bool = False) -> list[dict[str, Any]]:
        """The stages as they are listed, numbered from 0 by the positions given, else by their places.

        `own`: whether probabilities of their own count, `keep`: whether ids do (a new pipeline's never do [guess]).
        """
        wished = [place if item.get("position") is None else item["position"] for place, item in enumerate(asked)]
        order = sorted(range(len(asked)), key=wished.__getitem__)
        own = own and all(item.get("stageWinProbability") is not None for item in asked)
        return [
            {
                "id": (keep and item.get("id")) or self._uuid(),
                "name": item["name"],
                "position": order.index(place),
                "stageWinProbability": round((order.index(place) + 1) / (len(asked) + 1) * 100, 2),
                "showInFunnel": True,
                "showInPieChart": True,
                **_given(item, "showInFunnel", "showInPieChart", "color", *(["stageWinProbability"] if own else [])),
            }
            for place, item in enumerate(asked)
        ]

    def _opportunity(self, pipeline: Mapping[str, Any], stage_id: str) -> dict[str, Any]:
        now = self._timestamp()
        return {
            "id": self.letters(20),
            "name": f"Opportunity {next(self.numbers)}",
            "monetaryValue": 100,
            "pipelineId": pipeline["id"],
            "pipelineStageId": stage_id,
            "status": "open",
            "createdAt": now,
            "updatedAt": now,
            "contactId": self.letters(20),
            "locationId": pipeline["locationId"],
        }

    def _shown(self, pipeline: Mapping[str, Any]) -> dict[str, Any]:
        first = self.world["counts_from"]
        return {**pipeline, "stages": [{**item, "position": item["position"] + first} for item in pipeline["stages"]]}

    def _one(self, pipeline: Mapping[str, Any], status: int = 200) -> Reply:
        shown = self._shown(pipeline)
        return Reply(status, {"pipeline": shown, "traceId": self._uuid()} if self.world["wrapped"] else shown)

    def _uuid(self) -> str:
        return str(UUID(int=self.random.getrandbits(128), version=4))

    def _timestamp(self) -> str:
        return self.now().replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"

    # What is refused

    def _scope(self, needed: str) -> None:
        """Looked at before the location [seen]."""
        if self.world["scopes"] is not None and needed not in self.world["scopes"]:
            raise self._refused(401, "The token is not authorized for this scope.")

    def _location(self, location: Any) -> None:
        if not location or not isinstance(location, str):
            raise self._error(["locationId can't be undefined"])
        if location != LOCATION:
            raise self._refused(403, "The token does not have access to this location.")

    def _object(self, request: Received) -> dict[str, Any]:
        """No body is an empty object."""
        if request.body and not isinstance(request.json, dict):
            raise self._error("Unexpected token in JSON", 400)
        return request.json or {}

    def _check(self, faults: list[str]) -> None:
        if faults:
            raise self._error(faults)

    def _unique(self, name: str, own: Mapping[str, Any] | None = None) -> None:
        others = [each for each in self._pipelines if each is not own and each["locationId"] == LOCATION]
        taken = [each["name"].casefold() for each in others]
        self._check([f"Pipeline with name {name} already exists"] if name.casefold() in taken else [])  # [guess]

    def _error(self, message: str | list[str], status: int = 422) -> Refused:
        body = {"message": message, "error": PHRASES[status], "statusCode": status, "traceId": self._uuid()}
        return Refused(Reply(status, body))

    def _refused(self, status: int, message: str) -> Refused:
        """The gateway's refusals are shorter [seen], though an `error` is documented with them."""
        return Refused(Reply(status, {"statusCode": status, "message": message}))


def _in_order(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(items, key=lambda item: item["position"])


def _given(body: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: body[key] for key in keys if body.get(key) is not None}


def _faults(where: str, fields: Mapping[str, Check], body: Mapping[str, Any]) -> list[str]:
    given = _given(body, *fields)
    return [f"{where}{key} {fault}" for key, (good, fault) in fields.items() if key in given and not good(given[key])]


def _name_faults(where: str, name: Any) -> list[str]:
    faults = [] if isinstance(name, str) else [f"{where} must be a string"]
    faults += [] if name else [f"{where} should not be empty"]
    return [*faults, *([f"{where} must be shorter than or equal to 255 characters"] if len(str(name)) > 255 else [])]


def _stage_faults(body: Mapping[str, Any]) -> list[str]:
    asked = body.get("stages")
    if not isinstance(asked, list):  # these three stand together [seen]
        return ["stages must contain at least 1 elements", "stages must be an array", "stages should not be empty"]
    if not asked:
        return ["stages must contain at least 1 elements", "stages should not be empty"]
    if not all(isinstance(item, dict) for item in asked):
        return ["each value in nested property stages must be either object or array"]
    faults = []
    for index, item in enumerate(asked):
        where = f"stages.{index}."
        faults += [*_name_faults(f"{where}name", item.get("name")), *_faults(where, STAGE_FIELDS, item)]
    names = [str(item.get("name")).casefold() for item in asked]
    return faults + (["Stage names must be unique"] if not faults and len(set(names)) < len(names) else [])
