"""Reading one pipeline, the same for every verb: ids that cannot be any, and what is only marked as deleted."""

from __future__ import annotations

import re

from unified_crm.errors import NotFound, ProviderBadReply, Unsupported
from unified_crm.provider import Call, Flow, Provider


def pipeline(provider: Provider, call: Call, id_: str) -> Flow:
    """The provider's record of the pipeline `id_`. Raises NotFound where it can be none, or is marked as deleted."""
    pipelines = provider.pipelines
    if pipelines.get is None:
        raise Unsupported(f"{provider.label} does not let a pipeline be read")
    absent = NotFound(f"{provider.label} has no pipeline {id_}")
    if id_.startswith("{id of step "):  # a dry run's, of which there is nothing to see
        return (yield from pipelines.get(call, id_))
    if not re.fullmatch(pipelines.id, id_):
        raise absent
    record = yield from pipelines.get(call, id_)
    if pipelines.gone(record):
        raise absent
    shown = pipelines.table(call.entity)["id"].to_unified(record)
    if str(shown).casefold() != id_.casefold():
        raise ProviderBadReply(f"{provider.label} was asked for pipeline {id_} and answered with {shown!r}.")
    return record


def owner_of(provider: Provider, stage_id: str, pipeline_id: str | None) -> str | None:
    """The id of the pipeline that a stage is in, as far as that can be told without a call.

    Raises NotFound where there can be no such stage.
    """
    pipelines = provider.pipelines
    if not re.fullmatch(pipelines.stage_id, stage_id):
        raise NotFound(f"{provider.label} has no stage {stage_id}")
    return pipeline_id if pipeline_id is not None or pipelines.owner is None else pipelines.owner(stage_id)
