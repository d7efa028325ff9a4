//! Codecs: arrays of floats in, int32 components out.

use std::sync::Arc;

use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tomat_core::codec::{DensityCodec as Codec, LloydMaxCodec, LogCodec};
use tomat_core::grid::{Real, Unit};
use tomat_core::memory;

use crate::errors::core_error;

/// Float32 or float64 values, as they came.
#[derive(FromPyObject)]
pub(crate) enum Values<'py> {
    Single(PyReadonlyArray1<'py, f32>),
    Double(PyReadonlyArray1<'py, f64>),
}

/// Voxels, what they hold above the range and below it, the sum of |v|, the worst value, its index.
type Clipped = (u64, f64, f64, f64, f64, usize);

/// A codec of any kind, see `tomat.codec`.
#[pyclass(module = "tomat._core", subclass, frozen)]
pub(crate) struct DensityCodec {
    pub(crate) inner: Codec,
}

#[pymethods]
impl DensityCodec {
    /// A codec of a kind (`log`, `lmq`) from its parameters by name.
    #[new]
    fn new(kind: &str, parameters: &Bound<'_, PyDict>) -> PyResult<Self> {
        let inner = match kind {
            "log" => {
                let (low, high) = (given(parameters, "log_min")?, given(parameters, "log_max")?);
                let codec = LogCodec::new(low, high, &given::<Vec<u32>>(parameters, "bits")?);
                Codec::Log(Arc::new(codec.map_err(core_error)?))
            }
            "lmq" => {
                let array = |name| -> PyResult<Vec<f32>> {
                    Ok(given::<PyReadonlyArray1<'_, f32>>(parameters, name)?.as_slice()?.to_vec())
                };
                let unit: Unit = given::<String>(parameters, "unit")?
                    .parse()
                    .map_err(|e: tomat_core::Error| PyValueError::new_err(e.to_string()))?;
                let high = given(parameters, "clip_max")?;
                let low = given(parameters, "clip_min")?;
                let codec = LloydMaxCodec::new(array("boundaries")?, array("recon_points")?, high, unit)
                    .and_then(|codec| codec.with_clip_min(low));
                Codec::LloydMax(Arc::new(codec.map_err(core_error)?))
            }
            _ => return Err(PyValueError::new_err(format!("codecs of kind {kind:?} are not known"))),
        };
        Ok(Self { inner })
    }

    fn encode<'py>(&self, py: Python<'py>, values: Values<'py>) -> PyResult<Bound<'py, PyArray2<i32>>> {
        match values {
            Values::Single(values) => self.encode_slice(py, values.as_slice()?),
            Values::Double(values) => self.encode_slice(py, values.as_slice()?),
        }
    }

    fn decode<'py>(
        &self,
        py: Python<'py>,
        components: PyReadonlyArray2<'py, i32>,
    ) -> PyResult<Bound<'py, PyArray1<f64>>> {
        let (n, k) = (components.as_array().nrows(), components.as_array().ncols());
        if k != self.inner.components() {
            return Err(PyValueError::new_err(format!(
                "components have {k} columns, but this codec has {} components",
                self.inner.components()
            )));
        }
        let mut out = memory::filled(n, 0.0).map_err(core_error)?;
        let components = components.as_slice()?;
        py.detach(|| self.inner.decode(components, &mut out)).map_err(core_error)?;
        Ok(PyArray1::from_vec(py, out))
    }

    /// What lies beyond the codec's range: voxels, what they hold above it and below it, the sum of |v|, the worst value,
    /// its index; None where nothing does.
    fn clipping(&self, py: Python<'_>, values: Values<'_>) -> PyResult<Option<Clipped>> {
        let found = match values {
            Values::Single(values) => {
                let values = values.as_slice()?;
                py.detach(|| self.inner.clipping(values))
            }
            Values::Double(values) => {
                let values = values.as_slice()?;
                py.detach(|| self.inner.clipping(values))
            }
        };
        let found = found.map_err(core_error)?;
        Ok(found.map(|c| (c.voxels, c.above, c.below, c.total, c.worst, c.worst_index)))
    }

    /// The values that are told apart.
    #[getter]
    fn range(&self) -> (f64, f64) {
        self.inner.range()
    }

    fn bin_of(&self, value: f64) -> (f64, f64) {
        self.inner.bin_of(value)
    }

    /// The unit of the values it encodes: its own, or the one stated.
    #[pyo3(signature = (stated=None))]
    fn unit_for(&self, stated: Option<&str>) -> PyResult<&'static str> {
        let stated = stated.map(str::parse::<Unit>).transpose().map_err(core_error)?;
        Ok(self.inner.unit_for(stated).map_err(core_error)?.name())
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

/// A parameter.
fn given<'py, T: FromPyObjectOwned<'py>>(parameters: &Bound<'py, PyDict>, name: &str) -> PyResult<T> {
    let value = parameters.get_item(name)?;
    let value = value.ok_or_else(|| PyValueError::new_err(format!("a codec without {name}")))?;
    value.extract().map_err(Into::into)
}

impl DensityCodec {
    fn encode_slice<'py, T: Real>(
        &self,
        py: Python<'py>,
        values: &[T],
    ) -> PyResult<Bound<'py, PyArray2<i32>>> {
        let out = py.detach(|| self.inner.components_of(values)).map_err(core_error)?;
        PyArray1::from_vec(py, out).reshape([values.len(), self.inner.components()])
    }
}

/// The parameters of a log codec of the format page by name: `(log_min, log_max, bits)`, or None.
#[pyfunction]
pub(crate) fn named_log_codec(name: &str) -> Option<(f64, f64, Vec<u32>)> {
    let codec = LogCodec::named(name)?;
    Some((codec.log_min(), codec.log_max(), codec.bits().to_vec()))
}
