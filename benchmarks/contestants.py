"""Who does the work, each in a process of its own: the API function as it was built, and who it is compared with.

    python -m benchmarks.contestants WHO WORK PORT RESULTS

reads orders from standard input, a JSON object a line, and writes what came of each to the file descriptor RESULTS:

- `{"calls": n}`: makes n calls; their times in nanoseconds, how many stages the first answer had, and bytes of memory:
  `before` the first call, and at the `peak` up to its end;
- `{"profile": n}`: the same calls under cProfile, as text.

Standard output is the function's log.
"""

from __future__ import annotations

import cProfile
import io
import json
import os
import pstats
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from time import monotonic, perf_counter_ns
from typing import Any

from benchmarks import work
from benchmarks.wire import Connection, request

Call = Callable[[], Any]
Prepare = Callable[[], Call]
"""Makes a call ready, which is not timed: an event is parsed by the runtime, before the function has it."""

TARGETS = {
    "create-hubspot": ("POST", "/crm/v3/pipelines/deals", work.TO_HUBSPOT),
    "create-close": ("POST", "/api/v1/pipeline/", work.TO_CLOSE),
    "list": ("GET", "/crm/v3/pipelines/deals", None),
    "lists": ("GET", "/crm/v3/pipelines/deals", None),
    "contacts": ("GET", "/crm/v3/pipelines/contacts", None),
}


class Context:
    """What Lambda hands to a handler beside the event."""

    function_name = "unified-crm-api"
    function_version = "$LATEST"
    memory_limit_in_mb = "512"
    invoked_function_arn = "arn:aws:lambda:us-east-1:123456789012:function:unified-crm-api"
    identity = client_context = None

    def __init__(self) -> None:
        self.aws_request_id = str(uuid.uuid4())
        self._ends = monotonic() + 29

    def get_remaining_time_in_millis(self) -> int:
        return int((self._ends - monotonic()) * 1000)


def function(kind: str, _: int) -> Prepare:
    """The API function: an event to its answer. The environment is the one that `artefact.py` gives."""
    from api.app import handler

    text, trace = json.dumps(work.event(kind)), os.environ["_X_AMZN_TRACE_ID"].partition(";")[2]

    def prepare() -> Call:
        event, context = json.loads(text), Context()
        os.environ["_X_AMZN_TRACE_ID"] = f"Root=1-691493b7-{uuid.uuid4().hex[:24]};{trace}"

        def call() -> Any:
            answer = handler(event, context)
            if answer["statusCode"] != 200:
                raise RuntimeError(f"the function answered {answer}")
            return answer

        return call

    return prepare


def plain_urllib3(kind: str, port: int) -> Prepare:
    """urllib3 with nothing around it: the body to JSON, the round trip, the reply's JSON to objects."""
    import urllib3

    pool = urllib3.PoolManager()
    method, path, body = TARGETS[kind]
    url = f"http://127.0.0.1:{port}{path}"
    headers = {
        "accept": "application/json",
        "content-type": "application/json",
        "authorization": "Bearer pat-bench-hubspot-2c9f",
    }

    def call() -> Any:
        sent = None if body is None else json.dumps(body).encode()
        return json.loads(pool.request(method, url, body=sent, headers=headers).data)

    return lambda: call


def plain_socket(kind: str, port: int) -> Prepare:
    """Bytes that were made before over a kept connection, and no look at what comes back."""
    method, path, body = TARGETS[kind]
    sent = request(method, path, json.dumps(body).encode() if body else b"", accept="application/json")
    connection = Connection(port)

    def call() -> Any:
        return connection.exchange(sent)[1]

    return lambda: call


def official(kind: str, port: int) -> Prepare:
    """The provider's own client."""
    return _closeio(port) if kind == "create-close" else _hubspot(port)


def _hubspot(port: int) -> Prepare:
    from hubspot import HubSpot
    from hubspot.crm.pipelines import PipelineInput, PipelineStageInput

    api = HubSpot(access_token="pat-bench-hubspot-2c9f", host=f"http://127.0.0.1:{port}").crm.pipelines.pipelines_api

    def call() -> Any:
        stages = [
            PipelineStageInput(label=name, display_order=at, metadata={"probability": probability})
            for at, (name, _, probability) in enumerate(work.STAGES)
        ]
        created = api.create("deals", PipelineInput(label="New business", display_order=0, stages=stages))
        return {"stages": created.stages}

    return lambda: call


def _closeio(port: int) -> Prepare:
    from closeio_api import API

    client = API(f"http://127.0.0.1:{port}/api/v1/", "api_bench.close.7d31")

    def call() -> Any:
        return client.post("pipeline", data=work.TO_CLOSE)

    return lambda: call


WHO: dict[str, Callable[[str, int], Prepare]] = {
    "function": function,
    "urllib3": plain_urllib3,
    "socket": plain_socket,
    "official": official,
}


def stages_in(answer: Any) -> int:
    """How many stages an answer of any of them holds."""
    if isinstance(answer, dict) and "statusCode" in answer:
        answer = answer["body"]
    if isinstance(answer, str | bytes):
        answer = json.loads(answer)
    found = answer.get("result") or answer.get("results") or [answer]
    return sum(len(each.get("stages") or each.get("statuses") or ()) for each in found)


def run(prepare: Prepare, calls: int) -> dict[str, Any]:
    """Makes the calls, one after the other."""
    before = _memory(reset=True)
    times, stages, peak = [], 0, 0
    for at in range(calls):
        call = prepare()
        began = perf_counter_ns()
        answer = call()
        times.append(perf_counter_ns() - began)
        if at == 0:
            peak = _memory()
            stages = stages_in(answer)
        del answer
    return {"nanoseconds": times, "stages": stages, "before": before, "peak": peak}


def profile(prepare: Prepare, calls: int) -> dict[str, Any]:
    """What cProfile has to say of the calls."""
    run(prepare, 20)
    ready = [prepare() for _ in range(calls)]
    profiler = cProfile.Profile()
    profiler.enable()
    for call in ready:
        call()
    profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(45)
    return {"profile": text.getvalue()}


def _memory(*, reset: bool = False) -> int:
    """The bytes that are resident at most, since the last `reset`; 0 where the system does not tell."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main(who: str, kind: str, port: str, results: str) -> None:
    with os.fdopen(int(results), "w", buffering=1) as told:
        if kind == "lists":  # what a first list imports and keeps is no part of what a long one costs
            run(WHO[who]("contacts", int(port)), 1)
        prepare = WHO[who](kind, int(port))
        for line in sys.stdin:
            order = json.loads(line)
            found = profile(prepare, order["profile"]) if "profile" in order else run(prepare, order["calls"])
            print(json.dumps(found), file=told)


if __name__ == "__main__":
    main(*sys.argv[1:])
