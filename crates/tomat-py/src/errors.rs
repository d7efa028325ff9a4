//! Rust errors as the Python exceptions a user expects.

use pyo3::exceptions::{
    PyFileNotFoundError, PyIndexError, PyKeyError, PyMemoryError, PyOSError, PyValueError,
};
use pyo3::prelude::*;

/// One map of the core's errors.
pub(crate) fn core_error(error: tomat_core::Error) -> PyErr {
    core_error_in(&error, error.to_string())
}

/// A core error met while reading a file, whose name goes in front.
fn core_error_in(error: &tomat_core::Error, message: String) -> PyErr {
    use tomat_core::Error;
    match error {
        Error::Index { .. } => PyIndexError::new_err(message),
        Error::Unknown { .. } => PyKeyError::new_err(message),
        Error::Memory { .. } => PyMemoryError::new_err(message),
        // The enum is open: what is added later is about values until said otherwise.
        _ => PyValueError::new_err(message),
    }
}

/// An error about a file; `source` is what the caller called it.
pub(crate) fn io_error(error: tomat_io::Error, source: &str) -> PyErr {
    use tomat_io::Error;
    let (message, reason) = (error.to_string(), error.reason());
    let raised = match error {
        Error::Missing { .. } => PyFileNotFoundError::new_err(message),
        Error::Memory { .. } => PyMemoryError::new_err(message),
        Error::Io { source, .. } => match source.raw_os_error() {
            // With the number, so that Python picks its own subclass (PermissionError, IsADirectoryError, ...).
            Some(code) => PyOSError::new_err((code, message)),
            None => PyOSError::new_err(message),
        },
        Error::Core(error) if source.is_empty() => core_error(error),
        Error::Core(error) => core_error_in(&error, format!("{source}: {error}")),
        _ => PyValueError::new_err(message),
    };
    if !reason.is_fault() {
        // A sound file whose material the format cannot hold: what reads for a data set leaves it out as such.
        Python::attach(|py| raised.value(py).setattr("reason", reason.name()).ok());
    }
    raised
}
