"""Given and expected, in JSON: what providers really answer, and what is sent to them.

`cases/{provider}.json` holds `reads` (a provider's record and what it is to a caller) and `writes` (what a caller
writes and the requests that arrive, with the replies that the provider gives them).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unified_crm import providers, verbs
from unified_crm.provider import Call, Reply

CASES = Path(__file__).parent / "cases"


def _cases(kind: str) -> list[Any]:
    return [
        pytest.param(path.stem, case, id=f"{path.stem}-{case['is']}")
        for path in sorted(CASES.glob("*.json"))
        for case in json.loads(path.read_text(encoding="utf-8"))[kind]
    ]


def test_every_file_of_cases_is_a_providers() -> None:
    assert {path.stem for path in CASES.glob("*.json")} <= set(providers.names())


@pytest.mark.parametrize(("name", "case"), _cases("reads"))
def test_a_record_reads_as(name: str, case: dict[str, Any]) -> None:
    provider = providers.load(name)
    entity = provider.entities.to_remote(case.get("entity", "opportunity"))
    assert entity is not None
    found = verbs.pipeline_to_unified(provider, entity, case["given"])
    assert {key: found[key] for key in case["expected"]} == case["expected"]


@pytest.mark.parametrize(("name", "case"), _cases("writes"))
def test_a_pipeline_is_written_as(name: str, case: dict[str, Any]) -> None:
    provider = providers.load(name)
    entity = provider.entities.to_remote(case.get("entity", "opportunity"))
    assert entity is not None
    assert provider.pipelines.create is not None
    kept, _ = provider.pipelines.table(entity).check(case["given"], provider.label)
    flow = provider.pipelines.create(Call(entity, kept))
    request = next(flow)
    for index, step in enumerate(case["expected"]):
        assert f"{request.method} {request.path}" == step["request"]
        assert request.json == step.get("body")
        try:
            request = flow.send(Reply(step["status"], {}, json.dumps(step["reply"]).encode()))
        except StopIteration:
            assert index == len(case["expected"]) - 1
            return
    pytest.fail(f"one more request: {request.method} {request.path}")
