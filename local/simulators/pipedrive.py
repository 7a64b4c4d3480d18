"""Pipedrive, API v2, as https://developers.pipedrive.com/docs/api/v1/Pipelines,
https://developers.pipedrive.com/docs/api/v1/Stages (both describe v2 as well) and
https://pipedrive.readme.io/docs/pipedrive-api-v2-migration-guide describe it; limits and scopes by
https://pipedrive.readme.io/docs/core-api-concepts-rate-limiting and
https://pipedrive.readme.io/docs/marketplace-oauth-authorization."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any, ClassVar

from local.simulators.base import HTML, PAGE, Account, Received, Refused, Reply, Simulator, route

PIPELINES = "/api/v2/pipelines"
PIPELINE = PIPELINES + "/{id_}"
STAGES = "/api/v2/stages"
STAGE = STAGES + "/{id_}"
DEALS = "/api/v2/deals"

SORTS = ("id", "add_time", "update_time")
DEFAULT_LIMIT, MAX_LIMIT = 100, 500
# What each call asks of a token. Looking at deals is no matter for `admin`.
READ_DEALS = frozenset({"deals:read", "deals:full"})
READ = READ_DEALS | {"admin"}
WRITE = frozenset({"admin"})
INFO = "Please check developers.pipedrive.com"
# Real order numbers were 6 and then 10, side by side.
JUMP = 4
# The fields that a body may write, and of what kind each is.
PIPELINE_FIELDS = {"name": "text", "is_deal_probability_enabled": "flag"}
STAGE_FIELDS = {
    "name": "text",
    "pipeline_id": "number",
    "deal_probability": "percentage",
    "is_deal_rot_enabled": "flag",
    "days_to_rotten": "days",
}


class PipedriveSimulator(Simulator):
    name = "pipedrive"
    demo_account_id = "b049d115-dee4-4025-b55f-4e02613d6ccd"
    demo_account: ClassVar[Account] = {
        "provider": "pipedrive",
        "tenant": "demo",
        "credentials": {"type": "api_key", "api_key": "pipedrive-demo-api-token-61d0b8"},
        "settings": {},
    }
    accounts = (
        {
            "provider": "pipedrive",
            "tenant": "demo",
            "credentials": {
                "type": "oauth2",
                "access_token": "pipedrive-demo-access-token-f2a7",
                "refresh_token": "pipedrive-demo-refresh-token-40ce",
                "expires_at": "2099-01-01T00:00:00Z",
                "client_id": "pipedrive-demo-client",
                "client_secret": "pipedrive-demo-client-secret-9b13",
            },
            "settings": {"api_domain": "https://demo.pipedrive.com"},
        },
    )
    worlds = ({}, {"ready_made": ("Qualified", "Contact Made")})
    settings: ClassVar[dict[str, Any]] = {
        # The stages that a pipeline is born with: none, as recorded of v1 and guessed of v2.
        "ready_made": (),
        # A number cuts lists shorter than the `limit` that was asked for.
        "page_size": None,
        # What a POST answers: 200 is documented, v1 was recorded with 201.
        "created_status": 200,
        # Where order numbers start: 0 and 1 were both recorded.
        "first_order": 0,
        # Whether a GET by id no longer finds what is marked as deleted. That it still does is a guess.
        "deleted_are_404": False,
        # The token's scopes; None is all of them. Here they bind an API token too, where Pipedrive has permissions.
        "scopes": None,
        # How many pipelines the plan allows; None is no limit.
        "plan_limit": None,
        # Whether the company account waits for a payment.
        "unpaid": False,
        # Whether the company's daily budget of tokens is spent.
        "daily_exhausted": False,
        # Whether Cloudflare blocks the caller, as it does those who go on after many a 429.
        "cloudflare": False,
    }
    times = frozenset({"add_time", "update_time"})

    def fresh(self) -> dict[str, Any]:
        return {"pipelines": [], "stages": [], "deals": []}

    def view(self, entity: str | None) -> list[dict[str, Any]]:
        if entity not in (None, "opportunity"):
            return []
        return [
            {
                "id": str(pipeline["id"]),
                "name": pipeline["name"],
                "stages": [
                    {"id": str(stage["id"]), "name": stage["name"], "status": "active"}
                    for stage in self._stages_of(pipeline["id"])
                ],
            }
            for pipeline in sorted(_live(self.state["pipelines"]), key=lambda item: int(item["id"]))
        ]

    def plant(self, name: str, stages: list[dict[str, Any]], entity: str | None, remote: dict[str, Any]) -> str:
        """A stage's `status` is passed over: won and lost are a deal's."""
        if entity not in (None, "opportunity"):
            raise ValueError(f"Pipedrive has no pipelines for {entity}")
        pipeline = self._new_pipeline({"name": name, **remote})
        for item in stages:
            stage = self._new_stage({"pipeline_id": pipeline["id"], "name": item["name"], **item.get("remote", {})})
            self.fill(str(stage["id"]), item.get("records", 0), "", None)
        return str(pipeline["id"])

    def fill(self, stage_id: str, records: int, pipeline_id: str, entity: str | None) -> None:  # noqa: ARG002
        if not any(str(stage["id"]) == stage_id for stage in self.state["stages"]):
            raise LookupError(f"no stage {stage_id}")
        others = [deal for deal in self.state["deals"] if str(deal["stage_id"]) != stage_id]
        self.state["deals"] = others + [self._deal(int(stage_id)) for _ in range(records)]

    @classmethod
    def authorization(cls, account: Account) -> dict[str, str]:
        credentials = account["credentials"]
        if credentials["type"] == "api_key":
            return {"x-api-token": credentials["api_key"]}
        return super().authorization(account)

    def admit(self, request: Received) -> None:
        if self.world["cloudflare"]:
            raise Refused(Reply(403, PAGE, {"Server": "cloudflare"}, HTML))
        credentials = [account["credentials"] for account in (self.demo_account, *self.accounts)]
        keys = [value["api_key"] for value in credentials if value["type"] == "api_key"]
        tokens = [value["access_token"] for value in credentials if value["type"] == "oauth2"]
        if request.headers.get("x-api-token") not in keys and request.bearer not in tokens:
            wrong = "Invalid token: access token is invalid" if request.bearer else "unauthorized access"
            raise self._stopped(401, wrong)
        if self.world["unpaid"]:
            raise self._stopped(402, "Company account is not open")  # the words are a guess
        if self.world["daily_exhausted"]:
            refusal = self.too_many(None)
            raise Refused(Reply(refusal.status, refusal.body, {**refusal.headers, **self.rate_headers(20, 19, 2.0)}))
        scopes, deals = self.world["scopes"], request.path == DEALS
        if scopes is not None and not (READ_DEALS if deals else READ if request.method == "GET" else WRITE) & {*scopes}:
            raise self._stopped(403, "Scope and URL mismatch")
        if request.body and request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise self._refused(415, "Unsupported Media Type")  # a guess: nothing says how another type is refused

    def no_route(self, request: Received, allowed: tuple[str, ...]) -> Reply:  # noqa: ARG002
        if allowed:
            return Reply(405, self._refused(405, "Method not allowed").reply.body, {"Allow": ", ".join(allowed)})
        return self._refused(404, "Not found").reply

    def too_many(self, retry_after: int | None) -> Reply:
        """The body is a guess, `Retry-After` reported and not documented."""
        headers = {"x-ratelimit-limit": str(self.world["rate_limit"] or 20), "x-ratelimit-remaining": "0"}
        if retry_after is not None:
            headers |= {"x-ratelimit-reset": str(retry_after), "Retry-After": str(retry_after)}
        return Reply(429, self._stopped(429, "request over limit").reply.body, {**headers, **self._budget()})

    def rate_headers(self, limit: int, remaining: int, reset: float) -> dict[str, str]:
        values = {"limit": limit, "remaining": remaining, "reset": ceil(reset)}
        return {**{f"x-ratelimit-{key}": str(value) for key, value in values.items()}, **self._budget()}

    # Pipelines

    @route("GET", PIPELINES)
    def list_pipelines(self, request: Received) -> Reply:
        return self._page(request, _live(self.state["pipelines"]), SORTS)

    @route("POST", PIPELINES)
    def create_pipeline(self, request: Received) -> Reply:
        """Stages in the body are passed over."""
        values = self._values(request, PIPELINE_FIELDS, "name")
        limit = self.world["plan_limit"]
        if limit is not None and len(_live(self.state["pipelines"])) >= limit:
            # The code is the documented one for deals; what it is for pipelines is not said.
            raise self._refused(403, "Pipelines limit reached.", "feature_capping_deals_limit")
        pipeline = self._new_pipeline(values)
        for name in self.world["ready_made"]:
            self._new_stage({"pipeline_id": pipeline["id"], "name": name})
        return _answer(pipeline, self.world["created_status"])

    @route("GET", PIPELINE)
    @route("GET", STAGE)
    def read(self, request: Received, id_: str) -> Reply:
        return _answer(self._find(request, id_))

    @route("PATCH", PIPELINE)
    def change_pipeline(self, request: Received, id_: str) -> Reply:
        pipeline = self._find(request, id_)
        self._change(pipeline, self._values(request, PIPELINE_FIELDS))
        return _answer(pipeline)

    @route("DELETE", PIPELINE)
    def delete_pipeline(self, request: Received, id_: str) -> Reply:
        """Never refused because of deals, which stay where they are: no word is written about them."""
        pipeline = self._find(request, id_)
        for item in (*self._stages_of(pipeline["id"]), pipeline):
            self._change(item, {"is_deleted": True})
        return _answer({"id": pipeline["id"]})

    # Stages

    @route("GET", STAGES)
    def list_stages(self, request: Received) -> Reply:
        return self._page(request, _live(self.state["stages"]), (*SORTS, "order_nr"), "pipeline_id")

    @route("POST", STAGES)
    def create_stage(self, request: Received) -> Reply:
        values = self._values(request, STAGE_FIELDS, "name", "pipeline_id")
        return _answer(self._new_stage(values), self.world["created_status"])

    @route("PATCH", STAGE)
    def change_stage(self, request: Received, id_: str) -> Reply:
        """A stage that moves goes to the end of the other pipeline (a guess), with its deals."""
        stage = self._find(request, id_)
        values = self._values(request, STAGE_FIELDS)
        left, there = stage["pipeline_id"], values.get("pipeline_id", stage["pipeline_id"])
        if there != left:
            values["order_nr"] = self._next_order(self._stages_of(there))
        self._change(stage, values)
        if there != left:
            self._renumber(left)
        return _answer(stage)

    @route("DELETE", STAGE)
    def delete_stage(self, request: Received, id_: str) -> Reply:
        stage = self._find(request, id_)
        self._change(stage, {"is_deleted": True})
        self._renumber(stage["pipeline_id"])
        return _answer({"id": stage["id"]})

    # Deals, to look at

    @route("GET", DEALS)
    def list_deals(self, request: Received) -> Reply:
        pipelines = {stage["id"]: stage["pipeline_id"] for stage in self.state["stages"]}
        deals = [{**deal, "pipeline_id": pipelines[deal["stage_id"]]} for deal in self.state["deals"]]
        return self._page(request, deals, SORTS, "pipeline_id", "stage_id")

    # What is there

    def _stages_of(self, pipeline_id: int) -> list[dict[str, Any]]:
        own = [stage for stage in _live(self.state["stages"]) if stage["pipeline_id"] == pipeline_id]
        return sorted(own, key=lambda stage: (stage["order_nr"], stage["id"]))

    def _new_pipeline(self, values: Mapping[str, Any]) -> dict[str, Any]:
        pipeline = {
            "id": _next_id(self.state["pipelines"]),
            "name": None,
            "order_nr": self._next_order(_live(self.state["pipelines"])),
            "is_deleted": False,
            "is_deal_probability_enabled": True,
            "add_time": self._timestamp("seconds"),
            "update_time": None,
            **values,
        }
        self.state["pipelines"].append(pipeline)
        return pipeline

    def _new_stage(self, values: Mapping[str, Any]) -> dict[str, Any]:
        stage = {
            "id": _next_id(self.state["stages"]),
            "order_nr": self._next_order(self._stages_of(values["pipeline_id"])),
            "name": None,
            "is_deleted": False,
            # On every stage, the first one too.
            "deal_probability": 100,
            "pipeline_id": None,
            "is_deal_rot_enabled": False,
            "days_to_rotten": None,
            "add_time": self._timestamp("seconds"),
            "update_time": None,
            **values,
        }
        self.state["stages"].append(stage)
        return stage

    def _deal(self, stage_id: int) -> dict[str, Any]:
        """The fields that tell something; its pipeline is its stage's."""
        number, now = next(self.numbers), self._timestamp("seconds")
        deal = {"id": number, "title": f"Deal {number}", "owner_id": 1, "stage_id": stage_id, "status": "open"}
        return {**deal, "value": 0, "currency": "EUR", "is_deleted": False, "add_time": now, "update_time": now}

    def _next_order(self, siblings: Iterable[Mapping[str, Any]]) -> int:
        first: int = self.world["first_order"]
        last = max((int(item["order_nr"]) for item in siblings), default=None)
        return first if last is None else last + (1 if last == first else JUMP)

    def _renumber(self, pipeline_id: int) -> None:
        """Close the ranks after a stage went. That the server renumbers is recorded, on what occasion is a guess."""
        for order, stage in enumerate(self._stages_of(pipeline_id), self.world["first_order"]):
            self._change(stage, {"order_nr": order})

    def _change(self, item: dict[str, Any], values: Mapping[str, Any]) -> None:
        """`update_time` is null until something really changes."""
        if any(item[key] != value for key, value in values.items()):
            item.update(values, update_time=self._timestamp("milliseconds"))

    def _timestamp(self, precision: str) -> str:
        """RFC 3339 in UTC, milliseconds there or not: the migration guide shows both forms."""
        return self.now().replace(tzinfo=None).isoformat(timespec=precision) + "Z"

    def _find(self, request: Received, id_: str) -> dict[str, Any]:
        """What is marked as deleted can be read (a guess), and no more than that."""
        number = self._whole("id", id_)
        readable = request.method == "GET" and not self.world["deleted_are_404"]
        items: list[dict[str, Any]] = self.state["stages" if request.path.startswith(STAGES) else "pipelines"]
        for item in items:
            if item["id"] == number and (readable or not item["is_deleted"]):
                return item
        raise self._refused(404, "Object was not found.")

    # Lists

    def _page(self, request: Received, items: list[dict[str, Any]], sorts: tuple[str, ...], *filters: str) -> Reply:
        query = dict(request.query)
        for key in filters:
            if key in query:
                wanted = self._whole(key, query[key])
                items = [item for item in items if item[key] == wanted]
        limit = self._whole("limit", query.get("limit", str(DEFAULT_LIMIT)))
        by, direction = query.get("sort_by", "id"), query.get("sort_direction", "asc")
        wrong = {"limit": not 1 <= limit <= MAX_LIMIT, "sort_by": by not in sorts}
        self._check({**wrong, "sort_direction": direction not in ("asc", "desc")})
        blank: str | int = "" if by.endswith("time") else 0

        def rank(item: Mapping[str, Any]) -> list[Any]:
            return [blank if item[by] is None else item[by], item["id"]]

        found = sorted(items, key=rank, reverse=direction == "desc")
        if "cursor" in query:
            mark = self._mark(query["cursor"], by, type(blank))
            found = [item for item in found if (rank(item) <= mark if direction == "desc" else rank(item) >= mark)]
        size = min(limit, self.world["page_size"] or limit)
        cursor = None
        if size < len(found):
            cursor = urlsafe_b64encode(json.dumps([by, *rank(found[size])]).encode()).decode()
        return Reply(200, {"success": True, "data": found[:size], "additional_data": {"next_cursor": cursor}})

    def _mark(self, cursor: str, by: str, kind: type) -> list[Any]:
        """The rank of the first item on the page that a cursor stands for."""
        mark: list[Any] = []
        try:
            sort, *mark = json.loads(urlsafe_b64decode(cursor))
        except (ValueError, TypeError, RecursionError):
            sort = ""
        self._check({"cursor": sort != by or [type(part) for part in mark] != [kind, int]})
        return mark

    # What is refused

    def _values(self, request: Received, fields: Mapping[str, str], *required: str) -> dict[str, Any]:
        """The known fields of a body. Others are passed over, save an order, which nothing can write."""
        body = request.json
        if not isinstance(body, dict):
            raise self._refused(400, "Validation failed: body: Expected an object", "ERR_SCHEMA_VALIDATION_FAILED")
        wrong = {key: key in body and not _is(kind, body[key]) for key, kind in fields.items()}
        missing = {key: True for key in required if key not in body}
        self._check({**wrong, **missing, "order_nr": "order_nr" in body})
        there = body.get("pipeline_id") if "pipeline_id" in fields else None
        if there is not None and all(pipeline["id"] != there for pipeline in _live(self.state["pipelines"])):
            raise self._refused(400, "Pipeline does not exist.", "ERR_SCHEMA_VALIDATION_FAILED")
        return {key: body[key] for key in fields if key in body}

    def _whole(self, name: str, text: str) -> int:
        """A number in an address."""
        self._check({name: not re.fullmatch(r"[0-9]{1,18}", text)})
        return int(text)

    def _check(self, wrong: Mapping[str, bool]) -> None:
        if names := [name for name, is_wrong in wrong.items() if is_wrong]:
            error = f"Validation failed: {', '.join(names)}: Invalid or missing value"
            raise self._refused(400, error, "ERR_SCHEMA_VALIDATION_FAILED")

    def _refused(self, status: int, error: str, code: str | None = None) -> Refused:
        """The error form of the calls themselves."""
        body = {"success": False, "error": error, "error_info": INFO, "data": None, "additional_data": None}
        return Refused(Reply(status, {**body, "code": code} if code else body))

    def _stopped(self, status: int, error: str) -> Refused:
        """The error form of the gateway before them."""
        return Refused(Reply(status, {"success": False, "error": error, "errorCode": status, "error_info": INFO}))

    def _budget(self) -> dict[str, str]:
        left = "0" if self.world["daily_exhausted"] else "29000"
        return {"x-daily-ratelimit-token-limit": "30000", "x-daily-ratelimit-token-remaining": left}


def _live(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for item in items if not item["is_deleted"]]


def _is(kind: str, value: Any) -> bool:
    """Numbers are JSON numbers and flags true or false: v2 makes neither of a text, nor one of the other."""
    number = isinstance(value, int) and not isinstance(value, bool)
    match kind:
        case "text":
            return isinstance(value, str) and bool(value.strip())
        case "flag":
            return isinstance(value, bool)
        case "percentage":
            return number and 0 <= value <= 100
        case "days":
            return value is None or (number and value >= 0)
    return number


def _next_id(items: Iterable[Mapping[str, Any]]) -> int:
    """Pipelines and stages count for themselves, so one number is often both's."""
    return max((int(item["id"]) for item in items), default=0) + 1


def _answer(item: Mapping[str, Any], status: int = 200) -> Reply:
    return Reply(status, {"success": True, "data": item})
