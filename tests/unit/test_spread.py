"""Numbers for stages that have none."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.strategies import bounded
from unified_crm.spread import spread

STEPS = (0.1, 0.05, 0.25, 0.2)


@st.composite
def _known(draw: st.DrawFn, number: st.SearchStrategy[float]) -> list[float | None]:
    """Rising numbers, with gaps before, between and after."""
    numbers = sorted(draw(st.lists(number, max_size=5)))
    known: list[float | None] = [None] * draw(st.integers(0, 6))
    for each in numbers:
        known += [each, *[None] * draw(st.integers(0, 6))]
    return known


_steps = st.sampled_from(STEPS)
_on_steps = _steps.flatmap(
    lambda step: st.tuples(
        st.just(step), _known(st.integers(1, round(1 / step) - 1).map(lambda n: round(n * step, 10)))
    )
)
_anywhere = _known(st.integers(1, 999).map(lambda n: n / 1000))


def _filled(known: list[float | None], numbers: list[float]) -> list[float]:
    return [number for each, number in zip(known, numbers, strict=True) if each is None]


@bounded
@given(_on_steps)
def test_numbers_are_steps_between_the_bounds_and_never_fall(drawn: tuple[float, list[float | None]]) -> None:
    step, known = drawn
    numbers = spread(known, step=step)
    assert all(a <= b for a, b in pairwise(numbers)), numbers
    for number in _filled(known, numbers):
        assert 0 < number < 1
        assert number / step == pytest.approx(round(number / step))


@bounded
@given(_anywhere, _steps)
def test_numbers_never_fall_around_those_that_are_on_no_step(known: list[float | None], step: float) -> None:
    numbers = spread(known, step=step)
    assert all(0 < number < 1 for number in numbers)
    assert all(a <= b for a, b in pairwise(numbers)), (known, numbers)


@bounded
@given(st.lists(st.none() | st.floats(0, 1)), _steps)
def test_there_are_as_many_and_the_known_ones_are_untouched(known: list[float | None], step: float) -> None:
    numbers = spread(known, step=step)
    assert len(numbers) == len(known)
    assert all(each is None or each == number for each, number in zip(known, numbers, strict=True))
    assert all(0 < number < 1 for number in _filled(known, numbers))


def test_numbers_that_only_equal_those_of_another_call_stay_themselves() -> None:
    for known in ([20, None, 60], [20.0, None, 60.0], [False, None, True], [0, None, 1]):
        shown = [repr(each) for each in spread(known, step=1, high=100)]
        assert [shown[0], shown[2]] == [repr(known[0]), repr(known[2])]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("count", range(1, 30))
def test_without_known_ones_the_numbers_stand_evenly(count: int, step: float) -> None:
    numbers = spread([None] * count, step=step)
    gaps = [b - a for a, b in pairwise([0.0, *numbers, 1.0])]
    assert max(gaps) - min(gaps) <= 2 * step + 1e-9
    assert numbers == pytest.approx([1 - number for number in reversed(numbers)], abs=step + 1e-9)


@pytest.mark.parametrize(
    ("known", "numbers"),
    [
        ([], []),
        ([None], [0.5]),
        ([None, None], [0.3, 0.7]),
        ([0.4, None, None], [0.4, 0.6, 0.8]),
        ([None, None, 0.9], [0.3, 0.6, 0.9]),
        ([0.2, None, 0.8], [0.2, 0.5, 0.8]),
        ([0.5, None, 0.5], [0.5, 0.5, 0.5]),
        ([None, 0.1], [0.1, 0.1]),
        ([0.9, None, None], [0.9, 0.9, 0.9]),
    ],
)
def test_a_gap_is_filled_between_its_neighbours(known: list[float | None], numbers: list[float]) -> None:
    assert spread(known, step=0.1) == numbers


@pytest.mark.parametrize("known", [[0.95, None], [None, 0.05], [0.46, None, 0.48], [0.91, None, None, 0.99]])
def test_where_no_step_fits_numbers_do_not_fall(known: list[float | None]) -> None:
    numbers = spread(known, step=0.1)
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(("low", "high", "step"), [(0, 100, 10), (10, 20, 1), (0, 1, 0.1)])
def test_the_bounds_may_be_others(low: float, high: float, step: float) -> None:
    numbers = spread([None] * 50, step=step, low=low, high=high)
    assert numbers == sorted(numbers)
    assert (min(numbers), max(numbers)) == pytest.approx((low + step, high - step))
