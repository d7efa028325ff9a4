//! The network of a field model behind its sums.

use numpy::{
    PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadonlyArray3,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tomat_core::environment::Channels;
use tomat_core::readout::{self as core, Dense, Fixed, Mixtures};

use crate::environment::{EnvironmentBasis, options};
use crate::errors::core_error;
use crate::promolecule::{Promolecule, crystal, triples};

/// A weight (inputs, outputs) and a bias (outputs,).
type Layer<'py> = (PyReadonlyArray2<'py, f32>, PyReadonlyArray1<'py, f32>);

/// Outputs of a head from the sums around points; layers are (weight, bias), the head's last.
#[pyclass(module = "tomat._core", frozen)]
pub(crate) struct Readout {
    inner: core::Readout,
}

#[pymethods]
impl Readout {
    #[new]
    fn new(
        channels: Vec<usize>,
        fixed: Vec<String>,
        mixing: Vec<PyReadonlyArray2<'_, f32>>,
        layers: Vec<Layer<'_>>,
    ) -> PyResult<Self> {
        let named = |name: &String| {
            Fixed::named(name).ok_or_else(|| {
                let known = Fixed::ALL.map(Fixed::name).join(", ");
                PyValueError::new_err(format!("a fixed sum {name:?} is not known; one of {known}"))
            })
        };
        let fixed: Vec<Fixed> = fixed.iter().map(named).collect::<PyResult<_>>()?;
        let mixing = mixing.iter().map(|matrix| dense(matrix, &[])).collect::<PyResult<_>>()?;
        let layer = |(weight, bias): &Layer<'_>| dense(weight, bias.as_slice()?);
        let layers = layers.iter().map(layer).collect::<PyResult<_>>()?;
        Ok(Self { inner: core::Readout::new(&channels, &fixed, mixing, layers).map_err(core_error)? })
    }

    /// Outputs (points, outputs) of sums (points, width) and starting densities (points,).
    fn read<'py>(
        &self,
        py: Python<'py>,
        sums: PyReadonlyArray2<'py, f32>,
        guess: PyReadonlyArray1<'py, f32>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let (sums, guess) = (sums.as_slice()?, guess.as_slice()?);
        let out = py.detach(|| self.inner.read(sums, guess)).map_err(core_error)?;
        PyArray1::from_vec(py, out).reshape([guess.len(), self.inner.outputs()])
    }

    /// Outputs (points, outputs) of what EnvironmentBasis.contracted sums, and of starting densities (points,).
    #[pyo3(signature = (basis, lattice, atomic_numbers, frac_coords, points, weights, channels, guess, promolecule=None, factors=None, scales=None))]
    #[allow(clippy::too_many_arguments)] // a crystal has its parts in Python
    fn around<'py>(
        &self,
        py: Python<'py>,
        basis: &EnvironmentBasis,
        lattice: PyReadonlyArray2<'py, f64>,
        atomic_numbers: Vec<u8>,
        frac_coords: PyReadonlyArray2<'py, f64>,
        points: PyReadonlyArray2<'py, f64>,
        weights: PyReadonlyArray3<'py, f32>,
        channels: Vec<usize>,
        guess: PyReadonlyArray1<'py, f32>,
        promolecule: Option<&Promolecule>,
        factors: Option<PyReadonlyArray1<'py, f32>>,
        scales: Option<Vec<f64>>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let crystal = crystal(&lattice, atomic_numbers, &frac_coords)?;
        let points = triples(&points, "points")?;
        let options = options(promolecule, factors.as_ref(), scales.as_deref())?;
        let channels = Channels { channels: &channels, weights: weights.as_slice()? };
        let guess = guess.as_slice()?;
        let out = py
            .detach(|| self.inner.around(&basis.inner, &crystal, &points, options, channels, guess))
            .map_err(core_error)?;
        PyArray1::from_vec(py, out).reshape([points.len(), self.inner.outputs()])
    }
}

/// Of mixtures of logistics (points, components), the first of the ascending edges below which at least the probability
/// `of` (points,) lies; their number where there is none.
#[pyfunction]
pub(crate) fn quantiles<'py>(
    py: Python<'py>,
    share: PyReadonlyArray2<'py, f32>,
    place: PyReadonlyArray2<'py, f32>,
    width: PyReadonlyArray2<'py, f32>,
    edges: PyReadonlyArray1<'py, f32>,
    of: PyReadonlyArray1<'py, f32>,
) -> PyResult<Bound<'py, PyArray1<i32>>> {
    let components = share.shape()[1];
    let (share, place, width) = (share.as_slice()?, place.as_slice()?, width.as_slice()?);
    let (edges, of) = (edges.as_slice()?, of.as_slice()?);
    let mixtures = Mixtures { components, share, place, width };
    let found = py.detach(|| mixtures.quantiles(edges, of)).map_err(core_error)?;
    Ok(PyArray1::from_vec(py, found))
}

fn dense(weight: &PyReadonlyArray2<'_, f32>, bias: &[f32]) -> PyResult<Dense> {
    let (inputs, outputs) = (weight.shape()[0], weight.shape()[1]);
    Dense::new(inputs, outputs, weight.as_slice()?, bias).map_err(core_error)
}
