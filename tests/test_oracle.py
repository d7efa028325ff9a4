"""The oracle itself: the worked cases of the format page, in both directions, without the package."""

from __future__ import annotations

import ase.data
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden_cases
import oracle
import strategies


@pytest.mark.parametrize("case", golden_cases.CASES, ids=lambda c: c.name)
def test_golden_cases(case: golden_cases.Golden) -> None:
    tokenizer = case.tokenizer
    assert tokenizer.vocabulary.kind == case.vocabulary
    assert tokenizer.vocabulary.total_size == case.total_vocab_size
    assert tokenizer.shape_for(len(case.atomic_numbers)) == case.patch_shape
    row = tokenizer.encode(case.density, case.lattice, case.atomic_numbers, case.frac_coords, case.offset)
    assert row == case.tokens
    patch = tokenizer.decode(case.tokens)
    assert (patch.grid_shape, patch.patch_shape) == (case.grid_shape, case.patch_shape)
    assert patch.offset == (None if case.layout == "v3" else case.offset)
    # The worked cases hold float32 densities.
    np.testing.assert_array_equal(patch.density.astype(np.float32).ravel(), case.decoded_density)
    np.testing.assert_array_equal(patch.frac_coords, case.decoded_frac_coords)


def test_totals_of_the_format_page() -> None:
    v1 = oracle.Vocabulary("legacy", oracle.NAMED_LOG_CODECS["two_token_9_12"])
    assert v1.total_size == 6792
    bins = oracle.LloydMax(tuple(map(float, range(1, 16384))), tuple(map(float, range(16384))), 2e4)
    assert oracle.Vocabulary("lattice", bins).total_size == 18570
    sizes = {name: codec.sizes for name, codec in oracle.NAMED_LOG_CODECS.items()}
    assert sizes == {"tomol_3byte": (512, 256, 256), "two_token_9_12": (512, 4096), "fp16_1token": (65536,)}


def test_element_symbols() -> None:
    assert ase.data.chemical_symbols[1:] == oracle.SYMBOLS


@given(strategies.cases(most_offsets=1))
def test_a_row_decodes_to_what_was_encoded(case: strategies.Case) -> None:
    (row,), (offset,) = case.rows(), case.offsets
    assert len(row) == case.tokenizer.pad_to
    patch = case.tokenizer.decode(row)
    assert patch.grid_shape == case.grid
    assert patch.patch_shape == case.tokenizer.shape_for(len(case.atomic_numbers))
    assert patch.atomic_numbers == case.atomic_numbers
    assert patch.offset in (None, offset)
    if patch.lattice is not None:
        assert np.all(np.abs(patch.lattice - case.lattice) <= np.array([0.025] * 3 + [0.1] * 3) + 1e-9)


@given(st.data())
def test_a_mutated_row_is_refused_or_read(draw: st.DataObject) -> None:
    case = draw.draw(strategies.cases(most_offsets=1))
    row = draw.draw(strategies.mutated(case.rows()[0], case.tokenizer.vocabulary.total_size))
    try:
        case.tokenizer.decode(row)
    except oracle.SequenceError as error:
        assert "position" in str(error)  # noqa: PT017
