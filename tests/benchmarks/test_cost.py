"""The arithmetic of `benchmarks/prices.py` and the page of `cost.py`; nothing is measured here."""

import re

import pytest

from benchmarks import cost, prices
from benchmarks.prices import MILLION, SIZES, Sizes, Timed, Traffic

TIMED = Timed(
    init=[999.0, 1000.2],
    first=[500.0, 499.5],
    warm=[159.2, 160.0],
    missing=[180.0, 180.0],
    keyed=[200.0, 200.0],
    authorizer_init=[400.0],
    authorizer_first=[100.0],
    authorizer=[4.5],
)
SIZED = Sizes(application=1300, platform=700, access=400, authorizer=1000, answer=2000, asked=1000, item=2500)
STILL = Traffic(cold=0, token_miss=0, secret_miss=0, traced=0)


def test_each_invocation_is_billed_by_the_millisecond_begun() -> None:
    assert prices.billed([159.2, 160.0, 0.1]) == pytest.approx((160 + 160 + 1) / 3 / 1000)


def test_a_gigabyte_for_a_second_costs_the_list_price() -> None:
    assert prices.duration(1024, 1) == pytest.approx(13.3334)
    assert prices.duration(512, 0.16) == pytest.approx(512 / 1024 * 0.16 * 13.3334)


def test_a_warm_create_with_everything_at_hand() -> None:
    lines = prices.bill(512, TIMED, SIZED, STILL)
    assert lines == pytest.approx(
        {
            "Lambda, time": 1.066672,
            "Lambda, requests": 0.20,
            "API Gateway": 1.00,
            "Authorizer": 0,
            "DynamoDB": 0,
            "Secrets Manager, calls": 0,
            "Logs": 2.4 * 0.503,
            "X-Ray": 0,
            "Data out": 3 * 0.09,
        }
    )


def test_a_cold_create_pays_for_its_init_phase() -> None:
    assert prices.create_seconds(TIMED, Traffic(cold=1)) == pytest.approx((1499 + 1500) / 2 / 1000)
    assert prices.create_seconds(TIMED, Traffic(cold=0.5, secret_miss=0)) == pytest.approx((0.160 + 1.4995) / 2)


def test_a_secret_that_is_read_costs_its_time_and_its_call() -> None:
    read = prices.bill(512, TIMED, SIZED, Traffic(cold=0, token_miss=0, secret_miss=1, traced=0))
    still = prices.bill(512, TIMED, SIZED, STILL)
    assert read["Secrets Manager, calls"] == 5.00
    assert read["Lambda, time"] - still["Lambda, time"] == pytest.approx(prices.duration(512, 0.020))


def test_a_token_that_is_looked_up_costs_an_invocation_half_a_read_and_its_logs() -> None:
    asked = prices.bill(512, TIMED, SIZED, Traffic(cold=0, token_miss=1, secret_miss=0, traced=0))
    assert asked["Authorizer"] == pytest.approx(prices.duration(512, 0.005) + 0.20)
    assert asked["DynamoDB"] == pytest.approx(0.0625)
    assert asked["Logs"] == pytest.approx(3.4 * 0.503)


def test_an_idempotency_key_costs_two_writes_by_size_and_its_storage() -> None:
    lines = prices.bill(512, TIMED, SIZED, Traffic(cold=0, token_miss=0, secret_miss=0, traced=0, keyed=True))
    assert lines["DynamoDB"] == pytest.approx((1 + 3) * 0.625 + 2.5 * 2 / 30 * 0.45)
    assert lines["Lambda, time"] == pytest.approx(prices.duration(512, 0.200))


def test_a_twentieth_of_the_calls_is_traced() -> None:
    assert prices.bill(512, TIMED, SIZED, Traffic())["X-Ray"] == pytest.approx(0.25)


@pytest.mark.parametrize(("size", "units"), [(0, 1), (1, 1), (1024, 1), (1025, 2), (4096, 4)])
def test_units_are_begun_kilobytes(size: int, units: int) -> None:
    assert prices.units(size) == units


def test_percentiles_are_of_what_was_measured() -> None:
    assert prices.percentile([float(each) for each in range(1, 101)], 0.99) == 99
    assert prices.percentile([7.0], 0.5) == 7


def test_how_often_a_secret_is_read() -> None:
    assert prices.reads_per_call(rate=1, processes=1, accounts=1) == pytest.approx(1 / 61)
    assert prices.reads_per_call(rate=1, processes=10, accounts=1) == pytest.approx(1 / 7)
    assert prices.reads_per_call(rate=10_000, processes=1600, accounts=MILLION) > 0.999
    # A process that forgets all after a thousand secrets never profits from more than some of two thousand.
    assert prices.reads_per_call(rate=10_000, processes=1, accounts=2000) == pytest.approx(0.7213, abs=0.001)


def test_tiers_are_filled_one_after_the_other() -> None:
    assert prices.tiered(60_000, prices.LOG_TIERS) == pytest.approx(12_500)
    assert prices.tiered(300, prices.API_TIERS) == pytest.approx(300)
    assert prices.tiered(1300, prices.API_TIERS) == pytest.approx(1200)


def _amounts(table: str) -> dict[str, float]:
    """The rows of a table of two columns, by their names."""
    rows = re.findall(r"^\| (.+?) \| \**([\d,.]+)\** \|$", table, re.MULTILINE)
    return {name.strip("*"): float(amount.replace(",", "")) for name, amount in rows}


MILLIONS = 25_920
"""Calls of a month, in millions."""


def test_the_total_of_a_month_is_the_sum_of_its_lines_and_of_nothing_that_is_more() -> None:
    rows = _amounts(prices.rate_table(512, TIMED, SIZED))
    parts = [amount for name, amount in rows.items() if name != "Total" and not name.endswith(", more")]
    assert len(parts) == len(prices.bill(512, TIMED, SIZED, STILL)) + 1
    assert sum(parts) == pytest.approx(rows["Total"], abs=len(parts) / 2 + 0.5)
    assert rows["DynamoDB"] == pytest.approx(MILLIONS / 600 * 0.0625, abs=0.5)


def test_a_key_on_every_call_of_a_month_costs_its_writes_and_the_functions_time() -> None:
    made = prices.rate_table(512, TIMED, SIZED)
    writes, time = 2.5 + 2.5 * 2 / 30 * 0.45, 0.9999 * prices.duration(512, 0.040)
    assert _amounts(made)["with an `Idempotency-Key` on every call, more"] == pytest.approx(
        MILLIONS * (writes + time), abs=0.5
    )
    assert f"40,000 a second: ${MILLIONS * writes:,.0f}; and 40 ms of Lambda's time: ${MILLIONS * time:,.0f}." in made


def test_a_token_for_each_account_costs_the_authorizer_its_reads_and_its_logs_on_every_call() -> None:
    made = prices.rate_table(512, TIMED, SIZED)
    more = MILLIONS * (1 - 1 / 600)
    ran = more * (prices.duration(512, 0.9999 * 0.005 + 0.0001 * 0.500) + 0.20)
    logs = more * (0.05 + 0.003)  # a KB each, in the last tier
    assert _amounts(made)["with a token for each account, more"] == pytest.approx(ran + more * 0.0625 + logs, abs=0.5)
    assert f"${ran:,.0f} for its time and requests, ${more * 0.0625:,.0f} for its reads, ${logs:,.0f} for its" in made
    assert made.endswith("Logs are 62 TB in a month, and with such tokens 88 TB.")


def test_what_a_month_assumes_stands_above_its_table() -> None:
    assumed = prices.rate_table(512, TIMED, SIZED).splitlines()[0]
    traffic = prices.RATE_TRAFFIC
    assert (traffic.cold, traffic.secret_miss, traffic.traced, traffic.keyed) == (0.0001, 1, 0.05, False)
    assert traffic.token_miss == pytest.approx(1 / 600)
    for told in ("0.01% of the calls", "each call reads", "1,000 accounts share", "0.17% of the calls", "traces 5%"):
        assert told in assumed


def test_snapshots_are_kept_and_restored_for_two_functions() -> None:
    told = prices.snapstart(1024)
    for dollars in (139.7998, 2 * 139.7998, 0.0000015046 * 2_592_000, 2 * 0.0000015046 * 2_592_000):
        assert f"${dollars:.2f}" in told
    both, *_ = cost.TEMPLATE.read_text().partition("\nResources:")
    assert "\n    MemorySize: !Ref MemorySize\n    SnapStart: {ApplyOn: !Ref SnapStart}" in both


def test_a_small_part_is_not_told_as_none() -> None:
    assert prices.dominating(512, TIMED, SIZED).endswith("; DynamoDB 0.1%.")


def test_every_memory_size_has_its_row_or_column() -> None:
    made = cost.blocks(dict.fromkeys(SIZES, TIMED), SIZED, "Measured.")
    for name in ("durations", "scale"):
        assert re.findall(r"^\| (\d+) MB \|", made[name], re.MULTILINE) == [str(each) for each in SIZES]
    for name in ("dollars", "cases"):
        assert [int(each) for each in re.findall(r"(\d+) MB", made[name].splitlines()[0])] == list(SIZES)


def test_a_total_is_the_sum_of_its_column() -> None:
    rows = prices.bill_table({512: TIMED}, SIZED, Traffic()).splitlines()[2:]
    *parts, total = (float(row.split("|")[2].strip(" *")) for row in rows)
    assert sum(parts) == pytest.approx(total, abs=0.05)


def test_every_price_is_listed() -> None:
    shown = prices.price_table()
    assert all(
        each.name in shown and each.source.startswith("https://aws.amazon.com/") for each in prices.PRICES.values()
    )


def test_the_access_line_is_the_templates() -> None:
    line = cost.access_line(cost.TEMPLATE.read_text())
    assert line.startswith('{"requestId":"TIz')
    assert '"tenant":"demo"' in line
    assert "$context" not in line


def test_the_page_has_a_place_for_every_block_and_keeps_the_rest() -> None:
    made = cost.blocks(dict.fromkeys(SIZES, TIMED), SIZED, "Measured.")
    page = cost.PAGE.read_text()
    once = cost.written(page, made)
    assert all(block in once for block in made.values())
    assert cost.written(once, made) == once
    assert page.splitlines()[0] == once.splitlines()[0]


def test_a_missing_marker_is_an_error() -> None:
    with pytest.raises(ValueError, match="durations"):
        cost.written("no markers here", {"durations": ""})
