"""What an integrated account's secret holds, as it is stored and never as it is shown."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr


def _sendable(secret: SecretStr) -> SecretStr:
    """Without the white space that comes along when a secret is pasted; printable ASCII, since it becomes a header."""
    value = secret.get_secret_value().strip()
    if not value or not value.isascii() or not value.isprintable():
        raise ValueError("must be printable ASCII, and not empty")
    return SecretStr(value)


Secret = Annotated[SecretStr, AfterValidator(_sendable)]


class _Credentials(BaseModel):
    # Most accounts of a process have one kind: a schema is built for the first that has it.
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, defer_build=True)


class ApiKey(_Credentials):
    """A key that a user of the CRM made by hand."""

    type: Literal["api_key"]
    api_key: Secret


class Bearer(_Credentials):
    """A token that does not run out by itself: a private app's, a personal one."""

    type: Literal["bearer"]
    token: Secret


class OAuth2(_Credentials):
    """An OAuth 2 grant. `expires_at` is the access token's end."""

    type: Literal["oauth2"]
    access_token: Secret
    refresh_token: Secret | None = None
    expires_at: datetime | None = None
    client_id: str | None = None
    client_secret: Secret | None = None


Credentials = ApiKey | Bearer | OAuth2
KINDS: Mapping[str, type[Credentials]] = {"api_key": ApiKey, "bearer": Bearer, "oauth2": OAuth2}
"""By their `type`."""


def secrets_in(credentials: BaseModel) -> tuple[str, ...]:
    """Every secret text in `credentials`, for redaction."""
    values: list[Any] = [getattr(credentials, name) for name in type(credentials).model_fields]
    return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))
