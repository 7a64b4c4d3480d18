"""Changing a pipeline and its stages, from the single writes that a provider declares as its `Editor`.

All of it is pure: flows of flows. Every change goes the same way: read the pipeline, work out what has to be written,
write what differs, read again. The first write carries an `Undo` that brings the pipeline back to what was read, by
looking at what stands there then; so it serves whichever write failed, and one whose answer was lost too.

Order of the writes: the pipeline's own fields, stages that change, new stages, the order, and deletions last, since
they are the hardest to take back. So two stages cannot swap their names in one call where names are unique.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unified_crm.errors import InvalidRequest, NotFound, ProviderError, RemoteError, Unsupported
from unified_crm.mapping import Table, Warnings, merge
from unified_crm.provider import Call, Editor, Flow, Provider, Record, Request, Undo


@dataclass(frozen=True)
class _Place:
    """A place in the wanted list of stages: the stage that has it now, None for a new one, and what to write."""

    before: Record | None
    values: Mapping[str, Any]


class Edit:
    """The changes to one pipeline. Afterwards `made` holds the ids of new stages.

    `skip`: leave out what cannot be changed, with a warning each in `warnings`.
    """

    def __init__(
        self, provider: Provider, call: Call, pipeline: Record, warnings: Warnings, *, skip: bool = False
    ) -> None:
        editor = provider.pipelines.editor
        if editor is None:
            raise Unsupported(f"{provider.label} does not let pipelines be changed")
        self._editor: Editor = editor
        self._provider = provider
        self._label = provider.label
        self._call = call
        self._table = provider.pipelines.table(call.entity)
        self._before = pipeline
        self._id = self._table["id"].to_unified(pipeline)
        self._warnings, self._skip = warnings, skip
        self._main_sent = False
        self._written: set[str] = set()
        self.made: list[str] = []

    @property
    def _stage(self) -> Table:
        stage = self._table["stages"].each
        if stage is None:
            raise Unsupported(f"{self._label} has no stages")
        return stage

    def update(self, values: Mapping[str, Any], stages: Sequence[Mapping[str, Any]] | None, *, prune: bool) -> Flow:
        """Write `values` of the pipeline and the given `stages`: those with an id are changed, the others new.

        The given ones come in the given order; stages that are not given keep their places, or go, if `prune`.
        """
        present = self._stages(self._before)
        if stages is None:
            return (yield from self._apply(values, [_Place(each, {}) for each in present], []))
        given = [_Place(self._find(present, each.get("id"), f"stages[{i}].id"), each) for i, each in enumerate(stages)]
        named = [self._key(place.before) for place in given if place.before is not None]
        if len(named) != len(set(named)):
            raise InvalidRequest("stages: one stage is given twice")
        others = [each for each in present if self._key(each) not in named]
        if prune:
            return (yield from self._apply(values, given, others))
        return (yield from self._apply(values, _interleave(given, present, others), []))

    def insert_stage(self, values: Mapping[str, Any], position: int | None) -> Flow:
        """A new stage at `position`, at the end if None."""
        places = [_Place(each, {}) for each in self._stages(self._before)]
        index = len(places) if position is None else min(position, len(places))
        return (yield from self._apply({}, [*places[:index], _Place(None, values), *places[index:]], []))

    def update_stage(self, id_: str, values: Mapping[str, Any], position: int | None) -> Flow:
        """Change a stage, and move it to `position` if given."""
        present = self._stages(self._before)
        stage = self._find(present, id_, "id")
        places = [_Place(each, values if each is stage else {}) for each in present]
        if position is not None:
            moving = places.pop(present.index(stage))
            places.insert(min(position, len(places)), moving)
        return (yield from self._apply({}, places, []))

    def delete_stage(self, id_: str) -> Flow:
        """Delete a stage."""
        present = self._stages(self._before)
        stage = self._find(present, id_, "id")
        rest = [_Place(each, {}) for each in present if each is not stage]
        return (yield from self._apply({}, rest, [stage]))

    def delete_pipeline(self, *, put_back: bool, spare: frozenset[str] = frozenset()) -> Flow:
        """Delete the pipeline, its stages first where the provider wants that.

        `put_back`: a failure brings back what was deleted. Without it this serves to clean up. `spare` are ids of
        stages that are not to be deleted: somebody else's.
        """
        delete = self._editor.delete
        if delete is None:
            raise Unsupported(f"{self._label} does not let pipelines be deleted")
        undo = self._undo([])
        if self._editor.stages_first:
            for stage in reversed(self._stages(self._before)):
                if self._key(stage) in spare:
                    continue
                request = self._removal(self._before, stage)
                yield request.reverted_by(undo) if put_back else request
        yield replace(delete(self._call, self._id), main=put_back, gone=self._is_gone)

    # How it is done

    def _is_gone(self) -> Flow:
        try:
            yield from self._read()
        except RemoteError as error:
            if error.code != "not_found":
                raise
            return True
        return False

    def _removal(self, pipeline: Record, stage: Record) -> Request:
        def is_gone() -> Flow:
            now = yield from self._read()
            return self._key(stage) not in [self._key(each) for each in self._stages(now)]

        return replace(self._editor.remove(self._call, pipeline, stage), gone=is_gone)

    def _apply(self, values: Mapping[str, Any], places: list[_Place], removed: list[Record]) -> Flow:
        editor, call, before = self._editor, self._call, self._before
        about_stage = call.resource == "stages"
        if not places and self._table["stages"].required:
            raise InvalidRequest(f"stages: {self._label} wants at least one stage in a pipeline")
        full = self._full(places)
        undo = self._undo([record for place, record in zip(places, full, strict=True) if place.before is None])
        body = _differing(before, self._table.to_remote(values, create=False))
        now: Record = merge(before, body)
        if body or (call.remote_data and not about_stage):
            if editor.write is None:
                raise Unsupported(f"{self._label} does not let a pipeline's own fields be changed")
            now = merge(now, call.remote_data)
            self._written |= {*body, *call.remote_data}
            yield from self._write(editor.write(call, before, body), undo)
        standing = list(full)
        for place, record in zip(places, full, strict=True):
            if place.before is not None and (changed := _differing(place.before, record)):
                self._written |= changed.keys()
                request = editor.change(call, now, place.before, changed)
                yield from self._write(request, undo, main=bool(place.values) or not about_stage)
        for index, place in enumerate(places):
            if place.before is None:
                reply = yield from self._write(editor.insert(call, now, full[index]), undo)
                standing[index] = merge(full[index], editor.inserted(reply))
                self.made.append(self._key(standing[index]))
        wanted = [self._key(each) for each in standing]
        kept = [self._key(each) for each in self._stages(before) if each not in removed]
        if editor.arrange is not None and wanted != [*kept, *(key for key in wanted if key not in kept)]:
            request = editor.arrange(call, now, [*standing, *removed])
            yield from self._write(request, undo, main=not about_stage)
        for stage in reversed(removed):
            yield from self._write(self._removal(now, stage), undo)
        written = merge(now, {self._path: standing})
        try:
            shown = yield from self._read()
        except ProviderError:  # everything is written: the writes tell what stands there now
            return written
        return shown if self._shows(shown, wanted, removed) else written

    def _shows(self, shown: Any, wanted: list[Any], removed: list[Record]) -> bool:
        """Whether a read shows what was written. Reads can lag behind, and some answers are no answers."""
        if not isinstance(shown, dict) or self._table["id"].to_unified(shown) != self._id:
            return False
        keys = {self._key(each) for each in self._stages(shown)}
        return {*wanted} <= keys and not any(self._key(each) in keys for each in removed)

    def _write(self, request: Request, undo: Undo, *, main: bool = True) -> Flow:
        """Send a write, the first that may be as the caller's main call."""
        main = main and not self._main_sent
        self._main_sent |= main
        return (yield (request.as_main() if main else request).reverted_by(undo))

    def _full(self, places: list[_Place]) -> list[Record]:
        """The provider's record of each place as it shall be. Those that nobody named stay as they are."""
        records = [self._wanted(index, place) for index, place in enumerate(places)]
        if any(place.values for place in places):
            completed = self._editor.complete(self._call, records)
            records = [
                after if place.values else before
                for place, before, after in zip(places, records, completed, strict=True)
            ]
        return self._ordered(places, records)

    def _wanted(self, index: int, place: _Place) -> Record:
        stage = self._stage
        if place.before is None:
            return stage.item_to_remote(place.values)
        values = dict(place.values)
        current = stage.to_unified(place.before)
        for row in stage:
            name = row.unified
            if name not in values:
                continue
            if values[name] in (None, current[name]) or (row.fixed and current[name] is None):
                del values[name]
            elif row.fixed:
                field = name if self._call.resource == "stages" else f"stages[{index}].{name}"
                problem = f"{self._label} does not let it be changed from {current[name]!r}"
                if not self._skip:
                    raise Unsupported(f"{field}: {problem}")
                self._warnings.append({"field": field, "message": f"{problem}; it was left out"})
                del values[name]
        wanted: Record = merge(place.before, stage.item_to_remote(values, create=False))
        return wanted

    def _ordered(self, places: list[_Place], records: list[Record]) -> list[Record]:
        """With the numbers that put them in this order, where the provider orders by a field of the stage's own.

        Nothing is numbered anew while the order is right, and stages that nobody named keep their numbers as long as
        that is possible. A number in a stage's own `remote_data` is the caller's.
        """
        field = self._editor.order
        if field is None:
            self._refuse_reordering(places)
            return records
        old = [self._key(place.before) for place in places if place.before is not None]
        order = [key for key in (self._key(each) for each in self._stages(self._before)) if key in old]
        numbers = [_number(record.get(field)) for record in records]
        given = [_number((place.values.get("remote_data") or {}).get(field)) for place in places]
        if old == order and all(place.before is None for place in places[len(old) :]):
            return _appended(field, records, given, len(old))
        return _renumbered(field, places, records, numbers, given)

    def _refuse_reordering(self, places: list[_Place]) -> None:
        if self._editor.arrange is not None:
            return
        order = [self._key(each) for each in self._stages(self._before)]
        given = [self._key(place.before) if place.before is not None else None for place in places]
        kept = [key for key in given if key is not None]
        if kept != [key for key in order if key in kept] or None in given[: len(kept)]:
            raise Unsupported(f"stages: {self._label} does not let the order be changed; new stages go to the end")

    def _undo(self, fresh: list[Record]) -> Undo:
        name = self._table["name"].to_unified(self._before)
        return Undo("pipeline", self._id, name, lambda: self._restore(fresh), restores=True, parts=self._lost)

    def _lost(self) -> Flow:
        """What is not as it was read at first: stages that are missing, others, or changed."""
        now = yield from self._read()
        before, present = self._stages(self._before), self._stages(now)
        found: list[dict[str, Any]] = []
        for stages, others, state in ((before, present, "deleted"), (present, before, "created")):
            for stage in stages:
                same = next((each for each in others if self._key(each) == self._key(stage)), None)
                name = self._stage["name"].to_unified(stage)
                if same is None:
                    found.append({"resource": "stage", "id": self._key(stage), "name": name, "state": state})
                elif state == "deleted" and any(same.get(key) != stage.get(key) for key in self._written):
                    found.append({"resource": "stage", "id": self._key(stage), "name": name, "state": "changed"})
        return found

    def _restore(self, fresh: list[Record]) -> Flow:
        """Bring the pipeline back to what was read at first. `fresh` are the new stages that may be there by now.

        Returns a note for each stage that had to be made again and has another id now.
        """
        editor, call = self._editor, self._call
        now = yield from self._read()
        keys = {row.path[0] for row in self._stage if not (row.read_only or row.fixed)} | self._written
        own = {row.path[0] for row in self._table if not (row.read_only or row.each)} | self._written - {self._path}
        before, present = self._stages(self._before), self._stages(now)
        old = [self._key(each) for each in before]
        names = [self._stage["name"].to_unified(each) for each in fresh]
        for stage in present:
            if self._key(stage) not in old and self._stage["name"].to_unified(stage) in names:
                yield editor.remove(call, now, stage)
                present = [each for each in present if each is not stage]
        standing: list[Record] = []
        notes: list[dict[str, Any]] = []
        for stage in before:
            current = next((each for each in present if self._key(each) == self._key(stage)), None)
            if current is None:
                again = editor.again(stage)
                # It may have been made again already, by a first attempt at this.
                strangers = [each for each in present if self._key(each) not in old and editor.again(each) == again]
                made = strangers[0] if strangers else editor.inserted((yield editor.insert(call, now, again)))
                standing.append(made)
                if self._key(made) != self._key(stage):
                    notes.append({"resource": "stage", "id": self._key(stage), "new_id": self._key(made)})
                continue
            standing.append(stage)
            changed = {key: stage[key] for key in keys if key in stage and stage[key] != current.get(key)}
            if changed:
                yield editor.change(call, now, current, changed)
        as_before = merge(self._before, {self._path: standing})
        body = {key: self._before[key] for key in own if key in self._before and self._before[key] != now.get(key)}
        if body and editor.write is not None:
            yield editor.write(call, as_before, body)
        after = [self._key(each) for each in present if self._key(each) in old]
        if editor.arrange is not None and after != [self._key(each) for each in standing]:
            yield editor.arrange(call, as_before, standing)
        return notes

    def _read(self) -> Flow:
        get = self._provider.pipelines.get
        if get is None:
            raise Unsupported(f"{self._label} does not let a pipeline be read")
        return get(self._call, self._id)

    @property
    def _path(self) -> str:
        return self._table["stages"].path[0]

    def _stages(self, pipeline: Record) -> list[Record]:
        value = pipeline.get(self._path)
        return [dict(each) for each in self._stage.sorted(value if isinstance(value, list) else [])]

    def _key(self, stage: Record) -> Any:
        return self._stage["id"].to_unified(stage)

    def _find(self, present: list[Record], id_: Any, where: str) -> Any:
        if id_ is None:
            return None
        for stage in present:
            if self._key(stage) == id_:
                return stage
        if where == "id":
            raise NotFound(f"{self._label} has no stage {id_} in pipeline {self._id}")
        raise InvalidRequest(f"{where}: pipeline {self._id} has no stage {id_!r}")


def _interleave(given: list[_Place], present: list[Record], others: list[Record]) -> list[_Place]:
    """The given places in their order, around the others, each of which keeps its place as long as there is one."""
    waiting = list(given)
    places: list[_Place] = []
    for stage in present:
        if any(stage is other for other in others):
            places.append(_Place(stage, {}))
        elif waiting:
            places.append(waiting.pop(0))
    return [*places, *waiting]


def _appended(field: str, records: list[Record], given: list[int | None], old: int) -> list[Record]:
    """The first `old` records as they are, the new ones behind them numbered on from the highest."""
    last = max((number for each in records[:old] if (number := _number(each.get(field))) is not None), default=-1)
    new = zip(records[old:], given[old:], strict=True)
    return records[:old] + [
        {**record, field: last + count if own is None else own} for count, (record, own) in enumerate(new, start=1)
    ]


def _renumbered(
    field: str, places: list[_Place], records: list[Record], numbers: list[int | None], given: list[int | None]
) -> list[Record]:
    """Rising numbers from the lowest that there was; those of stages that nobody named change only where they must."""
    own = [number if place.before is not None else None for place, number in zip(places, numbers, strict=True)]
    last = min((number for number in own if number is not None), default=0) - 1
    placed: list[Record] = []
    for index, (place, record) in enumerate(zip(places, records, strict=True)):
        # The numbers that a named stage must leave free: those of the stages behind it that nobody named.
        rest = zip(places[index + 1 :], own[index + 1 :], strict=True)
        taken = [number for each, number in rest if number is not None and not each.values]
        wish, keep = given[index], own[index]
        if wish is not None:
            last = wish
        elif keep is not None and keep > last and (not place.values or all(keep < number for number in taken)):
            last = keep
        else:
            last += 1
        placed.append({**record, field: last})
    return placed


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _differing(before: Record, after: Record) -> Record:
    return {key: value for key, value in after.items() if key not in before or before[key] != value}
