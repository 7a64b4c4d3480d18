"""The judge of the fault matrix: whether what the caller was told is what stands at the provider."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from local.simulators.base import Simulator
from unified_crm.errors import OutcomeUnknown, PartialFailure, ProviderError, RemoteError, UnifiedError

MAY_BE_UNKNOWN = {"create pipeline", "create stage", "delete pipeline", "delete stage"}
ORDERS = {"order", "order_nr", "sort", "displayOrder"}
"""The numbers by which providers order. It is the order that is compared: some number anew at each write."""
DERIVED = ORDERS | {"last", "isClosed"}
"""Those, the counts of ids that were given, and what HubSpot works out of a stage's other metadata."""


@dataclass(frozen=True)
class State:
    """What stands at a provider: `pipelines` as `Simulator.pipelines` shows them, `records` whatever it keeps."""

    pipelines: list[dict[str, Any]]
    records: Any = None

    @classmethod
    def of(cls, simulator: Simulator) -> State:
        return cls(simulator.pipelines(), _kept(simulator.snapshot(times=False)))

    def named(self, id_: str) -> dict[str, Any] | None:
        """The pipeline of that id."""
        return next((each for each in self.pipelines if each["id"] == id_), None)

    def facts(self) -> dict[str, tuple[Any, ...]]:
        """What is known by each id, of pipelines and stages; that of a pipeline includes the order of its stages."""
        found: dict[str, tuple[Any, ...]] = {}
        for pipeline in self.pipelines:
            order = tuple(stage["id"] for stage in pipeline["stages"])
            found[pipeline["id"]] = ("pipeline", pipeline["name"], order)
            for stage in pipeline["stages"]:
                found[f"{pipeline['id']} {stage['id']}"] = ("stage", stage["name"], stage["status"])
        return found

    def shape(self, lost: Collection[str] = ()) -> list[Any]:
        """All of it without ids: what is made again may have others. `lost` are fields that an error says to differ."""
        stages = [[(stage["name"], stage["status"]) for stage in each["stages"]] for each in self.pipelines]
        return [(each["name"], inner) for each, inner in zip(self.pipelines, stages, strict=True)] + [
            _without_ids(self.records, lost)
        ]

    def names(self) -> Counter[tuple[str, str]]:
        """How often each name is there: of a pipeline, and of a stage in its pipeline."""
        found = Counter(("", each["name"]) for each in self.pipelines)
        found.update((each["id"], stage["name"]) for each in self.pipelines for stage in each["stages"])
        return found


def _kept(value: Any) -> Any:
    """Without what is marked as deleted, and without what the provider makes of the rest by itself."""
    if isinstance(value, dict):
        return {key: _kept(item) for key, item in value.items() if key not in DERIVED}
    if isinstance(value, list):
        return [_kept(each) for each in value if not (isinstance(each, dict) and each.get("is_deleted"))]
    return value


def _without_ids(value: Any, lost: Collection[str]) -> Any:
    if isinstance(value, dict):
        kept = {
            key: item for key, item in value.items() if not key.lower().endswith("id") and key not in ("group", *lost)
        }
        return {key: _without_ids(item, lost) for key, item in kept.items()}
    if isinstance(value, list):
        return sorted((_without_ids(each, lost) for each in value), key=lambda each: json.dumps(each, sort_keys=True))
    return value


@dataclass(frozen=True)
class Told:
    """What the caller was told: an error, or what is `shown` of pipelines, or of stages with their pipeline's id."""

    error: UnifiedError | None = None
    pipelines: list[dict[str, Any]] | None = None
    stages: list[dict[str, Any]] | None = None
    deleted: str | None = None

    def __str__(self) -> str:
        if self.error is None:
            return "success"
        details = {key: self.error.details[key] for key in ("leftovers", "rolled_back") if key in self.error.details}
        said = f"{type(self.error).__name__} {self.error.status} {self.error.code}: {self.error.message}"
        return f"{said} {json.dumps(details)}" if details else said


@dataclass
class Verdict:
    """What came of a trial: a sentence for each thing that is wrong, by its kind."""

    duplicates: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unknown: bool = False
    partial: bool = False

    @property
    def findings(self) -> list[str]:
        return [*self.duplicates, *self.leftovers, *self.wrong]


@dataclass(frozen=True)
class Trial:
    """One call with one fault.

    `asked` is what a call without one makes of `before`. `tellable`: a new pipeline can be told from what was there,
    since the provider keeps the time at which it was made, and adds no stages to it that it is not known to add.
    `silent`: the provider then says nothing more, or there can be too little time to ask it. `lasting`: until the end.
    """

    verb: str
    fault: str
    before: State
    asked: State
    now: State
    told: Told
    tellable: bool = True
    silent: bool = False
    lasting: bool = False
    again: tuple[Told, State] | None = None
    """What the same call, sent once more without a fault, was told, and what stood there then."""


def judge(trial: Trial) -> Verdict:
    """Whether what stands there is as before or as asked, and the caller was told which."""
    verdict = Verdict()
    verdict.duplicates += _duplicates(trial, trial.now)
    error = trial.told.error
    match error:
        case None:
            _judge_success(trial, verdict)
        case OutcomeUnknown():
            verdict.unknown = True
            _judge_unknown(trial, verdict)
        case PartialFailure():
            verdict.partial = True
            _judge_partial(trial, error, verdict)
        case ProviderError():
            _judge_error(trial, error, verdict)
        case _:
            verdict.wrong.append("the error is not about the provider")
    if trial.again is not None:
        _judge_again(trial, *trial.again, verdict)
    return verdict


def _duplicates(trial: Trial, now: State) -> list[str]:
    before, asked = trial.before.names(), trial.asked.names()
    known = {each["id"] for each in trial.before.pipelines}
    found = []
    for (pipeline, name), count in now.names().items():
        if pipeline and pipeline not in known:  # its stages are those of the new one, whatever its id is now
            allowed = max((asked[key] for key in asked if key[0] not in known and key[1] == name), default=count)
        else:
            allowed = max(before[pipeline, name], asked[pipeline, name])
        if count > max(allowed, 1):
            found.append(f"{name!r} is there {count} times")
    return found


def _judge_success(trial: Trial, verdict: Verdict) -> None:
    now, told = trial.now, trial.told
    if now.shape() != trial.asked.shape():
        verdict.wrong.append("success, but it is not as asked")
    gone = trial.before.facts().keys() - trial.asked.facts().keys()
    if lost := trial.before.facts().keys() - gone - now.facts().keys():
        verdict.wrong.append(f"success, but {sorted(lost)} have other ids now, which was not asked for")
    for shown in told.pipelines or []:
        if shown != as_compared(now.named(shown["id"])):
            verdict.wrong.append(f"shown is {shown}")
    for stage in told.stages or []:
        pipeline = as_compared(now.named(stage["pipeline"])) or {"stages": []}
        if {**stage, "pipeline": None} not in [{**each, "pipeline": None} for each in pipeline["stages"]]:
            verdict.wrong.append(f"shown is the stage {stage}")
    if trial.verb == "list pipelines" and len(told.pipelines or []) != len(now.pipelines):
        verdict.wrong.append("the list is not whole")
    if trial.verb == "list stages" and len(told.stages or []) != len(trial.before.pipelines[-1]["stages"]):
        verdict.wrong.append("the list is not whole")


def as_compared(pipeline: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A pipeline as it is compared: what the caller reads of it and what the simulator says it is have this form."""
    if pipeline is None:
        return None
    stages = [
        {"id": stage["id"], "name": stage["name"], "status": stage.get("status"), "position": index}
        for index, stage in enumerate(pipeline["stages"])
    ]
    return {"id": pipeline["id"], "name": pipeline["name"], "stages": stages}


def _judge_error(trial: Trial, error: ProviderError, verdict: Verdict) -> None:
    made_again = [each for undone in error.details.get("rolled_back", []) for each in undone.get("made_again", [])]
    reported = {each["id"] for each in made_again} | {each["new_id"] for each in made_again}
    extra, missing, changed = _differences(trial.before, trial.now)
    for id_ in extra:
        if _own(id_) not in reported:
            verdict.leftovers.append(f"{id_} is left behind and not named")
    for id_ in missing:
        if _own(id_) not in reported:
            verdict.wrong.append(f"{id_} is gone, and the error does not say so")
    lost = {key for each in made_again for key in each.get("lost", ())}
    if trial.now.shape(lost) != trial.before.shape(lost) or (not made_again and trial.now != trial.before):
        if not (extra or missing or changed):
            verdict.leftovers.append(f"records differ: {_first_difference(trial.before.records, trial.now.records)}")
        verdict.wrong.append("an error, but it is not as before")
    if isinstance(error, RemoteError) and error.code not in ("remote_error", "rate_limited"):
        verdict.wrong.append(f"the provider never said {error.code}")
    if "429" in trial.fault and error.code == "rate_limited" and int(error.headers.get("retry-after", 0)) < 1:
        verdict.wrong.append("a 429 without Retry-After")


def _judge_partial(trial: Trial, error: PartialFailure, verdict: Verdict) -> None:
    named = {each["id"] for each in error.details["leftovers"]}
    extra, missing, changed = _differences(trial.before, trial.now)
    may_be = trial.lasting  # nothing can be looked at: what may differ is named, too
    if not may_be and not (extra or missing or changed) and trial.now.records == trial.before.records:
        verdict.wrong.append("leftovers are named, but it is as before")
    for id_ in (*extra, *missing, *changed):
        pipeline = id_.partition(" ")[0]
        whole = pipeline in (*extra, *missing) or may_be
        if _own(id_) not in named and not (whole and pipeline in named):
            verdict.leftovers.append(f"{id_} differs and is not named")
    strange = {each for each in named if each not in {_own(id_) for id_ in (*trial.before.facts(), *trial.now.facts())}}
    if strange:
        verdict.wrong.append(f"{sorted(strange)} are named and were never there, or are gone")


def _judge_unknown(trial: Trial, verdict: Verdict) -> None:
    if trial.verb not in MAY_BE_UNKNOWN:
        verdict.wrong.append("the outcome of this can be looked at")
    if trial.tellable and not trial.silent:
        verdict.wrong.append("the outcome can be told: the provider can be asked, and says when a pipeline was made")
    known = {each["id"] for each in trial.before.pipelines}
    new = [each for each in trial.now.pipelines if each["id"] not in known]
    asked = {each["name"] for each in trial.asked.pipelines if each["id"] not in known}
    if trial.verb == "create pipeline":
        if len(new) > 1 or any(each["name"] not in asked for each in new):
            verdict.leftovers.append(f"{[each['name'] for each in new]} are there")
        rest = State([each for each in trial.now.pipelines if each not in new])
        if rest.facts() != State(trial.before.pipelines).facts():
            verdict.wrong.append("what was there before is not as before")
    elif trial.now.shape() not in (trial.before.shape(), trial.asked.shape()):
        verdict.wrong.append("it is neither as before nor as asked")


def _judge_again(trial: Trial, told: Told, after: State, verdict: Verdict) -> None:
    verdict.duplicates += [f"sent again: {each}" for each in _duplicates(trial, after)]
    if told.error is None:
        if after.shape() != trial.asked.shape():
            verdict.wrong.append("sent again: success, but it is not as asked")
    else:
        details = trial.told.error.details if trial.told.error else {}
        if after != trial.now:
            verdict.wrong.append(f"sent again: {told}, but something has changed")
        if not any("made_again" in each for each in details.get("rolled_back", [])):
            verdict.wrong.append(f"sent again, without a fault: {told}")


def _differences(before: State, now: State) -> tuple[list[str], list[str], list[str]]:
    """The ids that are there and were not, those that were and are not, and those of which another thing is true."""
    old, new = before.facts(), now.facts()
    changed = []
    for id_ in old.keys() & new.keys():
        was, is_ = old[id_], new[id_]
        if was[0] == "pipeline":  # in the order of those that are there before and after
            both = {*was[2]} & {*is_[2]}
            was, is_ = ((*each[:2], [stage for stage in each[2] if stage in both]) for each in (was, is_))
        if was != is_:
            changed.append(id_)
    return sorted(new.keys() - old.keys()), sorted(old.keys() - new.keys()), sorted(changed)


def _own(id_: str) -> str:
    """Of "{pipeline} {stage}" the stage's."""
    return id_.rpartition(" ")[2]


def _first_difference(before: Any, now: Any, where: str = "") -> str:
    if isinstance(before, dict) and isinstance(now, dict) and before.keys() == now.keys():
        return next((_first_difference(v, now[k], f"{where}.{k}") for k, v in before.items() if v != now[k]), where)
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = zip(before, now, strict=True)
        return next((_first_difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(pairs) if a != b), where)
    return f"{where} was {json.dumps(before)[:200]} and is {json.dumps(now)[:200]}"
