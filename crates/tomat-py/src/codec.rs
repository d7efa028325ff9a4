//! Codecs: arrays of floats in, int32 components out.

use std::sync::Arc;

use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use tomat_core::codec::DensityCodec;
use tomat_core::grid::{Real, Unit};

use crate::errors::core_error;

/// Float32 or float64 values, as they came.
#[derive(FromPyObject)]
pub(crate) enum Values<'py> {
    Single(PyReadonlyArray1<'py, f32>),
    Double(PyReadonlyArray1<'py, f64>),
}

fn encode<'py>(
    py: Python<'py>,
    codec: &DensityCodec,
    values: &Values<'py>,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    match values {
        Values::Single(values) => encode_slice(py, codec, values.as_slice()?),
        Values::Double(values) => encode_slice(py, codec, values.as_slice()?),
    }
}

fn encode_slice<'py, T: Real>(
    py: Python<'py>,
    codec: &DensityCodec,
    values: &[T],
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let k = codec.components();
    let mut out = vec![0; values.len() * k];
    py.detach(|| codec.encode(values, &vec![0; k], &mut out)).map_err(core_error)?;
    PyArray1::from_vec(py, out).reshape([values.len(), k])
}

fn decode<'py>(
    py: Python<'py>,
    codec: &DensityCodec,
    components: &PyReadonlyArray2<'py, i32>,
) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let (n, k) = (components.as_array().nrows(), components.as_array().ncols());
    if k != codec.components() {
        return Err(PyValueError::new_err(format!(
            "components have {k} columns, but this codec has {} components",
            codec.components()
        )));
    }
    let mut out = vec![0.0; n];
    let components = components.as_slice()?;
    py.detach(|| codec.decode(components, &mut out)).map_err(core_error)?;
    Ok(PyArray1::from_vec(py, out))
}

/// Equal steps of log10|v|, see `tomat.LogCodec`.
#[pyclass(module = "tomat._core", subclass, frozen)]
pub(crate) struct LogCodec {
    inner: Arc<tomat_core::codec::LogCodec>,
}

impl LogCodec {
    fn codec(&self) -> DensityCodec {
        DensityCodec::Log(Arc::clone(&self.inner))
    }
}

#[pymethods]
impl LogCodec {
    #[new]
    fn new(log_min: f64, log_max: f64, bits: Vec<u32>) -> PyResult<Self> {
        let codec = tomat_core::codec::LogCodec::new(log_min, log_max, &bits).map_err(core_error)?;
        Ok(Self { inner: Arc::new(codec) })
    }

    fn encode<'py>(&self, py: Python<'py>, values: Values<'py>) -> PyResult<Bound<'py, PyArray2<i32>>> {
        encode(py, &self.codec(), &values)
    }

    fn decode<'py>(
        &self,
        py: Python<'py>,
        components: PyReadonlyArray2<'py, i32>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        decode(py, &self.codec(), &components)
    }

    fn bin_of(&self, value: f64) -> (f64, f64) {
        self.codec().bin_of(value)
    }

    #[getter]
    fn log_min(&self) -> f64 {
        self.inner.log_min()
    }

    #[getter]
    fn log_max(&self) -> f64 {
        self.inner.log_max()
    }

    #[getter]
    fn bits(&self) -> Vec<u32> {
        self.inner.bits().to_vec()
    }

    #[getter]
    fn sizes(&self) -> Vec<usize> {
        self.inner.sizes().to_vec()
    }

    #[getter]
    fn hash(&self) -> String {
        self.inner.hash()
    }
}

/// The parameters of a log codec of the format page by name: `(log_min, log_max, bits)`, or None.
#[pyfunction]
pub(crate) fn named_log_codec(name: &str) -> Option<(f64, f64, Vec<u32>)> {
    let codec = tomat_core::codec::LogCodec::named(name)?;
    Some((codec.log_min(), codec.log_max(), codec.bits().to_vec()))
}

/// Fitted bins, see `tomat.LloydMaxCodec`.
#[pyclass(module = "tomat._core", subclass, frozen)]
pub(crate) struct LloydMaxCodec {
    inner: Arc<tomat_core::codec::LloydMaxCodec>,
}

impl LloydMaxCodec {
    fn codec(&self) -> DensityCodec {
        DensityCodec::LloydMax(Arc::clone(&self.inner))
    }
}

#[pymethods]
impl LloydMaxCodec {
    #[new]
    fn new(
        boundaries: PyReadonlyArray1<'_, f32>,
        recon_points: PyReadonlyArray1<'_, f32>,
        clip_max: f64,
        unit: &str,
        clip_min: f64,
    ) -> PyResult<Self> {
        let unit: Unit = unit.parse().map_err(|e: tomat_core::Error| PyValueError::new_err(e.to_string()))?;
        let codec = tomat_core::codec::LloydMaxCodec::new(
            boundaries.as_slice()?.to_vec(),
            recon_points.as_slice()?.to_vec(),
            clip_max,
            unit,
        )
        .and_then(|codec| codec.with_clip_min(clip_min))
        .map_err(core_error)?;
        Ok(Self { inner: Arc::new(codec) })
    }

    fn encode<'py>(&self, py: Python<'py>, values: Values<'py>) -> PyResult<Bound<'py, PyArray2<i32>>> {
        encode(py, &self.codec(), &values)
    }

    fn decode<'py>(
        &self,
        py: Python<'py>,
        components: PyReadonlyArray2<'py, i32>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        decode(py, &self.codec(), &components)
    }

    fn bin_of(&self, value: f64) -> (f64, f64) {
        self.codec().bin_of(value)
    }

    #[getter]
    fn boundaries<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, self.inner.boundaries())
    }

    #[getter]
    fn recon_points<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f32>> {
        PyArray1::from_slice(py, self.inner.recon_points())
    }

    #[getter]
    fn clip_min(&self) -> f64 {
        self.inner.clip_min()
    }

    #[getter]
    fn clip_max(&self) -> f64 {
        self.inner.clip_max()
    }

    #[getter]
    fn unit(&self) -> &'static str {
        self.inner.unit().name()
    }

    #[getter]
    fn sizes(&self) -> Vec<usize> {
        self.inner.sizes().to_vec()
    }

    #[getter]
    fn hash(&self) -> String {
        self.inner.hash()
    }
}

/// The core's codec behind either Python class.
pub(crate) fn density_codec(object: &Bound<'_, PyAny>) -> PyResult<DensityCodec> {
    if let Ok(codec) = object.cast::<LogCodec>() {
        return Ok(codec.get().codec());
    }
    if let Ok(codec) = object.cast::<LloydMaxCodec>() {
        return Ok(codec.get().codec());
    }
    Err(PyTypeError::new_err(format!(
        "density_codec must be a LogCodec or a LloydMaxCodec, not {}",
        object.get_type().name()?
    )))
}
