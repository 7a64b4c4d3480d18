"""Close, as https://developer.close.com/api/resources/pipelines and
https://developer.close.com/api/resources/opportunity-statuses describe it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from local.simulators.base import Account, Received, Refused, Reply, Simulator, Tokens, route

TYPES = ("active", "won", "lost")
PIPELINES = "/api/v1/pipeline/"
PIPELINE = "/api/v1/pipeline/{pipeline_id}/"
STATUSES = "/api/v1/status/opportunity/"
STATUS = "/api/v1/status/opportunity/{status_id}/"


class CloseSimulator(Simulator):
    name = "close"
    demo_account_id = "62f44730-dd91-461e-bd6a-aedd9e0ad79d"
    demo_account: ClassVar[Account] = {
        "provider": "close",
        "tenant": "demo",
        "credentials": {"type": "api_key", "api_key": "api_demo.close.4f9d2b7c1e"},
        "settings": {},
    }
    accounts = (
        {
            "provider": "close",
            "tenant": "demo",
            "credentials": {
                "type": "oauth2",
                "access_token": "close-demo-access-token-8c1f",
                "refresh_token": "close-demo-refresh-token-3e7a",
                "expires_at": "2099-01-01T00:00:00Z",
                "client_id": "close-demo-client",
                "client_secret": "close-demo-client-secret-55b0",
            },
            "settings": {},
        },
    )
    worlds = ({"inline_statuses": True}, {"inline_statuses": False})
    settings: ClassVar[dict[str, Any]] = {
        # The reference of POST /pipeline/ shows `name` alone, Close's own scripts send `statuses` with it.
        "inline_statuses": True,
        # None answers a list whole, as Close does; a number cuts it, to be read on by `_skip` and `_limit`.
        "page_size": None,
        # The three forms in https://developer.close.com/api/overview/rate-limits: "comma", "semicolon", "separate".
        "rate_headers": "comma",
    }
    tokens = Tokens("/oauth2/token/")  # https://developer.close.com/api/overview/oauth-authentication
    times = frozenset({"date_created", "date_updated"})

    def fresh(self) -> dict[str, Any]:
        return {"pipelines": [], "opportunities": {}}

    def view(self, entity: str | None) -> list[dict[str, Any]]:
        if entity not in (None, "opportunity"):
            return []
        return [
            {
                "id": pipeline["id"],
                "name": pipeline["name"],
                "stages": [{"id": s["id"], "name": s["label"], "status": s["type"]} for s in pipeline["statuses"]],
            }
            for pipeline in self._pipelines
        ]

    def plant(self, name: str, stages: list[dict[str, Any]], entity: str | None, remote: dict[str, Any]) -> str:
        if entity not in (None, "opportunity"):
            raise ValueError(f"Close has no pipelines for {entity}")
        pipeline = self._new_pipeline(name)
        for stage in stages:
            status = self._new_status(stage["name"], stage.get("status") or "active")
            pipeline["statuses"].append({**status, **stage.get("remote", {})})
            self.fill(pipeline["statuses"][-1]["id"], stage.get("records", 0), "", None)
        pipeline.update(remote)
        self._pipelines.append(pipeline)
        return str(pipeline["id"])

    def fill(self, stage_id: str, records: int, pipeline_id: str, entity: str | None) -> None:  # noqa: ARG002
        self.state["opportunities"].pop(stage_id, None)
        if records:
            self.state["opportunities"][stage_id] = records

    def admit(self, request: Received) -> None:
        credentials = [account["credentials"] for account in (self.demo_account, *self.accounts)]
        keys = [(value["api_key"], "") for value in credentials if value["type"] == "api_key"]
        known = self.knows(request.bearer) and not self.expired(request.bearer)
        if request.basic not in keys and not known:
            raise Refused(Reply(401, {"error": "Please enter a valid API key or access token."}))
        if request.body and request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Refused(Reply(415, {"error": "The request's Content-Type is not supported."}))

    def no_route(self, request: Received, allowed: tuple[str, ...]) -> Reply:  # noqa: ARG002
        if allowed:
            return Reply(
                405, {"error": "The method is not allowed for the requested URL."}, {"Allow": ", ".join(allowed)}
            )
        return Reply(404, {"error": "The requested URL was not found on the server."})

    def too_many(self, retry_after: int | None) -> Reply:
        """`error` is an object here, and a text everywhere else."""
        error = {
            "message": f"API call count exceeded for this {self.world['rate_window']:g} second window",
            "rate_limit": self.world["rate_limit"] or 100,
            "rate_window": self.world["rate_window"],
            "rate_reset": retry_after or 1,
        }
        return Reply(429, {"error": error}, {} if retry_after is None else {"Retry-After": str(retry_after)})

    def rate_headers(self, limit: int, remaining: int, reset: float) -> dict[str, str]:
        values = {"limit": limit, "remaining": remaining, "reset": round(reset, 3)}
        if self.world["rate_headers"] == "separate":
            return {f"ratelimit-{key}": str(value) for key, value in values.items()}
        mark = {"comma": ", ", "semicolon": "; "}[self.world["rate_headers"]]
        return {"RateLimit": mark.join(f"{key}={value}" for key, value in values.items())}

    # Pipelines

    @route("GET", PIPELINES)
    def list_pipelines(self, request: Received) -> Reply:
        return self._page(request, self._pipelines)

    @route("POST", PIPELINES)
    def create_pipeline(self, request: Received) -> Reply:
        body = self._object(request)
        self._check({"name": self._text(body, "name")})
        pipeline = self._new_pipeline(body["name"])
        if self.world["inline_statuses"]:
            asked = body.get("statuses", [])
            if not isinstance(asked, list) or not all(isinstance(item, dict) for item in asked):
                raise self._invalid({"statuses": "Expected a list of objects."})
            for item in asked:
                self._check({"label": self._text(item, "label"), "type": self._type(item)})
            pipeline["statuses"] = [self._new_status(item["label"], item["type"]) for item in asked]
        self._pipelines.append(pipeline)
        return Reply(201, pipeline)

    @route("GET", PIPELINE)
    def read_pipeline(self, request: Received, pipeline_id: str) -> Reply:  # noqa: ARG002
        return Reply(200, self._pipeline(pipeline_id))

    @route("PUT", PIPELINE)
    def update_pipeline(self, request: Received, pipeline_id: str) -> Reply:
        pipeline = self._pipeline(pipeline_id)
        body = self._object(request)
        if "name" in body:
            self._check({"name": self._text(body, "name")})
        if "statuses" in body:
            self._arrange(pipeline, body["statuses"])
        pipeline["name"] = body.get("name", pipeline["name"])
        pipeline["date_updated"] = self._timestamp()
        return Reply(200, pipeline)

    @route("DELETE", PIPELINE)
    def delete_pipeline(self, request: Received, pipeline_id: str) -> Reply:  # noqa: ARG002
        pipeline = self._pipeline(pipeline_id)
        if pipeline["statuses"]:
            raise self._invalid({}, "You can only delete a pipeline that has no statuses.")
        self._pipelines.remove(pipeline)
        return Reply(204)

    # Statuses

    @route("GET", STATUSES)
    def list_statuses(self, request: Received) -> Reply:
        statuses = [self._full(p, status) for p in self._pipelines for status in p["statuses"]]
        return self._page(request, statuses)

    @route("POST", STATUSES)
    def create_status(self, request: Received) -> Reply:
        body = self._object(request)
        pipeline_fault = self._text(body, "pipeline_id")
        pipeline = next((p for p in self._pipelines if p["id"] == body.get("pipeline_id")), None)
        if not pipeline and not pipeline_fault:
            pipeline_fault = "Object does not exist."
        self._check({"label": self._text(body, "label"), "type": self._type(body), "pipeline_id": pipeline_fault})
        assert pipeline
        status = self._new_status(body["label"], body["type"])
        pipeline["statuses"].append(status)
        return Reply(200, self._full(pipeline, status))

    @route("GET", STATUS)
    def read_status(self, request: Received, status_id: str) -> Reply:  # noqa: ARG002
        return Reply(200, self._full(*self._status(status_id)))

    @route("PUT", STATUS)
    def rename_status(self, request: Received, status_id: str) -> Reply:
        """Renames and no more: `type` and `pipeline_id` are passed over, as nothing documents a change of them."""
        pipeline, status = self._status(status_id)
        body = self._object(request)
        if "label" in body:
            self._check({"label": self._text(body, "label")})
            status["label"] = body["label"]
        return Reply(200, self._full(pipeline, status))

    @route("DELETE", STATUS)
    def delete_status(self, request: Received, status_id: str) -> Reply:  # noqa: ARG002
        pipeline, status = self._status(status_id)
        if self.state["opportunities"].get(status_id):
            raise self._invalid({}, "You cannot delete a status that is assigned to opportunities.")
        pipeline["statuses"].remove(status)
        return Reply(200, {})

    # What they share

    @property
    def _pipelines(self) -> list[dict[str, Any]]:
        held: list[dict[str, Any]] = self.state["pipelines"]
        return held

    def _new_pipeline(self, name: str) -> dict[str, Any]:
        now = self._timestamp()
        return {
            "id": f"pipe_{self.letters(22)}",
            "name": name,
            "organization_id": "orga_5k2GDwWrcxyAVLm0cvJzVk",
            "created_by": None,
            "updated_by": None,
            "date_created": now,
            "date_updated": now,
            "statuses": [],
        }

    def _new_status(self, label: str, kind: str) -> dict[str, Any]:
        return {"id": f"stat_{self.letters(22)}", "label": label, "type": kind}

    def _timestamp(self) -> str:
        return self.now().replace(tzinfo=None).isoformat(timespec="microseconds")

    def _full(self, pipeline: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
        return {**status, "organization_id": pipeline["organization_id"], "pipeline_id": pipeline["id"]}

    def _arrange(self, pipeline: dict[str, Any], wanted: Any) -> None:
        """Put the named statuses first, in that order, from wherever they are; the others stay, behind them."""
        if not isinstance(wanted, list) or not all(isinstance(item, dict) for item in wanted):
            raise self._invalid({"statuses": "Expected a list of objects."})
        ids = [item.get("id") for item in wanted]
        held = {status["id"]: status for p in self._pipelines for status in p["statuses"]}
        if len(set(map(repr, ids))) < len(ids) or any(not isinstance(item, str) or item not in held for item in ids):
            raise self._invalid({"statuses": "Each status must exist and be named once."})
        for other in self._pipelines:
            other["statuses"] = [status for status in other["statuses"] if status["id"] not in ids]
        pipeline["statuses"] = [held[str(item)] for item in ids] + pipeline["statuses"]

    def _pipeline(self, pipeline_id: str) -> dict[str, Any]:
        for pipeline in self._pipelines:
            if pipeline["id"] == pipeline_id:
                return pipeline
        raise Refused(Reply(404, {"error": "Object not found."}))

    def _status(self, status_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        for pipeline in self._pipelines:
            for status in pipeline["statuses"]:
                if status["id"] == status_id:
                    return pipeline, status
        raise Refused(Reply(404, {"error": "Object not found."}))

    def _page(self, request: Received, items: list[dict[str, Any]]) -> Reply:
        query = dict(request.query)
        wanted = {
            key: query.get(key, default) for key, default in (("_skip", "0"), ("_limit", self.world["page_size"]))
        }
        self._check({key: "Expected a number." for key, value in wanted.items() if value and not str(value).isdigit()})
        start = int(wanted["_skip"] or 0)
        end = start + int(wanted["_limit"]) if wanted["_limit"] else len(items)
        return Reply(200, {"data": items[start:end], "has_more": end < len(items)})

    def _object(self, request: Received) -> dict[str, Any]:
        if not isinstance(request.json, dict):
            raise Refused(Reply(400, {"error": "The request contains invalid JSON."}))
        return request.json

    def _text(self, body: Mapping[str, Any], key: str) -> str | None:
        """What is wrong with a text that must be there, None if nothing."""
        value = body.get(key)
        if value is None:
            return "This field is required."
        if not isinstance(value, str):
            return "Expected a string."
        return None if value.strip() else "This field may not be blank."

    def _type(self, body: Mapping[str, Any]) -> str | None:
        return self._text(body, "type") or (None if body["type"] in TYPES else f"Expected one of: {', '.join(TYPES)}.")

    def _check(self, faults: Mapping[str, str | None]) -> None:
        if found := {key: message for key, message in faults.items() if message}:
            raise self._invalid(found)

    def _invalid(self, fields: Mapping[str, str], *errors: str) -> Refused:
        return Refused(Reply(400, {"errors": list(errors), "field-errors": dict(fields)}))
