"""`events/`: each file is an event as API Gateway makes it, and is answered as its name promises."""

import base64
import copy
import json
from datetime import UTC, datetime
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aws_lambda_powertools.utilities.parser.models import ApiGatewayAuthorizerRequestV2, APIGatewayProxyEventV2Model

from local.gateway import LambdaContext
from local.world import World
from tests.e2e.built import EVENTS, event

ANSWERS = {
    "create-pipeline-close": (200, None),
    "create-pipeline-hubspot": (200, None),
    "create-pipeline-hubspot-ticket": (200, None),
    "list-pipelines-close": (200, None),
    "list-stages-hubspot": (200, None),
    "meta-create-hubspot": (200, None),
    "unknown-pipeline-close": (404, "not_found"),
    "missing-account-id": (400, "invalid_request"),
    "unknown-field": (400, "invalid_request"),
    "malformed-json": (400, "invalid_json"),
    "unknown-account": (404, "not_found"),
    "account-of-another-tenant": (404, "not_found"),
    "account-outside-the-token": (404, "not_found"),
    "unknown-route": (404, "not_found"),
    "wrong-method": (405, "method_not_allowed"),
    "not-json": (415, "unsupported_media_type"),
}
ROUTES = {
    "$default",
    "ANY /unified/crm/pipelines",
    "ANY /unified/crm/pipelines/{id}",
    "ANY /unified/crm/stages",
    "ANY /unified/crm/stages/{id}",
}
AUTHORIZED = {"authorizer": True, "authorizer-unknown-token": False}


def answer(function: str, name: str) -> dict[str, Any]:
    """What the real handler makes of a file's event, in this process."""
    handler = import_module(f"{function}.app").handler
    result: dict[str, Any] = handler(event(name), LambdaContext(function, timeout=29))
    return result


def test_each_file_has_its_promise_here() -> None:
    assert {file.stem for file in EVENTS.iterdir()} == {*ANSWERS, *AUTHORIZED}


@pytest.mark.parametrize("name", [*ANSWERS, *AUTHORIZED])
def test_is_an_event_as_api_gateway_makes_it(name: str) -> None:
    made = event(name)
    model = APIGatewayProxyEventV2Model if name in ANSWERS else ApiGatewayAuthorizerRequestV2
    model.model_validate(copy.deepcopy(made))

    request, http = made["requestContext"], made["requestContext"]["http"]
    assert made["version"] == "2.0"
    assert made["routeKey"] == request["routeKey"] in ROUTES
    assert made["rawPath"] == http["path"]
    assert made["headers"]["host"] == request["domainName"]
    assert made["headers"]["user-agent"] == http["userAgent"]
    assert all(header == header.lower() for header in made["headers"])

    values: dict[str, list[str]] = {}
    for key, value in parse_qsl(made["rawQueryString"], keep_blank_values=True):
        values.setdefault(key, []).append(value)
    assert made["queryStringParameters"] == {key: ",".join(each) for key, each in values.items()}

    moment = datetime.strptime(request["time"], "%d/%b/%Y:%H:%M:%S %z")
    assert moment == datetime.fromtimestamp(request["timeEpoch"] // 1000, UTC)


@pytest.mark.parametrize("name", ANSWERS)
def test_body_is_as_long_as_its_header_says(name: str) -> None:
    made = event(name)
    if made["requestContext"]["http"]["method"] == "GET":
        assert not {"body", "content-length"} & {*made, *made["headers"]}
        return
    body = made["body"].encode()
    length = len(base64.b64decode(body, validate=True) if made["isBase64Encoded"] else body)
    assert length == int(made["headers"]["content-length"])


@pytest.mark.parametrize("name", AUTHORIZED)
def test_authorizer_event_asks_about_the_header(name: str) -> None:
    made = event(name)
    assert made["type"] == "REQUEST"
    assert made["identitySource"] == [made["headers"]["authorization"]]
    assert "body" not in made
    assert "authorizer" not in made["requestContext"]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("name", "status", "code"), [(name, *answer) for name, answer in ANSWERS.items()])
def test_is_answered_as_its_name_promises(name: str, status: int, code: str | None) -> None:
    given = answer("api", name)
    body = json.loads(given["body"])
    assert (given["statusCode"], body.get("code")) == (status, code), body


@pytest.mark.parametrize(
    ("name", "provider", "entity"),
    [
        ("create-pipeline-close", "close", None),
        ("create-pipeline-hubspot", "hubspot", None),
        ("create-pipeline-hubspot-ticket", "hubspot", "tickets"),
    ],
)
def test_created_pipeline_stands_at_the_provider(world: World, name: str, provider: str, entity: str | None) -> None:
    wanted = json.loads(event(name)["body"])
    answer("api", name)
    created = [p for p in world.simulators[provider].pipelines(entity) if p["name"] == wanted["name"]]  # type: ignore[attr-defined]
    stages = [{key: stage[key] for key in ("name", "status")} for stage in created[0]["stages"]]
    assert stages == [{key: stage[key] for key in ("name", "status")} for stage in wanted["stages"]]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("name", "authorized"), AUTHORIZED.items())
def test_authorizer_answers_as_its_name_promises(name: str, authorized: bool) -> None:
    verdict = answer("authorizer", name)
    assert verdict["isAuthorized"] is authorized
    if authorized:
        assert verdict["context"] == event("create-pipeline-close")["requestContext"]["authorizer"]["lambda"]
