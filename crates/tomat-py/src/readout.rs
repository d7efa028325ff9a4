//! The network of a field model behind its sums.

use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tomat_core::readout::{self as core, Dense, Fixed};

use crate::errors::core_error;

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
}

fn dense(weight: &PyReadonlyArray2<'_, f32>, bias: &[f32]) -> PyResult<Dense> {
    let (inputs, outputs) = (weight.shape()[0], weight.shape()[1]);
    Dense::new(inputs, outputs, weight.as_slice()?, bias).map_err(core_error)
}
