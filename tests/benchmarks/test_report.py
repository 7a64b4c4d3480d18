"""A goal that is missed shows, and so do runs that do not agree."""

from __future__ import annotations

import pytest

from benchmarks import report
from benchmarks.report import RATIO, Row


def row(figure: float, goal: float | None = 1.5, *, below: bool = False, title: str = "init") -> Row:
    return Row("Cold start", title, figure, RATIO, goal, below)


@pytest.mark.parametrize(
    ("figures", "mark"),
    [
        ((1.2, 1.3, 1.5), "met"),
        ((1.51, 1.6, 1.7), "MISSED"),
        ((1.4, 1.6, 1.4), "differs"),
        ((2.0,), "MISSED"),
    ],
)
def test_mark(figures: tuple[float, ...], mark: str) -> None:
    assert report.mark(row(figure) for figure in figures) == mark


def test_a_limit_that_must_not_be_reached() -> None:
    assert report.mark([row(12, 12, below=True)]) == "MISSED"
    assert report.mark([row(11.9, 12, below=True)]) == "met"


def test_what_has_no_goal_has_no_mark() -> None:
    assert report.mark([row(99, None)]) == ""


def test_table_shows_each_run_with_goal_and_mark() -> None:
    runs = [[row(figure), row(2.0, None, title="beside")] for figure in (1.6, 1.7, 1.8)]
    lines = report.table(runs).splitlines()
    assert [cell.strip() for cell in lines[4].split("|")] == [
        "",
        "init",
        f"≤ 1.5 {RATIO}",
        "1.60",
        "1.70",
        "1.80",
        "MISSED",
        "",
    ]
    assert [cell.strip() for cell in lines[5].split("|")] == [
        "",
        f"beside, {RATIO}",
        "",
        "2.00",
        "2.00",
        "2.00",
        "",
        "",
    ]


def test_runs_with_other_rows_are_no_table() -> None:
    with pytest.raises(ValueError, match="other rows"):
        report.table([[row(1)], [row(1, title="another")]])


def test_page_holds_figures_machine_and_notes() -> None:
    page = report.page([[row(1.6)]], "As told.\n")
    assert "MISSED" in page
    assert "As told." in page
    assert "- Machine: " in page
    assert report.NOTES.read_text(encoding="utf-8") in page


def test_the_page_ends_with_what_is_written_by_hand() -> None:
    written = report.NOTES.read_text(encoding="utf-8")
    assert written in report.page([[row(1.0)]], "")
    assert report.PAGE.read_text(encoding="utf-8").endswith(written)


def test_what_has_no_unit_is_told_without_one() -> None:
    assert "| stages |" in report.table([[Row("Long lists", "stages", 7, "")]])
