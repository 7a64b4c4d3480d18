"""HubSpot, as https://developers.hubspot.com/docs/api-reference/crm-pipelines-v3/guide describes it."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar
from uuid import UUID

from local.simulators.base import HTML, Account, Received, Refused, Reply, Simulator, Tokens, route

OBJECT_TYPES = frozenset(
    {
        *("deals", "tickets", "contacts", "companies", "leads", "orders", "appointments", "courses", "listings"),
        *("services", "carts", "invoices", "subscriptions", "users"),
    }
)
CUSTOM_OBJECT = re.compile(r"2-\d+|p_\w+|p\d+_\w+")
ENTITIES = {None: "deals", "opportunity": "deals", "contact": "contacts", "account": "companies"}

PIPELINES = "/crm/v3/pipelines/{object_type}"
PIPELINE = PIPELINES + "/{pipeline_id}"
STAGES = PIPELINE + "/stages"
STAGE = STAGES + "/{stage_id}"

SALES = (
    ("appointmentscheduled", "Appointment Scheduled", "0.2"),
    ("qualifiedtobuy", "Qualified To Buy", "0.4"),
    ("presentationscheduled", "Presentation Scheduled", "0.6"),
    ("decisionmakerboughtin", "Decision Maker Bought-In", "0.8"),
    ("contractsent", "Contract Sent", "0.9"),
    ("closedwon", "Closed Won", "1.0"),
    ("closedlost", "Closed Lost", "0.0"),
)
NO_STAGE = "Pipeline must have at least one stage"


class HubSpotSimulator(Simulator):
    name = "hubspot"
    demo_account_id = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
    demo_account: ClassVar[Account] = {
        "provider": "hubspot",
        "tenant": "demo",
        "credentials": {"type": "bearer", "token": "pat-demo-hubspot-7d1a9e"},
        "settings": {},
    }
    accounts = (
        {
            "provider": "hubspot",
            "tenant": "demo",
            "credentials": {
                "type": "oauth2",
                "access_token": "hubspot-demo-access-token-2b6e",
                "refresh_token": "hubspot-demo-refresh-token-91d4",
                "expires_at": "2099-01-01T00:00:00Z",
                "client_id": "hubspot-demo-client",
                "client_secret": "hubspot-demo-client-secret-c07a",
            },
            "settings": {},
        },
    )
    settings: ClassVar[dict[str, Any]] = {
        # Whether the deal pipeline that every portal is born with is there; its times are the epoch's zero.
        "default_pipeline": False,
        # Whether the token has run out.
        "expired": False,
        # The token's scopes, `crm.schemas.{object type}.read` and `.write`; None is all of them.
        "scopes": None,
        # The `policyName` of a 429: TEN_SECONDLY_ROLLING, SECONDLY or DAILY.
        "policy": "TEN_SECONDLY_ROLLING",
    }
    # https://developers.hubspot.com/docs/api-reference/auth-oauth-v3/guide: half an hour; the refresh token stays
    tokens = Tokens("/oauth/v3/token", rotates=False, seconds=1800)
    times = frozenset({"createdAt", "updatedAt"})

    def fresh(self) -> dict[str, Any]:
        state: dict[str, Any] = {"pipelines": {}, "records": {}}
        if self.world["default_pipeline"]:
            born = {"createdAt": "1970-01-01T00:00:00Z", "updatedAt": "1970-01-01T00:00:00Z"}
            stages = [
                {**self._stage(label, order, {"probability": probability}, stage_id), **born}
                for order, (stage_id, label, probability) in enumerate(SALES)
            ]
            state["pipelines"]["deals"] = [{**self._pipeline("Sales Pipeline", 0, stages, "default"), **born}]
        return state

    def view(self, entity: str | None) -> list[dict[str, Any]]:
        object_type = ENTITIES.get(entity) or str(entity)
        return [
            {
                "id": pipeline["id"],
                "name": pipeline["label"],
                "stages": [
                    {"id": stage["id"], "name": stage["label"], "status": _status(object_type, stage["metadata"])}
                    for stage in _in_order(pipeline["stages"])
                ],
            }
            for pipeline in _in_order(self._held(object_type))
        ]

    def plant(self, name: str, stages: list[dict[str, Any]], entity: str | None, remote: dict[str, Any]) -> str:
        object_type = ENTITIES.get(entity) or str(entity)
        planted = []
        for order, stage in enumerate(stages):
            metadata = _metadata(object_type, stage.get("status"), order, len(stages))
            planted.append({**self._stage(stage["name"], order, metadata), **stage.get("remote", {})})
            self.fill(planted[-1]["id"], stage.get("records", 0), "", entity)
        pipeline = {**self._pipeline(name, len(self._held(object_type)), planted), **remote}
        self._all.setdefault(object_type, []).append(pipeline)
        return str(pipeline["id"])

    def fill(self, stage_id: str, records: int, pipeline_id: str, entity: str | None) -> None:  # noqa: ARG002
        self.state["records"].pop(stage_id, None)
        if records:
            self.state["records"][stage_id] = [str(self.random.randrange(10**10, 10**11)) for _ in range(records)]

    def admit(self, request: Received) -> None:
        credentials = [account["credentials"] for account in (self.demo_account, *self.accounts)]
        private = [value["token"] for value in credentials if value["type"] == "bearer"]
        if request.bearer not in private and not self.knows(request.bearer):
            raise self._error(
                "Authentication credentials not found. This API supports OAuth 2.0 authentication.",
                401,
                "INVALID_AUTHENTICATION",
            )
        if self.world["expired"] or self.expired(request.bearer):
            raise self._error("The OAuth token used to make this call expired.", 401, "EXPIRED_AUTHENTICATION")
        if request.body and request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise self._error("Unsupported Media Type", 415)

    def no_route(self, request: Received, allowed: tuple[str, ...]) -> Reply:
        if allowed:
            return Reply(405, None, {"Allow": ", ".join(allowed)})
        return self._missing(request).reply

    def too_many(self, retry_after: int | None) -> Reply:
        policy = self.world["policy"]
        body = {
            "status": "error",
            "message": f"You have reached your {policy.lower()} limit.",
            "errorType": "RATE_LIMIT",
            "correlationId": self._correlation(),
            "policyName": policy,
        }
        return Reply(429, body, {} if retry_after is None else {"Retry-After": str(retry_after)})

    def rate_headers(self, limit: int, remaining: int, reset: float) -> dict[str, str]:  # noqa: ARG002
        return {
            "X-HubSpot-RateLimit-Max": str(limit),
            "X-HubSpot-RateLimit-Remaining": str(remaining),
            "X-HubSpot-RateLimit-Interval-Milliseconds": str(round(self.world["rate_window"] * 1000)),
            "X-HubSpot-RateLimit-Daily": "250000",
            "X-HubSpot-RateLimit-Daily-Remaining": "249000",
        }

    # Pipelines

    @route("GET", PIPELINES)
    def list_pipelines(self, request: Received, object_type: str) -> Reply:
        return Reply(
            200, {"results": [_read(object_type, item) for item in _shuffled(self._open(request, object_type))]}
        )

    @route("POST", PIPELINES)
    def create_pipeline(self, request: Received, object_type: str) -> Reply:
        self._open(request, object_type)
        body = self._object(request, "label", "displayOrder", "stages")
        self._judge(object_type, body, None)
        pipeline_id = body.get("pipelineId")
        if pipeline_id and any(item["id"] == pipeline_id for every in self._all.values() for item in every):
            raise self._error(f"Pipeline id {pipeline_id} already exists.", 409, "OBJECT_ALREADY_EXISTS")
        stages = self._stages(object_type, body["stages"], None)
        pipeline = self._pipeline(body["label"], body["displayOrder"], stages, pipeline_id)
        self._all.setdefault(object_type, []).append(pipeline)
        return Reply(201, pipeline)

    @route("GET", PIPELINE)
    def read_pipeline(self, request: Received, object_type: str, pipeline_id: str) -> Reply:
        return Reply(200, _read(object_type, self._find(request, object_type, pipeline_id)))

    @route("PATCH", PIPELINE)
    def change_pipeline(self, request: Received, object_type: str, pipeline_id: str) -> Reply:
        pipeline = self._find(request, object_type, pipeline_id)
        body = self._object(request)
        if "archived" in body:
            raise self._error("archived can only be given to restore an archived pipeline.")
        self._judge(object_type, body, pipeline)
        pipeline.update({key: body[key] for key in ("label", "displayOrder") if key in body})
        pipeline["updatedAt"] = self._timestamp()
        return Reply(200, pipeline)

    @route("PUT", PIPELINE)
    def replace_pipeline(self, request: Received, object_type: str, pipeline_id: str) -> Reply:
        """Stages that the body does not name by `stageId` are deleted, with whatever is on them."""
        pipeline = self._find(request, object_type, pipeline_id)
        body = self._object(request, "label", "displayOrder", "stages")
        self._judge(object_type, body, pipeline)
        stages = self._stages(object_type, body["stages"], pipeline)
        kept = {stage["id"] for stage in stages}
        self._let_go(request, [stage["id"] for stage in pipeline["stages"] if stage["id"] not in kept])
        pipeline.update(label=body["label"], displayOrder=body["displayOrder"], stages=stages)
        pipeline["updatedAt"] = self._timestamp()
        return Reply(200, pipeline)

    @route("DELETE", PIPELINE)
    def delete_pipeline(self, request: Received, object_type: str, pipeline_id: str) -> Reply:
        pipeline = self._find(request, object_type, pipeline_id)
        self._let_go(request, [stage["id"] for stage in pipeline["stages"]])
        self._held(object_type).remove(pipeline)
        if not self._held(object_type):
            del self._all[object_type]
        return Reply(204)

    # Stages

    @route("GET", STAGES)
    def list_stages(self, request: Received, object_type: str, pipeline_id: str) -> Reply:
        pipeline = self._find(request, object_type, pipeline_id)
        return Reply(200, {"results": _read(object_type, pipeline)["stages"]})

    @route("POST", STAGES)
    def create_stage(self, request: Received, object_type: str, pipeline_id: str) -> Reply:
        pipeline = self._find(request, object_type, pipeline_id)
        body = self._object(request, "label", "displayOrder", "metadata")
        self._unique(body, pipeline["stages"])
        metadata = self._judge_stage(object_type, body)
        self._free(body.get("stageId"))
        pipeline["stages"].append(self._stage(body["label"], body["displayOrder"], metadata, body.get("stageId")))
        return Reply(201, pipeline["stages"][-1])

    @route("GET", STAGE)
    def read_stage(self, request: Received, object_type: str, pipeline_id: str, stage_id: str) -> Reply:
        pipeline = self._find(request, object_type, pipeline_id)
        return Reply(200, _read_stage(object_type, self._find_stage(request, pipeline, stage_id)))

    @route("PATCH", STAGE)
    def change_stage(self, request: Received, object_type: str, pipeline_id: str, stage_id: str) -> Reply:
        return self._write_stage(request, object_type, pipeline_id, stage_id, "metadata")

    @route("PUT", STAGE)
    def replace_stage(self, request: Received, object_type: str, pipeline_id: str, stage_id: str) -> Reply:
        return self._write_stage(request, object_type, pipeline_id, stage_id, "label", "displayOrder", "metadata")

    @route("DELETE", STAGE)
    def delete_stage(self, request: Received, object_type: str, pipeline_id: str, stage_id: str) -> Reply:
        """204 for any stage of any pipeline: HubSpot does not say whether it was there."""
        for pipeline in self._open(request, object_type):
            left = [stage for stage in pipeline["stages"] if stage["id"] != stage_id]
            if pipeline["id"] == pipeline_id and len(left) < len(pipeline["stages"]):
                self._enough(object_type, left)
                self._let_go(request, [stage_id])
                pipeline["stages"] = left
        return Reply(204)

    def _write_stage(
        self, request: Received, object_type: str, pipeline_id: str, stage_id: str, *required: str
    ) -> Reply:
        pipeline = self._find(request, object_type, pipeline_id)
        stage = self._find_stage(request, pipeline, stage_id)
        body = self._object(request, *required)
        others = [other for other in pipeline["stages"] if other is not stage]
        self._unique(body, others)
        changed: dict[str, Any] = {
            **stage,
            **{key: body[key] for key in ("label", "displayOrder") if key in body},
            "metadata": self._judge_stage(object_type, body),
            "updatedAt": self._timestamp(),
        }
        self._enough(object_type, [*others, changed])
        stage |= changed
        return Reply(200, stage)

    # What is there

    @property
    def _all(self) -> dict[str, list[dict[str, Any]]]:
        held: dict[str, list[dict[str, Any]]] = self.state["pipelines"]
        return held

    def _held(self, object_type: str) -> list[dict[str, Any]]:
        return self._all.get(object_type, [])

    def _open(self, request: Received, object_type: str) -> list[dict[str, Any]]:
        """The pipelines of an object type that exists and that the token may see, or change."""
        if object_type not in OBJECT_TYPES and not CUSTOM_OBJECT.fullmatch(object_type):
            raise self._error(f"Unable to infer object type from: {object_type}")
        scopes = self.world["scopes"]
        kind = object_type if object_type in OBJECT_TYPES else "custom"
        needed = f"crm.schemas.{kind}.{'read' if request.method == 'GET' else 'write'}"
        if scopes is not None and needed not in scopes:
            message = "One or more of the following scopes are required."
            errors = [{"message": message, "context": {"requiredGranularScopes": [needed]}}]
            raise self._error("This app hasn't been granted all required scopes.", 403, "MISSING_SCOPES", errors=errors)
        return self._held(object_type)

    def _find(self, request: Received, object_type: str, pipeline_id: str) -> dict[str, Any]:
        for pipeline in self._open(request, object_type):
            if pipeline["id"] == pipeline_id:
                return pipeline
        if request.method == "DELETE":
            raise self._error(f"Pipeline {pipeline_id} does not exist.", 404, "OBJECT_NOT_FOUND")
        raise self._missing(request)

    def _find_stage(self, request: Received, pipeline: Mapping[str, Any], stage_id: str) -> dict[str, Any]:
        stages: list[dict[str, Any]] = pipeline["stages"]
        for stage in stages:
            if stage["id"] == stage_id:
                return stage
        raise self._missing(request)

    def _let_go(self, request: Received, stage_ids: Iterable[str]) -> None:
        """Drop what is on these stages, or refuse if the request asks for a look first."""
        records = self.state["records"]
        used = [stage_id for stage_id in stage_ids if records.get(stage_id)]
        careful = request.flag("validateReferencesBeforeDelete") or request.flag("validateDealStageUsagesBeforeDelete")
        if used and careful:
            stages = f"[{', '.join(used)}]"
            objects = f"[{', '.join(record for stage_id in used for record in records[stage_id])}]"
            raise self._error(
                f"Stage IDs: {stages} are being referenced by object IDs: {objects}",
                400,
                "VALIDATION_ERROR",
                "PipelineError.STAGE_ID_IN_USE",
                context={"stageIds": [stages], "objectIds": [objects]},
            )
        for stage_id in used:
            del records[stage_id]

    def _pipeline(
        self, label: str, order: int, stages: list[dict[str, Any]], pipeline_id: str | None = None
    ) -> dict[str, Any]:
        now = self._timestamp()
        return {
            "label": label,
            "displayOrder": order,
            "id": pipeline_id or self._id(),
            "stages": stages,
            "createdAt": now,
            "updatedAt": now,
            "archived": False,
        }

    def _stage(
        self, label: str, order: int, metadata: Mapping[str, str], stage_id: str | None = None
    ) -> dict[str, Any]:
        now = self._timestamp()
        return {
            "label": label,
            "displayOrder": order,
            "metadata": dict(metadata),
            "id": stage_id or self._id(),
            "createdAt": now,
            "updatedAt": now,
            "archived": False,
            "writePermissions": "CRM_PERMISSIONS_ENFORCEMENT",
        }

    def _id(self) -> str:
        return str(self.random.randrange(10**8, 10**9))

    def _timestamp(self) -> str:
        now = self.now()
        return now.strftime("%Y-%m-%dT%H:%M:%S") + (f".{now.microsecond // 1000:03}Z" if now.microsecond > 999 else "Z")

    # What is refused

    def _object(self, request: Received, *required: str) -> dict[str, Any]:
        body = request.json
        if not isinstance(body, dict):
            raise self._error("Invalid input JSON on line 1, column 1: expected an object.")
        if missing := [key for key in required if body.get(key) is None]:
            raise self._error(f"Invalid input JSON: some of required attributes are not set [{', '.join(missing)}]")
        for key, kind in (("label", str), ("displayOrder", int), ("pipelineId", str), ("stageId", str)):
            value = body.get(key)
            if key in body and (not isinstance(value, kind) or isinstance(value, bool)):
                raise self._error(f"Invalid input JSON: {key} must be {'a string' if kind is str else 'an integer'}.")
            if value == "" or (key == "label" and isinstance(value, str) and not value.strip()):
                raise self._error(f"{key} must not be blank.")
        return body

    def _judge(self, object_type: str, body: Mapping[str, Any], own: Mapping[str, Any] | None) -> None:
        """What can be wrong with a pipeline's own fields."""
        label = str(body.get("label", "")).casefold()
        if any(item["label"].casefold() == label and item is not own for item in self._held(object_type)):
            raise self._error(f"An active pipeline with label {body['label']} already exists.")

    def _stages(self, object_type: str, asked: Any, pipeline: Mapping[str, Any] | None) -> list[dict[str, Any]]:
        """The stages of a whole pipeline, those of `pipeline` kept where they are named by id."""
        if not isinstance(asked, list):
            raise self._error("Invalid input JSON: stages must be a list.")
        own = {stage["id"]: stage for stage in pipeline["stages"]} if pipeline else {}
        stages: list[dict[str, Any]] = []
        for item in asked:
            body = self._fields(item)
            stage_id = body.get("stageId")
            if stage_id not in own or any(stage["id"] == stage_id for stage in stages):
                self._free(stage_id, stages)
            self._unique(body, stages)
            metadata = self._judge_stage(object_type, body)
            stage = self._stage(body["label"], body["displayOrder"], metadata, stage_id)
            stages.append({**stage, "createdAt": own.get(stage_id, stage)["createdAt"]})
        self._enough(object_type, stages)
        return stages

    def _fields(self, item: Any) -> dict[str, Any]:
        inner = Received("", "", [], "", {}, b"", item)
        return self._object(inner, "label", "displayOrder", "metadata")

    def _judge_stage(self, object_type: str, body: Mapping[str, Any]) -> dict[str, str]:
        """The metadata of a stage, as the strings that HubSpot makes of it."""
        metadata = body["metadata"]
        if not isinstance(metadata, dict) or not all(isinstance(item, str | int | float) for item in metadata.values()):
            raise self._error("Invalid input JSON: metadata must be an object of strings.")
        if object_type == "deals":
            self._judge_probability(metadata.get("probability"))
        if object_type == "tickets" and metadata.get("ticketState") not in ("OPEN", "CLOSED"):
            raise self._error("ticketState must be one of [OPEN, CLOSED]")
        return {key: item if isinstance(item, str) else str(item).lower() for key, item in metadata.items()}

    def _judge_probability(self, probability: Any) -> None:
        if probability in (None, ""):
            raise self._error("must specify probability when writing a dealstage", category=None)
        try:
            valid = 0.0 <= float(probability) <= 1.0 and not isinstance(probability, bool)
        except ValueError:
            valid = False
        if not valid:
            raise self._error("probability must be a number between 0.0 and 1.0")

    def _unique(self, body: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> None:
        label = str(body.get("label", "")).casefold()
        if any(other["label"].casefold() == label for other in others):
            message = f"A stage with label {body['label']} already exists in this pipeline."
            raise self._error(message, 400, "VALIDATION_ERROR", "PipelineError.STAGE_LABEL_EXISTS")

    def _free(self, stage_id: str | None, others: Iterable[Mapping[str, Any]] = ()) -> None:
        taken = [stage["id"] for every in self._all.values() for item in every for stage in item["stages"]]
        if stage_id and stage_id in [*taken, *(other["id"] for other in others)]:
            raise self._error(
                f"Stage id {stage_id} already exists.",
                409,
                "OBJECT_ALREADY_EXISTS",
                "PipelineError.STAGE_ID_EXISTS_IN_ANOTHER_PIPELINE",
            )

    def _enough(self, object_type: str, stages: list[dict[str, Any]]) -> None:
        if not stages:
            raise self._error(NO_STAGE)
        if object_type == "tickets" and not any(stage["metadata"].get("ticketState") == "CLOSED" for stage in stages):
            message = "A ticket pipeline must have at least one closed stage."
            raise self._error(message, 400, "VALIDATION_ERROR", "PipelineError.MISSING_CLOSED_STAGE")

    def _missing(self, request: Received) -> Refused:
        """404 without a body, or, for a GET that does not say what it accepts, with HTML."""
        if request.method != "GET" or "accept" in request.headers:
            return Refused(Reply(404))
        return Refused(Reply(404, b"<html><body><h2>HTTP ERROR 404 Not Found</h2></body></html>", content_type=HTML))

    def _error(
        self,
        message: str,
        status: int = 400,
        category: str | None = "VALIDATION_ERROR",
        sub_category: str | None = None,
        **more: Any,
    ) -> Refused:
        body = {"status": "error", "message": message, "correlationId": self._correlation(), **more}
        if category:
            body["category"] = category
        if sub_category:
            body["subCategory"] = sub_category
        return Refused(Reply(status, body))

    def _correlation(self) -> str:
        return str(UUID(int=self.random.getrandbits(128), version=4))


def _status(object_type: str, metadata: Mapping[str, Any]) -> str | None:
    if object_type == "tickets":
        return {"OPEN": "active", "CLOSED": "closed"}.get(metadata.get("ticketState", ""))
    if object_type != "deals":
        return None
    return {1.0: "won", 0.0: "lost"}.get(float(metadata["probability"]), "active")


def _metadata(object_type: str, status: str | None, position: int, among: int) -> dict[str, str]:
    if object_type == "tickets":
        return {"ticketState": "OPEN" if status in (None, "active") else "CLOSED"}
    if object_type != "deals":
        return {}
    return {"probability": {"won": "1.0", "lost": "0.0"}.get(status or "", f"{0.1 + 0.8 * position / among:.1f}")}


def _in_order(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """By displayOrder, then by label."""
    return sorted(items, key=lambda item: (item["displayOrder"], item["label"]))


def _shuffled(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """HubSpot's lists are in no order; this one is always the wrong way round."""
    return _in_order(items)[::-1]


def _read(object_type: str, pipeline: Mapping[str, Any]) -> dict[str, Any]:
    return {**pipeline, "stages": [_read_stage(object_type, stage) for stage in _shuffled(pipeline["stages"])]}


def _read_stage(object_type: str, stage: Mapping[str, Any]) -> dict[str, Any]:
    """A stage as reads show it: `isClosed` is not in the replies to writes."""
    status = _status(object_type, stage["metadata"])
    closed = {} if status is None else {"isClosed": str(status != "active").lower()}
    return {**stage, "metadata": {**closed, **stage["metadata"]}}
