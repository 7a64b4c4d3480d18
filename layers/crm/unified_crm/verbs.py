"""The five verbs on pipelines and on stages, for one account and one call.

A provider declares flows for pipelines, and the single writes of an `Editor`; stages come with their pipelines, so that
every verb on stages is made of these here, once for all providers.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from unified_crm import describe, reads, recent
from unified_crm.accounts import Account, base_url
from unified_crm.deadline import Deadline
from unified_crm.engine import Options, Run
from unified_crm.errors import InvalidRequest, NotFound, RemoteError, Unsupported
from unified_crm.lists import Item, ListOptions, page
from unified_crm.lost_answer import Search
from unified_crm.mapping import Table, Warnings, value_at
from unified_crm.models import PIPELINE, STAGE
from unified_crm.provider import Call, Flow, Provider, Record, Undo
from unified_crm.transport import Observe

if TYPE_CHECKING:
    from unified_crm.edit import Edit


class Result(NamedTuple):
    """What stands at the provider now.

    `unified` holds the unified fields that this provider has, `record` the provider's own form of the same, `raw` its
    last reply. `outcome` is None but for creates: `created`, or `adopted` where the answer to the create was lost and
    the pipeline found. `plan` is what a dry run would send, `explain` where each field came from.
    """

    unified: dict[str, Any]
    record: Any
    raw: Any
    warnings: Warnings
    outcome: str | None = None
    plan: list[dict[str, Any]] | None = None
    explain: dict[str, Any] | None = None


class ListResult(NamedTuple):
    """A page of a list, each item as (unified, the provider's own), unless only the texts were wanted.

    `texts` are the same as JSON, where that is known: the unified fields, and the provider's own as `remote_data`.
    """

    items: list[Item]
    next_cursor: str | None
    prev_cursor: str | None
    texts: list[str] | None = None


class Verbs:
    """What can be done with one account's pipelines and stages of one object type.

    `entity` is the unified one; only where something is created may one that the provider lacks be left out, since
    elsewhere that would be about other things than the caller meant.

    Each verb raises InvalidRequest, Unsupported or NotFound before it has written anything; a ProviderError where
    nothing has changed; PartialFailure where something has and could not be put back; and OutcomeUnknown where that
    cannot be told.
    """

    def __init__(
        self,
        account: Account,
        options: Options,
        deadline: Deadline,
        observe: Observe = lambda _: None,
        *,
        entity: str | None = None,
        creates: bool = False,
    ) -> None:
        self._account, self._options, self._deadline, self._observe = account, options, deadline, observe
        self._provider: Provider = account.provider
        self._label = self._provider.label
        _refuse_credentials(self._provider, options)
        skip = creates and options.skip_unsupported
        self._entity, self._warnings = _entity(self._provider, entity or "opportunity", skip)
        self._table = self._provider.pipelines.table(self._entity)

    # Pipelines

    def list_pipelines(self, options: ListOptions) -> ListResult:
        """A page of the pipelines, in the provider's order."""
        self._refuse_filters(self._table, options)
        run = self._new_run()
        records = self._table.sorted(run.drive(self._list("pipelines")))
        known = self._known(self._table, options)
        items = [(known(each), each) for each in records]
        return self._listed(
            run, self._table, items, options, "pipelines", lambda item: (self._unified(item[1]), item[1])
        )

    def get_pipeline(self, id_: str) -> Result:
        """One pipeline with its stages."""
        run = self._new_run()
        record = run.drive(self._get("pipelines", id_))
        return self._result(run, record)

    def create_pipeline(self, values: Mapping[str, Any]) -> Result:
        """Create a pipeline with its stages: all of it, or nothing."""
        create = self._provider.pipelines.create
        if create is None:
            raise Unsupported(f"{self._label} does not let pipelines be created")
        kept, warnings = self._check(self._table, values)
        self._refuse_needs()
        call = self._call("pipelines", kept)
        pipelines = self._provider.pipelines

        def flow() -> Flow:
            record = yield from create(call)
            if not pipelines.settles:
                return record
            from unified_crm.settle import Settle

            return (yield from Settle(self._provider, call, self._born(record), []).settle())

        run = self._new_run(
            writes=True, look=Search(pipelines, call, self._table), erase=lambda made: self._erase(call, made)
        )
        result = self._result(run, run.drive(flow()), warnings, "adopted" if run.adopted else "created")
        self._remembered(result.record)
        for name in _uninvited(kept.get("stages") or [], result.unified.get("stages") or []):
            said = f"{self._label} has the stage {name!r} in a new pipeline by itself"
            result.warnings.append({"field": "stages", "message": said})
        return result

    def _born(self, record: Record) -> Record:
        """In a dry run, with the stages that the provider is known to add, which nobody made."""
        stages, names = self._table["stages"], self._provider.pipelines.ready_made
        if not self._options.dry_run or not names or stages.items(record) or stages.each is None:
            return record
        path = stages.each["name"].path[0]
        ids = stages.each["id"].path[0]
        born = [{ids: f"{{id of step 1, stage {index}}}", path: name} for index, name in enumerate(names, start=1)]
        return stages.into(record, born)

    def _refuse_needs(self) -> None:
        """Refuse to create without what the provider wants and neither the caller nor the account's settings have."""
        missing = [
            each
            for each in self._provider.pipelines.needs
            if not self._account.settings.get(each.setting) and not value_at(self._options.remote_data, each.path)
        ]
        if missing:
            names = [f"remote_data.{each.path}" for each in missing]
            settings = ", ".join(f"settings.{each.setting}" for each in missing)
            raise InvalidRequest(
                f"{', '.join(names)} is required by {self._label}: here, or as the account's {settings}",
                insight={
                    "missing_required_body_fields": {
                        "description": f"{self._label} cannot create it without these fields.",
                        "value": names,
                    }
                },
            )

    def update_pipeline(self, id_: str, values: Mapping[str, Any], *, prune: bool = False) -> Result:
        """Change a pipeline: its own fields, and the stages that are given; `prune` deletes those that are not."""
        kept, warnings = self._check_change(self._table, values)
        stages = kept.pop("stages", None)

        def flow() -> Flow:
            pipeline = yield from self._get_to_write("pipelines", id_)
            edit = self._edit("pipelines", kept, pipeline, warnings)
            return (yield from edit.update(kept, stages, prune=prune))

        run = self._new_run(writes=True)
        return self._result(run, self._remembered(run.drive(flow())), warnings)

    def delete_pipeline(self, id_: str) -> Result:
        """Delete a pipeline with its stages."""

        def flow() -> Flow:
            pipeline = yield from self._get("pipelines", id_)
            edit = self._edit("pipelines", {}, pipeline, [])
            yield from edit.delete_pipeline(put_back=True)

        run = self._new_run(writes=True)
        run.drive(flow())
        return Result({"id": id_}, run.raw, run.raw, self._warnings, plan=self._plan(run))

    # Stages

    def list_stages(self, pipeline_id: str | None, options: ListOptions) -> ListResult:
        """A page of the stages, of one pipeline or of all, in the provider's order."""
        self._refuse_filters(self._stage_table, options)
        run = self._new_run()
        if pipeline_id is None:
            pipelines = self._table.sorted(run.drive(self._list("stages")))
        else:
            pipelines = [run.drive(self._get("stages", pipeline_id))]
        known = self._known(self._stage_table, options)
        stages = [
            (known(record), (owner, index, record))
            for pipeline in pipelines
            for owner in [self._reference(pipeline)]
            for index, record in enumerate(self._table["stages"].items(pipeline))
        ]
        return self._listed(
            run, self._stage_table, stages, options, f"stages {pipeline_id}", lambda item: self._stage(*item[1])
        )

    def get_stage(self, id_: str, pipeline_id: str | None) -> Result:
        """One stage. `pipeline_id` saves a look through all pipelines."""
        run = self._new_run()
        pipeline = run.drive(self._owner(id_, pipeline_id))
        return self._stage_result(run, self._find(pipeline, id_))

    def create_stage(self, values: Mapping[str, Any], named: str | None = None) -> Result:
        """A new stage in the pipeline `values["pipeline"]["id"]`, at `position`, else at the end.

        `named` is the pipeline that the query names; it must be the same.
        """
        pipeline_id = (values.get("pipeline") or {}).get("id")
        if named and pipeline_id and named != pipeline_id:
            raise InvalidRequest(f"pipeline[id] is {named!r} in the query and {pipeline_id!r} in the body")
        if not pipeline_id:
            raise InvalidRequest(
                "pipeline.id is required",
                insight={
                    "missing_required_body_fields": {
                        "description": "A stage belongs to a pipeline.",
                        "value": ["pipeline.id"],
                    }
                },
            )
        position = values.get("position")
        kept, warnings = self._check(self._stage_table, _own(values))
        more: Warnings = []

        def flow() -> Flow:
            pipeline = yield from self._get_to_write("stages", pipeline_id)
            edit = self._edit("stages", kept, pipeline, more)
            record = yield from edit.insert_stage(self._with_remote_data(kept), position)
            return record, edit.made

        run = self._new_run(writes=True)
        pipeline, made = run.drive(flow())
        self._remembered(pipeline)
        return self._stage_result(run, self._find(pipeline, made[0]), [*warnings, *more], "created")

    def update_stage(self, id_: str, values: Mapping[str, Any], pipeline_id: str | None) -> Result:
        """Change a stage. `pipeline_id`, or `values["pipeline"]["id"]`, saves a look through all pipelines."""
        named = (values.get("pipeline") or {}).get("id")
        if named and pipeline_id and named != pipeline_id:
            raise InvalidRequest(f"pipeline[id] is {pipeline_id!r} in the query and {named!r} in the body")
        position = values.get("position")
        kept, warnings = self._check_change(self._stage_table, _own(values))

        def flow() -> Flow:
            pipeline = yield from self._owner(id_, pipeline_id, to_write=True)
            if named and self._table["id"].to_unified(pipeline) != named:
                raise Unsupported(f"pipeline.id: {self._label} does not let a stage be moved to another pipeline")
            edit = self._edit("stages", kept, pipeline, warnings)
            return (yield from edit.update_stage(id_, self._with_remote_data(kept), position))

        run = self._new_run(writes=True)
        return self._stage_result(run, self._find(self._remembered(run.drive(flow())), id_), warnings)

    def delete_stage(self, id_: str, pipeline_id: str | None) -> Result:
        """Delete a stage."""

        def flow() -> Flow:
            pipeline = yield from self._owner(id_, pipeline_id, to_write=True)
            return (yield from self._edit("stages", {}, pipeline, []).delete_stage(id_))

        run = self._new_run(writes=True)
        self._remembered(run.drive(flow()))
        return Result({"id": id_}, None, None, self._warnings, plan=self._plan(run))

    def meta(self, resource: str, method: str) -> dict[str, Any]:
        """What a method takes and answers here."""
        return describe.meta(self._provider, self._entity, resource, method, self._account.settings)

    # How

    def _call(self, resource: str, values: Mapping[str, Any]) -> Call:
        return Call(
            self._entity,
            values,
            self._options.remote_data,
            resource,
            self._options.force_delete,
            self._account.settings,
        )

    def _edit(self, resource: str, values: Mapping[str, Any], pipeline: Record, warnings: Warnings) -> "Edit":
        from unified_crm.edit import Edit  # which a create and a read can do without

        call = self._call(resource, values)
        return Edit(self._provider, call, pipeline, warnings, skip=self._options.skip_unsupported)

    def _new_run(self, **how: Any) -> Run:
        return Run(self._account, self._options, self._deadline, self._observe, **how)

    def _refuse_filters(self, table: Table, options: ListOptions) -> None:
        for each in options.filters:
            if each.field not in table:
                raise Unsupported(f"{each.field}[{each.operator}]: {self._label} keeps no such time")
            if not table[each.field].filterable:
                raise Unsupported(f"{each.field}[{each.operator}]: {self._label}'s own times are not exact enough")

    def _known(self, table: Table, options: ListOptions) -> Callable[[Record], dict[str, Any]]:
        """Of a list's record, what has to be known before it is known which of them are shown."""
        return Table(*(table[name] for name in {"id", *(each.field for each in options.filters)})).to_unified

    def _listed(
        self, run: Run, table: Table, items: list[Item], options: ListOptions, of: str, whole: Callable[[Item], Item]
    ) -> ListResult:
        text_of = run.reply.text_of if run.reply else None
        options = options._replace(texts_only=options.texts_only and not self._options.explain)
        found = page(items, options, f"{of} {self._entity}", whole, text_of)
        if not self._options.explain:
            return ListResult(found.items, found.next_cursor, found.prev_cursor, found.texts)
        shown = [({**unified, "explain": self._explain(table, record, run)}, record) for unified, record in found.items]
        return ListResult(shown, found.next_cursor, found.prev_cursor)

    def _erase(self, call: Call, record: Record) -> Undo:
        """Deletes a pipeline that was just created, whatever stages it has by then."""
        id_, name = self._table["id"].to_unified(record), self._table["name"].to_unified(record)

        def flow() -> Flow:
            editor = self._provider.pipelines.editor
            standing = record
            if editor is not None and (editor.stages_first or editor.stages_outlive):
                try:
                    standing = yield from self._get("pipelines", id_)
                except (RemoteError, NotFound) as error:
                    if error.code != "not_found":  # reads can lag: the deletion itself tells whether it is there
                        raise
            from unified_crm.edit import Edit

            edit = Edit(self._provider, call, standing, [])
            spare = _named_by(self._options.remote_data, call.values)
            yield from edit.delete_pipeline(put_back=False, spare=spare)

        def parts() -> Flow:
            standing = yield from self._get("pipelines", id_)
            stages = [unified for unified, _ in self._stages(standing)]
            return [{"resource": "stage", "id": each["id"], "name": each["name"]} for each in stages]

        return Undo("pipeline", id_, name, flow, parts=parts)

    def _list(self, resource: str) -> Flow:
        listing = self._provider.pipelines.list
        if listing is None:
            raise Unsupported(f"{self._label} does not let pipelines be listed")
        return listing(self._call(resource, {}))

    def _get(self, resource: str, id_: str) -> Flow:
        return reads.pipeline(self._provider, self._call(resource, {}), id_)

    def _get_to_write(self, resource: str, id_: str) -> Flow:
        """A pipeline to be changed: never from before the last change, where that is known here."""
        record = yield from self._get(resource, id_)
        return recent.newer(self._recent(id_), record, self._table) if self._provider.pipelines.lag else record

    def _remembered(self, record: Record) -> Record:
        if self._provider.pipelines.lag and not self._options.dry_run:
            recent.remember(self._recent(self._table["id"].to_unified(record)), record)
        return record

    def _recent(self, id_: str) -> tuple[str, ...]:
        return (self._provider.name, base_url(self._provider, self._account.settings), self._account.id, str(id_))

    def _owner(self, stage_id: str, pipeline_id: str | None, *, to_write: bool = False) -> Flow:
        """The pipeline that holds a stage.

        `to_write`: all its stages are going to be written again, where the provider takes them at once only. Then it is
        read by its id, since a list can be older.
        """
        pipeline_id = reads.owner_of(self._provider, stage_id, pipeline_id)
        if pipeline_id is not None:
            get = self._get_to_write if to_write else self._get
            return (yield from get("stages", pipeline_id))
        editor = self._provider.pipelines.editor
        pipelines = yield from self._list("stages")
        for pipeline in pipelines:
            if any(unified["id"] == stage_id for unified, _ in self._stages(pipeline)):
                if to_write and editor is not None and editor.replace is not None:
                    return (yield from self._get_to_write("stages", self._table["id"].to_unified(pipeline)))
                return pipeline
        raise NotFound(f"{self._label} has no stage {stage_id}")

    def _find(self, pipeline: Record, stage_id: str) -> tuple[dict[str, Any], Any]:
        for unified, record in self._stages(pipeline):
            if unified["id"] == stage_id:
                return unified, record
        raise NotFound(f"{self._label} has no stage {stage_id} in pipeline {self._table['id'].to_unified(pipeline)}")

    @property
    def _stage_table(self) -> Table:
        stage = self._table["stages"].each
        if stage is None:
            raise Unsupported(f"{self._label} has no stages")
        return stage

    def _stages(self, pipeline: Record) -> list[tuple[dict[str, Any], Any]]:
        """The stages of a pipeline as the stage resource shows them, each with the provider's own record."""
        owner = self._reference(pipeline)
        return [self._stage(owner, *each) for each in enumerate(self._table["stages"].items(pipeline))]

    def _stage(self, owner: Mapping[str, Any], index: int, record: Record) -> Item:
        unified = {**self._stage_table.to_unified(record), "position": index, "pipeline": owner}
        return {name: unified[name] for name in STAGE if name in unified}, record

    def _reference(self, pipeline: Record) -> dict[str, Any]:
        return {name: self._table[name].to_unified(pipeline) for name in ("id", "name")}

    def _unified(self, record: Record) -> dict[str, Any]:
        return pipeline_to_unified(self._provider, self._entity, record)

    def _result(self, run: Run, record: Record, warnings: Warnings | None = None, outcome: str | None = None) -> Result:
        found = [*self._warnings, *(warnings or [])]
        explained = self._explain(self._table, record, run)
        raw = run.raw if run.shows else record
        return Result(self._unified(record), record, raw, found, outcome, self._plan(run), explained)

    def _stage_result(
        self, run: Run, found: tuple[dict[str, Any], Any], warnings: Warnings | None = None, outcome: str | None = None
    ) -> Result:
        unified, record = found
        said = [*self._warnings, *(warnings or [])]
        explained = self._explain(self._stage_table, record, run)
        return Result(unified, record, record, said, outcome, self._plan(run), explained)

    def _explain(self, table: Table, record: Any, run: Run) -> dict[str, Any] | None:
        return describe.explain(table, record, run.last) if self._options.explain else None

    def _plan(self, run: Run) -> list[dict[str, Any]] | None:
        return run.plan if self._options.dry_run else None

    def _with_remote_data(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {**values, "remote_data": self._options.remote_data}

    def _check(self, table: Table, values: Mapping[str, Any]) -> tuple[dict[str, Any], Warnings]:
        said = self._with_remote_data(values)
        whole = table is self._table
        kept, warnings = table.check(said, self._label, skip=self._options.skip_unsupported, whole=whole)
        del kept["remote_data"]
        return kept, warnings

    def _check_change(self, table: Table, values: Mapping[str, Any]) -> tuple[dict[str, Any], Warnings]:
        return table.check(values, self._label, skip=self._options.skip_unsupported, create=False)


def pipeline_to_unified(provider: Provider, entity: str, record: Record) -> dict[str, Any]:
    """A provider's pipeline as the unified one, the fields that the provider has, in the contract's order."""
    unified = provider.pipelines.table(entity).to_unified(record)
    unified["entity"] = provider.entities.to_unified(entity)
    stages = unified["stages"] = unified.get("stages") or []
    owner = {"id": unified["id"]}
    for stage in stages:
        stage["pipeline"] = owner
    return {name: unified[name] for name in PIPELINE if name in unified}


def _uninvited(asked: list[Mapping[str, Any]], shown: list[Mapping[str, Any]]) -> list[str]:
    """The names of the stages in an answer that nobody asked for: what the provider adds by itself.

    A stage that is there under another name than was asked for, by a caller's own `remote_data`, is not one of them.
    """
    if [each.get("name") for each in asked] == [each.get("name") for each in shown]:
        return []
    wanted = [str(each.get("name")).strip().casefold() for each in asked]
    left: list[str] = []
    for each in shown:
        plain = str(each.get("name")).strip().casefold()
        if plain in wanted:
            wanted.remove(plain)
        else:
            left.append(str(each.get("name")))
    return left[len(wanted) :]


def _named_by(*values: Any) -> frozenset[str]:
    """Every id that a caller names in `remote_data`: what it moves into a new pipeline was there before."""
    found: set[str] = set()
    for value in values:
        if isinstance(value, Mapping):
            found |= {str(value["id"])} if "id" in value else set()
            found |= _named_by(*value.values())
        elif isinstance(value, list | tuple):
            found |= _named_by(*value)
    return frozenset(found)


def _own(values: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's fields but for its place."""
    return {name: value for name, value in values.items() if name not in ("pipeline", "position")}


def _entity(provider: Provider, wanted: str, skip: bool) -> tuple[str, Warnings]:
    """The provider's name of an object type, and a warning where the caller's had to be left out."""
    entities, label = provider.entities, provider.label
    if (remote := entities.to_remote(wanted)) is not None:
        return remote, []
    problem = f"{label} has no pipelines for {wanted!r}, only for {', '.join(map(repr, entities.names))}"
    if not skip:
        raise Unsupported(f"entity: {problem}")
    return next(iter(entities.names.values())), [{"field": "entity", "message": f"{problem}; it was left out"}]


def _refuse_credentials(provider: Provider, options: Options) -> None:
    for key, _ in options.remote_query:
        if key.split("[")[0].strip().lower() in provider.query_credentials:
            raise InvalidRequest(f"remote_query[{key}]: {provider.label} would take it for a credential")
