"""Codec files: round trips, the field's old files, damaged files, names."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import strategies
import tomat
from driver import package_codec

CODEC = oracle.LloydMax((0.25, 1.0, 7.5), (0.125, 0.5, 3.0, 20.0), 1500.0)
MEMBERS: dict[str, Any] = {
    "boundaries": np.array(CODEC.boundaries, dtype=np.float32),
    "recon_points": np.array(CODEC.recon_points, dtype=np.float32),
    "clip_max": np.float64(CODEC.clip_max),
}
PROBE = np.array([-1.0, 0.0, 0.2, 0.25, 0.3, 1.0, 7.4, 7.5, 9e9])


class Trap:
    """Unpickling this calls a function: a reader that does it fails the test."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_sprung, ())


def _sprung() -> None:
    raise AssertionError("an object array of a codec file was unpickled")


def same_codec(path: Path, codec: oracle.LloydMax = CODEC) -> None:
    loaded = tomat.LloydMaxCodec.load(str(path))
    assert loaded.encode(PROBE)[:, 0].tolist() == [codec.encode(float(v))[0] for v in PROBE]
    bins = np.arange(len(codec.recon_points))[:, None]
    assert loaded.decode(bins).tolist() == list(codec.recon_points)
    assert loaded.hash == package_codec(codec).hash


@given(codec=strategies.lloyd_max_codecs())
def test_save_and_load(tmp_path_factory: pytest.TempPathFactory, codec: oracle.LloydMax) -> None:
    path = tmp_path_factory.mktemp("codec") / "codec.npz"
    package = package_codec(codec)
    package.save(str(path))
    again = tomat.load_codec(str(path))
    assert again.hash == package.hash
    assert tuple(again.sizes) == tuple(package.sizes)
    with np.load(path, allow_pickle=False) as file:
        np.testing.assert_array_equal(file["boundaries"], np.array(codec.boundaries, dtype=np.float32))
        np.testing.assert_array_equal(file["recon_points"], np.array(codec.recon_points, dtype=np.float32))
        assert file["boundaries"].dtype == file["recon_points"].dtype == np.float32
        assert float(file["clip_max"]) == codec.clip_max
        assert all(file[name].dtype != object for name in file.files)


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        package_codec(CODEC).save(str(tmp_path / name))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("clip_max", [1500.0, np.float32(1500.0), np.int64(1500)])
def test_three_names_are_enough(tmp_path: Path, save: Any, clip_max: Any) -> None:
    save(tmp_path / "c.npz", **(MEMBERS | {"clip_max": clip_max}))
    same_codec(tmp_path / "c.npz")


def test_path_objects_work(tmp_path: Path) -> None:
    np.savez(tmp_path / "c.npz", **MEMBERS)
    assert tomat.load_codec(tmp_path / "c.npz").hash == package_codec(CODEC).hash


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_old_files_hold_more_and_are_never_unpickled(tmp_path: Path, save: Any) -> None:
    extra = {
        "n_bins": np.int64(4),
        "per_bin_count": np.arange(4),
        "recon_points_median": np.array(CODEC.recon_points, dtype=np.float32),
        "name": np.array("lmq-v2-16k"),
        "config": np.array(Trap(), dtype=object),
        "history": np.array([Trap(), None], dtype=object),
    }
    save(tmp_path / "old.npz", **extra, **MEMBERS)
    with (
        np.load(tmp_path / "old.npz", allow_pickle=True) as file,
        pytest.raises(AssertionError, match="unpickled"),
    ):
        _ = file["config"]  # the trap works
    same_codec(tmp_path / "old.npz")


@pytest.mark.parametrize("member", sorted(MEMBERS))
def test_a_needed_member_that_is_pickled_or_missing_is_refused(tmp_path: Path, member: str) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **{k: v for k, v in MEMBERS.items() if k != member})
    with pytest.raises(ValueError, match=r"bad\.npz") as missing:
        tomat.LloydMaxCodec.load(str(path))
    assert member in str(missing.value)
    np.savez(path, **(MEMBERS | {member: np.array([Trap()], dtype=object)}))
    with pytest.raises(ValueError, match=r"bad\.npz"):
        tomat.LloydMaxCodec.load(str(path))


def npz_bytes() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **MEMBERS)
    return buffer.getvalue()


@given(cut=st.integers(0, len(npz_bytes()) - 1))
def test_truncated_files_are_refused(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("codec") / "cut.npz"
    path.write_bytes(npz_bytes()[:cut])
    with pytest.raises((ValueError, OSError), match=r"cut\.npz"):
        tomat.LloydMaxCodec.load(str(path))


@given(at=st.integers(0, len(npz_bytes()) - 1), bit=st.integers(0, 7))
def test_flipped_bits_are_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    """A flip in a name, a length or the data is an error; in a time stamp it changes nothing."""
    path = tmp_path_factory.mktemp("codec") / "flip.npz"
    raw = bytearray(npz_bytes())
    raw[at] ^= 1 << bit
    path.write_bytes(raw)
    try:
        loaded = tomat.LloydMaxCodec.load(str(path))
    except (ValueError, OSError) as error:
        assert "flip.npz" in str(error)  # noqa: PT017
    else:
        assert loaded.hash == package_codec(CODEC).hash


def npy_with_header(header: str, body: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a zip file at all" * 10,
        pickle.dumps(Trap()),
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", b"\0" * 12),
    ],
    ids=["empty", "text", "pickle", "npy"],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.npz").write_bytes(content)
    for load in (tomat.LloydMaxCodec.load, tomat.load_codec):
        with pytest.raises((ValueError, OSError), match=r"other\.npz"):
            load(str(tmp_path / "other.npz"))


def test_a_directory_and_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises((ValueError, OSError), match=r"folder\.npz"):
        tomat.LloydMaxCodec.load(str(tmp_path / "folder.npz"))
    with pytest.raises(FileNotFoundError, match=r"nothing\.npz"):
        tomat.LloydMaxCodec.load(str(tmp_path / "nothing.npz"))


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(KeyError) as error:
        tomat.load_codec("lmq-17k")
    message = str(error.value)
    assert all(
        name in message for name in ("lmq-17k", "two_token_9_12", "tomol_3byte", "fp16_1token", "lmq-16k")
    )


@pytest.mark.parametrize("name", tomat.bundled_codecs())
def test_bundled_codecs(name: str) -> None:
    codec = tomat.LloydMaxCodec.load(name)
    n = codec.sizes[0]
    assert (
        n == {"1": 1024, "2": 2048, "4": 4096, "16": 16384, "32": 32768, "65": 65536}[name.split("-")[1][:-1]]
    )
    assert codec.unit == ("e_per_A3" if "e_per_A3" in name else "chgcar")
    bins = np.arange(n)[:, None]
    for values in (codec.recon_points_mean, codec.recon_points_median):
        assert values is not None
        assert np.all(np.diff(values) > 0)
        np.testing.assert_array_equal(codec.encode(values), bins)
    assert codec.about["points"] == "median"
    assert codec.recon_points_median is not None
    np.testing.assert_array_equal(codec.recon_points_median, codec.recon_points)


def test_bundled_names() -> None:
    sizes = ("1k", "2k", "4k", "16k", "65k")
    files = {f"l1-{size}{unit}" for size in sizes for unit in ("", "-e_per_A3", "-e_per_A3-1e4")}
    files.add("l1-32k-e_per_A3-1e4")
    assert set(tomat.bundled_codecs()) == files | {"lmq-16k"}
    assert tomat.load_codec("lmq-16k").hash == tomat.load_codec("l1-16k").hash
    assert tomat.PatchTokenizer("v3", "lmq-16k").vocabulary.total_size == 18570


def signed_codec() -> tomat.LloydMaxCodec:
    return tomat.LloydMaxCodec(
        np.array([-2.0, 0.0, 3.0], dtype=np.float32),
        np.array([-4.0, -1.0, 1.0, 5.0], dtype=np.float32),
        9.0,
        unit="e_per_A3",
        clip_min=-7.5,
        about={"points": "median", "method": "by hand"},
        recon_points_mean=np.array([-4.5, -1.5, 1.5, 5.5], dtype=np.float32),
        recon_points_median=np.array([-4.0, -1.0, 1.0, 5.0], dtype=np.float32),
    )


def test_a_signed_codec_comes_back_whole(tmp_path: Path) -> None:
    codec = signed_codec()
    codec.save(tmp_path / "signed.npz")
    loaded = tomat.LloydMaxCodec.load(tmp_path / "signed.npz")
    for again in (loaded, pickle.loads(pickle.dumps(codec))):
        assert again.hash == codec.hash
        assert (again.clip_min, again.clip_max, again.unit) == (-7.5, 9.0, "e_per_A3")
        assert again.about["method"] == "by hand"
        np.testing.assert_array_equal(again.recon_points_mean, codec.recon_points_mean)
        np.testing.assert_array_equal(again.recon_points_median, codec.recon_points)
        assert again.roundtrip([[-99.0, -2.0], [-0.5, 4.0]]).tolist() == [[-4.0, -1.0], [-1.0, 5.0]]


def test_members_are_written_where_needed_and_once(tmp_path: Path) -> None:
    def names(codec: tomat.LloydMaxCodec) -> set[str]:
        codec.save(tmp_path / "c.npz")
        with np.load(tmp_path / "c.npz", allow_pickle=False) as file:
            return set(file.files)

    always = {"boundaries", "recon_points", "clip_max", "unit", "about"}
    assert names(package_codec_lmq()) == always
    assert names(signed_codec()) == always | {"clip_min", "recon_points_mean"}
    assert names(tomat.LloydMaxCodec.load("l1-1k")) == always | {"recon_points_mean"}


def package_codec_lmq() -> tomat.LloydMaxCodec:
    codec = package_codec(CODEC)
    assert isinstance(codec, tomat.LloydMaxCodec)
    return codec


def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    about = np.frombuffer(b'{"format_version": 2}', dtype=np.uint8)
    np.savez(tmp_path / "later.npz", **MEMBERS, about=about)
    with pytest.raises(ValueError, match=r"later\.npz.*version 2"):
        tomat.load_codec(tmp_path / "later.npz")
    np.savez(tmp_path / "list.npz", **MEMBERS, about=np.frombuffer(b"[]", dtype=np.uint8))
    with pytest.raises(ValueError, match=r"list\.npz.*about"):
        tomat.load_codec(tmp_path / "list.npz")


def test_optional_members_of_old_files_may_be_anything(tmp_path: Path) -> None:
    odd: dict[str, Any] = {
        "clip_min": np.array([Trap()], dtype=object),
        "recon_points_mean": np.array(None, dtype=object),
    }
    np.savez(tmp_path / "odd.npz", **MEMBERS, **odd)
    same_codec(tmp_path / "odd.npz")
