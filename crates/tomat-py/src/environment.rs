//! Sums over the surroundings of points.

use numpy::{
    PyArray1, PyArray2, PyArray4, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArray3,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tomat_core::environment::{self as core, Channels, Densities, Options, Radial};

use crate::errors::core_error;
use crate::promolecule::{Promolecule, crystal, triples};

/// Radial and angular functions around atoms: splines up to `reach * cutoff` of stretched distance.
#[pyclass(module = "tomat._core", frozen)]
pub(crate) struct EnvironmentBasis {
    pub(crate) inner: core::Basis,
}

#[pymethods]
impl EnvironmentBasis {
    #[new]
    #[pyo3(signature = (cutoff, inner, radial, l_max, core, reach=1.0))]
    fn new(cutoff: f64, inner: f64, radial: usize, l_max: usize, core: f64, reach: f64) -> PyResult<Self> {
        let radial = Radial { cutoff, inner, splines: radial, reach };
        Ok(Self { inner: core::Basis::new(radial, l_max, core).map_err(core_error)? })
    }

    /// Sums (sites, points, radial, angular) for each atom apart; points (n, 3) are fractional, factors one a point,
    /// scales one an atom.
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
        let options = options(promolecule, factors.as_ref(), scales.as_deref())?;
        let sums = py.detach(|| self.inner.by_site(&crystal, &points, options)).map_err(core_error)?;
        let shape = [
            crystal.frac_coords.len(),
            points.len(),
            self.inner.radial_count(options.densities.is_some()),
            self.inner.angular_count(),
        ];
        PyArray1::from_vec(py, sums).reshape(shape)
    }

    /// Sums (points, width) with the weights (sites, radial, channels) of each atom; for each l all channels of the first
    /// m, then of the next.
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
        let options = options(promolecule, factors.as_ref(), scales.as_deref())?;
        let channels = Channels { channels: &channels, weights: weights.as_slice()? };
        let sums =
            py.detach(|| self.inner.contracted(&crystal, &points, options, channels)).map_err(core_error)?;
        PyArray1::from_vec(py, sums).reshape([points.len(), channels.width()])
    }
}

/// Factors belong to the densities of a promolecule; neither stands alone.
pub(crate) fn options<'a>(
    promolecule: Option<&'a Promolecule>,
    factors: Option<&'a PyReadonlyArray1<'_, f32>>,
    scales: Option<&'a [f64]>,
) -> PyResult<Options<'a>> {
    let densities = match (promolecule, factors) {
        (None, None) => None,
        (Some(promolecule), Some(factors)) => {
            Some(Densities { promolecule: promolecule.native(), factors: factors.as_slice()? })
        }
        _ => return Err(PyValueError::new_err("give promolecule and factors, or neither")),
    };
    Ok(Options { densities, scales })
}
