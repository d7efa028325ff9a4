//! Promolecules: radial functions, their sums on a grid, and their fit.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use numpy::{
    PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArray3,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tomat_core::grid::{Crystal, Lattice, Unit};
use tomat_core::promolecule::fit::{Coefficients, Loss, NormalEquations as Equations, Penalty};
use tomat_core::promolecule::{self as core, RadialBasis, analytic};

use crate::errors::core_error;

/// One radial function an element.
#[pyclass(module = "tomat._core", frozen)]
pub(crate) struct Promolecule {
    inner: core::Promolecule,
}

impl Promolecule {
    pub(crate) const fn native(&self) -> &core::Promolecule {
        &self.inner
    }
}

#[pymethods]
impl Promolecule {
    /// Of cubic B-splines with coefficients (n_elements, n_splines).
    #[staticmethod]
    fn splines(
        cutoff: f64,
        inner: f64,
        atomic_numbers: Vec<u8>,
        coefficients: PyReadonlyArray2<'_, f64>,
    ) -> PyResult<Self> {
        let coefficients = coefficient_map(&atomic_numbers, &coefficients)?;
        let splines = coefficients.values().next().map_or(0, Vec::len);
        let basis = RadialBasis::new(cutoff, inner, splines).map_err(core_error)?;
        let radial = coefficients
            .iter()
            .map(|(&z, values)| Ok((z, basis.table(values)?)))
            .collect::<tomat_core::Result<BTreeMap<_, _>>>()
            .map_err(core_error)?;
        Ok(Self { inner: core::Promolecule::new(radial).map_err(core_error)? })
    }

    /// Of an analytic form, with so many electrons an element.
    #[staticmethod]
    fn analytic(form: &str, electrons: BTreeMap<u8, f64>) -> PyResult<Self> {
        let form: analytic::Form = form.parse().map_err(core_error)?;
        let radial = electrons
            .into_iter()
            .map(|(z, count)| Ok((z, analytic::radial_table(form, z, count)?)))
            .collect::<tomat_core::Result<BTreeMap<_, _>>>()
            .map_err(core_error)?;
        Ok(Self { inner: core::Promolecule::new(radial).map_err(core_error)? })
    }

    /// The functions of this one, and those of `other` for elements that this one lacks.
    fn or_else(&self, other: &Self) -> PyResult<Self> {
        let mut radial = other.inner.radial().clone();
        radial.extend(self.inner.radial().iter().map(|(&z, table)| (z, table.clone())));
        Ok(Self { inner: core::Promolecule::new(radial).map_err(core_error)? })
    }

    /// Density (nx, ny, nz) in electrons per cubic angstrom; not clipped unless asked.
    #[pyo3(signature = (lattice, atomic_numbers, frac_coords, grid_shape, *, electrons, clip))]
    #[allow(clippy::too_many_arguments)] // a crystal has its parts in Python
    fn evaluate<'py>(
        &self,
        py: Python<'py>,
        lattice: PyReadonlyArray2<'py, f64>,
        atomic_numbers: Vec<u8>,
        frac_coords: PyReadonlyArray2<'py, f64>,
        grid_shape: [usize; 3],
        electrons: Option<f64>,
        clip: bool,
    ) -> PyResult<Bound<'py, PyArray3<f64>>> {
        let crystal = crystal(&lattice, atomic_numbers, &frac_coords)?;
        let density = py
            .detach(|| {
                if clip {
                    self.inner.evaluate(&crystal, grid_shape, electrons)
                } else {
                    self.inner.sum(&crystal, grid_shape)
                }
            })
            .map_err(core_error)?;
        PyArray1::from_vec(py, density).reshape(grid_shape)
    }

    /// The voxels (px, py, pz) of a patch of `evaluate`, clipped and not scaled.
    #[allow(clippy::too_many_arguments)] // a crystal has its parts in Python
    fn evaluate_patch<'py>(
        &self,
        py: Python<'py>,
        lattice: PyReadonlyArray2<'py, f64>,
        atomic_numbers: Vec<u8>,
        frac_coords: PyReadonlyArray2<'py, f64>,
        grid_shape: [usize; 3],
        offset: [usize; 3],
        patch_shape: [usize; 3],
    ) -> PyResult<Bound<'py, PyArray3<f64>>> {
        let crystal = crystal(&lattice, atomic_numbers, &frac_coords)?;
        let density = py
            .detach(|| self.inner.evaluate_patch(&crystal, grid_shape, offset, patch_shape))
            .map_err(core_error)?;
        PyArray1::from_vec(py, density).reshape(patch_shape)
    }

    /// The radial function of an element at distances in angstrom, electrons per cubic angstrom.
    fn radial<'py>(
        &self,
        py: Python<'py>,
        atomic_number: u8,
        distances: PyReadonlyArray1<'py, f64>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let table = self.inner.radial().get(&atomic_number).ok_or_else(|| {
            PyValueError::new_err(format!("the promolecule has no radial function for Z = {atomic_number}"))
        })?;
        let values: Vec<f64> = distances.as_slice()?.iter().map(|&r| table.value(r.abs())).collect();
        Ok(PyArray1::from_vec(py, values))
    }

    /// `{atomic number: electrons}`, the integrals of the radial functions.
    #[getter]
    fn electrons(&self) -> BTreeMap<u8, f64> {
        self.inner.radial().iter().map(|(&z, table)| (z, table.electrons())).collect()
    }
}

/// Valence electrons of an element outside its noble-gas core.
#[pyfunction]
pub(crate) fn valence_electrons(atomic_number: u8) -> PyResult<u8> {
    analytic::valence_electrons(atomic_number).map_err(core_error)
}

/// Sums of normal equations; threads may add to one at the same time.
#[pyclass(module = "tomat._core", frozen)]
pub(crate) struct NormalEquations {
    basis: RadialBasis,
    sums: Mutex<Equations>,
}

impl NormalEquations {
    /// A panic elsewhere leaves the sums as they were before it or after it, not in between.
    fn sums(&self) -> std::sync::MutexGuard<'_, Equations> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl NormalEquations {
    #[new]
    fn new(cutoff: f64, inner: f64, splines: usize) -> PyResult<Self> {
        let basis = RadialBasis::new(cutoff, inner, splines).map_err(core_error)?;
        Ok(Self { sums: Mutex::new(Equations::new(basis.clone())), basis })
    }

    /// Adds a density (nx, ny, nz). `loss` is `squared`, `relative`, or `absolute` with the coefficients of the step
    /// before.
    #[pyo3(signature = (density, unit, lattice, atomic_numbers, frac_coords, *, loss, floor, previous=None))]
    #[allow(clippy::too_many_arguments)] // a crystal has its parts in Python
    fn add<'py>(
        &self,
        py: Python<'py>,
        density: PyReadonlyArray3<'py, f32>,
        unit: &str,
        lattice: PyReadonlyArray2<'py, f64>,
        atomic_numbers: Vec<u8>,
        frac_coords: PyReadonlyArray2<'py, f64>,
        loss: &str,
        floor: f64,
        previous: Option<(Vec<u8>, PyReadonlyArray2<'py, f64>)>,
    ) -> PyResult<()> {
        let unit: Unit = unit.parse().map_err(core_error)?;
        let crystal = crystal(&lattice, atomic_numbers, &frac_coords)?;
        let previous = previous.map(|(z, values)| coefficient_map(&z, &values)).transpose()?;
        let loss = match (loss, &previous) {
            ("squared", _) => Loss::Squared,
            ("relative", _) => Loss::Relative { floor },
            ("absolute", Some(previous)) => Loss::Absolute { floor, previous },
            _ => return Err(PyValueError::new_err(format!("unknown loss {loss:?}, or no step before it"))),
        };
        let (nx, ny, nz) = density.as_array().dim();
        let values = density.as_slice()?;
        py.detach(|| {
            let mut part = Equations::new(self.basis.clone());
            part.add(&crystal, [nx, ny, nz], values, unit, loss)?;
            self.sums().merge(&part)
        })
        .map_err(core_error)
    }

    /// Adds the sums of another.
    fn merge(&self, other: &Self) -> PyResult<()> {
        let part = other.sums().clone();
        self.sums().merge(&part).map_err(core_error)
    }

    /// Atomic numbers and coefficients (n_elements, n_splines).
    #[pyo3(signature = (*, ridge, smooth, electrons))]
    fn solve<'py>(
        &self,
        py: Python<'py>,
        ridge: f64,
        smooth: f64,
        electrons: BTreeMap<u8, f64>,
    ) -> PyResult<(Vec<u32>, Bound<'py, PyArray2<f64>>)> {
        let coefficients =
            py.detach(|| self.sums().solve(Penalty { ridge, smooth }, &electrons)).map_err(core_error)?;
        let shape = [coefficients.len(), self.basis.len()];
        let flat: Vec<f64> = coefficients.values().flatten().copied().collect();
        // Not u8: PyO3 makes bytes of those.
        let numbers = coefficients.into_keys().map(u32::from).collect();
        Ok((numbers, PyArray1::from_vec(py, flat).reshape(shape)?))
    }

    #[getter]
    fn materials(&self) -> u64 {
        self.sums().materials()
    }

    #[getter]
    fn voxels(&self) -> u64 {
        self.sums().voxels()
    }
}

fn coefficient_map(atomic_numbers: &[u8], values: &PyReadonlyArray2<'_, f64>) -> PyResult<Coefficients> {
    let view = values.as_array();
    if view.nrows() != atomic_numbers.len() {
        return Err(PyValueError::new_err(format!(
            "{} atomic numbers but {} rows of coefficients; one row an element is needed",
            atomic_numbers.len(),
            view.nrows()
        )));
    }
    let map: Coefficients =
        atomic_numbers.iter().zip(view.rows()).map(|(&z, row)| (z, row.iter().copied().collect())).collect();
    if map.len() != atomic_numbers.len() {
        return Err(PyValueError::new_err("an element has two rows of coefficients"));
    }
    Ok(map)
}

pub(crate) fn crystal(
    lattice: &PyReadonlyArray2<'_, f64>,
    atomic_numbers: Vec<u8>,
    frac_coords: &PyReadonlyArray2<'_, f64>,
) -> PyResult<Crystal> {
    let rows = triples(lattice, "the lattice")?;
    let matrix = <[[f64; 3]; 3]>::try_from(rows).map_err(|rows| {
        PyValueError::new_err(format!(
            "the lattice has {} rows; give (3, 3) rows a, b, c in angstrom",
            rows.len()
        ))
    })?;
    let lattice = Lattice::from_matrix(matrix).map_err(core_error)?;
    Crystal::new(lattice, atomic_numbers, triples(frac_coords, "frac_coords")?).map_err(core_error)
}

pub(crate) fn triples(array: &PyReadonlyArray2<'_, f64>, name: &str) -> PyResult<Vec<[f64; 3]>> {
    let view = array.as_array();
    if view.ncols() != 3 {
        return Err(PyValueError::new_err(format!("{name} has {} columns; give (n, 3)", view.ncols())));
    }
    Ok(view.rows().into_iter().map(|row| [row[0], row[1], row[2]]).collect())
}
