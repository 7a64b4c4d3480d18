"""Access tokens that are good for now, and what becomes of them told: for accounts that have any, imported by these."""

from __future__ import annotations

from api import telemetry
from unified_crm import oauth

fresh = oauth.fresh


def _tell(event: oauth.Event) -> None:
    """What happened to an account's access, as a log line and a metric."""
    level = telemetry.logger.info if event.name == "TokenRefreshed" else telemetry.logger.error
    level(event.name, account=event.account, provider=event.provider)
    telemetry.count(event.name)


oauth.listeners.append(_tell)
