"""The unified contract: what a caller may write of what is there, a pipeline's changes and a stage."""

from typing import Annotated

from pydantic import Field

from unified_crm.models import Entity, Id, RemoteData, StageInPipelineWrite, Status, Write


class StageInPipelineUpdate(StageInPipelineWrite):
    """A stage of a pipeline that is changed: the one with this `id`, or a new one without."""

    id: Id | None = None


class PipelineUpdate(Write):
    """What to change of a pipeline. `stages` come in their new order; those that are not named stay as they are."""

    name: str | None = None
    entity: Entity | None = None
    stages: list[StageInPipelineUpdate] | None = None
    remote_data: RemoteData | None = None


class ReferenceWrite(Write):
    """Another resource, by its id."""

    id: Id


class StageWrite(Write):
    """A stage to create, or what to change of one. `pipeline` is required to create. `position` counts from 0."""

    name: str | None = None
    pipeline: ReferenceWrite | None = None
    position: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    status: Status | None = None
    remote_data: RemoteData | None = None
