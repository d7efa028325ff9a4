//! Origins of patches, and how often they cover each voxel.

use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tomat_core::sampler::SampleKey;

use crate::errors::core_error;

/// The origins of patches `0..n` of a material, int32 (n, 3).
#[pyfunction]
#[pyo3(signature = (grid_shape, n, *, seed, task_id, epoch))]
pub(crate) fn sample_offsets<'py>(
    py: Python<'py>,
    grid_shape: [usize; 3],
    n: usize,
    seed: u64,
    task_id: &str,
    epoch: u64,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let key = SampleKey { seed, task_id, epoch };
    let offsets = tomat_core::sampler::uniform_offsets(grid_shape, n, key).map_err(core_error)?;
    let flat: Vec<i32> = offsets.iter().flatten().map(|&o| o as i32).collect();
    PyArray1::from_vec(py, flat).reshape([n, 3])
}

/// Offsets from an int64 (n, 3) array.
pub(crate) fn offsets_of(array: &PyReadonlyArray2<'_, i64>) -> PyResult<Vec<[usize; 3]>> {
    let view = array.as_array();
    if view.ncols() != 3 {
        return Err(PyValueError::new_err(format!(
            "offsets have {} columns; give an array of shape (n, 3)",
            view.ncols()
        )));
    }
    let negative =
        |o: i64| PyValueError::new_err(format!("offset {o} is negative; give grid points from 0 up"));
    view.rows()
        .into_iter()
        .map(|row| {
            let mut offset = [0; 3];
            for (place, &o) in offset.iter_mut().zip(row) {
                *place = usize::try_from(o).map_err(|_| negative(o))?;
            }
            Ok(offset)
        })
        .collect()
}

/// How many voxels are covered exactly 0, 1, 2, ... times, int64.
#[pyfunction]
pub(crate) fn coverage_histogram<'py>(
    py: Python<'py>,
    grid_shape: [usize; 3],
    patch_shape: [usize; 3],
    offsets: PyReadonlyArray2<'py, i64>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let offsets = offsets_of(&offsets)?;
    let counts = py
        .detach(|| tomat_core::coverage::histogram(grid_shape, patch_shape, &offsets))
        .map_err(core_error)?;
    Ok(PyArray1::from_vec(py, counts.into_iter().map(|n| n as i64).collect()))
}
