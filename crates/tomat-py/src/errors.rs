//! Rust errors as the Python exceptions a user expects.

use pyo3::PyErr;
use pyo3::exceptions::{PyIndexError, PyKeyError, PyValueError};

/// One exhaustive map of the core's errors.
pub(crate) fn core_error(error: tomat_core::Error) -> PyErr {
    use tomat_core::Error;
    let message = error.to_string();
    match error {
        Error::Index { .. } => PyIndexError::new_err(message),
        Error::Unknown { .. } => PyKeyError::new_err(message),
        // The enum is open: what is added later is about values until said otherwise.
        _ => PyValueError::new_err(message),
    }
}
