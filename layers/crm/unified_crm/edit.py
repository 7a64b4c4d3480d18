"""Changing a pipeline and its stages, from the single writes that a provider declares as its `Editor`.

All of it is pure: flows of flows. Every change goes the same way: read the pipeline, work out what has to be written,
write what differs, read again. The first write carries an `Undo` that brings the pipeline back to what was read, by
looking at what stands there then; so it serves whichever write failed, and one whose answer was lost too.

Order of the writes: the pipeline's own fields, stages that change, new stages, the order, and deletions last, since
they alone cannot be taken back in full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from unified_crm.errors import InvalidRequest, NotFound, ProviderError, RemoteError, Unsupported
from unified_crm.mapping import Table, merge
from unified_crm.provider import Call, Editor, Flow, Provider, Record, Request, Undo


@dataclass(frozen=True)
class _Place:
    """A place in the wanted list of stages: the stage that has it now, None for a new one, and what to write."""

    before: Record | None
    values: Mapping[str, Any]


class Edit:
    """The changes to one pipeline."""

    def __init__(self, provider: Provider, call: Call, pipeline: Record) -> None:
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
        self._main_sent = False

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
        full = self._full(places)
        undo = self._undo([record for place, record in zip(places, full, strict=True) if place.before is None])
        body = _differing(before, self._table.to_remote(values, create=False))
        now: Record = merge(before, body)
        if body or (call.remote_data and not about_stage):
            if editor.write is None:
                raise Unsupported(f"{self._label} does not let a pipeline's own fields be changed")
            yield from self._write(editor.write(call, before, body), undo)
        standing = list(full)
        for place, record in zip(places, full, strict=True):
            if place.before is not None and (changed := _differing(place.before, record)):
                request = editor.change(call, now, place.before, changed)
                yield from self._write(request, undo, main=bool(place.values) or not about_stage)
        for index, place in enumerate(places):
            if place.before is None:
                reply = yield from self._write(editor.insert(call, now, full[index]), undo)
                standing[index] = merge(full[index], editor.inserted(reply))
        wanted = [self._key(each) for each in standing]
        kept = [self._key(each) for each in self._stages(before) if each not in removed]
        if editor.arrange is not None and wanted != [*kept, *(key for key in wanted if key not in kept)]:
            request = editor.arrange(call, now, [*standing, *removed])
            yield from self._write(request, undo, main=not about_stage)
        for stage in reversed(removed):
            yield from self._write(self._removal(now, stage), undo)
        try:
            return (yield from self._read())
        except ProviderError:  # everything is written: the writes tell what stands there now
            return merge(now, {self._path: standing})

    def _write(self, request: Request, undo: Undo, *, main: bool = True) -> Flow:
        """Send a write, the first that may be as the caller's main call."""
        main = main and not self._main_sent
        self._main_sent |= main
        return (yield (request.as_main() if main else request).reverted_by(undo))

    def _full(self, places: list[_Place]) -> list[Record]:
        """The provider's record of each place as it shall be."""
        stage = self._stage
        records: list[Record] = []
        for place in places:
            if place.before is None:
                records.append(stage.item_to_remote(place.values))
                continue
            values = dict(place.values)
            current = stage.to_unified(place.before)
            for row in stage:
                if row.unified in values and values[row.unified] in (None, current[row.unified]):
                    del values[row.unified]
                elif row.unified in values and row.fixed:
                    raise Unsupported(
                        f"{row.unified}: {self._label} does not let it be changed from {current[row.unified]!r}"
                    )
            records.append(merge(place.before, stage.item_to_remote(values, create=False)))
        records = self._editor.complete(self._call, records)
        return self._ordered(places, records)

    def _ordered(self, places: list[_Place], records: list[Record]) -> list[Record]:
        """With the numbers that put them in this order, where the provider orders by a field of the stage's own.

        Stages that the caller did not name keep their numbers as long as that is possible.
        """
        field = self._editor.order
        if field is None:
            self._refuse_reordering(places)
            return records
        numbers = [
            record.get(field) if place.before is not None else None
            for place, record in zip(places, records, strict=True)
        ]
        if _rising(numbers):
            return records
        placed: list[Record] = []
        last = -1
        for index, (place, record) in enumerate(zip(places, records, strict=True)):
            number = numbers[index]
            keeps = [
                n
                for n, p in zip(numbers[index + 1 :], places[index + 1 :], strict=True)
                if not p.values and n is not None
            ]
            fits = isinstance(number, int) and number > last and (not place.values or all(number < n for n in keeps))
            last = number if fits and isinstance(number, int) else last + 1
            placed.append({**record, field: last})
        return placed

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
        return Undo("pipeline", self._id, name, lambda: self._restore(fresh), restores=True)

    def _restore(self, fresh: list[Record]) -> Flow:
        """Bring the pipeline back to what was read at first. `fresh` are the new stages that may be there by now.

        Returns a note for each stage that had to be made again and has another id now.
        """
        editor, call = self._editor, self._call
        now = yield from self._read()
        keys = {row.path[0] for row in self._stage if not (row.read_only or row.fixed)}
        own = {row.path[0] for row in self._table if not (row.read_only or row.each)}
        before, present = self._stages(self._before), self._stages(now)
        old = [self._key(each) for each in before]
        names = [self._stage["name"].to_unified(each) for each in fresh]
        for stage in present:
            if self._key(stage) not in old and self._stage["name"].to_unified(stage) in names:
                yield editor.remove(call, now, stage)
        standing: list[Record] = []
        notes: list[dict[str, Any]] = []
        for stage in before:
            current = next((each for each in present if self._key(each) == self._key(stage)), None)
            if current is None:
                made = editor.inserted((yield editor.insert(call, now, editor.again(stage))))
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


def _rising(numbers: list[Any]) -> bool:
    return all(isinstance(n, int) for n in numbers) and all(a < b for a, b in pairwise(numbers))


def _differing(before: Record, after: Record) -> Record:
    return {key: value for key, value in after.items() if key not in before or before[key] != value}
