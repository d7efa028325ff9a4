//! Files: densities read into arrays.

use std::collections::BTreeMap;
use std::path::Path;

use numpy::{PyArray1, PyArray2, PyArray3, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict};
use tomat_core::grid::{Crystal, Unit};
use tomat_io::{Material, SourceFacts};

use crate::errors::io_error;

/// What a reader returns; `tomat.Material` is made of it.
#[pyclass(module = "tomat._core", frozen)]
pub(crate) struct RawMaterial {
    task_id: String,
    crystal: Crystal,
    source: SourceFacts,
    unit: Unit,
    density: Py<PyArray3<f32>>,
}

impl RawMaterial {
    fn new(py: Python<'_>, material: Material) -> PyResult<Self> {
        let Material { task_id, density, crystal, source } = material;
        let (shape, unit) = (density.shape(), density.unit());
        // NumPy takes the values over where they are.
        let density = PyArray1::from_vec(py, density.into_values()).reshape(shape)?.unbind();
        Ok(Self { task_id, crystal, source, unit, density })
    }
}

#[pymethods]
impl RawMaterial {
    #[getter]
    fn task_id(&self) -> &str {
        &self.task_id
    }

    #[getter]
    fn unit(&self) -> &'static str {
        self.unit.name()
    }

    #[getter]
    fn density<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray3<f32>> {
        self.density.bind(py).clone()
    }

    #[getter]
    fn lattice<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        matrix(py, self.crystal.lattice.matrix())
    }

    #[getter]
    fn atomic_numbers<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i32>> {
        PyArray1::from_iter(py, self.crystal.atomic_numbers.iter().map(|&z| i32::from(z)))
    }

    #[getter]
    fn frac_coords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        matrix(py, &self.crystal.frac_coords)
    }

    #[getter]
    fn source<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let facts = &self.source;
        let dict = PyDict::new(py);
        dict.set_item("format", facts.format)?;
        dict.set_item("has_spin", facts.has_spin)?;
        dict.set_item("non_collinear", facts.non_collinear)?;
        dict.set_item("has_augmentation", facts.has_augmentation)?;
        Ok(dict)
    }
}

fn matrix<'py>(py: Python<'py>, rows: &[[f64; 3]]) -> PyResult<Bound<'py, PyArray2<f64>>> {
    PyArray1::from_iter(py, rows.iter().flatten().copied()).reshape([rows.len(), 3])
}

/// Reads a local file or folder.
#[pyfunction]
pub(crate) fn read(py: Python<'_>, path: &str) -> PyResult<RawMaterial> {
    let inner = py.detach(|| tomat_io::read(Path::new(path))).map_err(|error| io_error(error, path))?;
    RawMaterial::new(py, inner)
}

/// Reads a text format from memory; errors call it `source`.
#[pyfunction]
pub(crate) fn read_bytes(py: Python<'_>, data: PyBackedBytes, source: &str) -> PyResult<RawMaterial> {
    let inner =
        py.detach(|| tomat_io::read_bytes(source, &data[..])).map_err(|error| io_error(error, source))?;
    RawMaterial::new(py, inner)
}

/// Reads a Zarr group from the content of its files, by their name in it; errors call it `source`.
#[pyfunction]
pub(crate) fn read_group(py: Python<'_>, files: &Bound<'_, PyDict>, source: &str) -> PyResult<RawMaterial> {
    let files = group_files(files)?;
    let inner = py
        .detach(|| tomat_io::zarr::read_fetched(source, &files))
        .map_err(|error| io_error(error, source))?;
    RawMaterial::new(py, inner)
}

/// The bytes of a Zarr chunk: zstd with its checksum, and crc32c around it.
#[pyfunction]
pub(crate) fn zarr_chunk<'py>(py: Python<'py>, values: &[u8], level: i32) -> PyResult<Bound<'py, PyBytes>> {
    let encoded =
        py.detach(|| tomat_io::zarr::encode_chunk(values, level)).map_err(|error| io_error(error, ""))?;
    Ok(PyBytes::new(py, &encoded))
}

/// A dict of bytes by name, which stay where Python has them.
pub(crate) fn group_files(files: &Bound<'_, PyDict>) -> PyResult<BTreeMap<String, PyBackedBytes>> {
    let content =
        |value: Bound<'_, PyAny>| -> PyResult<PyBackedBytes> { Ok(value.cast_into::<PyBytes>()?.into()) };
    files.iter().map(|(name, value)| Ok((name.extract()?, content(value)?))).collect()
}

/// The name a file's material goes by.
#[pyfunction]
pub(crate) fn task_id(path: &str) -> String {
    tomat_io::task_id(Path::new(path))
}

type StructureArrays<'py> = (Bound<'py, PyArray2<f64>>, Bound<'py, PyArray1<i32>>, Bound<'py, PyArray2<f64>>);

/// Lattice matrix, atomic numbers and fractional coordinates of a pymatgen Structure dict in JSON.
#[pyfunction]
pub(crate) fn parse_structure<'py>(
    py: Python<'py>,
    text: &str,
    source: &str,
) -> PyResult<StructureArrays<'py>> {
    let Crystal { lattice, atomic_numbers, frac_coords } = tomat_io::structure::crystal_from_json(text)
        .map_err(|problem| PyValueError::new_err(format!("{source}: {problem}")))?;
    Ok((
        matrix(py, lattice.matrix())?,
        PyArray1::from_iter(py, atomic_numbers.iter().map(|&z| i32::from(z))),
        matrix(py, &frac_coords)?,
    ))
}
