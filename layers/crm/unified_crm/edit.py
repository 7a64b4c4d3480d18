"""Changing a pipeline and its stages, from the single writes that a provider declares as its `Editor`.

All of it is pure: flows of flows. Every change goes the same way: read the pipeline, work out what has to be written,
write what differs, read again. The first write carries an `Undo` that brings the pipeline back to what was read, by
looking at what stands there then; so it serves whichever write failed, and one whose answer was lost too.

Order of the writes: the pipeline's own fields, stages that change, new stages, the order, and deletions last, since
they are the hardest to take back. So two stages cannot swap their names in one call where names are unique. A provider
that takes all stages at once gets one write. Before the first write, what is to be deleted is looked at, where the
provider would delete or move the deals on it without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from unified_crm import ordering, reads
from unified_crm.errors import (
    InUse,
    InvalidRequest,
    NotFound,
    ProviderBadReply,
    RemoteError,
    UnifiedError,
    Unsupported,
)
from unified_crm.mapping import Field, Table, Warnings, merge, whole
from unified_crm.ordering import Place
from unified_crm.provider import Call, Editor, Flow, Provider, Record, Reply, Request, Undo


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
        self._changes: list[tuple[Any, Record]] = []
        self._tried: list[Record] = []
        self._removed: set[Any] = set()
        self.made: list[str] = []

    @property
    def _row(self) -> Field:
        return self._table["stages"]

    @property
    def _stage(self) -> Table:
        stage = self._row.each
        if stage is None:
            raise Unsupported(f"{self._label} has no stages")
        return stage

    def update(self, values: Mapping[str, Any], stages: Sequence[Mapping[str, Any]] | None, *, prune: bool) -> Flow:
        """Write `values` of the pipeline and the given `stages`: those with an id are changed, the others new.

        The given ones come in the given order; stages that are not given keep their places, or go, if `prune`.
        """
        present = self._stages(self._before)
        if stages is None:
            return (yield from self._apply(values, [Place(each, {}) for each in present], []))
        given = [Place(self._find(present, each.get("id"), f"stages[{i}].id"), each) for i, each in enumerate(stages)]
        named = [self._key(place.before) for place in given if place.before is not None]
        if len(named) != len(set(named)):
            raise InvalidRequest("stages: one stage is given twice")
        others = [each for each in present if self._key(each) not in named]
        removed = [each for each in others if prune and not self._editor.fixed(each)]
        for each in others:
            if prune and each not in removed:
                said = f"{self._label} keeps its stage {self._stage['name'].to_unified(each)!r} in every pipeline"
                self._warnings.append({"field": "stages", "message": said})
        return (yield from self._apply(values, self._around(given, present, removed), removed))

    def _around(self, given: list[Place], present: list[Record], removed: list[Record]) -> list[Place]:
        """The given places in their order, around the stages that nobody named, each of which keeps its place as long
        as there is one, and around those that the provider keeps where they are."""
        at = {self._key(place.before): place for place in given if place.before is not None}
        waiting = [place for place in given if place.before is None or not self._editor.fixed(place.before)]
        places: list[Place] = []
        for stage in present:
            if self._editor.fixed(stage):
                places.append(at.get(self._key(stage), Place(stage, {})))
            elif self._key(stage) in at:
                places.append(waiting.pop(0))
            elif stage not in removed:
                places.append(Place(stage, {}))
        end = self._place(places, None)
        places[end:end] = waiting
        if [place for place in places if any(place is each for each in given)] != given:
            self._leave_out("stages", f"{self._label} keeps some of them at their places, so that this order cannot be")
        return places

    def insert_stage(self, values: Mapping[str, Any], position: int | None) -> Flow:
        """A new stage at `position`, at the end if None."""
        places = [Place(each, {}) for each in self._stages(self._before)]
        index = self._place(places, position)
        return (yield from self._apply({}, [*places[:index], Place(None, values), *places[index:]], []))

    def update_stage(self, id_: str, values: Mapping[str, Any], position: int | None) -> Flow:
        """Change a stage, and move it to `position` if given."""
        present = self._stages(self._before)
        stage = self._find(present, id_, "id")
        places = [Place(each, values if each is stage else {}) for each in present]
        if position is not None:
            index = present.index(stage)
            moving = places.pop(index)
            if not self._editor.fixed(stage):
                places.insert(self._place(places, position), moving)
            else:
                places.insert(index, moving)
                if position != index:
                    self._leave_out("position", f"{self._label} keeps this stage at its place")
        return (yield from self._apply({}, places, []))

    def delete_stage(self, id_: str) -> Flow:
        """Delete a stage."""
        present = self._stages(self._before)
        stage = self._find(present, id_, "id")
        if self._editor.fixed(stage):
            raise Unsupported(f"{self._label} keeps this stage in every pipeline: it cannot be deleted")
        rest = [Place(each, {}) for each in present if each is not stage]
        return (yield from self._apply({}, rest, [stage]))

    def delete_pipeline(self, *, put_back: bool, spare: frozenset[str] = frozenset()) -> Flow:
        """Delete the pipeline, its stages first where the provider wants that.

        `put_back`: a failure brings back what was deleted. Without it this serves to clean up. `spare` are ids of
        stages that are not to be deleted: somebody else's.
        """
        delete = self._editor.delete
        if delete is None:
            raise Unsupported(f"{self._label} does not let pipelines be deleted")
        undo = self._undo()
        if put_back:
            yield from self._refuse_occupied(None)
        if self._editor.stages_first or (self._editor.stages_outlive and not put_back):
            for stage in reversed(self._stages(self._before)):
                if self._key(stage) in spare or self._editor.fixed(stage):
                    continue
                request = self._removal(self._before, stage)
                yield request.reverted_by(undo) if put_back else request
        yield delete(self._call, self._id)._replace(main=put_back, gone=self._is_gone)

    # How it is done

    def _is_gone(self) -> Flow:
        try:
            yield from self._read()
        except (RemoteError, NotFound) as error:
            if error.code != "not_found":
                raise
            return True
        return False

    def _removal(self, pipeline: Record, stage: Record) -> Request:
        def is_gone() -> Flow:
            now = yield from self._read()
            return self._key(stage) not in [self._key(each) for each in self._stages(now)]

        return self.remove(pipeline, stage)._replace(gone=is_gone)

    # The editor's writes of single stages, for those that have them

    def insert(self, pipeline: Record, body: Record) -> Request:
        """Make a stage."""
        return self._able(self._editor.insert)(self._call, pipeline, body)

    def change(self, pipeline: Record, stage: Record, body: Record) -> Request:
        """Change some fields of a stage."""
        return self._able(self._editor.change)(self._call, pipeline, stage, body)

    def remove(self, pipeline: Record, stage: Record) -> Request:
        """Delete a stage."""
        return self._able(self._editor.remove)(self._call, pipeline, stage)

    def _able(self, write: Callable[..., Request] | None) -> Callable[..., Request]:
        if write is None:
            raise Unsupported(f"{self._label} does not let single stages be changed")
        return write

    def _refuse_occupied(self, stage: Record | None) -> Flow:
        """Raise InUse where deals are on a stage, or in the pipeline, and the caller did not say that they may go."""
        if self._editor.occupied is None or self._call.force:
            return
        if (yield from self._editor.occupied(self._call, self._before, stage)):
            what = f"pipeline {self._id}" if stage is None else f"stage {self._key(stage)}"
            raise InUse(
                f"{self._label} has deals on {what}, and would delete or move them without a word. Nothing was "
                "deleted; truto_force_delete=true goes ahead."
            )

    def _apply(self, values: Mapping[str, Any], places: list[Place], removed: list[Record]) -> Flow:
        editor, call, before = self._editor, self._call, self._before
        about_stage = call.resource == "stages"
        places = self._as_far_as_it_can_be(places)
        if not places and self._table["stages"].required:
            raise InvalidRequest(f"stages: {self._label} wants at least one stage in a pipeline")
        full = self._full(places)
        undo = self._undo()
        body = _differing(before, self._table.to_remote(values, create=False))
        self._changes = [(None, body)]
        for stage in removed:
            yield from self._refuse_occupied(stage)
        if editor.replace is not None:
            return (yield from self._replaced(body, places, full, undo))
        now: Record = merge(before, body)
        if body or (call.remote_data and not about_stage):
            if editor.write is None:
                raise Unsupported(f"{self._label} does not let a pipeline's own fields be changed")
            extra = self._table.opened(call.remote_data) or {}
            now = merge(now, extra)
            self._written |= {*body, *extra}
            yield from self._write(editor.write(call, before, body), undo)
        standing = list(full)
        for place, record in zip(places, full, strict=True):
            if place.before is not None and (changed := _differing(place.before, record)):
                self._written |= changed.keys()
                self._changes.append((self._key(place.before), changed))
                request = self.change(now, place.before, changed)
                yield from self._write(request, undo, main=bool(place.values) or not about_stage)
        for index, place in enumerate(places):
            if place.before is None:
                self._tried.append(full[index])
                reply = yield from self._write(self.insert(now, full[index]), undo)
                standing[index] = merge(full[index], editor.inserted(reply, before))
                self._know(standing[index], reply)
        wanted = [self._key(each) for each in standing]
        kept = [self._key(each) for each in self._stages(before) if each not in removed]
        if editor.arrange is not None and wanted != [*kept, *(key for key in wanted if key not in kept)]:
            request = editor.arrange(call, now, [*standing, *removed])
            yield from self._write(request, undo, main=not about_stage)
        elif editor.renumbers and not self._in_order(places):
            dear = [self._key(place.before) for place in places if place.before is not None and not place.values]
            numbers = yield from self._settle_order(now, wanted, dear, undo)
            standing = [{**each, **numbers.get(self._key(each), {})} for each in standing]
        for stage in reversed(removed):
            yield from self._write(self._removal(now, stage), undo)
        return (yield from self._shown(self._row.into(now, standing), wanted, removed))

    def _shown(self, written: Record, wanted: list[Any], removed: list[Record]) -> Flow:
        """What a last read shows. Where it fails or lags behind, the writes tell what stands there now."""
        try:
            shown = yield from self._read()
        except UnifiedError:
            return written
        return shown if self._shows(shown, wanted, removed) else written

    def _replaced(self, body: Record, places: list[Place], full: list[Record], undo: Undo) -> Flow:
        """Everything in one write, built on what was read by the pipeline's id: all stages that shall be there."""
        replace_all = self._able(self._editor.replace)
        if not self._stages(self._before):
            raise ProviderBadReply(f"{self._label} did not show the stages of pipeline {self._id}: they would be lost.")
        about_stage = self._call.resource == "stages"
        extra = {} if about_stage else self._call.remote_data
        before = self._before
        if not (body or extra or full != self._stages(before)):
            return before
        self._tried = [record for place, record in zip(places, full, strict=True) if place.before is None]
        request = replace_all(self._call, before, body, full)._replace(takes_data=not about_stage)
        self._written |= {*body, *extra, self._row.path[0]}
        reply = yield from self._write(request, undo)
        answer = self._editor.replaced(reply)
        if reply.noted:
            answer = {**{key: before[key] for key in self._table["id"].path if key in before}, **answer}
        shown = self._stages(answer)
        old = [self._key(each) for each in self._stages(before)]
        made = iter([each for each in shown if self._key(each) not in old])
        standing = [
            record if place.before is not None else next(made, record)
            for place, record in zip(places, full, strict=True)
        ]
        for each, place in zip(standing, places, strict=True):
            if place.before is None:
                self._know(each, reply)
        written = self._row.into(merge(before, body), standing)
        wanted = [self._key(each) for each in standing]
        gone = [each for each in self._stages(before) if self._key(each) not in wanted]
        if self._shows(answer, wanted, gone):
            return answer
        return (yield from self._shown(written, wanted, gone))

    def _know(self, stage: Record, reply: Reply) -> None:
        """Remember a new stage by its id, which an answer must tell."""
        if self._key(stage) is None and not reply.noted:
            raise ProviderBadReply(f"{self._label} did not say which stage it made.")
        self.made.append(self._key(stage))

    def _settle_order(self, pipeline: Record, wanted: list[Any], dear: list[Any], undo: Undo | None) -> Flow:
        """Move stages one by one, each between its new neighbours as they stand then, until the order is right.

        For a provider that numbers the others anew after each write: numbers that were worked out before are wrong.
        Those that are `dear` are moved last of all: nobody named them.
        """
        field = str(self._editor.order)
        moved: dict[Any, tuple[Any, int]] = {}
        while True:
            now = yield from self._read()
            # A read that does not show what was moved is a dry run's.
            shown = [
                {**each, field: moved[key][1]}
                if moved.get(key := self._key(each), ("", 0))[0] == each.get(field)
                else each
                for each in self._stages(now)
            ]
            standing = [each for each in self._stage.sorted(shown) if self._key(each) in wanted]
            ranks = [wanted.index(self._key(each)) for each in standing]
            kept = ordering.longest_rising(ranks, {wanted.index(key) for key in dear if key in wanted})
            rank = next((each for each in sorted(ranks) if each not in kept), None)
            if rank is None:
                return {self._key(each): {field: each[field]} for each in standing if field in each}
            if wanted[rank] in moved:
                raise ProviderBadReply(f"{self._label} did not put the stages into the order that was asked for.")
            rest = [each for each in standing if self._key(each) != wanted[rank]]
            earlier = [wanted.index(self._key(each)) < rank and wanted.index(self._key(each)) in kept for each in rest]
            place = max((index + 1 for index, each in enumerate(earlier) if each), default=0)
            numbers = {wanted[rank]: ordering.between(rest, place, field)}
            if numbers[wanted[rank]] in [whole(each.get(field)) for each in rest]:  # no room: all of them anew
                standing = sorted(standing, key=lambda each: wanted.index(self._key(each)))
                movable = [self._key(each) for each in standing if not self._editor.fixed(each)]
                numbers = {key: 10 * index for index, key in enumerate(movable, start=2)}
            self._written.add(field)
            for stage in standing:
                key = self._key(stage)
                if key in numbers and numbers[key] != whole(stage.get(field)):
                    moved[key] = (stage.get(field), numbers[key])
                    request = self.change(pipeline, stage, {field: numbers[key]})
                    yield from (_alone(request) if undo is None else self._write(request, undo, main=False))

    def _shows(self, shown: Any, wanted: list[Any], removed: list[Record]) -> bool:
        """Whether a read shows what was written. Reads can lag behind, and some answers are no answers."""
        if not isinstance(shown, dict) or self._table["id"].to_unified(shown) != self._id:
            return False
        stages = {self._key(each): each for each in self._stages(shown)}
        if not {*wanted} <= stages.keys() or any(self._key(each) in stages for each in removed):
            return False
        old = {self._key(each): each for each in self._stages(self._before)}
        for key, changed in self._changes:  # what still has its old value was read before it was written
            before, now = (self._before, shown) if key is None else (old[key], stages[key])
            if any(field in before and now.get(field) == before[field] for field in changed):
                return False
        return True

    def _write(self, request: Request, undo: Undo, *, main: bool = True) -> Flow:
        """Send a write, the first that may be as the caller's main call."""
        main = main and not self._main_sent
        self._main_sent |= main
        return (yield (request.as_main() if main else request).reverted_by(undo))

    def _full(self, places: list[Place]) -> list[Record]:
        """The provider's record of each place as it shall be. Those that nobody named stay as they are."""
        records = [self._wanted(index, place) for index, place in enumerate(places)]
        if any(place.values for place in places):
            completed = self._editor.complete(self._call, records)
            records = [
                after if place.values else before
                for place, before, after in zip(places, records, completed, strict=True)
            ]
        return self._ordered(places, records)

    def _wanted(self, index: int, place: Place) -> Record:
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
                self._leave_out(field, f"{self._label} does not let it be changed from {current[name]!r}")
                del values[name]
        wanted: Record = merge(place.before, stage.item_to_remote(values, create=False))
        return wanted

    def _ordered(self, places: list[Place], records: list[Record]) -> list[Record]:
        """With the numbers that put them in this order, where the provider orders by a field of the stage's own.

        Nothing is numbered anew while the order is right, and stages that nobody named keep their numbers as long as
        that is possible. A number in a stage's own `remote_data` is the caller's.
        """
        field = self._editor.order
        if field is None:
            return records
        if self._editor.renumbers:
            return ordering.placed_between(field, places, records)
        old = [self._key(place.before) for place in places if place.before is not None]
        order = [key for key in map(self._key, self._stages(self._before)) if key in old]
        numbers = [whole(record.get(field)) for record in records]
        given = [whole((self._stage.opened(place.values.get("remote_data")) or {}).get(field)) for place in places]
        if old == order and all(place.before is None for place in places[len(old) :]):
            return ordering.appended(field, records, given, len(old))
        return ordering.renumbered(field, places, records, numbers, given)

    def _in_order(self, places: list[Place]) -> bool:
        """Whether what is there keeps its order, with what is new behind it, or before what stays at the end."""
        keys = [self._key(place.before) if place.before is not None else None for place in places]
        old = [key for key in keys if key is not None]
        end = self._place([place for place in places if place.before is not None], None)
        return (
            old == [key for key in map(self._key, self._stages(self._before)) if key in old] and None not in keys[:end]
        )

    def _place(self, places: list[Place], position: int | None) -> int:
        """The index for a stage at `position`, at the end if None: between the stages that keep their places."""
        fixed = [place.before is not None and self._editor.fixed(place.before) for place in places]
        first = next((index for index, each in enumerate(fixed) if not each), len(places))
        if all(fixed):  # those that are won or lost stand behind the rest
            first = next((index for index, each in enumerate(places) if self._closes(each)), len(places))
        last = max((index + 1 for index, each in enumerate(fixed) if not each), default=first)
        return last if position is None else max(first, min(position, last))

    def _closes(self, place: Place) -> bool:
        return self._stage.to_unified(place.before or {}).get("status") in ("won", "lost", "closed")

    def _as_far_as_it_can_be(self, places: list[Place]) -> list[Place]:
        """The places in an order that the provider can be told: where it cannot be told any, new ones at the end."""
        order = [self._key(each) for each in self._stages(self._before)]
        kept = [place for place in places if place.before is not None]
        possible = sorted(kept, key=lambda place: order.index(self._key(place.before or {})))
        possible += [place for place in places if place.before is None]
        if self._editor.orders or possible == places:
            return places
        self._leave_out("stages", f"{self._label} does not let the order be changed; new stages go to the end")
        return possible

    def _leave_out(self, field: str, problem: str) -> None:
        """Refuse what cannot be said, or warn that it was left out, as the caller wants it."""
        if not self._skip:
            raise Unsupported(f"{field}: {problem}")
        self._warnings.append({"field": field, "message": f"{problem}; it was left out"})

    def _undo(self) -> Undo:
        name = self._table["name"].to_unified(self._before)
        return Undo("pipeline", self._id, name, self._restore, restores=True, parts=self._lost)

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

    def _restore(self) -> Flow:
        """Bring the pipeline back to what was read at first.

        Returns a note for each stage that had to be made again and has another id now. Raises ProviderBadReply where a
        stage is there that may be one whose answer was lost, under another name, and where the order is another one.
        """
        editor, call = self._editor, self._call
        now = yield from self._read()
        if editor.replace is not None:
            return (yield from self._restore_whole(now))
        keys = {row.path[0] for row in self._stage if not (row.read_only or row.fixed)} | self._written
        own = {row.path[0] for row in self._table if not (row.read_only or row.each)} | self._written - {
            self._row.path[0]
        }
        before, present = self._stages(self._before), self._stages(now)
        old = [self._key(each) for each in before]
        names = [self._plain(each) for each in self._tried[len(self.made) :]]  # whose answer was lost
        there = [self._key(each) for each in present]
        missing = [self._made_again(each) for each in before if self._key(each) not in there]
        for stage in present:
            ours = self._key(stage) in self.made
            if self._key(stage) in old or (not ours and self._made_again(stage) in missing):
                continue
            if ours or self._plain(stage) in names:
                yield self.remove(now, stage)
                self._removed.add(self._key(stage))
                present = [each for each in present if each is not stage]
            elif len(self._removed) < len(self._tried):
                raise ProviderBadReply(
                    f"{self._label} has a stage {self._plain(stage)!r} that may be one of this call."
                )
        standing: list[Record] = []
        notes: list[dict[str, Any]] = []
        for stage in before:
            current = next((each for each in present if self._key(each) == self._key(stage)), None)
            if current is None:
                # It may have been made again already, by a first attempt at this.
                same = self._made_again(stage)
                strangers = [each for each in present if self._key(each) not in old and self._made_again(each) == same]
                made = (
                    strangers[0]
                    if strangers
                    else editor.inserted((yield self.insert(now, editor.again(stage))), self._before)
                )
                standing.append(made)
                if self._key(made) != self._key(stage):
                    note = {"resource": "stage", "id": self._key(stage), "new_id": self._key(made)}
                    lost = self._not_kept(stage, made)
                    notes.append({**note, "lost": lost} if lost else note)
                continue
            standing.append(stage)
            changed = {key: stage[key] for key in keys if key in stage and stage[key] != current.get(key)}
            if editor.renumbers:
                changed.pop(str(editor.order), None)
            if changed:
                yield self.change(now, current, changed)
        as_before = self._row.into(self._before, standing)
        body = {key: self._before[key] for key in own if key in self._before and self._before[key] != now.get(key)}
        if body and editor.write is not None:
            yield editor.write(call, as_before, body)
        after = [self._key(each) for each in present if self._key(each) in old]
        if editor.arrange is not None and after != [self._key(each) for each in standing]:
            yield editor.arrange(call, as_before, standing)
        elif editor.renumbers and after != [self._key(each) for each in standing]:
            yield from self._settle_order(as_before, [self._key(each) for each in standing], [], None)
        elif not editor.orders and [*after, *(each["new_id"] for each in notes)] != [
            self._key(each) for each in standing
        ]:
            raise ProviderBadReply(f"{self._label} puts stages that are made again at the end.")
        return notes

    def _not_kept(self, stage: Record, made: Record) -> list[str]:
        """The provider's fields of which a stage that was made again has other values, but for ids, times and order."""
        own = {row.path[0] for row in self._stage if row.read_only} | {self._editor.order}
        return sorted(
            key
            for key in stage.keys() & made.keys()
            if key not in own and isinstance(stage[key], str | bool) and stage[key] != made[key]
        )

    def _made_again(self, stage: Record) -> Record:
        """What a stage that is made again is known by: not by a number that the provider changes."""
        again = self._editor.again(stage)
        return {
            key: value for key, value in again.items() if not (self._editor.renumbers and key == self._editor.order)
        }

    def _restore_whole(self, now: Record) -> Flow:
        """As `_restore`, in one write. It is made whatever `now` shows, since reads may lag behind what was written."""
        before, present = self._stages(self._before), self._stages(now)
        old = [self._key(each) for each in before]
        there = [self._key(each) for each in present]
        strangers = {self._plain(each): each for each in present if self._key(each) not in old}
        stages = []
        for stage in before:
            if self._key(stage) in there:
                stages.append(stage)
            elif same := strangers.get(self._plain(stage)):  # made again already, by a first attempt at this
                stages.append({**stage, **{key: same[key] for key in self._stage["id"].path if key in same}})
            else:
                stages.append(self._editor.again(stage))
        # What somebody else made in the meantime stays; what this call made does not.
        ours = {self._plain(each) for each in [*before, *self._tried]}
        stages += [each for name, each in strangers.items() if name not in ours]
        shown = yield from self._put_whole(stages)
        if missing := [each for each in stages if self._plain(each) not in map(self._plain, shown)]:
            # The read was older than what was written: the answer tells which ids are known still.
            known = [self._key(each) for each in shown]
            stages = [each if self._key(each) in known else self._editor.again(each) for each in stages]
            shown = yield from self._put_whole(stages)
            missing = [each for each in stages if self._plain(each) not in map(self._plain, shown)]
        if missing:
            raise ProviderBadReply(f"{self._label} did not put the stages back.")
        return [
            {"resource": "stage", "id": key, "new_id": self._key(made)}
            for key, made in zip(old, shown, strict=False)
            if self._key(made) != key
        ]

    def _put_whole(self, stages: list[Record]) -> Flow:
        request = self._able(self._editor.replace)(self._call, self._before, {}, stages)
        return self._stages(self._editor.replaced((yield request)))

    def _plain(self, stage: Record) -> str:
        return str(self._stage["name"].to_unified(stage)).strip().casefold()

    def _read(self) -> Flow:
        return reads.pipeline(self._provider, self._call, self._id)

    def _stages(self, pipeline: Record) -> list[Record]:
        return [dict(each) for each in self._row.items(pipeline)]

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


def _alone(request: Request) -> Flow:
    return (yield request)


def _differing(before: Record, after: Record) -> Record:
    return {key: value for key, value in after.items() if key not in before or before[key] != value}
