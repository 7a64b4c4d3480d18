"""The unified contract: a pipeline to create, how bodies are read, and every field that an answer can have.

After Truto's unified CRM API, https://truto.one/docs/unified-apis/unified-crm-api. Unknown fields are refused: a typing
error must not vanish. What else a caller may write is in `changes`, and is not imported where a pipeline is created.
"""

import re
import unicodedata
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

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

PIPELINE = ("id", "name", "entity", "stages", "created_at", "updated_at")
"""The fields of a pipeline in an answer, in their order."""
STAGE = ("id", "name", "position", "status", "pipeline", "created_at", "updated_at")
"""Those of a stage, by itself and in its pipeline."""


class Write(BaseModel):
    """A body, or a part of one."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, defer_build=True)


class StageInPipelineWrite(Write):
    """A stage, written along with its pipeline. `remote_data` is merged into the provider's body of this stage."""

    name: str | None = None
    status: Status | None = None
    remote_data: RemoteData | None = None


class PipelineWrite(Write):
    """A pipeline to create. What else is required depends on the provider."""

    name: str | None = None
    entity: Entity | None = None
    stages: list[StageInPipelineWrite] | None = None
    remote_data: RemoteData | None = None


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
