//! Origins of patches, and how often they cover each voxel.

use std::sync::Arc;

use numpy::{PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray2, PyReadonlyArray3};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tomat_core::sampler::{SampleKey, Sampler, Target};
use tomat_io::pipeline::DrawOrigins;

use crate::errors::core_error;

/// The origins of patches `0..n` of a material by a built-in sampler, int32 (n, 3).
#[pyfunction]
#[pyo3(signature = (name, replacement, grid_shape, patch_shape, density, n, *, seed, task_id, epoch))]
#[allow(clippy::too_many_arguments)] // one draw, spelled out
pub(crate) fn sample_offsets<'py>(
    py: Python<'py>,
    name: &str,
    replacement: bool,
    grid_shape: [usize; 3],
    patch_shape: [usize; 3],
    density: Option<PyReadonlyArray3<'py, f32>>,
    n: usize,
    seed: u64,
    task_id: &str,
    epoch: u64,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let sampler = Sampler::named(name, replacement).map_err(core_error)?;
    let key = SampleKey { seed, task_id, epoch };
    let density = density.as_ref().map(PyReadonlyArray3::as_slice).transpose()?;
    if density.is_some_and(|values| values.len() != grid_shape.iter().product::<usize>()) {
        return Err(PyValueError::new_err("the density has another shape than the grid"));
    }
    let target = Target { grid: grid_shape, patch: patch_shape, density };
    let offsets = py.detach(|| sampler.offsets(&target, n, key)).map_err(core_error)?;
    let flat: Vec<i32> = offsets.iter().flatten().map(|&o| o as i32).collect();
    PyArray1::from_vec(py, flat).reshape([n, 3])
}

/// Tiles of a pass of the sampler `tiling`: those that overlap no other, and all.
#[pyfunction]
pub(crate) fn tiling(grid_shape: [usize; 3], patch_shape: [usize; 3]) -> PyResult<(usize, usize)> {
    if grid_shape.iter().chain(&patch_shape).any(|&n| n == 0) {
        return Err(PyValueError::new_err("a grid and a patch have three axes above 0"));
    }
    Ok(Sampler::tiling(grid_shape, patch_shape))
}

/// A sampler of Python: `draw(task_id, grid_shape, patch_shape, density or None, n)` gives int64 (n, 3).
pub(crate) struct PythonSampler {
    pub(crate) draw: Py<PyAny>,
    pub(crate) needs_density: bool,
}

impl DrawOrigins for PythonSampler {
    fn offsets(
        &self,
        target: &Target<'_>,
        n: usize,
        key: SampleKey<'_>,
    ) -> tomat_io::Result<Vec<[usize; 3]>> {
        let call = |py: Python<'_>| -> PyResult<Vec<[usize; 3]>> {
            let density = match target.density {
                Some(values) if self.needs_density => {
                    Some(PyArray1::from_slice(py, values).reshape(target.grid)?)
                }
                _ => None,
            };
            let density: Option<Bound<'_, PyArray3<f32>>> = density;
            let arguments = (key.task_id, target.grid, target.patch, density, n);
            let drawn = self.draw.bind(py).call1(arguments)?;
            offsets_of(&drawn.extract::<PyReadonlyArray2<'_, i64>>()?)
        };
        Python::attach(|py| {
            call(py)
                .map_err(|error| tomat_core::Error::invalid(format!("the sampler failed: {error}")).into())
        })
    }
}

/// The sampler of a run: a built-in one by name and replacement, or one of Python.
pub(crate) fn origins(
    name: &str,
    replacement: bool,
    draw: Option<(Py<PyAny>, bool)>,
) -> PyResult<Arc<dyn DrawOrigins>> {
    Ok(match draw {
        Some((draw, needs_density)) => Arc::new(PythonSampler { draw, needs_density }),
        None => Arc::new(Sampler::named(name, replacement).map_err(core_error)?),
    })
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
