"""How long a call may take, counted on a clock that nobody sets."""

from __future__ import annotations

from time import monotonic


class Deadline:
    """`seconds` from now on. A part of them can be set aside: `keep(reserve)` is a deadline that ends earlier."""

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds

    def left(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._end - monotonic())

    def keep(self, reserve: float) -> Deadline:
        """A deadline that leaves `reserve` seconds of this one for what comes after."""
        return Deadline(self.left() - reserve)
