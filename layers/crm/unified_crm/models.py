"""The unified contract: what a caller may write, and every field that an answer can have.

After Truto's unified CRM API, https://truto.one/docs/unified-apis/unified-crm-api. Unknown fields are refused: a typing
error must not vanish.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from unified_crm.errors import InvalidRequest

Status = Literal["active", "won", "lost", "closed"]
RemoteData = dict[str, Any]


def path_segment(value: str) -> str:
    """`value`, if it can be one segment of a provider's path: no separators, control characters or their encodings.

    Raises ValueError otherwise.
    """
    if value in ("", ".", "..") or re.search(r"[/\\?#]|%[0-9A-Fa-f]{2}", value):
        raise ValueError("must be one path segment")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError("must not hold control characters")
    return value


Entity = Annotated[str, AfterValidator(path_segment)]
Id = Annotated[str, AfterValidator(path_segment)]
_SHOWN = 5
W = TypeVar("W", bound=BaseModel)


class _Write(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)


class _Read(BaseModel):
    """What is validated nowhere at run time: for its names, and for the API's description."""

    model_config = ConfigDict(defer_build=True)


class StageInPipelineWrite(_Write):
    """A stage, written along with its pipeline. `remote_data` is merged into the provider's body of this stage."""

    name: str | None = None
    status: Status | None = None
    remote_data: RemoteData | None = None


class PipelineWrite(_Write):
    """A pipeline to create. What else is required depends on the provider."""

    name: str | None = None
    entity: Entity | None = None
    stages: list[StageInPipelineWrite] | None = None
    remote_data: RemoteData | None = None


class StageInPipelineUpdate(StageInPipelineWrite):
    """A stage of a pipeline that is changed: the one with this `id`, or a new one without."""

    id: Id | None = None


class PipelineUpdate(_Write):
    """What to change of a pipeline. `stages` come in their new order; those that are not named stay as they are."""

    name: str | None = None
    entity: Entity | None = None
    stages: list[StageInPipelineUpdate] | None = None
    remote_data: RemoteData | None = None


class ReferenceWrite(_Write):
    """Another resource, by its id."""

    id: Id


class StageWrite(_Write):
    """A stage to create, or what to change of one. `pipeline` is required to create. `position` counts from 0."""

    name: str | None = None
    pipeline: ReferenceWrite | None = None
    position: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    status: Status | None = None
    remote_data: RemoteData | None = None


class Reference(_Read):
    """Another resource, by its id."""

    id: str


class StageInPipeline(_Read):
    """A stage, read along with its pipeline. Times are RFC 3339 in UTC."""

    id: str
    name: str | None
    position: int
    status: Status | None
    pipeline: Reference
    created_at: str | None
    updated_at: str | None


class Pipeline(_Read):
    """A pipeline, as it is read. Times are RFC 3339 in UTC."""

    id: str
    name: str | None
    entity: str
    stages: list[StageInPipeline]
    created_at: str | None
    updated_at: str | None


class NamedReference(Reference):
    """Another resource, by its id, and its name."""

    name: str | None


class Stage(_Read):
    """A stage, as it is read by itself. `position` counts from 0. Times are RFC 3339 in UTC."""

    id: str
    name: str | None
    position: int
    status: Status | None
    pipeline: NamedReference
    created_at: str | None
    updated_at: str | None


def parse(model: type[W], body: Any) -> W:
    """A request's body as a `model` to write. Raises InvalidRequest naming each field that is wrong."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        found = [_sentence(each["loc"], each["type"], each["msg"]) for each in errors[:_SHOWN]]
        more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
        raise InvalidRequest("; ".join(found) + more) from None


def _sentence(where: tuple[int | str, ...], kind: str, text: str) -> str:
    name = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in where).lstrip(".") or "The body"
    if kind == "model_type":
        return f"{name} must be a JSON object"
    if kind == "extra_forbidden":
        return f"{name} is not a known field"
    return f"{name}: {text.removeprefix('Value error, ')}"
