"""The two documents that need no token: the API's description, and a page to read and try it.

The description is made at build time (docs/generate.py), and the page is the Swagger UI that Powertools ships. Nothing
is read before it is asked for, so that other calls pay nothing for it.
"""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs

import aws_lambda_powertools

from api.http import Event, Response
from unified_crm.errors import NotFound

_HERE = Path(__file__).parent
_SWAGGER = Path(aws_lambda_powertools.__file__).parent / "event_handler/openapi/swagger_ui"

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Unified CRM</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs?file=style&amp;v={style}">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs?file=script&amp;v={script}"></script>
<script src="docs?file=start&amp;v={start}"></script>
</body>
</html>
"""
# Swagger UI writes what is nested deeper than `name[key]` as JSON, for which OpenAPI has no rule; here it is brackets.
# No validator: it is a service of others, which would be sent the description's address.
_START = """function pairs(key, value) {
  if (value === null || typeof value !== "object") return [[key, value ?? ""]];
  if (Array.isArray(value)) return value.flatMap((each, index) => pairs(`${key}[${index}]`, each));
  return Object.entries(value).flatMap(([name, each]) => pairs(`${key}[${name}]`, each));
}

function withBrackets(request) {
  const url = new URL(request.url, window.location);
  const query = [...url.searchParams].flatMap(([key, value]) => {
    try {
      return key.includes("[") && /^[[{]/.test(value) ? pairs(key, JSON.parse(value)) : [[key, value]];
    } catch {
      return [[key, value]];
    }
  });
  url.search = new URLSearchParams(query);
  request.url = url.href;
  return request;
}

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  filter: true,
  layout: "BaseLayout",
  presets: [SwaggerUIBundle.presets.apis],
  requestInterceptor: withBrackets,
  validatorUrl: null,
});
"""
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # Swagger UI writes styles into its elements
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_SHORT, _LONG = "public, max-age=300", "public, max-age=31536000, immutable"


def description(event: Event) -> Response:
    """`GET /openapi.json`. Anyone may read it, from any page."""
    headers = {"access-control-allow-origin": "*"}
    return _answer(event, "application/json", _read(_HERE / "openapi.json"), _SHORT, headers)


def docs(event: Event) -> Response:
    """`GET /docs`: the page, or with `file` one of its files, whose addresses change with what they hold.

    Raises NotFound where there is no such file.
    """
    match names := parse_qs(event.query, keep_blank_values=True).get("file"):
        case None:
            page = _PAGE.format(style=_tag(_style()), script=_tag(_script()), start=_tag(_START))
            return _answer(event, "text/html; charset=utf-8", page, _SHORT, {"content-security-policy": _POLICY})
        case ["style"]:
            return _answer(event, "text/css; charset=utf-8", _style(), _LONG)
        case ["script"]:
            return _answer(event, "text/javascript; charset=utf-8", _script(), _LONG)
        case ["start"]:
            return _answer(event, "text/javascript; charset=utf-8", _START, _LONG)
    raise NotFound(f"The page has no file {','.join(names)}")


def _answer(
    event: Event, media_type: str, text: str, cache_control: str, more: dict[str, str] | None = None
) -> Response:
    tag = f'W/"{_tag(text)}"'  # weak: the same for the compressed form
    headers = {
        "cache-control": cache_control,
        "etag": tag,
        "vary": "accept-encoding",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        **(more or {}),
    }
    if tag.removeprefix("W/") in re.findall(r'"[^"]*"', event.headers.get("if-none-match") or ""):
        return Response(304, headers=headers)
    if "gzip" not in (event.headers.get("accept-encoding") or ""):
        return Response(200, media_type, text, headers)
    body = b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    return Response(200, media_type, body, {**headers, "content-encoding": "gzip"}, encoded=True)


def _style() -> str:
    return _read(_SWAGGER / "swagger-ui.min.css")


def _script() -> str:
    return _read(_SWAGGER / "swagger-ui-bundle.min.js")


@cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _tag(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]
