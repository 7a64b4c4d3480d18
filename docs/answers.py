"""The answers' types, for the API's description: at run time their names are enough, `models.PIPELINE` and `STAGE`."""

from __future__ import annotations

from pydantic import BaseModel

from unified_crm.models import Status


class Reference(BaseModel):
    """Another resource, by its id."""

    id: str


class StageInPipeline(BaseModel):
    """A stage, read along with its pipeline. Times are RFC 3339 in UTC."""

    id: str
    name: str | None
    position: int
    status: Status | None
    pipeline: Reference
    created_at: str | None
    updated_at: str | None


class Pipeline(BaseModel):
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


class Stage(BaseModel):
    """A stage, as it is read by itself. `position` counts from 0. Times are RFC 3339 in UTC."""

    id: str
    name: str | None
    position: int
    status: Status | None
    pipeline: NamedReference
    created_at: str | None
    updated_at: str | None
