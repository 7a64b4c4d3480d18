"""`/docs` as a person uses it: log in, try out "create a pipeline", see the pipeline. In Chromium, without a window.

The last picture is kept: build/docs-create-pipeline.png.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from local.simulators.base import closed_port
from local.world import World
from tests.conftest import CLOSE

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page

PICTURE = Path(__file__).resolve().parents[2] / "build/docs-create-pipeline.png"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PIPELINE = {"name": "Sales from the page", "stages": [{"name": "Qualified", "status": "active"}]}

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[BrowserContext]:
    """What it wants from other machines, for itself too, ends at a proxy that is not there."""
    away = [f"--proxy-server={closed_port()}", "--proxy-bypass-list=127.0.0.1"]
    with playwright.sync_playwright() as engine:
        context = engine.chromium.launch_persistent_context(
            tmp_path / "user", executable_path=CHROMIUM, args=FLAGS + away, viewport={"width": 1280, "height": 1400}
        )
        context.set_default_timeout(20_000)
        yield context
        context.close()


@dataclass
class _Seen:
    """What the browser asked for, and what it complained about."""

    hosts: set[str | None] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture
def seen(browser: BrowserContext) -> _Seen:
    seen = _Seen()
    browser.on("request", lambda request: seen.hosts.add(urlsplit(request.url).hostname))
    browser.on("console", lambda message: seen.complaints.append(message.text))
    browser.on("weberror", lambda error: seen.complaints.append(str(error.error)))
    return seen


@pytest.fixture
def page(browser: BrowserContext, seen: _Seen, world: World) -> Page:  # noqa: ARG001 - it looks from the start
    """The page, logged in."""
    page = browser.new_page()
    page.goto(f"{world.url}/docs")
    page.locator(".auth-wrapper button.authorize").click()
    page.locator(".auth-container input").fill("demo-token")
    page.locator(".auth-btn-wrapper button.authorize").click()
    page.locator(".auth-btn-wrapper button.btn-done").click()
    return page


def test_a_person_creates_a_pipeline(page: Page, seen: _Seen, world: World) -> None:
    operation = _try_out(page, "pipelines", "createPipeline")
    assert operation.locator('tr[data-param-name="integrated_account_id"] input').input_value() == CLOSE
    operation.locator(".body-param__text").fill(json.dumps(PIPELINE))
    answer = _execute(operation)

    assert answer.locator("tbody .response-col_status").first.inner_text().strip() == "200"
    shown = json.loads(answer.locator(".highlight-code code").first.inner_text())
    simulator: Any = world.simulators["close"]
    (held,) = simulator.pipelines()
    assert (shown["id"], shown["name"]) == (held["id"], PIPELINE["name"])
    PICTURE.parent.mkdir(exist_ok=True)
    operation.locator(".opblock-section-request-body").evaluate("section => section.scrollIntoView()")
    page.screenshot(path=PICTURE)

    assert seen.hosts == {"127.0.0.1"}
    assert seen.complaints == []


def test_brackets_are_sent_as_the_service_reads_them(page: Page) -> None:
    operation = _try_out(page, "pipelines", "listPipelines")
    nested = {"a": "b c", "list": ["1", "2"], "deep": {"er": "yes"}}
    operation.locator('tr[data-param-name="remote_query"] textarea').fill(json.dumps(nested))
    operation.locator('tr[data-param-name="created_at"] textarea').fill('{"gt": "2020-01-01T00:00:00Z"}')
    fields = operation.locator('tr[data-param-name="truto_exclude_fields"]')
    for index, name in enumerate(("remote_data", "stages")):
        fields.locator("button.json-schema-form-item-add").click()
        fields.locator("input").nth(index).fill(name)
    with page.expect_request("**/unified/crm/pipelines?*") as request:
        answer = _execute(operation)
    assert answer.locator("tbody .response-col_status").first.inner_text().strip() == "200"
    sent = parse_qsl(urlsplit(request.value.url).query)
    assert [pair for pair in sent if pair[0].startswith(("remote_query", "created_at", "truto_exclude"))] == [
        ("truto_exclude_fields", "remote_data"),
        ("truto_exclude_fields", "stages"),
        ("remote_query[a]", "b c"),
        ("remote_query[list][0]", "1"),
        ("remote_query[list][1]", "2"),
        ("remote_query[deep][er]", "yes"),
        ("created_at[gt]", "2020-01-01T00:00:00Z"),
    ]
    assert not [pair for pair in sent if pair[0].startswith("updated_at")]


def _try_out(page: Page, tag: str, operation_id: str) -> Locator:
    operation = page.locator(f"#operations-{tag}-{operation_id}")
    operation.locator(".opblock-summary-control").click()
    operation.locator("button.try-out__btn").click()
    return operation


def _execute(operation: Locator) -> Locator:
    operation.locator("button.execute").click()
    answer = operation.locator(".live-responses-table")
    answer.wait_for()
    return answer
