"""ActiveCampaign, as https://developers.activecampaign.com/reference/pipelines,
https://developers.activecampaign.com/reference/create-a-pipeline,
https://developers.activecampaign.com/reference/delete-a-pipeline,
https://developers.activecampaign.com/reference/create-a-deal-stage,
https://developers.activecampaign.com/reference/delete-a-deal-stage,
https://developers.activecampaign.com/reference/pagination and
https://developers.activecampaign.com/reference/rate-limits describe it. A pipeline is a dealGroup, a stage a dealStage.

What nothing documents or records is marked [guess]."""

from collections.abc import Iterable, Mapping
from datetime import timedelta, timezone
from http import HTTPStatus
from typing import Any, ClassVar

from local.simulators.base import Account, Fault, Received, Refused, Reply, Simulator, route

Record = dict[str, Any]

GROUPS = "/api/3/dealGroups"
GROUP = GROUPS + "/{group_id}"
STAGES = "/api/3/dealStages"
STAGE = STAGES + "/{stage_id}"
KINDS = {"dealGroups": "DealGroup", "dealStages": "DealStage"}
READY_MADE = (("To Contact", "18D499"), ("In Contact", "32B0FC"), ("Follow Up", "E6CE4B"))
# What a PUT that leaves these out makes of them: a [guess] from their documented defaults, but for `allgroups`, which
# falls to 0 in place of 1 so that it shows on every pipeline.
RESET = {"autoassign": "1", "allusers": "0", "allgroups": "0"}
HIGHEST = {"autoassign": 2, "allusers": 1, "allgroups": 1, "order": 2**31 - 1, "width": 2**31 - 1}
CARDS = ("title", "next-action", "show-avatar", "contact-fullname-acctname", "value")
LOOKS = {"dealOrder": "next-action DESC"} | {f"cardRegion{number}": card for number, card in enumerate(CARDS, 1)}
TEXTS = ("title", "color", *LOOKS)
STAGE_FIELDS = ("group", "order", "width", *TEXTS)
CURRENCIES = """
    aed ars aud bgn bhd brl cad chf clp cny cop czk dkk egp eur gbp hkd huf idr ils inr isk jpy kes krw kwd mad mxn myr
    ngn nok nzd pen php pkr pln qar ron rsd sar sek sgd thb tnd try twd uah usd uyu vnd zar
"""


class ActiveCampaignSimulator(Simulator):
    name = "activecampaign"
    demo_account_id = "d7a0b4c2-5f1e-4c63-9b0a-2e8f6d913c57"
    demo_account: ClassVar[Account] = {
        "provider": "activecampaign",
        "tenant": "demo",
        "credentials": {"type": "api_key", "api_key": "activecampaign-demo-key-6b20e9d4a1"},
        "settings": {"base_url": "https://demo.api-us1.com", "currency": "usd"},
    }
    worlds = ({}, {"ready_made": False})
    held = "dealGroups"
    settings: ClassVar[dict[str, Any]] = {
        # Whether a new pipeline has "To Contact", "In Contact" and "Follow Up", as it always has.
        "ready_made": True,
        # The status of a create: 201 is recorded, 200 documented.
        "created_status": 201,
        # The body of a delete's 200: "{}" is recorded, None (no body) documented for pipelines.
        "delete_body": "{}",
        # How many stages of deleted pipelines GET /dealStages shows from the start. Recorded: six, an hour later.
        "orphans": 0,
        # Whether a new pipeline takes the id of a deleted one, and with it the stages that stayed behind. Recorded.
        "reused_ids": False,
        # Whether GET /dealGroups carries the stages of the pipelines on its page, as documented and recorded.
        "sideload": True,
        # The account's time zone, in hours.
        "utc_offset": -5,
        # `meta.total` as "2", documented and recorded, or as 2, recorded.
        "total_as_text": True,
        # What the key's user may not do: True for everything, or the methods, such as ("DELETE",).
        "forbidden": False,
        # Requests in any one second; 5 is the documented limit, None enforces nothing.
        "per_second": None,
        # The form of errors, which have no common one: "usual", "objects", "texts", "text", or "bare", where a missing
        # field is 400 {}.
        "errors": "usual",
    }
    times = frozenset({"cdate", "udate", "mdate"})
    arrivals: list[float]
    """When each request arrived, by `clock`, refused ones too."""

    def reset(self) -> None:
        super().reset()
        self.arrivals = []

    def fresh(self) -> dict[str, Any]:
        orphans = []
        for number in range(self.world["orphans"]):
            group, order = divmod(number, len(READY_MADE))
            orphans.append(_stage(str(number + 1), READY_MADE[order][0], str(group + 1), order + 1))
        last = {"dealGroups": -(-len(orphans) // len(READY_MADE)), "dealStages": len(orphans), "deals": 0}
        return {"dealGroups": [], "dealStages": orphans, "deals": [], "last": last}

    def view(self, entity: str | None) -> list[dict[str, Any]]:
        if entity not in (None, "opportunity"):
            return []
        return [
            {
                "id": group["id"],
                "name": group["title"],
                "stages": [
                    {"id": stage["id"], "name": stage["title"], "status": "active"}
                    for stage in sorted(self._of(group["id"]), key=lambda s: (int(s["order"]), int(s["id"])))
                ],
            }
            for group in self.state["dealGroups"]
        ]

    def plant(self, name: str, stages: list[dict[str, Any]], entity: str | None, remote: dict[str, Any]) -> str:
        if entity not in (None, "opportunity"):
            raise ValueError(f"ActiveCampaign has no pipelines for {entity}")
        if any(stage.get("status") not in (None, "active") for stage in stages):
            raise ValueError("ActiveCampaign has no status of a stage")
        group = self._new_group({"title": name, "currency": "usd"}, self._number("dealGroups"))
        group.update(remote)
        for order, wanted in enumerate(stages, 1):
            stage = _stage(self._number("dealStages"), wanted["name"], group["id"], order)
            stage.update(cdate=group["cdate"], udate=group["udate"], **wanted.get("remote", {}))
            self.state["dealStages"].append(stage)
            self.fill(stage["id"], wanted.get("records", 0), "", None)
        return str(group["id"])

    def fill(self, stage_id: str, records: int, pipeline_id: str, entity: str | None) -> None:  # noqa: ARG002
        stage = self._find("dealStages", stage_id)
        self._drop_deals("stage", stage_id)
        self.state["deals"] += [self._new_deal(stage) for _ in range(records)]

    @classmethod
    def authorization(cls, account: Account) -> dict[str, str]:
        return {"Api-Token": account["credentials"]["api_key"]}

    def handle(self, request: Received) -> tuple[Fault | None, Reply]:
        with self._lock:
            self.arrivals.append(self.clock())
            fault, reply = super().handle(request)
            if (limit := self.world["per_second"]) and (fault is None or fault.acts):
                headers = self.rate_headers(limit, max(0, limit - self._recent()), 1)
                reply = Reply(reply.status, reply.body, {**headers, **reply.headers}, reply.content_type)
            return fault, reply

    def admit(self, request: Received) -> None:
        keys = [account["credentials"]["api_key"] for account in (self.demo_account, *self.accounts)]
        # The query parameter is not documented; others who called the live API report that it works.
        given = request.headers.get("api-token") or dict(request.query).get("api_key")
        forbidden = self.world["forbidden"]
        if given not in keys:
            raise self._error(403, "The request could not be authenticated.")  # the status is documented, not the body
        if self.world["per_second"] and self._recent() > self.world["per_second"]:
            raise Refused(self.too_many(1))
        if forbidden is True or (forbidden and request.method in forbidden):
            raise self._error(403, "Forbidden")
        if request.body and request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise self._error(415, "Unsupported Media Type")  # [guess]

    def no_route(self, request: Received, allowed: tuple[str, ...]) -> Reply:
        if allowed:  # [guess]
            return Reply(405, {"message": "Method Not Allowed"}, {"Allow": ", ".join(allowed)})
        for kind in KINDS:
            if request.path.startswith(f"/api/3/{kind}/"):  # recorded for a DELETE with a slash at its end
                return self._missing(kind, "").reply
        return self._error(404, "Not Found").reply

    def too_many(self, retry_after: int | None) -> Reply:
        limit = self.world["per_second"] or self.world["rate_limit"] or 5
        wait = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return Reply(429, {"message": "Too Many Requests"}, {**self.rate_headers(limit, 0, 1), **wait})  # a [guess]

    def rate_headers(self, limit: int, remaining: int, reset: float) -> dict[str, str]:  # noqa: ARG002
        return {"RateLimit-Limit": str(limit), "RateLimit-Remaining": str(remaining)}

    # Pipelines

    @route("GET", GROUPS)
    def list_groups(self, request: Received) -> Reply:
        page, meta = self._page(request, self.state["dealGroups"])
        body = {"dealGroups": [self._show_group(group) for group in page], "meta": meta}
        if self.world["sideload"]:
            body["dealStages"] = [stage for group in page for stage in self._sideload(group)]
        return Reply(200, body)

    @route("POST", GROUPS)
    def create_group(self, request: Received) -> Reply:
        body = self._body(request, "dealGroup", "title", "currency")
        group = self._new_group(body, self._group_id())
        for order, (title, color) in enumerate(READY_MADE if self.world["ready_made"] else (), 1):
            stage = _stage(self._number("dealStages"), title, group["id"], order, color)
            self.state["dealStages"].append(stage)
        shown = _as_numbers(self._show_group(group), RESET)
        del shown["win_probability_initialize_date"]
        return Reply(self.world["created_status"], {"dealStages": self._sideload(group), "dealGroup": shown})

    @route("GET", GROUP)
    def read_group(self, request: Received, group_id: str) -> Reply:  # noqa: ARG002
        group = self._find("dealGroups", group_id)
        return Reply(200, {"dealStages": self._sideload(group), "dealGroup": self._show_group(group)})

    @route("PUT", GROUP)
    def update_group(self, request: Received, group_id: str) -> Reply:
        group = self._find("dealGroups", group_id)
        body = self._body(request, "dealGroup", "title", "currency", partly=True)
        group.update(RESET, udate=self._timestamp())
        group.update(_texts(body, ("title", "currency", *RESET)))
        shown = _as_numbers(self._show_group(group), _sent_as_numbers(body))
        del shown["stages"]
        return Reply(200, {"dealGroup": shown})

    @route("DELETE", GROUP)
    def delete_group(self, request: Received, group_id: str) -> Reply:  # noqa: ARG002
        """Its deals are destroyed; its stages still show in GET /dealStages."""
        self.state["dealGroups"].remove(self._find("dealGroups", group_id))
        self._drop_deals("group", group_id)
        return self._deleted()

    # Stages

    @route("GET", STAGES)
    def list_stages(self, request: Received) -> Reply:
        page, meta = self._page(request, self.state["dealStages"], d_groupid="group")
        return Reply(200, {"dealStages": [self._show_stage(stage) for stage in page], "meta": meta})

    @route("POST", STAGES)
    def create_stage(self, request: Received) -> Reply:
        body = self._body(request, "dealStage", "title", "group")
        order = max((int(stage["order"]) for stage in self._of(str(body["group"]))), default=0) + 1
        stage = _stage(self._number("dealStages"), body["title"], str(body["group"]), order)
        now = self._timestamp()
        stage.update(_texts(body, STAGE_FIELDS), cdate=now, udate=now)
        self.state["dealStages"].append(stage)
        self._reorder(request, stage["group"])
        shown = _as_numbers(self._show_stage(stage), ("order", "width"))
        return Reply(self.world["created_status"], {"dealStage": shown})

    @route("GET", STAGE)
    def read_stage(self, request: Received, stage_id: str) -> Reply:  # noqa: ARG002
        return Reply(200, {"dealStage": self._show_stage(self._find("dealStages", stage_id))})

    @route("PUT", STAGE)
    def update_stage(self, request: Received, stage_id: str) -> Reply:
        """Another `group` moves the stage, and its deals with it [guess]."""
        stage = self._find("dealStages", stage_id)
        body = self._body(request, "dealStage", "title", "group", partly=True)
        stage.update(_texts(body, STAGE_FIELDS), udate=self._timestamp())
        for deal in self.state["deals"]:
            if deal["stage"] == stage_id:
                deal["group"] = stage["group"]
        self._reorder(request, stage["group"])
        return Reply(200, {"dealStage": _as_numbers(self._show_stage(stage), _sent_as_numbers(body))})

    @route("DELETE", STAGE)
    def delete_stage(self, request: Received, stage_id: str) -> Reply:  # noqa: ARG002
        """Its deals are destroyed, and the pipeline may be left without a stage [guess]."""
        stage = self._find("dealStages", stage_id)
        self.state["dealStages"].remove(stage)
        self._drop_deals("stage", stage_id)
        for left in (*self._of(stage["group"]), *self.state["dealGroups"]):
            if left.get("group", left["id"]) == stage["group"]:
                left["udate"] = self._timestamp(wrong=True)
        return self._deleted()

    @route("PUT", STAGE + "/deals")
    def move_deals(self, request: Received, stage_id: str) -> Reply:
        stage = self._find("dealStages", stage_id)
        target = str(self._body(request, "deal", "stage")["stage"])
        if target not in [other["id"] for other in self._of(stage["group"])]:
            raise self._error(422, "The stage does not exist in this pipeline.", "related_missing", "stage")
        moved = [deal for deal in self.state["deals"] if deal["stage"] == stage_id]
        for deal in moved:
            deal["stage"] = target
        return Reply(200, {"deals": moved})

    @route("GET", "/api/3/deals")
    def list_deals(self, request: Received) -> Reply:
        page, meta = self._page(request, self.state["deals"], group="group", stage="stage")
        return Reply(200, {"deals": page, "meta": meta})

    # What is there

    def _find(self, kind: str, id_: str) -> Record:
        found: list[Record] = [record for record in self.state[kind] if record["id"] == id_]
        if not found:
            raise self._missing(kind, id_)
        return found[0]

    def _of(self, group_id: str) -> list[Record]:
        return [stage for stage in self.state["dealStages"] if stage["group"] == group_id]

    def _recent(self) -> int:
        """How many requests arrived in the second that ends now."""
        return sum(self.arrivals[-1] - arrival < 1 for arrival in self.arrivals)

    def _drop_deals(self, field: str, id_: str) -> None:
        self.state["deals"] = [deal for deal in self.state["deals"] if deal[field] != id_]

    def _reorder(self, request: Received, group_id: str) -> None:
        if dict(request.query).get("reorder") == "1":
            held = sorted(self._of(group_id), key=lambda stage: (int(stage["order"]), -int(stage["id"])))
            for order, stage in enumerate(held, 1):
                stage["order"] = str(order)

    def _number(self, kind: str) -> str:
        self.state["last"][kind] += 1
        return str(self.state["last"][kind])

    def _group_id(self) -> str:
        held = {group["id"] for group in self.state["dealGroups"]}
        left = [stage["group"] for stage in self.state["dealStages"] if stage["group"] not in held]
        return min(left, key=int) if left and self.world["reused_ids"] else self._number("dealGroups")

    def _new_group(self, body: Mapping[str, Any], id_: str) -> Record:
        now = self._timestamp()
        group: Record = {"title": body["title"], "currency": body["currency"], **RESET, "allgroups": "1"}
        group |= _texts(body, RESET)
        group |= {"win_probability_initialize_date": None, "cdate": now, "udate": now, "id": id_}
        self.state["dealGroups"].append(group)
        return group

    def _new_deal(self, stage: Mapping[str, Any]) -> Record:
        id_, now = self._number("deals"), self._timestamp()
        empty = ("organization", "account", "customerAccount", "nextdate", "nexttaskid", "edate", "winProbability")
        deal: Record = dict.fromkeys((*empty, "winProbabilityMdate"))
        deal |= {"id": id_, "hash": self.letters(8, "0123456789abcdef"), "title": f"Deal {id_}", "description": ""}
        deal |= {"owner": "1", "contact": "1", "percent": "50", "value": "15600", "currency": "usd", "status": "0"}
        deal |= {"group": stage["group"], "stage": stage["id"], "activitycount": "1", "nextdealid": id_}
        links = self._links("deals", id_, "contact", "group", "owner", "stage")
        return {**deal, "cdate": now, "mdate": now, "links": links, "isDisabled": False}

    def _timestamp(self, *, wrong: bool = False) -> str:
        """The account's own time; what a stage's deletion touches shows the clock of UTC under that offset."""
        zone, now = timezone(timedelta(hours=self.world["utc_offset"])), self.now()
        return (now.replace(tzinfo=zone) if wrong else now.astimezone(zone)).isoformat(timespec="seconds")

    # How it is shown

    def _show_group(self, group: Record) -> Record:
        """`stages` is in no promised order: this one is never the right one."""
        ids = [stage["id"] for stage in self._of(group["id"])]
        named = ("stages", "dealGroupUsers", "dealGroupGroups", "winProbabilityFeatures")
        return {**group, "stages": ids[1:] + ids[:1], "links": self._links("dealGroups", group["id"], *named)}

    def _show_stage(self, stage: Record) -> Record:
        return {**stage, "links": self._links("dealStages", stage["id"], "group")}

    def _sideload(self, group: Record) -> list[Record]:
        """Nothing promises an order here either."""
        return [self._show_stage(stage) for stage in self._of(group["id"])[::-1]]

    def _links(self, kind: str, id_: str, *names: str) -> dict[str, str]:
        return {name: f"{self.demo_account['settings']['base_url']}/api/3/{kind}/{id_}/{name}" for name in names}

    def _page(self, request: Received, records: list[Record], **filters: str) -> tuple[list[Record], Record]:
        """`filters` names the field that each one compares."""
        query = dict(request.query)
        for name, field in filters.items():
            records = [item for item in records if query.get(f"filters[{name}]", item[field]) == item[field]]
        title = query.get("filters[title]", "").casefold()
        records = [record for record in records if title in record["title"].casefold()]
        if direction := query.get("orders[title]"):
            records = sorted(records, key=lambda record: record["title"], reverse=direction.upper() == "DESC")
        limit, offset = query.get("limit", "20"), query.get("offset", "0")
        if not (limit.isdecimal() and offset.isdecimal() and int(limit)):
            raise Refused(Reply(400, {}))  # [guess]
        total = str(len(records)) if self.world["total_as_text"] else len(records)
        page = records[int(offset) :][: min(int(limit), 100)]  # that more than 100 gives 100 is a [guess]
        return page, {"total": total}

    def _deleted(self) -> Reply:
        return Reply(200, (self.world["delete_body"] or "").encode())

    # What is refused

    def _body(self, request: Received, wrapper: str, *required: str, partly: bool = False) -> Record:
        """The object in the wrapper; with `partly`, what is required may be left out, but not emptied."""
        if not isinstance(request.json, dict):
            raise Refused(Reply(400, {}))  # [guess]
        body = request.json.get(wrapper)
        if not isinstance(body, dict):
            raise self._error(422, f"{wrapper} was not provided.", "field_missing", wrapper)
        for field in required:
            value = body.get(field)
            if (field in body or not partly) and (value is None or (isinstance(value, str) and not value.strip())):
                raise self._error(422, f"The {field} was not provided.", "field_missing", field)
        for field, value in body.items():
            self._judge(field, value)
        return body

    def _judge(self, field: str, value: Any) -> None:
        """Only fields that are known are looked at. That a wrong type is refused, and how, is a [guess]."""
        numeric = (isinstance(value, int) and not isinstance(value, bool)) or isinstance(value, str)
        if field == "currency" and (not isinstance(value, str) or value not in CURRENCIES.split()):
            raise self._error(422, "The currency is not valid.", "field_invalid", field)
        if field == "group" and (not numeric or str(value) not in [group["id"] for group in self.state["dealGroups"]]):
            raise self._error(422, f"The group {value} does not exist.", "related_missing", field)
        if field in TEXTS and not isinstance(value, str):
            raise self._error(422, f"The {field} must be a text.", "field_invalid", field)
        if field in HIGHEST and not (numeric and str(value).isdecimal() and int(value) <= HIGHEST[field]):
            raise self._error(422, f"The {field} is not valid.", "field_invalid", field)

    def _missing(self, kind: str, id_: str) -> Refused:
        return self._error(404, f"No Result found for {KINDS[kind]} with id {id_ if id_.isdecimal() else 0}")

    def _error(self, status: int, message: str, code: str = "", field: str = "") -> Refused:
        form = self.world["errors"]
        if form == "bare" and code == "field_missing":
            return Refused(Reply(400, {}))
        if form in ("texts", "text"):
            return Refused(Reply(status, {"errors": [message] if form == "texts" else message}))
        if code:
            error = {"title": message, "detail": "", "code": code, "source": {"pointer": f"/data/attributes/{field}"}}
            return Refused(Reply(status, {"errors": [error]}))
        objects = [{"title": HTTPStatus(status).phrase, "detail": message, "status": status}]
        return Refused(Reply(status, {"errors": objects} if form == "objects" else {"message": message}))


def _stage(id_: str, title: str, group_id: str, order: int, color: str = "696969") -> Record:
    """A stage as reads show it: everything is a text, and a ready-made one has no times."""
    shown = {"color": color, "order": str(order), "width": "280", **LOOKS}
    return {"group": group_id, "title": title, **shown, "cdate": None, "udate": None, "id": id_}


def _texts(body: Mapping[str, Any], keys: Iterable[str]) -> dict[str, str]:
    return {key: str(body[key]) for key in keys if key in body}


def _sent_as_numbers(body: Mapping[str, Any]) -> list[str]:
    """Replies to writes give back what they got, as it came."""
    return [key for key in HIGHEST if isinstance(body.get(key), int)]


def _as_numbers(record: Record, keys: Iterable[str]) -> Record:
    return {**record, **{key: int(record[key]) for key in keys if key in record}}
