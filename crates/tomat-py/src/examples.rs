//! Rows made into training examples, in place, and the random numbers that decide what is masked.

use numpy::{
    Element, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray2,
    PyUntypedArrayMethods, ToPyArray,
};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use tomat_core::Result as CoreResult;
use tomat_core::examples::{Asking, Example, Mask, Placed, Row, annotate};
use tomat_core::shuffle::{Permutation, key_of_number, random_bits as fill_with_bits};

use crate::errors::core_error;
use crate::sequence::Tokenizer;

/// The rows of an array that is written to.
fn rows_mut<'a, T: Element>(
    array: &'a mut PyReadwriteArray2<'_, T>,
    shape: [usize; 2],
) -> PyResult<std::slice::ChunksExactMut<'a, T>> {
    check(array.shape(), array.is_c_contiguous(), shape)?;
    Ok(array.as_slice_mut()?.chunks_exact_mut(shape[1].max(1)))
}

/// The rows of an array that is read.
fn rows<'a, T: Element>(
    array: &'a PyReadonlyArray2<'_, T>,
    shape: [usize; 2],
) -> PyResult<std::slice::ChunksExact<'a, T>> {
    check(array.shape(), array.is_c_contiguous(), shape)?;
    Ok(array.as_slice()?.chunks_exact(shape[1].max(1)))
}

fn check(found: &[usize], contiguous: bool, shape: [usize; 2]) -> PyResult<()> {
    if found != shape {
        return Err(PyValueError::new_err(format!(
            "the arrays of a batch differ in shape: {found:?}, {shape:?}"
        )));
    }
    if !contiguous {
        return Err(PyValueError::new_err("the arrays of a batch are not C-contiguous"));
    }
    Ok(())
}

fn shape_of<T: Element>(array: &PyReadwriteArray2<'_, T>) -> [usize; 2] {
    [array.shape()[0], array.shape()[1]]
}

/// Writes what the tokens of the sequences do not say into rows; see `tomat_core::examples::annotate`.
///
/// `places` (n, 2) holds row and column of each sequence, in this order; `spans` (n, 3) are those of `encode_patches`,
/// `weights` (n,) those of its voxels.
#[pyfunction]
#[pyo3(signature = (places, spans, weights, tokens, values, segments, positions, weight, *, guess=None))]
#[allow(clippy::too_many_arguments)] // the arrays of a batch
pub(crate) fn annotate_rows(
    py: Python<'_>,
    places: PyReadonlyArray2<'_, i64>,
    spans: PyReadonlyArray2<'_, i64>,
    weights: PyReadonlyArray1<'_, f64>,
    mut tokens: PyReadwriteArray2<'_, i32>,
    mut values: PyReadwriteArray2<'_, f32>,
    mut segments: PyReadwriteArray2<'_, i32>,
    mut positions: PyReadwriteArray2<'_, i32>,
    mut weight: PyReadwriteArray2<'_, f32>,
    mut guess: Option<PyReadwriteArray2<'_, i32>>,
) -> PyResult<()> {
    let shape = shape_of(&tokens);
    let sequences = sequences_of(&places, &spans, &weights, shape[0])?;
    let mut guess = guess.as_mut().map(|guess| rows_mut(guess, shape)).transpose()?;
    let arrays = rows_mut(&mut tokens, shape)?
        .zip(rows_mut(&mut values, shape)?)
        .zip(rows_mut(&mut segments, shape)?)
        .zip(rows_mut(&mut positions, shape)?)
        .zip(rows_mut(&mut weight, shape)?)
        .zip(&sequences);
    let write = || {
        for (((((tokens, values), segments), positions), weight), sequences) in arrays {
            let guess = guess.as_mut().and_then(Iterator::next);
            annotate(&mut Row { tokens, values, guess, segments, positions, weight }, sequences)?;
        }
        Ok(())
    };
    py.detach(write).map_err(core_error)
}

/// The sequences of each row.
fn sequences_of(
    places: &PyReadonlyArray2<'_, i64>,
    spans: &PyReadonlyArray2<'_, i64>,
    weights: &PyReadonlyArray1<'_, f64>,
    n: usize,
) -> PyResult<Vec<Vec<Placed>>> {
    let (places, spans, weights) = (places.as_array(), spans.as_array(), weights.as_array());
    if (places.shape(), spans.shape()) != (&[weights.len(), 2], &[weights.len(), 3]) {
        return Err(PyValueError::new_err("places, spans and weights of sequences do not fit together"));
    }
    let number = |n: i64| {
        usize::try_from(n).map_err(|_| PyValueError::new_err(format!("{n} in places or spans is below 0")))
    };
    let mut sequences = vec![Vec::new(); n];
    for ((place, span), &weight) in places.rows().into_iter().zip(spans.rows()).zip(weights) {
        let row = number(place[0])?;
        let found = sequences.get_mut(row);
        found.ok_or_else(|| PyIndexError::new_err(format!("row {row} of {n}")))?.push(Placed {
            column: number(place[1])?,
            length: number(span[0])?,
            density: number(span[1])?..number(span[2])?,
            weight: weight as f32,
        });
    }
    Ok(sequences)
}

/// The examples of a batch, row by row.
struct Examples<'a, 'py> {
    tokens: &'a mut PyReadwriteArray2<'py, i32>,
    targets: &'a mut PyReadwriteArray2<'py, i32>,
    weight: &'a mut PyReadwriteArray2<'py, f32>,
}

impl Examples<'_, '_> {
    /// Gives each example to `write`, with what else belongs to it.
    fn each<T: Send>(
        self,
        py: Python<'_>,
        others: impl Iterator<Item = T> + Send,
        write: impl Fn(&mut Example<'_>, T) -> CoreResult<()> + Sync,
    ) -> PyResult<()> {
        let shape = shape_of(self.targets);
        let arrays = rows_mut(self.tokens, shape)?
            .zip(rows_mut(self.targets, shape)?)
            .zip(rows_mut(self.weight, shape)?)
            .zip(others);
        let all = || {
            for (((tokens, targets), weight), other) in arrays {
                write(&mut Example { tokens, targets, weight }, other)?;
            }
            Ok(())
        };
        py.detach(all).map_err(core_error)
    }
}

/// Makes examples of rows in place: each token is asked at the place before it, tokens other than those of the density
/// with the weight `preamble`. All voxels weigh 1 if `equal`, otherwise as `weight` says.
#[pyfunction]
#[pyo3(signature = (tokenizer, tokens, targets, weight, values, segments, *, equal, preamble))]
#[allow(clippy::too_many_arguments)] // the arrays of a batch
pub(crate) fn ask_next_tokens<'py>(
    py: Python<'py>,
    tokenizer: &Tokenizer,
    mut tokens: PyReadwriteArray2<'py, i32>,
    mut targets: PyReadwriteArray2<'py, i32>,
    mut weight: PyReadwriteArray2<'py, f32>,
    mut values: PyReadwriteArray2<'py, f32>,
    segments: PyReadonlyArray2<'py, i32>,
    equal: bool,
    preamble: f32,
) -> PyResult<()> {
    let asking = Asking::new(tokenizer.inner.vocabulary(), equal);
    let shape = shape_of(&targets);
    let others = rows_mut(&mut values, shape)?.zip(rows(&segments, shape)?);
    Examples { tokens: &mut tokens, targets: &mut targets, weight: &mut weight }.each(
        py,
        others,
        |example, (values, segments)| asking.next_token(example, values, segments, preamble),
    )
}

/// Makes examples of rows in place: voxels whose random number, from the key of their row, is below the limit of their
/// segment show the id `mask` and are asked. `limits` is (n, segments), or (n, 1) for all segments.
#[pyfunction]
#[pyo3(signature = (tokenizer, tokens, targets, weight, segments, keys, limits, *, equal, mask))]
#[allow(clippy::too_many_arguments)] // the arrays of a batch
pub(crate) fn ask_masked<'py>(
    py: Python<'py>,
    tokenizer: &Tokenizer,
    mut tokens: PyReadwriteArray2<'py, i32>,
    mut targets: PyReadwriteArray2<'py, i32>,
    mut weight: PyReadwriteArray2<'py, f32>,
    segments: PyReadonlyArray2<'py, i32>,
    keys: PyReadonlyArray1<'_, u64>,
    limits: PyReadonlyArray2<'py, u32>,
    equal: bool,
    mask: i32,
) -> PyResult<()> {
    let asking = Asking::new(tokenizer.inner.vocabulary(), equal);
    let shape = shape_of(&targets);
    let keys = keys.as_slice()?;
    if keys.len() != shape[0] {
        return Err(PyValueError::new_err(format!("{} keys for {} rows", keys.len(), shape[0])));
    }
    let limits = rows(&limits, [shape[0], limits.shape()[1]])?;
    let others = rows(&segments, shape)?.zip(keys).zip(limits);
    Examples { tokens: &mut tokens, targets: &mut targets, weight: &mut weight }.each(
        py,
        others,
        |example, ((segments, &key), limits)| {
            asking.masked(example, segments, &Mask { id: mask, key, limits })
        },
    )
}

/// Makes examples of rows in place: density tokens show those of `guess`, and all are asked.
#[pyfunction]
#[pyo3(signature = (tokenizer, tokens, targets, weight, guess, *, equal))]
pub(crate) fn ask_from_guess<'py>(
    py: Python<'py>,
    tokenizer: &Tokenizer,
    mut tokens: PyReadwriteArray2<'py, i32>,
    mut targets: PyReadwriteArray2<'py, i32>,
    mut weight: PyReadwriteArray2<'py, f32>,
    guess: PyReadonlyArray2<'py, i32>,
    equal: bool,
) -> PyResult<()> {
    let asking = Asking::new(tokenizer.inner.vocabulary(), equal);
    let others = rows(&guess, shape_of(&targets))?;
    Examples { tokens: &mut tokens, targets: &mut targets, weight: &mut weight }.each(
        py,
        others,
        |example, guess| asking.from_guess(example, guess),
    )
}

/// Random numbers of 24 bits (keys, n), one row a key.
#[pyfunction]
pub(crate) fn random_bits<'py>(
    py: Python<'py>,
    keys: PyReadonlyArray1<'py, u64>,
    n: usize,
) -> PyResult<Bound<'py, PyArray2<u32>>> {
    let out = PyArray2::zeros(py, [keys.len(), n], false);
    let mut numbers = out.readwrite();
    for (row, &key) in numbers.as_slice_mut()?.chunks_exact_mut(n.max(1)).zip(keys.as_slice()?) {
        fill_with_bits(key, row);
    }
    drop(numbers);
    Ok(out)
}

/// A key for each of `numbers` (n,).
#[pyfunction]
pub(crate) fn keys_of<'py>(
    py: Python<'py>,
    key: u64,
    numbers: PyReadonlyArray1<'py, i64>,
) -> Bound<'py, PyArray1<u64>> {
    let keys: Vec<u64> = numbers.as_array().iter().map(|&number| key_of_number(key, number)).collect();
    keys.to_pyarray(py)
}

/// Images of positions (any,) under the permutation of `range(n)` with these keys of its rounds.
#[pyfunction]
pub(crate) fn permute<'py>(
    py: Python<'py>,
    positions: PyReadonlyArray1<'py, i64>,
    n: u64,
    keys: Vec<u64>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let order = Permutation::new(n, &keys);
    let image = |&position: &i64| {
        let image = u64::try_from(position).ok().and_then(|position| order.image(position));
        image
            .map(|image| image as i64)
            .ok_or_else(|| PyIndexError::new_err(format!("position {position} in an order of {n}")))
    };
    let images: Vec<i64> = positions.as_array().iter().map(image).collect::<PyResult<_>>()?;
    Ok(images.to_pyarray(py))
}
