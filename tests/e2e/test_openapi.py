"""The API's description: valid, complete, in step with the providers, and every example in it is a call that was made.

`WRITE_EXAMPLES=1 python -m pytest tests/e2e/test_openapi.py` writes the answers in docs/openapi_examples.json again.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel

from docs import openapi
from local.simulators.base import Fault
from local.world import PUBLIC, World
from tests.conftest import CLOSE, HUBSPOT, Http
from unified_crm import describe, models, providers
from unified_crm.accounts import settings_for

ROOT = Path(__file__).resolve().parents[2]
DESCRIPTION = json.loads((ROOT / "functions/api/openapi.json").read_text(encoding="utf-8"))
PROVIDERS = {CLOSE: "close", HUBSPOT: "hubspot"}
OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, item in DESCRIPTION["paths"].items()
    for method, operation in item.items()
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)?")
CHANGING = {"request_id", "correlationId"}
NAMED_BY_PROVIDER = {"id", "next_cursor", "prev_cursor"}


def test_it_is_a_valid_openapi_3_1_description() -> None:
    assert DESCRIPTION["openapi"].startswith("3.1")
    assert list(OpenAPIV31SpecValidator(DESCRIPTION).iter_errors()) == []


def test_it_has_every_address_of_the_contract() -> None:
    found = {(method, path) for path, item in DESCRIPTION["paths"].items() for method in item}
    wanted = {("get", "/openapi.json"), ("get", "/docs")}
    for resource in describe.RESOURCES:
        one, many = f"/unified/crm/{resource}/{{id}}", f"/unified/crm/{resource}"
        wanted |= {("get", many), ("post", many), ("get", one), ("patch", one), ("delete", one)}
        wanted |= {("get", f"/unified/crm/{resource}/meta/{{method}}")}
    assert found == wanted


def test_what_needs_no_token_is_public_and_nothing_else_is() -> None:
    free = {f"{method.upper()} {path}" for method, path, each in OPERATIONS.values() if each.get("security") == []}
    assert free == PUBLIC


def test_every_component_is_used_and_every_operation_has_an_example() -> None:
    text = json.dumps(DESCRIPTION)
    for kind, components in DESCRIPTION["components"].items():
        for name in components if kind != "securitySchemes" else ():
            assert f'"#/components/{kind}/{name}"' in text, f"{kind}/{name}"
    for name, (_, _, operation) in OPERATIONS.items():
        if operation.get("security") != []:
            assert set(PROVIDERS.values()) <= set(_answers(operation["responses"]["200"])), name


# Examples


def test_every_example_is_what_really_happens(world: World, http: Http) -> None:
    play = _Play(world, http)
    examples = [play.call(each) for each in json.loads(openapi.EXAMPLES.read_text(encoding="utf-8"))]
    if os.environ.get("WRITE_EXAMPLES"):
        openapi.EXAMPLES.write_text(json.dumps(examples, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert play.differences == [], "WRITE_EXAMPLES=1 writes the examples again"


@pytest.mark.parametrize("name", OPERATIONS)
def test_examples_fit_what_is_declared(name: str) -> None:
    _, _, operation = OPERATIONS[name]
    for media_type in operation.get("requestBody", {}).get("content", {}).values():
        for example in media_type["examples"].values():
            assert _problems(media_type["schema"], example["value"]) == []
    for response in operation["responses"].values():
        for example in _answers(response).values():
            assert _problems(_resolve(response)["content"]["application/json"]["schema"], example) == []


class _Play:
    """Makes the calls of the examples one after the other, and compares what is answered with what is told.

    Ids are the provider's to choose, and so are times: for each id in an example, the one that was given here.
    """

    def __init__(self, world: World, http: Http) -> None:
        self._world, self._http = world, http
        self._real: dict[str, str] = {}
        self.differences: list[str] = []

    def call(self, example: dict[str, Any]) -> dict[str, Any]:
        """The example with the answer of now, with the ids and times that it had."""
        method, path, operation = OPERATIONS[example["operation"]]
        now = {key: _replaced(value, self._real) for key, value in example.items() if key != "answer"}
        if fault := example.get("fault"):
            simulator: Any = self._world.simulators[PROVIDERS[example["query"]["integrated_account_id"]]]
            simulator.fault(Fault(**fault))
        path = re.sub(r"\{\w+\}", now.get("id", ""), path)
        answer = self._http(
            method.upper(), f"{path}?{urlencode(now['query'])}", now.get("body"), token=now.get("token", "demo-token")
        )
        where = f"{example['operation']} {example['name']}"
        if answer.status != example["status"]:
            self.differences.append(f"{where}: {answer.status} {answer.text[:200]}")
        real = self._with_origins(answer.json)
        schema = _resolve(operation["responses"][str(answer.status)])["content"]["application/json"]["schema"]
        self.differences += [f"{where}: {each}" for each in _problems(schema, real)]
        return {**example, "answer": self._compared(example.get("answer"), real, where, "")}

    def _with_origins(self, value: Any) -> Any:
        """What was answered, with the providers' own addresses instead of the simulators'."""
        text = json.dumps(value)
        for name, simulator in self._world.simulators.items():
            provider = providers.load(name)
            own = urlsplit(
                provider.base_url.format_map(settings_for(provider, simulator.demo_account["settings"], name))
            )
            text = text.replace(simulator.url, f"{own.scheme}://{own.netloc}")
        return json.loads(text)

    def _compared(self, told: Any, real: Any, where: str, key: str) -> Any:
        """What should be told: the same as it is, where that is right."""
        if isinstance(told, dict) and isinstance(real, dict):
            if list(told) != list(real):
                self.differences.append(f"{where}: the example has {[*told]}, there is {[*real]}")
            return {
                name: self._compared(told[name], value, f"{where} .{name}", name) if name in told else self._new(value)
                for name, value in real.items()
            }
        if isinstance(told, list) and isinstance(real, list):
            if len(told) != len(real):
                self.differences.append(f"{where}: the example has {len(told)} items, there are {len(real)}")
            common = zip(told, real, strict=False)
            found = [self._compared(was, now, f"{where}[{index}]", key) for index, (was, now) in enumerate(common)]
            return [*found, *map(self._new, real[len(found) :])]
        if isinstance(told, str) and isinstance(real, str) and self._same(told, real, key):
            if key in NAMED_BY_PROVIDER and len(told) > 6:
                self._real.setdefault(told, real)
            return told
        if told != real:
            self.differences.append(f"{where}: the example tells {told!r}, it is {real!r}")
        return self._new(real)

    def _same(self, told: str, real: str, key: str) -> bool:
        if key in CHANGING or (TIME.fullmatch(told) and TIME.fullmatch(real)):
            return True
        return _replaced(told, self._real) == real or (key in NAMED_BY_PROVIDER and told not in self._real)

    def _new(self, value: Any) -> Any:
        return _replaced(value, {real: told for told, real in self._real.items()})


def _replaced(value: Any, texts: dict[str, str]) -> Any:
    """`value` with each of `texts` replaced, wherever in it."""
    if isinstance(value, dict):
        return {key: _replaced(each, texts) for key, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, texts) for each in value]
    if isinstance(value, str) and texts:
        longest_first = "|".join(map(re.escape, sorted(texts, key=len, reverse=True)))
        return re.sub(longest_first, lambda found: texts[found[0]], value)
    return value


# Providers


@pytest.mark.parametrize("component", openapi.MODELS)
def test_notes_on_providers_say_what_meta_says(component: str) -> None:
    model, resource, method, nested = openapi.MODELS[component]
    properties = DESCRIPTION["components"]["schemas"][component]["properties"]
    assert set(model.model_fields) <= set(properties)
    for provider in map(providers.load, providers.names()):
        for entity in provider.entities.names:
            told = describe.meta(provider, provider.entities.names[entity], resource, method)["fields"]
            for field, said in (told["stages"]["fields"] if nested else told).items():
                if field in properties and field != "entity":
                    writes = method in ("create", "update")
                    shut = said["read_only"] or said.get("only_for_new", False)
                    supported = said["supported"] and not (writes and shut)
                    assert _named(properties[field], "Supported in", provider.label, entity) == supported, field
                    required = _named(properties[field], "Required in", provider.label, entity)
                    assert required == (writes and said["required"]), field


def _named(schema: dict[str, Any], start: str, label: str, entity: str) -> bool:
    """Whether a note names a provider, for this object type."""
    note = re.search(rf"(?:^|[.] ){start} ([^.]*)[.]", schema.get("description", ""))
    place = re.search(rf"\b{label}\b(?: \(([^)]*)\))?", note[1]) if note else None
    return place is not None and (place[1] is None or f"`{entity}`" in place[1])


@pytest.mark.parametrize("component", openapi.MODELS)
def test_no_field_of_a_model_is_missing(component: str) -> None:
    model: type[BaseModel] = openapi.MODELS[component][0]
    schema = DESCRIPTION["components"]["schemas"][component]
    assert set(model.model_fields) <= set(schema["properties"])
    assert schema.get("additionalProperties") == (False if model.model_config.get("extra") == "forbid" else None)


SEGMENTS = [
    "a",
    "1-2",
    "a b",
    "ä",
    "a:b",
    "%",
    "100%",
    ".a",
    "...",
    "",
    ".",
    "..",
    "a/b",
    "a\\b",
    "?",
    "#",
    "%2F",
    "%2",
]


@pytest.mark.parametrize("value", [*SEGMENTS, "\x00", "a\x1f", "\x7f", "\x85", "\n"])
def test_ids_fit_the_pattern_as_they_fit_the_code(value: str) -> None:
    try:
        models.path_segment(value)
        taken = True
    except ValueError:
        taken = False
    assert (_problems({"type": "string", "pattern": openapi.SEGMENT, "minLength": 1}, value) == []) == taken


# Built before, and public


def test_both_documents_need_no_token_and_are_kept_by_browsers(http: Http) -> None:
    for path, media_type in (("/openapi.json", "application/json"), ("/docs", "text/html; charset=utf-8")):
        answer = http("GET", path, token=None)
        assert (answer.status, answer.headers["content-type"]) == (200, media_type)
        assert answer.headers["cache-control"] == "public, max-age=300"
        again = http("GET", path, token=None, headers={"if-none-match": answer.headers["etag"]})
        assert (again.status, again.text) == (304, "")
    assert http("GET", "/openapi.json", token=None).json == DESCRIPTION


def test_the_page_loads_nothing_from_elsewhere(http: Http) -> None:
    page = http("GET", "/docs", token=None)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert [each for each in addresses if not each.startswith("docs?file=")] == ["data:,"]
    kinds = []
    for address in addresses:
        if address.startswith("docs"):
            answer = http("GET", "/" + address.replace("&amp;", "&"), token=None, headers={"accept-encoding": "gzip"})
            kinds.append((answer.status, answer.headers["content-type"].partition(";")[0]))
            assert "immutable" in answer.headers["cache-control"]
            assert answer.headers["content-encoding"] == "gzip"
    assert kinds == [(200, "text/css"), (200, "text/javascript"), (200, "text/javascript")]
    for query in ("file=other", "file=", "file", "file=style&file=script"):
        assert http("GET", f"/docs?{query}", token=None).json["code"] == "not_found"


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_only_reading_them_is_public(http: Http, path: str) -> None:
    assert http("POST", path, {}, token=None).status == 401
    answer = http("POST", path, {})
    assert (answer.status, answer.headers["allow"], answer.json["code"]) == (405, "GET", "method_not_allowed")


def test_a_normal_start_does_not_pay_for_them() -> None:
    """Nothing of the documents is read, and what only some calls need is not imported before one of these comes."""
    code = "import json, sys, api.app, api.documents as it; print(json.dumps([it._read.cache_info()[3], *sys.modules]))"
    paths = os.pathsep.join(str(ROOT / each) for each in ("functions", "layers/crm"))
    variables = {
        **os.environ,
        "PYTHONPATH": paths,
        "POWERTOOLS_TRACE_DISABLED": "true",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=variables)
    size, *modules = json.loads(run.stdout)
    assert size == 0
    slow = re.compile(
        r"aws_lambda_powertools[.](event_handler|utilities[.](data_classes|idempotency))|aws_xray_sdk|asyncio"
    )
    assert [each for each in modules if slow.match(each)] == []


def _answers(response: dict[str, Any]) -> dict[str, Any]:
    """The examples of a response, by their names."""
    content = _resolve(response)["content"]
    return {name: each["value"] for name, each in content.get("application/json", {}).get("examples", {}).items()}


def _resolve(value: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in value:
        return value
    found: Any = DESCRIPTION
    for key in value["$ref"].removeprefix("#/").split("/"):
        found = found[key]
    return dict(found)


def _problems(schema: dict[str, Any], value: Any) -> list[str]:
    whole = {**schema, "components": DESCRIPTION["components"]}
    return [f"{each.json_path}: {each.message[:300]}" for each in _errors(whole, value)]


def _errors(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    yield from OAS31Validator(schema, format_checker=OAS31Validator.FORMAT_CHECKER).iter_errors(value)
