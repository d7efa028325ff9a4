"""charge-density.hdf5: two by pw.x 6.7 built with HDF5, against the charge-density.dat of the same runs."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import tomat
from flips import positions, turned
from tomat.formats.qe import charge, hdf5, schema

h5py = pytest.importorskip("h5py")
RUNS = ("Si", "LiH")


def recorded(data: Path, name: str) -> bytes:
    return (data / "qe" / f"{name}.{hdf5.NAME}").read_bytes()


@pytest.fixture
def folder(data: Path, tmp_path: Path) -> Path:
    """A save folder of silicon by a pw.x with HDF5."""
    made = tmp_path / "Si.save"
    made.mkdir()
    shutil.copy(data / "qe" / "Si.save" / schema.NAME, made)
    (made / hdf5.NAME).write_bytes(recorded(data, "Si"))
    return made


@pytest.mark.parametrize("name", RUNS)
def test_it_holds_what_the_other_form_holds(data: Path, name: str) -> None:
    """Two builds of pw.x on one input: the same G vectors, and densities equal as far as the runs converged."""
    found = hdf5.parse(recorded(data, name), name)
    other = charge.parse((data / "qe" / f"{name}.save" / charge.NAME).read_bytes(), name)
    assert found.gamma_only is other.gamma_only is (name == "LiH")
    np.testing.assert_array_equal(found.miller, other.miller)
    np.testing.assert_allclose(found.reciprocal, other.reciprocal, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.values, other.values, rtol=0, atol=2e-6 * abs(other.values[0]))


@pytest.mark.parametrize("name", RUNS)
def test_what_is_written_has_the_layout_of_pw(data: Path, name: str) -> None:
    """Names, types, shapes and values, to the last bit."""
    found = hdf5.parse(recorded(data, name), name)
    written = hdf5.dump(found)
    assert written == hdf5.dump(found)

    def layout(content: bytes) -> dict[str, object]:
        with h5py.File(io.BytesIO(content), "r") as file:
            what: dict[str, object] = {}
            for key, one in [("/", file), *file.items()]:
                for attribute in one.attrs:
                    kind = one.attrs.get_id(attribute).dtype
                    what[f"{key}@{attribute}"] = (str(kind), np.asarray(one.attrs[attribute]).tolist())
                if key != "/":
                    what[key] = (str(one.dtype), one.shape, one[()].tolist())
            return what

    assert layout(written) == layout(recorded(data, name))


def test_a_folder_is_read_and_written_again(folder: Path, data: Path, tmp_path: Path) -> None:
    found = tomat.read(folder)
    expected = tomat.read(data / "qe" / "Si.save")
    assert (found.task_id, found.unit, found.grid_shape) == ("Si", "e_per_A3", expected.grid_shape)
    np.testing.assert_allclose(found.density, expected.density, atol=1e-5)
    assert found.source["hdf5"] is True
    found.write(tmp_path / "again.save")
    assert sorted(path.name for path in (tmp_path / "again.save").iterdir()) == [hdf5.NAME, schema.NAME]
    again = hdf5.parse((tmp_path / "again.save" / hdf5.NAME).read_bytes(), "again")
    before = hdf5.parse(recorded(data, "Si"), "Si")
    np.testing.assert_allclose(again.values, before.values, rtol=0, atol=1e-7 * abs(before.values[0]))
    expected.with_source(hdf5=True).write(tmp_path / "other.save")
    np.testing.assert_allclose(tomat.read(tmp_path / "other.save").density, expected.density, atol=1e-5)


def test_two_densities_in_a_folder_are_refused(folder: Path, data: Path) -> None:
    shutil.copy(data / "qe" / "Si.save" / charge.NAME, folder)
    with pytest.raises(ValueError, match=r"Si\.save: both charge-density\.dat and charge-density\.hdf5"):
        tomat.read(folder)


def test_what_to_install_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        ValueError, match=r"charge-density\.hdf5: HDF5 needs h5py: pip install 'tomat\[hdf5\]'"
    ):
        tomat.read(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("gamma_only", np.bytes_("maybe"), "gamma_only is 'maybe'"),
        ("gamma_only", np.bytes_(".TRUE."), "lists both G and -G"),
        ("ngm_g", np.int32(1470), r"rhotot_g is float64 \(2942,\).*\(2940,\)"),
        ("ngm_g", np.int32(0), "ngm_g is 0"),
        ("ngm_g", np.int32(2**31 - 1), "ngm_g is 2147483647"),
        ("nspin", np.int32(3), "nspin 3"),
        ("nspin", np.int32(2), "2 spin components, where the run .* has 1"),
        ("nspin", np.float64(1), "nspin is no whole number"),
    ],
)
def test_a_wrong_header_is_named(folder: Path, key: str, value: object, message: str) -> None:
    with h5py.File(folder / hdf5.NAME, "r+") as file:
        del file.attrs[key]
        file.attrs[key] = value
    with pytest.raises(ValueError, match=rf"Si\.save/charge-density\.hdf5: .*{message}"):
        tomat.read(folder)


def test_what_is_missing_is_named(folder: Path) -> None:
    with h5py.File(folder / hdf5.NAME, "r+") as file:
        del file["rhotot_g"]
    with pytest.raises(ValueError, match=r"charge-density\.hdf5: .*rhotot_g"):
        tomat.read(folder)


def test_a_file_cut_off_is_named(folder: Path, data: Path) -> None:
    content = recorded(data, "Si")
    for size in (0, 7, 8, 90, 2000, 20000, len(content) - 1):
        (folder / hdf5.NAME).write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"charge-density\.hdf5: "):
            tomat.read(folder)


def test_turned_bits_are_refused_or_harmless(folder: Path, data: Path) -> None:
    """As in the other form: rho(G) and rho(-G) witness for each other; HDF5 says no more than that it is damaged."""
    content, before = recorded(data, "Si"), tomat.read(folder).density
    refused = 0
    for bit, raw in turned(content, positions(len(content), 200)):
        (folder / hdf5.NAME).write_bytes(raw)
        try:
            found = tomat.read(folder).density
        except ValueError as error:
            assert hdf5.NAME in str(error)  # noqa: PT017
            refused += 1
            continue
        assert np.abs(found - before).max() <= 1e-3 * before.mean(), f"bit {bit}"
    assert refused > 100
