"""What all figures are drawn with."""

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from neuroloom.figures.drawing import (
    COLOURS,
    WIDTH,
    check_columns,
    draw_rows,
    draw_score,
    is_left,
    looks_by_name,
    panel_grid,
    rows_of,
)


@pytest.mark.parametrize(("n_panels", "columns", "left"), [(1, 2, [0]), (3, 2, [0, 2]), (4, 3, [0, 3]), (2, 4, [0])])
def test_panels_are_as_many_as_were_asked_for(n_panels: int, columns: int, left: list[int]) -> None:
    figure, panels = panel_grid(n_panels, margin=1.0, row=2.0, columns=columns)
    assert panels == figure.axes
    assert len(panels) == n_panels
    assert [at for at, axes in enumerate(panels) if is_left(axes)] == left
    assert tuple(figure.get_size_inches()) == (WIDTH, 1.0 + 2.0 * len(left))


def test_rows_stand_below_the_name_of_their_group() -> None:
    rows = rows_of({"a": ("one", "first"), "b": ("one", "second"), "c": ("two", "third")})
    assert rows.names == ["first", "second", "third"]
    places = [rows.headings["one"], rows.slots["a"], rows.slots["b"], rows.headings["two"], rows.slots["c"]]
    assert places == sorted(places)
    assert places[-1] < rows.height
    _, (left, right) = panel_grid(2, margin=1.0, row=2.0)
    for axes in (left, right):
        draw_rows(axes, rows)
    assert [text.get_text().strip() for text in left.texts] == ["one", "two"]
    assert not right.texts


def test_names_have_the_same_look_in_any_order() -> None:
    looks = looks_by_name(["b", "a", "b"])
    assert looks == looks_by_name(["a", "b"])
    assert [look["color"] for look in looks.values()] == list(COLOURS[:2])


def test_a_score_without_a_value_says_why() -> None:
    row = {"score": float("nan"), "note": "one class in training", "n_failed": 1, "n_runs": 0, "seen": False, "q": 1.0}
    _, (axes,) = panel_grid(1, margin=1.0, row=2.0)
    draw_score(axes, row, pd.Series(dtype=float).to_numpy(), 0.5, {"color": "#123456"}, length=24)
    (text,) = axes.texts
    assert text.get_text() == "no value: one class in …"
    assert to_hex(text.get_color()) == "#123456"
    assert not axes.lines


def test_a_column_that_is_missing_is_named_with_its_rule() -> None:
    table = pd.DataFrame(columns=["a", "b"])
    check_columns(table, "scores", ["a"], rule="collect")
    with pytest.raises(ValueError, match="table scores: no column c, d among a, b; write it again with the rule `coll"):
        check_columns(table, "scores", ["a", "c", "d"], rule="collect")
