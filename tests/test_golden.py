"""The worked cases of the format page through the package, in both directions."""

from __future__ import annotations

import numpy as np
import pytest

import golden_cases
import oracle
import tomat
from driver import package_codec, package_tokenizer, same_patch

golden = pytest.mark.parametrize("case", golden_cases.CASES, ids=lambda c: c.name)


@golden
def test_encode(case: golden_cases.Golden) -> None:
    tokenizer = package_tokenizer(case.tokenizer)
    rows = tokenizer.encode(
        case.density,
        case.lattice,
        np.array(case.atomic_numbers),
        np.array(case.frac_coords),
        np.array([case.offset]),
    )
    assert rows.dtype == np.int32
    assert rows.tolist() == [case.tokens]


@pytest.mark.parametrize(
    "case", [c for c in golden_cases.CASES if c.patch_shape == c.tokenizer.cube], ids=lambda c: c.name
)
def test_encode_into_a_longer_row(case: golden_cases.Golden) -> None:
    tokenizer = tomat.PatchTokenizer(
        case.layout, package_codec(case.tokenizer.codec), patch_size=case.tokenizer.patch_size
    )
    rows = tokenizer.encode(
        case.density,
        case.lattice,
        np.array(case.atomic_numbers),
        np.array(case.frac_coords),
        np.array([case.offset]),
    )
    assert rows.shape == (1, 8192)
    assert rows[0].tolist() == case.tokens + [0] * (8192 - len(case.tokens))


@golden
def test_decode(case: golden_cases.Golden) -> None:
    patch = package_tokenizer(case.tokenizer).decode(np.array(case.tokens, dtype=np.int32))
    np.testing.assert_array_equal(patch.density.astype(np.float32).ravel(), case.decoded_density)
    np.testing.assert_allclose(patch.frac_coords, case.decoded_frac_coords, rtol=4e-15, atol=0)
    same_patch(patch, case.tokenizer.decode(case.tokens))


@golden
def test_vocabulary(case: golden_cases.Golden) -> None:
    vocabulary = package_tokenizer(case.tokenizer).vocabulary
    expected = case.tokenizer.vocabulary
    assert vocabulary.kind == case.vocabulary
    assert vocabulary.total_size == case.total_vocab_size
    assert dict(vocabulary.specials) == expected.specials
    assert tuple(vocabulary.density_range) == (expected.starts["density"], expected.total_size)
    assert [vocabulary.name(i) for i in range(expected.total_size)] == [
        expected.name(i) for i in range(expected.total_size)
    ]
    for outside in (-1, expected.total_size, 2**31 - 1):
        with pytest.raises(IndexError, match=str(outside)):
            vocabulary.name(outside)


@golden
def test_show(case: golden_cases.Golden) -> None:
    shown = package_tokenizer(case.tokenizer).show(np.array(case.tokens, dtype=np.int32))
    assert list(shown) == [case.tokenizer.vocabulary.name(i) for i in case.tokens]


@pytest.mark.parametrize("name", sorted(oracle.NAMED_LOG_CODECS))
def test_log_codecs_by_name(name: str) -> None:
    codec, expected = tomat.load_codec(name), oracle.NAMED_LOG_CODECS[name]
    assert tuple(codec.sizes) == expected.sizes
    values = np.array([0.0, -0.25, 1e-16, 3.3, 9e4, 1e9, -1e-3], dtype=np.float32)
    assert codec.encode(values).tolist() == [list(expected.encode(float(v))) for v in values]


def test_vocabulary_hash_tells_vocabularies_apart() -> None:
    hashes = {
        (layout, name): tomat.PatchTokenizer(layout, tomat.load_codec(name)).vocabulary.hash
        for layout in oracle.LAYOUTS
        for name in ("two_token_9_12", "tomol_3byte", "fp16_1token", "lmq-16k")
    }
    for layout, name in hashes:
        kind = oracle.LAYOUTS[layout].vocabulary
        others = [other for other, row in oracle.LAYOUTS.items() if row.vocabulary == kind]
        assert len({hashes[other, name] for other in others}) == 1
    assert len(set(hashes.values())) == 8
    assert all(len(h) == 64 and int(h, 16) >= 0 for h in hashes.values())
