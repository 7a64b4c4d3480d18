"""Kommo, and amoCRM, which is the same under another name, as these describe it:
https://developers.kommo.com/reference/leads-pipelines-and-stages, https://developers.kommo.com/docs/limitations,
https://www.amocrm.ru/developers/content/crm_platform/leads_pipelines and, for the look-up of leads,
https://www.amocrm.ru/developers/content/crm_platform/filters-api.

[seen]: reported of the live API. [guess]: inferred, as nothing is documented."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from local.simulators.base import Account, Received, Refused, Reply, Simulator, route

HAL, PROBLEM, TEXT = "application/hal+json", "application/problem+json", "text/plain"
ORIGIN = "https://demo.kommo.com"
LEADS = "/api/v4/leads"
PIPELINES = LEADS + "/pipelines"
PIPELINE = PIPELINES + "/{pipeline_id}"
STATUSES = PIPELINE + "/statuses"
STATUS = STATUSES + "/{status_id}"

ACCOUNT, WON, LOST, INCOMING = 12345678, 142, 143, 1
SYSTEM = {WON: "won", LOST: "lost"}
KINDS: dict[str, type] = {"name": str, "sort": int, "is_main": bool, "is_unsorted_on": bool, "color": str}
CHANGES = ("name", "sort", "is_main", "is_unsorted_on")
OLD_COLOR = "#99ccff"  # read back of old stages, not to be written
COLORS = (
    *("#fffeb2", "#fffd7f", "#fff000", "#ffeab2", "#ffdc7f", "#ffce5a", "#ffdbdb", "#ffc8c8", "#ff8f92", "#d6eaff"),
    *("#c1e0ff", "#98cbff", "#ebffb1", "#deff81", "#87f2c0", "#f9deff", "#f3beff", "#ccc8f9", "#eb93ff", "#f2f3f4"),
    "#e6e8ea",
)
# Codes and texts of a validation; the first two are documented, the others [guess].
DETAILS = {
    "NotSupportedChoice": "The value you selected is not a valid choice.",
    "InvalidType": "This value should be of another type.",
    "FieldMissing": "This field is missing.",
    "NotBlank": "This value should not be blank.",
}
Record = dict[str, Any]
Faults = Iterator[tuple[str, str]]
"""Pairs of a code and a path."""


class KommoSimulator(Simulator):
    name = "kommo"
    demo_account_id = "fabb8a9b-aa77-487f-80b2-660d3be92507"
    demo_account: ClassVar[Account] = {
        "provider": "kommo",
        "tenant": "demo",
        "credentials": {"type": "bearer", "token": "kommo-demo-long-lived-token-6b3e"},
        "settings": {"subdomain": "demo"},
    }
    accounts = (
        {
            "provider": "kommo",
            "tenant": "demo",
            "credentials": {
                "type": "oauth2",
                "access_token": "kommo-demo-access-token-41f7",
                "refresh_token": "kommo-demo-refresh-token-d90c",
                "expires_at": "2099-01-01T00:00:00Z",
                "client_id": "kommo-demo-client",
                "client_secret": "kommo-demo-client-secret-7a28",
            },
            "settings": {"subdomain": "demo", "domain": "amocrm.ru"},
        },
    )
    worlds = ({}, {"renumbers": False})
    settings: ClassVar[dict[str, Any]] = {
        # Whether a write of a sort numbers the stages anew, 20, 30, 40 …, as in the documented examples.
        "renumbers": True,
        # Whether 142, 143 and the incoming leads take a name after the create. [guess]: they do not.
        "rename_system": False,
        # The list of no pipelines: "204", as was seen, or "200" with an empty list.
        "empty_list": "204",
        # Whether the stages inside a pipeline name it, as was recorded. Off, so that nobody leans on it.
        "pipeline_id_in_statuses": True,
        # Whether the last pipeline cannot be deleted, as documented. Off, so that a test may start from none.
        "keeps_last": False,
        # Whether the token's user is an administrator: no other may write.
        "admin": True,
        # Whether the address is blocked, which is said in plain text [seen].
        "blocked": False,
        # After how many 429 it is. It does get blocked; the number is not documented.
        "blocks_after": None,
        # Whether the account is paid for.
        "paid": True,
        # Where a 429 says how long to wait: "body", "header" or "neither", in plain text. All were seen.
        "retry_after_in": "body",
    }
    times = frozenset({"created_at", "updated_at"})
    _refusals = 0

    def fresh(self) -> Record:
        self._refusals = 0
        return {"pipelines": [], "leads": []}

    def view(self, entity: str | None) -> list[Record]:
        """Stage ids are `{pipeline}:{status}`; a stage that no call can add or delete has `fixed`."""
        if entity not in (None, "opportunity"):
            return []
        return [
            {"id": str(pipeline["id"]), "name": pipeline["name"], "stages": [_stage(s) for s in pipeline["statuses"]]}
            for pipeline in self._pipelines
        ]

    def plant(self, name: str, stages: list[Record], entity: str | None, remote: Record) -> str:
        if entity not in (None, "opportunity"):
            raise ValueError(f"Kommo has no pipelines for {entity}")
        ends = [stage.get("status") for stage in stages if stage.get("status") not in (None, "active")]
        if stray := [end for n, end in enumerate(ends) if end not in SYSTEM.values() or end in ends[:n]]:
            raise ValueError(f"Kommo has one won and one lost stage, no other: {stray[0]}")
        sort = max((each["sort"] for each in self._pipelines), default=0) + 10
        own = {"name": name, "sort": sort, "is_main": False, "is_unsorted_on": False, **remote}
        pipeline = self._pipeline(own, remote)
        system = {SYSTEM[status["id"]]: status for status in pipeline["statuses"]}
        for order, stage in enumerate(stages, 2):
            status = system.get(stage.get("status") or "active")
            if status is None:
                status = self._add(pipeline, "", order * 10, OLD_COLOR)
            status |= {"name": stage["name"], **stage.get("remote", {})}
            self.fill(_stage(status)["id"], stage.get("records", 0), "", None)
        self._settle(pipeline)
        return str(pipeline["id"])

    def fill(self, stage_id: str, records: int, pipeline_id: str, entity: str | None) -> None:  # noqa: ARG002
        pipeline, _, status = stage_id.partition(":")
        here = {"pipeline_id": int(pipeline), "status_id": int(status)}
        others = [lead for lead in self.state["leads"] if not here.items() <= lead.items()]
        self.state["leads"] = others + [self._lead(**here) for _ in range(records)]

    def admit(self, request: Received) -> None:
        limit = self.world["blocks_after"]
        if self.world["blocked"] or (limit and self._refusals >= limit):
            raise Refused(Reply(403, b"403 Forbidden", content_type=TEXT))
        credentials = [account["credentials"] for account in (self.demo_account, *self.accounts)]
        if request.bearer not in [value.get("token", value.get("access_token")) for value in credentials]:
            raise _problem(401, "Unauthorized")
        if not self.world["paid"]:
            raise _problem(402, "Payment Required")
        if not self.world["admin"] and request.method != "GET":
            raise _problem(403, "Forbidden")

    def no_route(self, request: Received, allowed: tuple[str, ...]) -> Reply:
        """[guess]: nothing documents these."""
        if allowed:
            return _problem(405, "Method Not Allowed", headers={"Allow": ", ".join(allowed)}).reply
        return _problem(404, f"Cannot {request.method} {ORIGIN}{request.path}").reply

    def too_many(self, retry_after: int | None) -> Reply:
        self._refusals += 1
        where = self.world["retry_after_in"]
        if where == "neither":
            return Reply(429, b"Too Many Requests", {"Content-Type": TEXT})
        headers = {"Content-Type": PROBLEM}
        if where == "header" and retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        more = {"retry_after": retry_after} if where == "body" and retry_after is not None else {}
        return _problem(429, "Too Many Requests", more, headers).reply

    # Pipelines

    @route("GET", PIPELINES)
    def list_pipelines(self, request: Received) -> Reply:  # noqa: ARG002
        if not self._pipelines and self.world["empty_list"] == "204":
            return Reply(204)
        return _collection("pipelines", [self._shown(each) for each in self._pipelines])

    @route("POST", PIPELINES)
    def create_pipelines(self, request: Received) -> Reply:
        """All of the list or none: one fault refuses everything."""
        items = _judged(request, _pipeline_faults)
        inner = [item.get("_embedded", {}).get("statuses", []) for item in items]
        counts = [sum("id" not in status for status in each) + len(SYSTEM) for each in inner]
        full = any(n + item["is_unsorted_on"] > 100 for n, item in zip(counts, items, strict=True))
        if full or len(self._pipelines) + len(items) > 50:  # [guess]: the code that refuses either is not documented
            raise _problem(422, "The limit of pipelines or statuses is exceeded")
        made = [self._pipeline(item, {}) for item in items]
        for pipeline, statuses in zip(made, inner, strict=True):
            for status in statuses:
                if "id" in status:
                    _pick(pipeline["statuses"], str(status["id"]), "Status")["name"] = _plain(status["name"])
                else:
                    self._add(pipeline, _plain(status["name"]), status["sort"], status.get("color"))
            self._settle(pipeline, number=True)
        return _collection("pipelines", _echoed(items, [self._shown(each) for each in made]))

    @route("GET", PIPELINE)
    def read_pipeline(self, request: Received, pipeline_id: str) -> Reply:  # noqa: ARG002
        return _good(self._shown(self._find(pipeline_id)))

    @route("PATCH", PIPELINE)
    def change_pipeline(self, request: Received, pipeline_id: str) -> Reply:
        """Its own fields: `_embedded` is passed over."""
        pipeline = self._find(pipeline_id)
        [body] = _judged(request, lambda item: _faults(item, (), CHANGES), CHANGES)
        pipeline |= {key: body[key] for key in CHANGES if key in body}
        self._settle(pipeline)
        return _good(*_echoed([body], [self._shown(pipeline)]))

    @route("DELETE", PIPELINE)
    def delete_pipeline(self, request: Received, pipeline_id: str) -> Reply:  # noqa: ARG002
        """Its statuses go with it."""
        pipeline = self._find(pipeline_id)
        # Both refusals are documented, their codes and texts are not [guess].
        if any(lead["pipeline_id"] == pipeline["id"] for lead in self.state["leads"]):
            raise _problem(400, "Pipeline has leads")
        if self.world["keeps_last"] and len(self._pipelines) == 1:
            raise _problem(400, "Can not delete the last pipeline")
        self.state["pipelines"].remove(pipeline)
        return Reply(204)

    # Statuses

    @route("GET", STATUSES)
    def list_statuses(self, request: Received, pipeline_id: str) -> Reply:  # noqa: ARG002
        return _collection("statuses", [_status(each) for each in self._find(pipeline_id)["statuses"]])

    @route("POST", STATUSES)
    def create_statuses(self, request: Received, pipeline_id: str) -> Reply:
        pipeline = self._find(pipeline_id)
        items = _judged(request, lambda item: _faults(item, ("name", "sort"), ("color",)))
        if len(pipeline["statuses"]) + len(items) > 100:
            raise _problem(422, "The limit of statuses is exceeded")
        made = [self._add(pipeline, _plain(item["name"]), item["sort"], item.get("color")) for item in items]
        self._settle(pipeline, number=True)
        return _collection("statuses", _echoed(items, [_status(each) for each in made]))

    @route("GET", STATUS)
    def read_status(self, request: Received, pipeline_id: str, status_id: str) -> Reply:  # noqa: ARG002
        return _good(_status(_pick(self._find(pipeline_id)["statuses"], status_id, "Status")))

    @route("PATCH", STATUS)
    def change_status(self, request: Received, pipeline_id: str, status_id: str) -> Reply:
        pipeline = self._find(pipeline_id)
        status = _pick(pipeline["statuses"], status_id, "Status")
        keys = ("name", "sort", "color")  # and `descriptions`, which no answer shows unasked: taken, not kept
        [body] = _judged(request, lambda item: _faults(item, (), keys), (*keys, "descriptions"))
        if _fixed(status) and not self.world["rename_system"]:
            raise _problem(400, "Status is not editable")
        if "name" in body:
            status["name"] = _plain(body["name"])
        if not _fixed(status):
            status |= {key: body[key] for key in ("sort", "color") if key in body}
        self._settle(pipeline, number="sort" in body)
        return _good(*_echoed([body], [_status(status)]))

    @route("DELETE", STATUS)
    def delete_status(self, request: Received, pipeline_id: str, status_id: str) -> Reply:  # noqa: ARG002
        """What is on it moves to the first status, and no answer says so."""
        pipeline = self._find(pipeline_id)
        status = _pick(pipeline["statuses"], status_id, "Status")
        if _fixed(status):  # [seen] of 142 and 143, [guess] of the incoming leads
            raise _problem(404, "Status not found")
        self._drop(pipeline, status)
        self._settle(pipeline, number=True)
        return Reply(204)

    # Leads

    @route("GET", LEADS)
    def list_leads(self, request: Received) -> Reply:
        """Half a status filter fits every other half [seen: https://github.com/amocrm/amocrm-api-php/issues/606]."""
        query = dict(request.query)
        page, limit = query.get("page", "1"), query.get("limit", "50")
        if not (page.isdecimal() and int(page) and limit.isdecimal() and 1 <= int(limit) <= 250):
            raise _problem(400, "Invalid page or limit")  # [guess]: only the bound is documented
        pairs: dict[str, dict[str, str]] = {}
        pipelines = set()
        for n, (key, value) in enumerate(request.query):
            if found := re.fullmatch(r"filter\[statuses\]\[(\w*)\]\[(pipeline_id|status_id)\]", key):
                pairs.setdefault(found[1] or f"[{n}]", {})[found[2]] = value
            elif re.fullmatch(r"filter\[pipeline_id\](\[\w*\])?", key):
                pipelines.add(value)
        leads = [
            lead
            for lead in self.state["leads"]
            if not pairs or any(all(str(lead[k]) == v for k, v in pair.items()) for pair in pairs.values())
            if not pipelines or str(lead["pipeline_id"]) in pipelines
        ]
        shown = leads[(int(page) - 1) * int(limit) :][: int(limit)]
        if not shown:
            return Reply(204)
        return _good({"_page": int(page), "_links": _link(LEADS), "_embedded": {"leads": shown}})

    # What they share

    @property
    def _pipelines(self) -> list[Record]:
        held: list[Record] = self.state["pipelines"]
        return held

    def _find(self, pipeline_id: str) -> Record:
        return _pick(self._pipelines, pipeline_id, "Pipeline")

    def _pipeline(self, fields: Record, remote: Record) -> Record:
        own = {key: fields[key] for key in CHANGES}
        pipeline = {"id": 3_177_000 + next(self.numbers), **own, "is_archive": False, "account_id": ACCOUNT, **remote}
        pipeline["statuses"] = []
        self._pipelines.append(pipeline)
        self._add(pipeline, "Closed - won", 10000, "#CCFF66", id=WON, is_editable=False)
        self._add(pipeline, "Closed - lost", 11000, "#D5D8DB", id=LOST, is_editable=False)
        return pipeline

    def _add(self, pipeline: Record, name: str, sort: int, color: str | None, **more: Any) -> Record:
        owned = {"pipeline_id": pipeline["id"], "color": color or "#fffeb2", "type": 0, "account_id": ACCOUNT}
        status_id = 32_392_000 + next(self.numbers)
        status = {"id": status_id, "name": name, "sort": sort, "is_editable": True, **owned, **more}
        pipeline["statuses"].append(status)
        return status

    def _drop(self, pipeline: Record, status: Record) -> None:
        """Its leads move to the first status: the first that is no incoming leads [guess], 142 if there is no other."""
        pipeline["statuses"].remove(status)
        first = next(each["id"] for each in pipeline["statuses"] if each["type"] != INCOMING)
        for lead in self.state["leads"]:
            if (lead["pipeline_id"], lead["status_id"]) == (pipeline["id"], status["id"]):
                lead["status_id"] = first

    def _settle(self, pipeline: Record, *, number: bool = False) -> None:
        """What follows a write: one main pipeline, incoming leads or none, sorts, everything in its order."""
        for other in self._pipelines:
            other["is_main"] = other["is_main"] and (other is pipeline or not pipeline["is_main"])
        incoming = [status for status in pipeline["statuses"] if status["type"] == INCOMING]
        if pipeline["is_unsorted_on"] and not incoming:
            self._add(pipeline, "Incoming leads", 10, "#c1c1c1", type=INCOMING, is_editable=False)
        elif incoming and not pipeline["is_unsorted_on"]:
            self._drop(pipeline, incoming[0])
        if number and self.world["renumbers"]:
            ordinary = (status for status in pipeline["statuses"] if not _fixed(status))
            for place, status in enumerate(sorted(ordinary, key=_place), 2):
                status["sort"] = place * 10
        pipeline["statuses"].sort(key=_place)
        self._pipelines.sort(key=_place)

    def _lead(self, **where: int) -> Record:
        lead_id, now = 19_000_000 + next(self.numbers), int(self.now().timestamp())
        empty = ("loss_reason_id", "source_id", "closed_at", "closest_task_at", "custom_fields_values", "score")
        own = {"id": lead_id, "name": f"Lead {lead_id}", "price": 0, "group_id": 0, "is_deleted": False, **where}
        users = dict.fromkeys(("responsible_user_id", "created_by", "updated_by"), 504141)
        born = {"created_at": now, "updated_at": now, "account_id": ACCOUNT, "_links": _link(f"{LEADS}/{lead_id}")}
        return {**own, **users, **dict.fromkeys(empty), **born, "_embedded": {"tags": [], "companies": []}}

    def _shown(self, pipeline: Record) -> Record:
        statuses = [_status(status) for status in pipeline["statuses"]]
        if not self.world["pipeline_id_in_statuses"]:
            statuses = [{key: each[key] for key in each if key != "pipeline_id"} for each in statuses]
        own = {key: value for key, value in pipeline.items() if key != "statuses"}
        return {**own, "_links": _link(f"{PIPELINES}/{pipeline['id']}"), "_embedded": {"statuses": statuses}}


def _pick(records: Iterable[Record], id_: str, what: str) -> Record:
    for record in records:
        if str(record["id"]) == id_:
            return record
    raise _problem(404, f"{what} not found")


def _fixed(status: Record) -> bool:
    return status["id"] in SYSTEM or status["type"] == INCOMING


def _place(record: Record) -> tuple[int, int]:
    return record["sort"], record["id"]


def _plain(name: str) -> str:
    """Without the characters that vanish from a stage's name [seen]."""
    return "".join(character for character in name if ord(character) < 0x10000)


def _stage(status: Record) -> Record:
    seen = {"id": f"{status['pipeline_id']}:{status['id']}", "name": status["name"]}
    return {**seen, "status": SYSTEM.get(status["id"], "active"), **({"fixed": True} if _fixed(status) else {})}


def _status(status: Record) -> Record:
    return {**status, "_links": _link(f"{PIPELINES}/{status['pipeline_id']}/statuses/{status['id']}")}


def _link(path: str) -> Record:
    return {"self": {"href": ORIGIN + path}}


def _good(body: Record) -> Reply:
    return Reply(200, body, content_type=HAL)


def _collection(kind: str, shown: list[Record]) -> Reply:
    return _good({"_total_items": len(shown), "_embedded": {kind: shown}})


def _echoed(asked: Iterable[Record], shown: Iterable[Record]) -> list[Record]:
    """An answer to a write repeats `request_id`, or the place in the list."""
    pairs = zip(asked, shown, strict=True)
    return [{**record, "request_id": item.get("request_id", str(n))} for n, (item, record) in enumerate(pairs)]


def _problem(
    status: int, detail: str, more: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
) -> Refused:
    about = {"title": HTTPStatus(status).phrase, "type": f"https://httpstatus.es/{status}", "status": status}
    return Refused(Reply(status, {**(more or {}), **about, "detail": detail}, headers or {}, PROBLEM))


def _judged(request: Received, judge: Callable[[Record], Faults], some: tuple[str, ...] = ()) -> list[Record]:
    """The objects of a body: a list of them to create, one to change, and then one with `some` of these keys."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    items = request.json if request.method == "POST" else [request.json]
    objects = isinstance(items, list) and items and all(isinstance(item, dict) for item in items)
    if kind != "application/json" or not objects or (some and not any(key in items[0] for key in some)):
        raise _problem(400, "Request body is invalid")  # [guess]: what is no validation has no documented text
    wrong = []
    for n, item in enumerate(items):
        if errors := [{"code": code, "path": path, "detail": DETAILS[code]} for code, path in judge(item)]:
            wrong.append({"request_id": item.get("request_id", str(n)), "errors": errors})
    if wrong:
        raise _problem(400, "Request validation failed", {"validation-errors": wrong})
    return items


def _faults(item: Record, required: tuple[str, ...], optional: tuple[str, ...] = (), at: str = "") -> Faults:
    for key in (*required, *optional):
        if key not in item:
            if key in required:
                yield "FieldMissing", at + key
        elif type(item[key]) is not KINDS[key]:
            yield "InvalidType", at + key
        elif key == "name" and not item[key].strip():
            yield "NotBlank", at + key
        elif key == "color" and item[key] not in COLORS:
            yield "NotSupportedChoice", at + key


def _pipeline_faults(item: Record) -> Faults:
    yield from _faults(item, CHANGES)
    embedded = item.get("_embedded", {})
    statuses = embedded.get("statuses", []) if isinstance(embedded, dict) else None
    if not isinstance(statuses, list) or not all(isinstance(status, dict) for status in statuses):
        yield "InvalidType", "_embedded.statuses"
        return
    ids = [status["id"] for status in statuses if "id" in status]
    for n, status in enumerate(statuses):
        at = f"_embedded.statuses.{n}."
        if "id" not in status:
            yield from _faults(status, ("name", "sort"), ("color",), at)
        elif status["id"] not in tuple(SYSTEM) or ids.count(status["id"]) > 1:
            yield "NotSupportedChoice", at + "id"  # [guess]: only these two are documented
        else:
            yield from _faults(status, ("name",), (), at)
