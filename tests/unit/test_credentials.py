"""Credentials, as they are stored and never as they are shown."""

from __future__ import annotations

import traceback
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from unified_crm.credentials import ApiKey, Bearer, Credentials, OAuth2, secrets_in
from unified_crm.provider import basic_key, bearer

SECRET = "sesame-open-4711"
ADAPTER: TypeAdapter[Any] = TypeAdapter(Credentials)
FORMS: dict[str, dict[str, Any]] = {
    "api_key": {"type": "api_key", "api_key": SECRET},
    "bearer": {"type": "bearer", "token": SECRET},
    "oauth2": {
        "type": "oauth2",
        "access_token": SECRET,
        "refresh_token": SECRET + "-r",
        "client_secret": SECRET + "-c",
        "client_id": "an-app",
        "expires_at": "2030-01-02T03:04:05Z",
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_the_type_decides_the_form(form: str) -> None:
    assert type(ADAPTER.validate_python(FORMS[form])) is {"api_key": ApiKey, "bearer": Bearer, "oauth2": OAuth2}[form]


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_never_shown(form: str) -> None:
    credentials = ADAPTER.validate_python(FORMS[form])
    shown = (
        f"{credentials!r} {credentials} {credentials.model_dump()} {credentials.model_dump_json()} {vars(credentials)}"
    )
    assert SECRET not in shown


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("junk", ["\n", "\x00", "\r\nX-Header: 1", "\x7f", "é", "\u200b"])
def test_what_cannot_stand_in_a_header_is_refused_and_not_shown(form: str, junk: str) -> None:
    key = {"api_key": "api_key", "bearer": "token", "oauth2": "access_token"}[form]
    models: dict[str, type[BaseModel]] = {"api_key": ApiKey, "bearer": Bearer, "oauth2": OAuth2}
    with pytest.raises(ValidationError, match="printable ASCII") as caught:
        models[form].model_validate({**FORMS[form], key: f"{SECRET}{junk}{SECRET}"})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("value", ["", " ", "\n", "\t \r\n"])
def test_an_empty_secret_is_refused(value: str) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python({"type": "bearer", "token": value})


@pytest.mark.parametrize("value", [f" {SECRET}", f"{SECRET}\n", f"\t{SECRET} \r\n"])
def test_white_space_around_a_secret_is_taken_off(value: str) -> None:
    assert bearer(ADAPTER.validate_python({"type": "bearer", "token": value})) == {"authorization": f"Bearer {SECRET}"}


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"type": "password", "password": SECRET},
        {"type": None},
        {"api_key": SECRET},
        {"type": "api_key"},
        {"type": "api_key", "token": SECRET},
        {"type": "bearer", "api_key": SECRET},
        {"type": "bearer", "token": None},
        {"type": "bearer", "token": 4711},
        {"type": "oauth2", "refresh_token": SECRET},
        {"type": "oauth2", "access_token": SECRET, "expires_at": "soon " + SECRET},
        "text " + SECRET,
        [SECRET],
    ],
)
def test_another_form_is_refused(stored: Any) -> None:
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(stored)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2030-01-02T03:04:05Z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2030-01-02T03:04:05.25Z", datetime(2030, 1, 2, 3, 4, 5, 250_000, tzinfo=UTC)),
        ("2030-01-02T05:04:05+02:00", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ],
)
def test_expires_at_is_a_moment(text: str, moment: datetime) -> None:
    assert ADAPTER.validate_python({**FORMS["oauth2"], "expires_at": text}).expires_at == moment


def test_only_the_access_token_is_required_of_an_oauth_grant() -> None:
    credentials = ADAPTER.validate_python({"type": "oauth2", "access_token": SECRET})
    assert (credentials.refresh_token, credentials.expires_at, credentials.client_id) == (None, None, None)
    assert secrets_in(credentials) == (SECRET,)


def test_every_secret_is_known_for_redaction_and_nothing_else() -> None:
    assert set(secrets_in(ADAPTER.validate_python(FORMS["oauth2"]))) == {SECRET, SECRET + "-r", SECRET + "-c"}
    assert secrets_in(ADAPTER.validate_python(FORMS["api_key"])) == (SECRET,)


def test_an_api_key_is_the_user_of_http_basic() -> None:
    expected = "Basic " + b64encode(f"{SECRET}:".encode()).decode()
    assert basic_key(ADAPTER.validate_python(FORMS["api_key"])) == {"authorization": expected}


@pytest.mark.parametrize("form", ["bearer", "oauth2"])
def test_tokens_of_both_kinds_are_bearer_tokens(form: str) -> None:
    assert bearer(ADAPTER.validate_python(FORMS[form])) == {"authorization": f"Bearer {SECRET}"}


def test_credentials_cannot_be_changed() -> None:
    credentials = ADAPTER.validate_python(FORMS["bearer"])
    with pytest.raises(ValidationError):
        credentials.token = "other"
