"""A new pipeline whose stages are not those that were asked for: they are made, renamed and removed until they are.

For providers that make stages by calls of their own, that bring ready-made ones, or of which both is unsure. What is
done here needs no taking back: the pipeline is new, and a failure deletes the whole of it.
"""

from __future__ import annotations

from unified_crm.edit import Edit
from unified_crm.errors import UnifiedError
from unified_crm.mapping import merge
from unified_crm.provider import Flow, Record


class Settle(Edit):
    """The stages of one new pipeline. `pipeline` is what the create answered, which may not show its stages."""

    def settle(self) -> Flow:
        """Bring the stages to what was asked for; the pipeline as it then stands there. None asked for: as it is."""
        wanted = self._asked_for()
        known = isinstance(self._row.remote_value(self._before), list)
        present = self._stages(self._before)
        if not wanted:
            return self._before if known else (yield from self._read())
        if known and len(present) == len(wanted) and all(map(self._alike, present, wanted)):
            return self._before
        taken = self._taken(present, wanted)
        spare = [each for each in present if not any(each is other for other in taken) and not self._editor.fixed(each)]
        names = [self._plain(each) for each in wanted]
        for stranger in reversed([each for each in spare if self._plain(each) in names]):
            yield self._removal(self._before, stranger)  # its name is wanted for another
            spare = [each for each in spare if each is not stranger]
        made: list[Record] = []
        for found, stage in zip(taken, wanted, strict=True):
            made.append((yield from self._made(found, stage)))
        for stranger in reversed(spare):
            yield self._removal(self._before, stranger)
        return (yield from self._settled(made, known=known, reordered=any(taken)))

    def _asked_for(self) -> list[Record]:
        """The provider's records of the wanted stages, which a caller's `remote_data` may name as the provider does."""
        given = self._row.remote_value(self._table.opened(self._call.remote_data) or {})
        if isinstance(given, list):
            return [dict(each) for each in given if isinstance(each, dict)]
        listed = self._stage.list_to_remote(self._call.values.get("stages") or [])
        return self._editor.complete(self._call, listed)

    def _taken(self, present: list[Record], wanted: list[Record]) -> list[Record | None]:
        """For each wanted stage the present one that is it already, or can become it; in order, where that is fixed."""
        left = list(present)
        found: list[Record | None] = [None] * len(wanted)
        for index, stage in enumerate(wanted):
            if "id" in stage or self._editor.arrange is not None:
                same = next((each for each in left if self._alike(each, stage)), None)
                found[index] = same
                left = [each for each in left if each is not same]
        for index, stage in enumerate(wanted):
            if found[index] is not None or "id" in stage:
                continue
            while left and not self._can_become(left[0], stage):
                left.pop(0)
            found[index] = left.pop(0) if left else None
        return found

    def _made(self, found: Record | None, stage: Record) -> Flow:
        if found is None:
            self._tried.append(stage)
            reply = yield self.insert(self._before, stage)
            made: Record = merge(stage, self._editor.inserted(reply, self._before))
            self._know(made, reply)
            return made
        changed = (
            {} if self._alike(found, stage) else {key: stage[key] for key in stage if found.get(key) != stage[key]}
        )
        if changed:
            yield self.change(self._before, found, changed)
        return merge(found, changed)

    def _settled(self, made: list[Record], *, known: bool, reordered: bool) -> Flow:
        """What a last read shows, without the stages that nobody asked for and only that read showed.

        Where the create did not show its stages, that read is the only one to tell of them, and has to succeed.
        """
        keys = [self._key(each) for each in made]
        written = self._row.into(self._before, made)
        try:
            shown = yield from self._read()
        except UnifiedError:
            if not known:
                raise
            shown = written
        if not self._shows(shown, keys, []):
            shown = written
        strangers = [each for each in self._stages(shown) if self._key(each) not in keys]
        removed = [each for each in strangers if not self._editor.fixed(each)]
        for stranger in reversed(removed):
            yield self._removal(self._before, stranger)
        standing = [each for each in self._stages(shown) if not any(each == other for other in removed)]
        order = [self._key(each) for each in standing if self._key(each) in keys]
        if self._editor.arrange is not None and (order != keys or reordered or removed):
            by_key = {self._key(each): each for each in standing}
            standing = [by_key[key] for key in keys]
            yield self._editor.arrange(self._call, self._row.into(shown, standing), standing)
        return self._row.into(shown, standing) if removed or order != keys else shown

    def _can_become(self, present: Record, wanted: Record) -> bool:
        """Whether only what can be changed would have to be."""
        if self._editor.fixed(present):
            return False
        now, then = self._stage.to_unified(present), self._stage.to_unified(wanted)
        return all(now[row.unified] == then[row.unified] for row in self._stage if row.fixed)

    def _alike(self, present: Record, wanted: Record) -> bool:
        """By id where the caller's own `remote_data` names one, which the provider then moves here."""
        if "id" in wanted:
            return bool(present.get("id") == wanted["id"])
        if self._stage.is_told(wanted) and wanted.items() <= present.items():
            return True
        now, then = self._stage.to_unified(present), self._stage.to_unified(wanted)
        # What was sent along with the pipeline is the provider's to keep or not; to others it is still to be sent.
        own = {row.path[0] for row in self._stage} if self._row.apart else wanted.keys()
        return all(now[row.unified] == then[row.unified] for row in self._stage if not row.read_only) and all(
            present.get(key) == value for key, value in wanted.items() if key not in own
        )
