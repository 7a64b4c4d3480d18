"""The work that is measured: what callers send, what goes on to the provider, and what that answers."""

from __future__ import annotations

import json
from typing import Any

HUBSPOT = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
CLOSE = "62f44730-dd91-461e-bd6a-aedd9e0ad79d"
SECRETS: dict[str, dict[str, Any]] = {
    HUBSPOT: {
        "provider": "hubspot",
        "tenant": "demo",
        "credentials": {"type": "bearer", "token": "pat-bench-hubspot-2c9f"},
        "settings": {},
    },
    CLOSE: {
        "provider": "close",
        "tenant": "demo",
        "credentials": {"type": "api_key", "api_key": "api_bench.close.7d31"},
        "settings": {},
    },
}
"""The accounts' secrets, by their ids."""

STAGES = (
    ("Qualified", "active", "0.3"),
    ("Proposal sent", "active", "0.5"),
    ("Negotiation", "active", "0.8"),
    ("Signed", "won", "1.0"),
    ("Gone", "lost", "0.0"),
)
"""Name, unified status, and HubSpot's probability."""

UNIFIED = {"name": "New business", "stages": [{"name": name, "status": status} for name, status, _ in STAGES]}
TO_HUBSPOT = {
    "label": "New business",
    "displayOrder": 0,
    "stages": [
        {"label": name, "displayOrder": at, "metadata": {"probability": probability}}
        for at, (name, _, probability) in enumerate(STAGES)
    ],
}
TO_CLOSE = {"name": "New business", "statuses": [{"label": name, "type": status} for name, status, _ in STAGES]}

_TIME = "2026-01-31T12:00:00.123Z"


def event(work: str, **headers: str) -> dict[str, Any]:
    """The event of a kind of work: create-hubspot, create-close, list, or lists, which asks for all that fits.

    `contacts`, which is never measured, lists the one pipeline that the provider has for them.
    """
    body: dict[str, Any] | None = UNIFIED if work.startswith("create") else None
    query = {
        "create-hubspot": f"integrated_account_id={HUBSPOT}",
        "create-close": f"integrated_account_id={CLOSE}",
        "list": f"integrated_account_id={HUBSPOT}&limit=100",
        "lists": f"integrated_account_id={HUBSPOT}&limit=1000",
        "contacts": f"integrated_account_id={HUBSPOT}&entity=contact",
    }[work]
    return _event("POST" if body else "GET", "/unified/crm/pipelines", query, body, headers)


def _event(method: str, path: str, query: str, body: Any, headers: dict[str, str]) -> dict[str, Any]:
    """A request as API Gateway hands it on (HTTP API, payload 2.0)."""
    return {
        "version": "2.0",
        "routeKey": f"ANY {path}",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {
            "accept": "*/*",
            "authorization": "Bearer demo-token",
            "content-type": "application/json",
            "host": "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
            "user-agent": "curl/8.14.1",
            "x-forwarded-for": "203.0.113.7",
            "x-forwarded-port": "443",
            "x-forwarded-proto": "https",
            **headers,
        },
        "queryStringParameters": dict(each.split("=") for each in query.split("&")),
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "a1b2c3d4e5",
            "authorizer": {"lambda": {"tenant": "demo", "accounts": "*"}},
            "domainName": "a1b2c3d4e5.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "a1b2c3d4e5",
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "curl/8.14.1",
            },
            "requestId": "TIzuJUaRIa3mr50=",
            "routeKey": f"ANY {path}",
            "stage": "$default",
            "time": "31/Jan/2026:12:00:00 +0000",
            "timeEpoch": 1769860800000,
        },
        **({} if body is None else {"body": json.dumps(body)}),
        "isBase64Encoded": False,
    }


def hubspot_pipeline(number: int, stages: int) -> dict[str, Any]:
    """A pipeline as HubSpot answers it: the one that is created is number 0 with as many stages as that has."""
    return {
        "label": f"Pipeline {number}" if number else "New business",
        "displayOrder": number,
        "id": str(100_000 + number),
        "archived": False,
        "createdAt": _TIME,
        "updatedAt": _TIME,
        "stages": [_hubspot_stage(number, at) for at in range(stages)],
    }


def _hubspot_stage(pipeline: int, at: int) -> dict[str, Any]:
    name, status, probability = STAGES[at % len(STAGES)]
    return {
        "label": name if at < len(STAGES) else f"{name} {at}",
        "displayOrder": at,
        "metadata": {"isClosed": "false" if status == "active" else "true", "probability": probability},
        "id": str(1_000_000 + pipeline * 1000 + at),
        "archived": False,
        "createdAt": _TIME,
        "updatedAt": _TIME,
        "writePermissions": "CRM_PERMISSIONS_ENFORCEMENT",
    }


def close_pipeline() -> dict[str, Any]:
    """The created pipeline as Close answers it."""
    return {
        "id": "pipe_vA6V4y6j33Hn8dSuzeR9DK",
        "name": TO_CLOSE["name"],
        "organization_id": "orga_5k2GDwWrcxyAVLm0cvJzVk",
        "created_by": None,
        "updated_by": None,
        "date_created": "2026-01-31T12:00:00.123456",
        "date_updated": "2026-01-31T12:00:00.123456",
        "statuses": [
            {"id": f"stat_hnLEodI2Cb075BF2SEsl{at:02}", "label": name, "type": status}
            for at, (name, status, _) in enumerate(STAGES)
        ],
    }
