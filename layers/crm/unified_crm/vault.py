"""Secrets of AWS Secrets Manager, each kept in this process for a while after it was read."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from time import monotonic

from unified_crm import aws


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
            reply = self._client.get_secret_value(SecretId=name)
            text = reply["SecretString"] if "SecretString" in reply else reply["SecretBinary"]
            self._keep(name, text)
        return text

    def write(self, name: str, text: str, version: str) -> None:
        """Change a secret that there is. The same `version` again is the same change."""
        self._client.put_secret_value(SecretId=name, SecretString=text, ClientRequestToken=version)
        self._keep(name, text)

    def _keep(self, name: str, text: str | bytes) -> None:
        with self._lock:
            self.kept[name] = (monotonic() + self._seconds, text)
            self.kept.move_to_end(name)
            while len(self.kept) > self._secrets:
                self.kept.popitem(last=False)
