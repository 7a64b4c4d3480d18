"""Field tables, read in both directions."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import bounded, json_objects, json_values, texts
from unified_crm import providers
from unified_crm.errors import InvalidRequest, Unsupported
from unified_crm.mapping import Field, Table, merge, timestamp

STATUS = {"active": "open", "won": {"kind": 1}, "lost": None}
STAGE = Table(
    Field("id", read_only=True),
    Field("name", "label", required=True),
    Field("position", "order"),
    Field("status", "meta.type", values=STATUS, absent="active"),
    order=lambda record: record.get("order", 0),
)
PIPELINE = Table(
    Field("id", "ids.own", read_only=True),
    Field("name", "about.title", required=True),
    Field("stages", "steps", required=True, each=STAGE),
    Field("color", "about.look.color", read=str.lower, write=str.upper),
    Field("created_at", "made", read_only=True, read=timestamp),
)

# From the provider


def test_a_record_is_read_by_the_table() -> None:
    record = {
        "ids": {"own": "p1"},
        "about": {"title": "Sales", "look": {"color": "RED"}},
        "steps": [
            {"id": "s2", "label": "Won", "order": 2, "meta": {"type": {"kind": 1}}},
            {"id": "s1", "label": "One", "order": 1},
        ],
        "made": "2024-05-06T07:08:09",
        "else": 1,
    }
    assert PIPELINE.to_unified(record) == {
        "id": "p1",
        "name": "Sales",
        "stages": [
            {"id": "s1", "name": "One", "position": 0, "status": "active"},
            {"id": "s2", "name": "Won", "position": 1, "status": "won"},
        ],
        "color": "red",
        "created_at": "2024-05-06T07:08:09Z",
    }


def test_an_empty_record_is_null_everywhere() -> None:
    assert PIPELINE.to_unified({}) == {"id": None, "name": None, "stages": [], "color": None, "created_at": None}


@pytest.mark.parametrize("about", [None, 5, "text", [], ["title"], {"title": None}])
def test_a_path_that_leads_nowhere_is_null(about: Any) -> None:
    assert PIPELINE.to_unified({"about": about})["name"] is None


@pytest.mark.parametrize("steps", [None, 5, "text", {"label": "One"}])
def test_a_list_that_is_none_is_empty(steps: Any) -> None:
    assert PIPELINE.to_unified({"steps": steps})["stages"] == []


def test_what_is_no_record_in_a_list_is_left_out_and_not_counted() -> None:
    read = PIPELINE.to_unified({"steps": [None, 1, {"label": "One"}, "x", [], {"label": "Two"}]})["stages"]
    assert [(stage["name"], stage["position"]) for stage in read] == [("One", 0), ("Two", 1)]


@pytest.mark.parametrize("value", ["unheard of", "", 0, [], {"kind": 2}])
def test_a_value_outside_the_enumeration_is_null(value: Any) -> None:
    assert STAGE["status"].to_unified({"meta": {"type": value}}) is None


def test_reading_by_function_wins_over_the_enumeration() -> None:
    row = Field("status", values={"active": "open"}, read=lambda value: f"read {value}")
    assert row.to_unified({"status": "open"}) == "read open"


def test_a_list_without_an_order_keeps_its_own() -> None:
    assert Table(Field("id")).sorted([{"id": 2}, {"id": 1}]) == [{"id": 2}, {"id": 1}]


@bounded
@given(json_values)
def test_no_reply_makes_reading_fail(record: Any) -> None:
    table = Table(*(Field(name, name) for name in ("a", "b")), Field("stages", each=STAGE), Field("deep", "a.b.c"))
    for value in (record, {"a": record}, {"stages": record}, {"stages": [record]}):
        if isinstance(value, dict):
            assert table.to_unified(value).keys() == {"a", "b", "stages", "deep"}


# To the provider


def test_values_are_written_where_the_provider_keeps_them() -> None:
    values = {
        "id": "ignored",
        "created_at": "ignored",
        "name": "Sales",
        "color": "red",
        "stages": [
            {"name": "One", "status": None},
            {"name": "Won", "status": "won", "remote_data": {"meta": {"more": True}, "x": 1}},
            {"name": "Gone", "status": "lost"},
        ],
    }
    before = copy.deepcopy(values)
    assert PIPELINE.to_remote(values) == {
        "about": {"title": "Sales", "look": {"color": "RED"}},
        "steps": [
            {"label": "One", "order": 0, "meta": {"type": "open"}},
            {"label": "Won", "order": 1, "meta": {"type": {"kind": 1}, "more": True}, "x": 1},
            {"label": "Gone", "order": 2},
        ],
    }
    assert values == before


def test_a_written_enumeration_is_not_changed_by_a_stages_remote_data() -> None:
    PIPELINE.to_remote({"stages": [{"name": "Won", "status": "won", "remote_data": {"meta": {"type": {"kind": 9}}}}]})
    assert STATUS["won"] == {"kind": 1}


def test_an_empty_list_is_written_and_null_is_not() -> None:
    assert PIPELINE.to_remote({"name": None, "stages": []}) == {"steps": []}


def test_a_stages_remote_data_has_the_last_word() -> None:
    (stage,) = STAGE.list_to_remote([{"name": "One", "remote_data": {"label": "Other", "order": 7, "meta": None}}])
    assert stage == {"label": "Other", "order": 7, "meta": None}


def _tables() -> Iterator[Table]:
    for name in providers.names():
        pipelines = providers.load(name).pipelines
        for remote in providers.load(name).entities.names.values():
            table = pipelines.table(remote)
            yield table
            if stage := table["stages"].each:
                yield stage


@st.composite
def _table_and_records(draw: st.DrawFn) -> tuple[Table, list[dict[str, Any]]]:
    """A provider's table, and records that have its keys or not, with values that it may understand or not."""
    table = draw(st.sampled_from([*_tables()]))
    known = [value for row in table for value in (row.values or {}).values()]
    plausible = st.sampled_from([*known, "2024-05-06T07:08:09Z", 1, "0.5", {"probability": "1.0"}, None])
    keys = st.sampled_from(sorted({row.path[0] for row in table}))
    return table, draw(st.lists(st.dictionaries(keys, plausible | json_values), max_size=4))


@bounded
@given(_table_and_records())
def test_a_list_is_read_as_each_of_its_records_is_and_these_field_by_field(
    drawn: tuple[Table, list[dict[str, Any]]],
) -> None:
    table, records = drawn
    by_rows = [{row.unified: row.to_unified(record) for row in table} for record in records]
    assert [table.to_unified(record) for record in records] == by_rows
    listed = table.list_to_unified(records)
    order = {id(record): index for index, record in enumerate(records)}
    expected = [by_rows[order[id(record)]] for record in table.sorted(records)]
    assert listed == [{**each, "position": index} for index, each in enumerate(expected)]
    assert [*map(list, listed)] == [list({**each, "position": 0}) for each in expected]


# Round trips

_plain = json_values.filter(lambda value: value is not None)


@st.composite
def _table_and_values(draw: st.DrawFn, depth: int = 1) -> tuple[Table, dict[str, Any], dict[str, Any]]:
    """A table, values that it can be told, and what reads back of them."""
    rows: list[Field] = []
    values: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    for index in range(draw(st.integers(1, 5))):
        name = f"field{index}"
        remote = draw(st.sampled_from([None, f"r{index}", f"x.r{index}", f"x.y.r{index}", f"z.r{index}"]))
        kind = draw(st.sampled_from(["plain", "values", "absent", "each"] if depth else ["plain", "values", "absent"]))
        given_ = draw(st.booleans())
        if kind == "plain":
            rows.append(Field(name, remote))
            value = draw(_plain)
            expected[name] = value if given_ else None
        elif kind == "each":
            table, item, read = draw(_table_and_values(depth=0))
            rows.append(Field(name, remote, each=table))
            value = [item] * draw(st.integers(0, 3))
            expected[name] = [{**read, "position": at} for at in range(len(value))] if given_ else []
        else:
            words = draw(st.lists(texts, min_size=1, max_size=4, unique=True))
            absent = words[0] if kind == "absent" else None
            rows.append(Field(name, remote, values={word: {"is": word} for word in words}, absent=absent))
            value = draw(st.sampled_from(words))
            expected[name] = value if given_ else absent
        if given_:
            values[name] = value
    return Table(*rows), values, expected


@bounded
@given(_table_and_values())
def test_what_is_written_is_what_is_read(drawn: tuple[Table, dict[str, Any], dict[str, Any]]) -> None:
    table, values, expected = drawn
    kept, warnings = table.check(values, "Toy")
    assert (kept, warnings) == (values, [])
    assert table.to_unified(table.to_remote(kept)) == expected


@bounded
@given(_table_and_values())
def test_what_is_read_can_be_written_again(drawn: tuple[Table, dict[str, Any], dict[str, Any]]) -> None:
    table, values, _ = drawn
    remote = table.to_remote(values)
    read = {name: value for name, value in table.to_unified(remote).items() if name in values}
    assert table.to_remote(read) == remote


# What is refused


@pytest.mark.parametrize(
    ("values", "missing"),
    [
        ({}, ["name", "stages"]),
        ({"name": None, "stages": None}, ["name", "stages"]),
        ({"name": "Sales", "stages": []}, ["stages"]),
        ({"name": "Sales", "stages": [{"name": "One"}, {}]}, ["stages[1].name"]),
        ({"stages": [{"name": None}]}, ["stages[0].name", "name"]),
        (
            {"name": "Sales", "stages": [{"name": "One", "remote_data": {"x": 1}}, {"remote_data": {"x": 1}}]},
            ["stages[1].name"],
        ),
        ({"remote_data": {"about": {"title": None}, "steps": None}}, ["name", "stages"]),
        ({"remote_data": {"about": "text", "steps": [{}]}}, ["name"]),
        ({"remote_data": {"name": "unified, not the provider's", "stages": [{}]}}, ["name", "stages"]),
    ],
)
@pytest.mark.parametrize("skip", [False, True])
def test_what_the_provider_requires_is_named(values: dict[str, Any], missing: list[str], skip: bool) -> None:
    with pytest.raises(InvalidRequest, match="required by Toy") as caught:
        PIPELINE.check(values, "Toy", skip=skip)
    assert sorted(caught.value.insight["missing_required_body_fields"]["value"]) == sorted(missing)
    assert all(name in caught.value.message for name in missing)
    assert not isinstance(caught.value, Unsupported)


@pytest.mark.parametrize(
    "values",
    [
        {"name": "Sales", "stages": [{"name": "One"}]},
        {"name": "", "stages": [{"name": ""}]},
        {"remote_data": {"about": {"title": "Sales"}, "steps": [{}]}},
        {"name": "Sales", "stages": [{"remote_data": {"label": "One"}}]},
    ],
)
def test_a_field_or_its_remote_data_satisfies_the_requirement(values: dict[str, Any]) -> None:
    assert PIPELINE.check(values, "Toy") == (values, [])


@pytest.mark.parametrize(
    ("more", "field", "problem"),
    [
        ({"id": "x"}, "id", "does not let it be written"),
        ({"created_at": "x"}, "created_at", "does not let it be written"),
        ({"wings": 2}, "wings", "has no such field"),
        (
            {"stages": [{"name": "One", "status": "closed"}]},
            "stages[0].status",
            "cannot express 'closed', only 'active'",
        ),
        ({"stages": [{"name": "One"}, {"name": "Two", "id": "x"}]}, "stages[1].id", "does not let it be written"),
        ({"stages": [{"name": "One"}, {"name": "Two", "wings": 2}]}, "stages[1].wings", "has no such field"),
    ],
)
def test_what_cannot_be_said_is_refused_or_left_out_with_a_warning(
    more: dict[str, Any], field: str, problem: str
) -> None:
    values = {"name": "Sales", "stages": [{"name": "One"}], **more}
    with pytest.raises(Unsupported, match=problem) as caught:
        PIPELINE.check(values, "Toy")
    assert caught.value.message.startswith(f"{field}: Toy ")
    before = copy.deepcopy(values)
    kept, warnings = PIPELINE.check(values, "Toy", skip=True)
    assert values == before
    assert [warning["field"] for warning in warnings] == [field]
    assert warnings[0]["message"].startswith("Toy ")
    assert warnings[0]["message"].endswith("it was left out")
    stages = [{key: value for key, value in stage.items() if key == "name"} for stage in values["stages"]]
    assert kept == {"name": "Sales", "stages": stages}


def test_null_says_nothing_and_is_never_refused() -> None:
    values = {"name": "Sales", "id": None, "wings": None, "stages": [{"name": "One", "status": None}]}
    assert PIPELINE.check(values, "Toy") == (values, [])


def test_several_fields_are_left_out_with_a_warning_each() -> None:
    values = {"name": "Sales", "wings": 1, "stages": [{"name": str(index), "status": "closed"} for index in range(3)]}
    _, warnings = PIPELINE.check(values, "Toy", skip=True)
    assert [each["field"] for each in warnings] == ["wings", *(f"stages[{index}].status" for index in range(3))]


def test_a_required_field_that_cannot_be_said_is_missing_even_when_skipping() -> None:
    table = Table(Field("status", required=True, values={"active": 1}))
    with pytest.raises(InvalidRequest, match="status is required by Toy"):
        table.check({"status": "won"}, "Toy", skip=True)


# Merging


@pytest.mark.parametrize(
    ("base", "extra", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": None}, {"a": None}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 3, "d": 4}}, {"a": {"b": 1, "c": 3, "d": 4}}),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"d": 2}}}, {"a": {"b": {"c": 1, "d": 2}}}),
        ({"a": [1, 2, 3]}, {"a": [4]}, {"a": [4]}),
        ({"a": [{"b": 1}]}, {"a": [{"c": 2}]}, {"a": [{"c": 2}]}),
        ({"a": [1]}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": 1}}, {"a": "text"}, {"a": "text"}),
        ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": 1}}),
    ],
)
def test_objects_merge_deeply_and_everything_else_is_replaced(base: Any, extra: Any, merged: Any) -> None:
    assert merge(base, extra) == merged


@bounded
@given(json_objects, json_objects)
def test_merging_keeps_both_inputs_and_the_second_wins(base: dict[str, Any], extra: dict[str, Any]) -> None:
    before = copy.deepcopy((base, extra))
    merged = merge(base, extra)
    assert (base, extra) == before
    assert merge(base, {}) == base
    assert merge({}, extra) == extra
    assert merge(merged, extra) == merged
    assert merged.keys() == base.keys() | extra.keys()
    for key, value in merged.items():
        if key not in extra:
            assert value == base[key]
        elif not (isinstance(base.get(key), dict) and isinstance(extra[key], dict)):
            assert value == extra[key]


# Times


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2019-11-04T11:04:13.014979", "2019-11-04T11:04:13.014979Z"),
        ("2019-11-04T11:04:13.014979+00:00", "2019-11-04T11:04:13.014979Z"),
        ("2019-11-04T11:04:13", "2019-11-04T11:04:13Z"),
        ("2019-11-04T11:04:13Z", "2019-11-04T11:04:13Z"),
        ("2019-11-04T11:04:13.000Z", "2019-11-04T11:04:13Z"),
        ("2019-11-04T11:04:13.100Z", "2019-11-04T11:04:13.100Z"),
        ("2019-11-04T11:04:13.000001Z", "2019-11-04T11:04:13.000001Z"),
        ("2019-11-04T11:04:13.123456789Z", "2019-11-04T11:04:13.123456Z"),
        ("2019-11-04T11:04:13+02:00", "2019-11-04T09:04:13Z"),
        ("2019-11-04T01:04:13.5-0330", "2019-11-04T04:34:13.500Z"),
        ("2019-12-31T23:30:00-01:00", "2020-01-01T00:30:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        ("0001-01-01T00:00:00-01:00", "0001-01-01T01:00:00Z"),
        ("1970-01-01T00:00:01Z", "1970-01-01T00:00:01Z"),
        ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z"),
    ],
)
def test_a_time_is_read_as_utc(text: str, read: str) -> None:
    assert timestamp(text) == read


@pytest.mark.parametrize(
    "value",
    [
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:00:00",
        "1970-01-01T00:00:00.000Z",
        "1970-01-01T02:00:00+02:00",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "",
        "yesterday",
        "2019-13-01T00:00:00Z",
        "2019-11-04T25:00:00Z",
        "0",
        0,
        1572865453,
        1572865453.5,
        True,
        None,
        [],
        {"date": "2019-11-04"},
    ],
)
def test_the_epochs_zero_and_what_is_no_time_are_null(value: Any) -> None:
    assert timestamp(value) is None


@bounded
@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),  # noqa: DTZ001 - the zone is drawn apart
    st.none() | st.integers(-23 * 60, 23 * 60),
)
def test_a_time_reads_as_the_same_moment(moment: datetime, offset: int | None) -> None:
    zone = UTC if offset is None else timezone(timedelta(minutes=offset))
    text = moment.isoformat() if offset is None else moment.replace(tzinfo=zone).isoformat()
    read = timestamp(text)
    if moment.replace(tzinfo=zone).timestamp() == 0:
        assert read is None
    else:
        assert read is not None
        assert read.endswith("Z")
        assert datetime.fromisoformat(read) == moment.replace(tzinfo=zone)
        assert timestamp(read) == read


@bounded
@given(json_values | st.text("0123456789-+:.TZW ", max_size=30))
def test_no_value_makes_reading_a_time_fail(value: Any) -> None:
    read = timestamp(value)
    assert read is None or read.endswith("Z")
