"""What the README tells a newcomer to paste does what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from local.world import World
from tests.conftest import CLOSE, HUBSPOT, Http

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
CURLS = [block for block in BLOCKS if block.startswith("curl")]


def test_there_is_a_curl_line_for_each_provider() -> None:
    assert [re.search(r"integrated_account_id=([0-9a-f-]+)", curl)[1] for curl in CURLS] == [CLOSE, HUBSPOT]  # type: ignore[index]


@pytest.mark.parametrize(("curl", "provider"), list(zip(CURLS, ("close", "hubspot"), strict=True)))
def test_a_pasted_line_creates_a_pipeline_with_three_stages(world: World, http: Http, curl: str, provider: str) -> None:
    words = shlex.split(curl.replace("\\\n", " "))
    (url,) = [word for word in words if word.startswith("http://127.0.0.1:8000")]
    given = [words[index + 1].split(": ", 1) for index, word in enumerate(words) if word == "-H"]
    headers = {name.lower(): value for name, value in given}
    body = words[words.index("-d") + 1].encode()
    answer = http("POST", url.removeprefix("http://127.0.0.1:8000"), body, headers=headers, token=None)
    assert answer.status == 200
    assert len(answer.json["stages"]) == 3
    simulator: Any = world.simulators[provider]
    (held,) = simulator.pipelines()
    assert [(stage["name"], stage["status"]) for stage in held["stages"]] == [
        ("Qualified", "active"),
        ("Won", "won"),
        ("Lost", "lost"),
    ]


def test_the_readme_starts_with_two_commands() -> None:
    first = BLOCKS[0].strip().splitlines()
    assert len(first) == 2
    assert first[0].startswith("git clone")
    assert first[1] == "make run"


def test_links_in_the_readme_lead_somewhere() -> None:
    root = Path(__file__).resolve().parents[2]
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (root / target).exists(), target
