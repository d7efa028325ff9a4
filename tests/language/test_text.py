"""Crystals as text: there and back, in any frame; nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import SPECIAL_COORDINATES
from tomat import _core
from tomat.crystal import Crystal
from tomat.language import text

coordinates = st.sampled_from(SPECIAL_COORDINATES) | st.floats(-3, 3)
frames = st.tuples(*[st.integers(0, 99)] * 3)

PEROVSKITE = Crystal.from_parameters(
    [3.905] * 3 + [90.0] * 3,
    [38, 22, 8, 8, 8],
    [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.999]],
    "SrTiO3",
)
WRITTEN = """\
3.9 3.9 3.9
90 90 90
Sr
0.01 0.00 0.00
Ti
0.51 0.50 0.50
O
0.51 0.50 0.00
O
0.51 0.00 0.50
O
0.01 0.50 0.00"""


@st.composite
def crystals(draw: st.DrawFn) -> Crystal:
    """Crystals whose cell exists, to whole degrees too."""
    parameters = [draw(st.floats(0.5, 100.0)) for _ in range(3)] + [
        draw(st.floats(62, 115)) for _ in range(3)
    ]
    n = draw(st.integers(1, 8))
    numbers = [draw(st.integers(1, 118)) for _ in range(n)]
    return Crystal.from_parameters(
        parameters, numbers, [[draw(coordinates) for _ in range(3)] for _ in range(n)]
    )


def test_a_crystal_in_words() -> None:
    assert text.write_text(PEROVSKITE, frame=(1, 0, 0)) == WRITTEN


@given(crystals(), frames)
def test_there_and_back(crystal: Crystal, frame: tuple[int, int, int]) -> None:
    written = text.write_text(crystal, frame=frame)
    again = text.read_text(written)
    assert text.write_text(again) == written
    np.testing.assert_array_equal(again.atomic_numbers, crystal.atomic_numbers)
    gap = again.frac_coords - crystal.frac_coords - np.array(frame) / 100
    assert np.abs(gap - np.round(gap)).max() <= 0.005 + 1e-9
    cells = np.array([_core.lattice_parameters(one.lattice) for one in (crystal, again)])
    assert (np.abs(cells[1] - cells[0]) <= [0.0501] * 3 + [0.501] * 3).all()
    back = text.write_text(again, frame=[(100 - step) % 100 for step in frame])
    assert back == text.write_text(crystal)


@given(st.data())
def test_a_changed_line_is_another_crystal_or_an_error(data: st.DataObject) -> None:
    lines = WRITTEN.split("\n")
    at = data.draw(st.integers(0, len(lines) - 1))
    lines[at] = data.draw(
        st.sampled_from([*lines, "", "Xx", "1.00 0.00 0.00", "90 90 180", "3.9 3.9", " Sr"])
    )
    changed = "\n".join(lines)
    try:
        read = text.read_text(changed)
    except ValueError as error:
        assert "line" in str(error)  # noqa: PT017 (a changed line may be right as well)
    else:
        assert text.write_text(read) == changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: "", "line 1: expected three lengths such as 3.9 3.9 12.0, found ''"),
        (lambda t: t.replace("3.9 3.9 3.9", "3.90 3.9 3.9"), "line 1: expected three lengths"),
        (lambda t: t.replace("3.9 3.9 3.9", "0.0 3.9 3.9"), "line 1: expected lengths above 0"),
        (lambda t: t.replace("90 90 90", "90 90 180"), "line 2: expected angles between 0 and 180"),
        (lambda t: t.replace("90 90 90", "20 20 90"), "no cell has them"),
        (lambda t: t.replace("Ti", "[MASK]"), "line 5: expected an element, found '\\[MASK\\]'"),
        (lambda t: t.replace("0.51 0.50 0.50", "1.00 0.50 0.50"), "line 6: expected three coordinates"),
        (lambda t: t + "\n", None),
        (lambda t: t + "\n\n", "line 13: expected an element, found ''"),
        (lambda t: t + "\nO", "line 14: expected three coordinates .*, found the end of the text"),
        (lambda t: "\n".join(t.split("\n")[:2]), "line 3: expected an element, found the end of the text"),
        (lambda t: t.replace("3.9 3.9 3.9", "\u0663.9 3.9 3.9"), "line 1: expected three lengths"),
    ],
)
def test_only_such_texts_are_read(change: object, message: str | None) -> None:
    changed = change(WRITTEN)  # type: ignore[operator]
    if message is None:
        assert text.write_text(text.read_text(changed)) == WRITTEN
    else:
        with pytest.raises(ValueError, match=message):
            text.read_text(changed, "it")


def test_prompts() -> None:
    plain = text.generate(PEROVSKITE, (1, 0, 0))
    assert plain.prompt.startswith(
        "Below is a description of a bulk material. Generate a description of the lengths"
    )
    assert plain.prompt.endswith("within the lattice:\n")
    assert plain.response == WRITTEN
    held = text.condition(PEROVSKITE, {"chemical formula": "SrTiO3", "band_gap": 1.23456})
    assert "material. The chemical formula is SrTiO3. The band gap is 1.235. Generate" in held.prompt
    with pytest.raises(ValueError, match="no conditions"):
        text.condition(PEROVSKITE, {})
    asked = text.infill(PEROVSKITE, 8, (1, 0, 0))
    assert WRITTEN.replace("O\n", "[MASK]\n") in asked.prompt
    assert asked.prompt.endswith("Generate an element that could replace [MASK] in the bulk material:\n")
    assert asked.response == "O"
    with pytest.raises(ValueError, match="no atom has the atomic number 9"):
        text.infill(PEROVSKITE, 9)


def test_what_cannot_be_written_is_refused() -> None:
    short = Crystal.from_parameters([0.04, 3.0, 3.0, 90.0, 90.0, 90.0], [1], [[0.0, 0.0, 0.0]], "short")
    with pytest.raises(ValueError, match=r"short: the cell .* cannot be written to 0\.1 angstrom"):
        text.write_text(short)
