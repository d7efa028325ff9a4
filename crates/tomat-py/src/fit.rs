//! Fitting: sketches of densities, and codecs' arrays made from them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use numpy::{PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tomat_core::fit::{FitOptions, Point};
use tomat_core::grid::Unit;

use crate::errors::core_error;

/// A histogram of density values, see `tomat.Sketch`.
#[pyclass(module = "tomat._core", subclass, frozen)]
pub(crate) struct Sketch {
    inner: Mutex<tomat_core::fit::Sketch>,
}

impl Sketch {
    /// A thread that panicked while adding has left the sketch as it was: `add` checks before it changes anything.
    fn lock(&self) -> MutexGuard<'_, tomat_core::fit::Sketch> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Sketch {
    #[new]
    fn new(unit: &str) -> PyResult<Self> {
        let unit: Unit = unit.parse().map_err(core_error)?;
        Ok(Self { inner: Mutex::new(tomat_core::fit::Sketch::new(unit)) })
    }

    fn add(&self, py: Python<'_>, id: &str, values: PyReadonlyArray1<'_, f32>, scale: f64) -> PyResult<()> {
        let values = values.as_slice()?;
        py.detach(|| self.lock().add(id, values, scale)).map_err(core_error)
    }

    fn add_weighted(
        &self,
        py: Python<'_>,
        id: &str,
        values: PyReadonlyArray1<'_, f32>,
        weights: PyReadonlyArray1<'_, f64>,
    ) -> PyResult<()> {
        let (values, weights) = (values.as_slice()?, weights.as_slice()?);
        py.detach(|| self.lock().add_weighted(id, values, weights)).map_err(core_error)
    }

    fn merge(&self, py: Python<'_>, other: &Self) -> PyResult<()> {
        // A copy: locking two sketches at once could lock the same one twice.
        py.detach(|| {
            let other = other.lock().clone();
            self.lock().merge(&other)
        })
        .map_err(core_error)
    }

    fn rounded(&self, py: Python<'_>, bits: u32) -> Self {
        Self { inner: Mutex::new(py.detach(|| self.lock().rounded(bits))) }
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let bytes = py.detach(|| self.lock().to_bytes());
        PyBytes::new(py, &bytes)
    }

    #[staticmethod]
    fn read_bytes(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        let inner = py.detach(|| tomat_core::fit::Sketch::from_bytes(data)).map_err(core_error)?;
        Ok(Self { inner: Mutex::new(inner) })
    }

    #[getter]
    fn hash(&self, py: Python<'_>) -> String {
        py.detach(|| self.lock().hash())
    }

    #[getter]
    fn unit(&self) -> &'static str {
        self.lock().unit().name()
    }

    #[getter]
    fn ids(&self) -> Vec<String> {
        self.lock().ids().map(str::to_owned).collect()
    }

    #[getter]
    fn n_voxels(&self) -> u64 {
        self.lock().n_voxels()
    }

    #[getter]
    fn n_negative(&self) -> u64 {
        self.lock().n_negative()
    }

    #[getter]
    fn n_zero(&self) -> u64 {
        self.lock().n_zero()
    }

    #[getter]
    fn n_cells(&self) -> usize {
        self.lock().n_cells()
    }

    #[getter]
    fn sum(&self) -> f64 {
        self.lock().sum()
    }

    #[getter]
    fn range(&self) -> Option<(f32, f32)> {
        self.lock().range()
    }
}

/// Boundaries, points and errors of a codec fitted to a sketch, by name.
#[pyfunction]
#[pyo3(signature = (sketch, bins, *, method, weighting, signed, mean_points))]
pub(crate) fn fit<'py>(
    py: Python<'py>,
    sketch: &Sketch,
    bins: usize,
    method: &str,
    weighting: &str,
    signed: bool,
    mean_points: bool,
) -> PyResult<Bound<'py, PyDict>> {
    let options = FitOptions {
        method: method.parse().map_err(core_error)?,
        weighting: weighting.parse().map_err(core_error)?,
        signed,
        bins,
        point: if mean_points { Point::Mean } else { Point::Median },
    };
    let fitted = py.detach(|| tomat_core::fit::fit(&sketch.lock(), &options)).map_err(core_error)?;
    let dict = PyDict::new(py);
    dict.set_item("boundaries", PyArray1::from_vec(py, fitted.boundaries))?;
    dict.set_item("recon_points", PyArray1::from_vec(py, fitted.recon_points))?;
    dict.set_item("recon_points_mean", PyArray1::from_vec(py, fitted.recon_mean))?;
    dict.set_item("recon_points_median", PyArray1::from_vec(py, fitted.recon_median))?;
    dict.set_item("clip_min", fitted.clip_min)?;
    dict.set_item("clip_max", fitted.clip_max)?;
    dict.set_item("bins_used", fitted.bins)?;
    dict.set_item("nmae", fitted.nmae)?;
    dict.set_item("rms", fitted.rms)?;
    Ok(dict)
}
