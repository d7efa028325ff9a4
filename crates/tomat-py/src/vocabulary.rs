//! Vocabularies: ids, names, ranges, hash.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::core_error;

/// Which ids mean what, see `tomat.Vocabulary`.
#[pyclass(module = "tomat._core", frozen)]
pub(crate) struct Vocabulary {
    pub(crate) inner: tomat_core::vocabulary::Vocabulary,
}

#[pymethods]
impl Vocabulary {
    #[getter]
    fn kind(&self) -> &'static str {
        self.inner.kind().name()
    }

    #[getter]
    fn total_size(&self) -> usize {
        self.inner.total_size()
    }

    #[getter]
    fn atom_range(&self) -> (i32, i32) {
        pair(self.inner.atom_range())
    }

    #[getter]
    fn int_range(&self) -> (i32, i32) {
        pair(self.inner.int_range())
    }

    #[getter]
    fn position_range(&self) -> (i32, i32) {
        pair(self.inner.position_range())
    }

    #[getter]
    fn density_range(&self) -> (i32, i32) {
        pair(self.inner.density_range())
    }

    #[getter]
    fn specials<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, id) in self.inner.specials() {
            dict.set_item(name, id)?;
        }
        Ok(dict)
    }

    /// `log_min`, `log_max` and bits of the codec of atom positions.
    #[getter]
    fn position_codec(&self) -> (f64, f64, Vec<u32>) {
        let codec = self.inner.position_codec();
        (codec.log_min(), codec.log_max(), codec.bits().to_vec())
    }

    #[getter]
    fn hash(&self) -> String {
        self.inner.hash()
    }

    fn name(&self, id: i32) -> PyResult<String> {
        self.inner.name(id).map_err(core_error)
    }
}

fn pair(range: std::ops::Range<i32>) -> (i32, i32) {
    (range.start, range.end)
}

/// Chemical symbols, hydrogen first.
#[pyfunction]
pub(crate) fn elements() -> Vec<&'static str> {
    tomat_core::elements::SYMBOLS.to_vec()
}
