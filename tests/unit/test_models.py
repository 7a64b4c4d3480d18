"""What may be written: one path segment for an id, and bodies in which nothing is guessed."""

from __future__ import annotations

import unicodedata
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from docs import answers
from tests.unit.strategies import any_text, bounded, json_values
from unified_crm.changes import PipelineUpdate, ReferenceWrite, StageInPipelineUpdate, StageWrite
from unified_crm.errors import InvalidRequest
from unified_crm.models import PIPELINE, STAGE, PipelineWrite, StageInPipelineWrite, parse, path_segment
from unified_crm.provider import segment

_pieces = st.sampled_from([*"./\\?#%aé2fFeE05 \n\x00\x7f\x85\ud800", "%2", "%2e", "%2F", "%25", "%zz", "%é", "😀"])
_odd = st.lists(_pieces, max_size=6).map("".join)


def _is_one(value: str) -> bool:
    """The same, said in another way."""
    control = any(unicodedata.category(letter) in ("Cc", "Cs") for letter in value)
    return value not in ("", ".", "..") and not set(value) & set("/\\?#") and unquote(value) == value and not control


@bounded
@given(any_text | _odd)
def test_a_path_segment_is_one_whoever_decodes_it_and_however_often(value: str) -> None:
    try:
        found = path_segment(value)
    except ValueError:
        assert not _is_one(value)
        return
    assert found == value
    assert _is_one(value)
    sent = segment(value)
    assert not set(sent) & set("/\\?# \n")
    assert unquote(sent) == unquote(unquote(sent)) == value


@pytest.mark.parametrize(
    "value",
    [
        *("", ".", "..", "a/b", "/", "a\\b", "a?b", "a#b", "%2e", "%2E%2e", "a%2Fb", "%252F", "%00", "%é%41"),
        *("a\n", "\t", "\x00", "\x7f", "\x85", "\ud800"),
    ],
)
def test_what_is_no_path_segment_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="must"):
        path_segment(value)


@pytest.mark.parametrize(
    "value", ["a", "...", "a.b", "-", "~", " ", "a b", "é", "日本", "100%", "%zz", "a:b", "2-1", "😀"]
)
def test_what_is_a_path_segment_is_left_as_it_is(value: str) -> None:
    assert path_segment(value) == value


# Bodies

FIELDS: dict[type[BaseModel], set[str]] = {
    PipelineWrite: {"name", "entity", "stages", "remote_data"},
    PipelineUpdate: {"name", "entity", "stages", "remote_data"},
    StageInPipelineWrite: {"name", "status", "remote_data"},
    StageInPipelineUpdate: {"id", "name", "status", "remote_data"},
    StageWrite: {"name", "pipeline", "position", "status", "remote_data"},
}
models = pytest.mark.parametrize("model", FIELDS)
WRONG: dict[str, list[Any]] = {
    "name": [1, True, [], {}, 1.5],
    "entity": [1, False, [], {}, "", "..", "a/b", "%2e", "a\nb"],
    "stages": ["x", {}, 1, [1], ["x"], [None], [[]]],
    "remote_data": ["x", 1, [], [{}], True],
    "status": ["", "open", "Active", " won", 1, True, [], {}],
    "id": [1, True, [], {}, "", ".", "a/b", "%2F", "a\x00"],
    "pipeline": ["x", 1, [], {}, {"id": None}, {"id": 1}, {"id": "a/b"}, {"id": "x", "name": "y"}],
    "position": ["1", 1.0, 1.5, True, -1, 2**31, [], {}],
}


@models
def test_a_body_has_exactly_these_fields(model: type[BaseModel]) -> None:
    assert set(model.model_fields) == FIELDS[model]


def test_an_answer_has_the_fields_that_are_described_in_their_order() -> None:
    assert tuple(answers.Pipeline.model_fields) == PIPELINE
    assert tuple(answers.Stage.model_fields) == tuple(answers.StageInPipeline.model_fields) == STAGE


@models
@pytest.mark.parametrize("body", [None, 1, "x", True, [], [{}], 1.5])
def test_a_body_is_an_object(model: type[BaseModel], body: Any) -> None:
    with pytest.raises(InvalidRequest, match="The body must be a JSON object"):
        parse(model, body)


@models
@pytest.mark.parametrize("name", ["nmae", "Name", "id ", "", "created_at", "__class__", "model_config", "é"])
def test_an_unknown_field_is_refused_by_name(model: type[BaseModel], name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(model, {name: "x"})
    assert caught.value.message == f"{name or 'The body'} is not a known field"


@pytest.mark.parametrize(
    ("model", "name", "value"),
    [
        pytest.param(model, name, value, id=f"{model.__name__}-{name}-{value!r}")
        for model, names in FIELDS.items()
        for name in sorted(names)
        for value in WRONG[name]
    ],
)
def test_a_value_of_another_type_is_refused_by_name_and_never_read_as_this_one(
    model: type[BaseModel], name: str, value: Any
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(model, {name: value})
    assert caught.value.message.startswith(name)


@models
def test_null_says_nothing_and_is_not_the_same_as_left_out(model: type[BaseModel]) -> None:
    nothing = dict.fromkeys(FIELDS[model])
    assert parse(model, nothing).model_dump(exclude_unset=True) == nothing
    assert parse(model, {}).model_dump(exclude_unset=True) == {}


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (PipelineWrite, {"name": " ", "entity": "2-1", "stages": [{"name": "é", "status": "won"}], "remote_data": {}}),
        (PipelineUpdate, {"stages": [{"id": "a b"}, {"name": "x", "remote_data": {"x": [None]}}]}),
        (StageWrite, {"name": "", "pipeline": {"id": "x"}, "position": 2**31 - 1, "status": "closed"}),
        (StageWrite, {"position": 0}),
        (ReferenceWrite, {"id": "x"}),
    ],
)
def test_a_good_body_comes_back_as_it_was(model: type[BaseModel], body: dict[str, Any]) -> None:
    assert parse(model, body).model_dump(exclude_unset=True) == body


@pytest.mark.parametrize(
    ("model", "body", "names"),
    [
        (PipelineWrite, {"stages": [{}, {"nmae": 1}]}, ["stages[1].nmae is not a known field"]),
        (PipelineWrite, {"stages": [{"id": "x"}]}, ["stages[0].id is not a known field"]),
        (PipelineWrite, {"stages": [{"position": 1}]}, ["stages[0].position is not a known field"]),
        (PipelineUpdate, {"stages": [{"id": "x"}, {"id": "a/b"}]}, ["stages[1].id: must be one path segment"]),
        (PipelineUpdate, {"stages": [1, None]}, ["stages[0] must be a JSON object", "stages[1] must be a JSON object"]),
        (StageWrite, {"pipeline": {}}, ["pipeline.id: "]),
        (StageWrite, {"pipeline": {"id": "x", "x": 1}}, ["pipeline.x is not a known field"]),
        (StageWrite, {"name": 1, "position": "1", "x": 1}, ["name: ", "position: ", "x is not"]),
    ],
)
def test_each_place_that_is_wrong_is_named(model: type[BaseModel], body: dict[str, Any], names: list[str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(model, body)
    said = caught.value.message.split("; ")
    assert len(said) == len(names)
    assert all(sentence.startswith(name) for sentence, name in zip(said, names, strict=True)), said


def test_many_errors_are_counted() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(PipelineWrite, {f"x{index}": 1 for index in range(12)})
    assert caught.value.message.endswith("; and 7 more")


@pytest.mark.parametrize("value", ["hunter2", ["hunter2"], {"hunter2": "hunter2"}])
def test_no_value_is_repeated(value: Any) -> None:
    for name, model in (("status", StageWrite), ("entity", PipelineWrite), ("stages", PipelineUpdate)):
        wrong = f"{value}/" if isinstance(value, str) else [value] if name == "stages" else value
        with pytest.raises(InvalidRequest) as caught:
            parse(model, {name: wrong})
        said = caught.value.message.replace("[0].hunter2 is not a known field", "")
        assert "hunter2" not in said


@models
@bounded
@given(json_values)
def test_no_body_raises_anything_but_an_invalid_request(model: type[BaseModel], body: Any) -> None:
    try:
        found = parse(model, body).model_dump(exclude_unset=True)
    except InvalidRequest:
        return
    assert found == body
