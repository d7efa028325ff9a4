"""From the oracle's objects to the package's, so that a test states a case once and runs both."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import oracle
import tomat
from strategies import Case


def package_codec(codec: oracle.Codec) -> tomat.LogCodec | tomat.LloydMaxCodec:
    """The package's codec with the parameters of the oracle's."""
    if isinstance(codec, oracle.Log):
        return tomat.LogCodec(codec.log_min, codec.log_max, codec.bits)
    boundaries, points = (np.array(x, dtype=np.float32) for x in (codec.boundaries, codec.recon_points))
    return tomat.LloydMaxCodec(boundaries, points, codec.clip_max)


def package_tokenizer(tokenizer: oracle.Tokenizer) -> tomat.PatchTokenizer:
    """The package's tokenizer with the parameters of the oracle's."""
    return tomat.PatchTokenizer(
        tokenizer.layout,
        package_codec(tokenizer.codec),
        patch_size=tokenizer.patch_size,
        pad_to=tokenizer.pad_to,
        fallback_shapes=tokenizer.fallback_shapes,
    )


def package_rows(case: Case, offsets: ArrayLike | None = None) -> NDArray[np.int32]:
    """The package's rows of a case."""
    return package_tokenizer(case.tokenizer).encode(
        case.density,
        case.lattice,
        np.array(case.atomic_numbers),
        np.array(case.frac_coords, dtype=np.float64).reshape(-1, 3),
        np.array(case.offsets if offsets is None else offsets),
    )


def close_in_last_bits(got: NDArray[Any], expected: NDArray[Any]) -> None:
    """Equal up to a few units in the last place: powers of ten may be one unit off between C libraries."""
    np.testing.assert_allclose(got, expected, rtol=1e-15 * 4, atol=0.0)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))


def same_patch(got: tomat.Patch, expected: oracle.Patch) -> None:
    """Every attribute of a decoded patch."""
    assert tuple(got.grid_shape) == expected.grid_shape
    assert tuple(got.patch_shape) == expected.patch_shape
    assert (None if got.offset is None else tuple(got.offset)) == expected.offset
    assert list(got.atomic_numbers) == expected.atomic_numbers
    if expected.lattice is None:
        assert got.lattice is None
    else:
        assert got.lattice is not None
        np.testing.assert_allclose(got.lattice, expected.lattice, rtol=1e-15 * 4)
    assert got.frac_coords.shape == expected.frac_coords.shape
    close_in_last_bits(got.frac_coords, expected.frac_coords)
    assert got.density.dtype == np.float64
    assert got.density.shape == expected.patch_shape
    close_in_last_bits(got.density, expected.density)
