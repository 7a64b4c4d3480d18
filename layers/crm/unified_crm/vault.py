"""Secrets of AWS Secrets Manager, each kept in this process for a while after it was read."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from time import monotonic
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from unified_crm import aws


class UnreadableAnswerError(BotoCoreError):  # type: ignore[misc]  # botocore tells no types
    """An answer came and holds no secret: it broke off, or is somebody else's. What it did hold is not told."""

    fmt = "Secrets Manager's answer could not be read ({reason})"


class Vault:
    """Reads and changes secrets. `kept` holds those that were read: name to (until when, text).

    Made without asking anybody. Each method raises what botocore raises.
    """

    def __init__(self, *, seconds: float, secrets: int) -> None:
        """A secret that was read is used again for `seconds`. No more than so many `secrets` are kept."""
        self._client = aws.client("secretsmanager", read_timeout=3)
        self._seconds, self._secrets = seconds, secrets
        self.kept: OrderedDict[str, tuple[float, str | bytes]] = OrderedDict()
        self._lock = Lock()

    def read(self, name: str, *, past_cache: bool = False) -> str | bytes:
        """The text of a secret: as it was at most `seconds` ago, or with `past_cache` as it is now."""
        until, text = self.kept.get(name, (0.0, ""))
        if past_cache or monotonic() >= until:
            reply = self._answer("get_secret_value", SecretId=name)
            found = reply.get("SecretString", reply.get("SecretBinary"))
            if not isinstance(found, str | bytes):
                raise UnreadableAnswerError(reason="no secret")
            text = found
            self._keep(name, text)
        return text

    def write(self, name: str, text: str, version: str) -> None:
        """Change a secret that there is. The same `version` again is the same change."""
        self._answer("put_secret_value", SecretId=name, SecretString=text, ClientRequestToken=version)
        self._keep(name, text)

    def _answer(self, operation: str, **parameters: str) -> dict[str, Any]:
        try:
            reply: dict[str, Any] = getattr(self._client, operation)(**parameters)
        except (ClientError, BotoCoreError):
            raise
        except Exception as error:  # noqa: BLE001 - botocore looks at no form, and fails at another as it happens to
            raise UnreadableAnswerError(reason=type(error).__name__) from None
        return reply

    def _keep(self, name: str, text: str | bytes) -> None:
        with self._lock:
            self.kept[name] = (monotonic() + self._seconds, text)
            self.kept.move_to_end(name)
            while len(self.kept) > self._secrets:
                self.kept.popitem(last=False)
