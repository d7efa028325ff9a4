//! Sums over the surroundings of points.

use numpy::{
    PyArray1, PyArray2, PyArray4, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArray3,
};
use pyo3::prelude::*;
use tomat_core::environment::{self as core, Channels, Densities, angular_count};

use crate::errors::core_error;
use crate::promolecule::{Promolecule, crystal, triples};

/// Radial and angular functions around atoms.
#[pyclass(module = "tomat._core", frozen)]
pub(crate) struct EnvironmentBasis {
    inner: core::Basis,
    l_max: usize,
}

#[pymethods]
impl EnvironmentBasis {
    #[new]
    #[pyo3(signature = (cutoff, inner, radial, l_max, core, reach=1.0))]
    fn new(cutoff: f64, inner: f64, radial: usize, l_max: usize, core: f64, reach: f64) -> PyResult<Self> {
        Ok(Self {
            inner: core::Basis::new(cutoff, inner, radial, l_max, core, reach).map_err(core_error)?,
            l_max,
        })
    }

    /// Sums (sites, points, radial, angular) for each atom apart; points (n, 3) are fractional.
    #[pyo3(signature = (lattice, atomic_numbers, frac_coords, points, promolecule=None, factors=None, scales=None))]
    #[allow(clippy::too_many_arguments)] // a crystal has its parts in Python
    fn by_site<'py>(
        &self,
        py: Python<'py>,
        lattice: PyReadonlyArray2<'py, f64>,
        atomic_numbers: Vec<u8>,
        frac_coords: PyReadonlyArray2<'py, f64>,
        points: PyReadonlyArray2<'py, f64>,
        promolecule: Option<&Promolecule>,
        factors: Option<PyReadonlyArray1<'py, f32>>,
        scales: Option<Vec<f64>>,
    ) -> PyResult<Bound<'py, PyArray4<f32>>> {
        let crystal = crystal(&lattice, atomic_numbers, &frac_coords)?;
        let points = triples(&points, "points")?;
        let factors = factors.as_ref().map(PyReadonlyArray1::as_slice).transpose()?;
        let densities =
            promolecule.map(|p| Densities { promolecule: p.native(), factors: factors.unwrap_or_default() });
        let sums = py
            .detach(|| self.inner.by_site(&crystal, &points, densities, scales.as_deref()))
            .map_err(core_error)?;
        let shape = [
            crystal.frac_coords.len(),
            points.len(),
            self.inner.radial_count(densities.is_some()),
            angular_count(self.l_max),
        ];
        PyArray1::from_vec(py, sums).reshape(shape)
    }

    /// Sums (points, width) with the weights (sites, radial, channels) of each atom.
    #[pyo3(signature = (lattice, atomic_numbers, frac_coords, points, weights, channels, promolecule=None, factors=None, scales=None))]
    #[allow(clippy::too_many_arguments)] // a crystal has its parts in Python
    fn contracted<'py>(
        &self,
        py: Python<'py>,
        lattice: PyReadonlyArray2<'py, f64>,
        atomic_numbers: Vec<u8>,
        frac_coords: PyReadonlyArray2<'py, f64>,
        points: PyReadonlyArray2<'py, f64>,
        weights: PyReadonlyArray3<'py, f32>,
        channels: Vec<usize>,
        promolecule: Option<&Promolecule>,
        factors: Option<PyReadonlyArray1<'py, f32>>,
        scales: Option<Vec<f64>>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let crystal = crystal(&lattice, atomic_numbers, &frac_coords)?;
        let points = triples(&points, "points")?;
        let factors = factors.as_ref().map(PyReadonlyArray1::as_slice).transpose()?;
        let densities =
            promolecule.map(|p| Densities { promolecule: p.native(), factors: factors.unwrap_or_default() });
        let channels = Channels { channels: &channels, weights: weights.as_slice()? };
        let sums = py
            .detach(|| self.inner.contracted(&crystal, &points, densities, scales.as_deref(), channels))
            .map_err(core_error)?;
        let width = sums.len() / points.len().max(1);
        PyArray1::from_vec(py, sums).reshape([points.len(), width])
    }
}
