"""A provider's rate limit, whichever header form it uses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import bounded
from unified_crm import providers
from unified_crm.provider import RateLimit, Reply
from unified_crm.rate_limits import headers, retry_after

CLOSE, HUBSPOT = providers.load("close").rate_limit, providers.load("hubspot").rate_limit
PLAIN = RateLimit(limit=60)


def _reply(**found: str) -> Reply:
    return Reply(429, {name.replace("_", "-"): value for name, value in found.items()}, b"")


@pytest.mark.parametrize(
    "found",
    [
        {"ratelimit": "limit=100, remaining=50, reset=5"},
        {"ratelimit": "limit=100; remaining=50; reset=5"},
        {"ratelimit": "limit=100,remaining=50,reset=4.2"},
        {"ratelimit": "reset = 5 , remaining = 50 , limit = 100"},
        {"ratelimit_limit": "100", "ratelimit_remaining": "50", "ratelimit_reset": "5"},
        {"ratelimit_limit": " 100 ", "ratelimit_remaining": "50", "ratelimit_reset": "4.001"},
        {"x_ratelimit_limit": "100", "x_ratelimit_remaining": "50", "x_ratelimit_reset": "5"},
        {"ratelimit": "remaining=50", "ratelimit_limit": "100", "x_ratelimit_reset": "5"},
        {"ratelimit": "limit=x, remaining=50, reset=5", "ratelimit_limit": "100"},
    ],
)
def test_every_form_reads_the_same(found: dict[str, str]) -> None:
    assert headers(_reply(**found), CLOSE) == {
        "retry-after": "5",
        "ratelimit-limit": "100",
        "ratelimit-remaining": "50",
        "ratelimit-reset": "5",
    }


def test_hubspots_own_headers_are_read() -> None:
    found = {
        "x_hubspot_ratelimit_max": "190",
        "x_hubspot_ratelimit_remaining": "0",
        "x_hubspot_ratelimit_interval_milliseconds": "10001",
    }
    assert headers(_reply(**found), HUBSPOT) == {
        "retry-after": "11",
        "ratelimit-limit": "190",
        "ratelimit-remaining": "0",
        "ratelimit-reset": "11",
    }


@pytest.mark.parametrize(
    ("policy", "seconds"), [("TEN_SECONDLY_ROLLING", 10), ("SECONDLY", 1), ("DAILY", 3600), ("OTHER", 1)]
)
def test_hubspots_policy_tells_the_wait_where_no_header_does(policy: str, seconds: int) -> None:
    body = b'{"errorType": "RATE_LIMIT", "policyName": "%s"}' % policy.encode()
    assert retry_after(Reply(429, {}, body), HUBSPOT) == seconds
    assert retry_after(Reply(429, {"retry-after": "3"}, body), HUBSPOT) == 3


def test_without_any_header_the_declared_measure_is_told() -> None:
    assert headers(_reply(), PLAIN) == {
        "retry-after": "1",
        "ratelimit-limit": "60",
        "ratelimit-remaining": "0",
        "ratelimit-reset": "1",
    }


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1", 1), ("7", 7), (" 7 ", 7), ("0.2", 1), ("6.1", 7), ("3600", 3600), ("0", 1), ("-5", 1), ("", 1)],
)
def test_retry_after_is_whole_seconds_and_at_least_one(value: str, seconds: int) -> None:
    assert retry_after(_reply(retry_after=value), PLAIN) == seconds


@pytest.mark.parametrize(("ahead", "least", "most"), [(30, 28, 31), (-30, 1, 1), (0, 1, 1)])
def test_retry_after_may_be_a_date(ahead: int, least: int, most: int) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
    assert least <= retry_after(_reply(retry_after=date), PLAIN) <= most


@pytest.mark.parametrize("junk", ["soon", "1e3", "0x10", "NaN", "inf", "9" * 40, "Mon, 32 Foo 2024", "1;2", "\x00"])
def test_junk_in_the_headers_is_as_if_it_were_not_there(junk: str) -> None:
    found = dict.fromkeys(
        ("retry_after", "ratelimit_limit", "ratelimit_remaining", "ratelimit_reset", "x_ratelimit_limit"), junk
    )
    assert headers(_reply(ratelimit=junk, **found), PLAIN) == headers(_reply(), PLAIN)


def test_the_window_is_the_wait_where_nothing_else_tells() -> None:
    assert retry_after(_reply(ratelimit="limit=1, remaining=0, reset=12"), CLOSE) == 12
    assert retry_after(_reply(ratelimit="limit=1, remaining=0, reset=12", retry_after="3"), CLOSE) == 3


@bounded
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "retry-after",
                "ratelimit",
                "ratelimit-limit",
                "ratelimit-remaining",
                "ratelimit-reset",
                "x-ratelimit-reset",
                "x-hubspot-ratelimit-max",
                "x-hubspot-ratelimit-remaining",
                "x-hubspot-ratelimit-interval-milliseconds",
            ]
        ),
        st.text(max_size=30)
        | st.text("0123456789.-+ :,;=limitresetGMTJanMon", max_size=40)
        | st.integers().map(str)
        | st.floats().map(str)
        | st.datetimes(timezones=st.just(UTC)).map(format_datetime),
    ),
    st.binary(max_size=30),
    st.sampled_from([CLOSE, HUBSPOT, PLAIN]),
)
def test_whatever_a_provider_sends_the_answer_is_whole_numbers(
    found: dict[str, str], body: bytes, declared: RateLimit
) -> None:
    told = headers(Reply(429, found, body), declared)
    assert told.keys() == {"retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"}
    assert all(value.isascii() and value.isdigit() for value in told.values())
    assert int(told["retry-after"]) >= 1
