//! Many patches of many materials at once, written straight into a batch.

use numpy::{
    PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray2, PyUntypedArrayMethods,
    ToPyArray,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tomat_core::grid::{Extent, Lattice, LatticeParameters};
use tomat_core::patch::for_each_run;
use tomat_core::refusal::{Checks, Clipped, Subject};
use tomat_core::sequence::{MaterialView, Span, Tokenizer as Core};

use crate::errors::core_error;
use crate::sequence::{Tokenizer, lattice_of, named, triples};

/// What is known of a material beside its density.
struct Crystal {
    grid: [usize; 3],
    lattice: LatticeParameters,
    volume: f64,
    atomic_numbers: Vec<u8>,
    frac_coords: Vec<[f64; 3]>,
    /// Where its values begin in the flat array of densities.
    start: usize,
}

/// The crystals of the materials whose densities lie one after the other in a flat array.
#[pyclass(module = "tomat._core", frozen)]
pub(crate) struct Crystals {
    items: Vec<Crystal>,
    values: usize,
}

#[pymethods]
impl Crystals {
    /// Of (grid shape, lattice rows, atomic numbers, fractional coordinates) each, in the order of the flat array.
    #[new]
    #[allow(clippy::type_complexity)] // one tuple a material
    fn new(
        items: Vec<([usize; 3], PyReadonlyArray2<'_, f64>, Vec<u8>, PyReadonlyArray2<'_, f64>)>,
    ) -> PyResult<Self> {
        let mut start = 0_usize;
        let mut crystals = Vec::with_capacity(items.len());
        for (grid, lattice, atomic_numbers, frac_coords) in items {
            let lattice: Lattice = lattice_of(&lattice)?;
            let points = grid.iter().try_fold(1_usize, |product, &n| product.checked_mul(n));
            let end = points.and_then(|n| start.checked_add(n));
            let end =
                end.ok_or_else(|| PyValueError::new_err(format!("the grid {grid:?} is beyond reason")))?;
            crystals.push(Crystal {
                grid,
                lattice: lattice.parameters(),
                volume: lattice.volume(),
                atomic_numbers,
                frac_coords: triples(&frac_coords)?,
                start,
            });
            start = end;
        }
        Ok(Self { items: crystals, values: start })
    }

    fn __len__(&self) -> usize {
        self.items.len()
    }
}

/// Reason and words of a refusal.
type Named = (&'static str, String);
/// Voxels, electrons, share, share below, the worst value and its grid point.
type Lost = (u64, f64, f64, f64, f64, [usize; 3]);

/// Of each material, why it is left out, and what is clipped of it; `extents` (n, 3) hold sum, least and largest value.
#[pyfunction]
#[pyo3(signature = (tokenizer, crystals, density, extents, *, max_clipped, max_negative))]
pub(crate) fn inspect(
    py: Python<'_>,
    tokenizer: &Tokenizer,
    crystals: &Crystals,
    density: PyReadonlyArray1<'_, f32>,
    extents: PyReadonlyArray2<'_, f64>,
    max_clipped: f64,
    max_negative: f64,
) -> PyResult<Vec<(Option<Named>, Option<Lost>)>> {
    let checks = Checks { max_clipped, max_negative, strict: false };
    let extents = triples(&extents)?;
    let density = density.as_slice()?;
    if (density.len(), extents.len()) != (crystals.values, crystals.items.len()) {
        return Err(PyValueError::new_err("the crystals, their densities and extents do not fit together"));
    }
    let one = |crystal: &Crystal, [sum, min, max]: [f64; 3]| {
        let points: usize = crystal.grid.iter().product();
        let subject = Subject {
            grid_shape: crystal.grid,
            lattice: crystal.lattice,
            volume: crystal.volume,
            atomic_numbers: &crystal.atomic_numbers,
            values: &density[crystal.start..crystal.start + points],
            extent: Extent { sum, min, max },
        };
        let found = tokenizer.inner.inspect(&subject, &checks).map_err(core_error)?;
        let lost = |c: Clipped| (c.voxels, c.electrons, c.share, c.share_below, c.worst, c.worst_voxel);
        Ok((found.refusal.map(named), found.clipped.map(lost)))
    };
    py.detach(|| crystals.items.iter().zip(extents).map(|(crystal, extent)| one(crystal, extent)).collect())
}

/// One sequence to write: the patch of a material at an offset, into a row from a column on.
struct Place {
    material: usize,
    offset: [usize; 3],
    row: usize,
    column: usize,
}

/// The arrays of a batch, row-major, `width` places a row.
struct Batch<'a> {
    width: usize,
    tokens: &'a mut [i32],
    values: &'a mut [f32],
    guess: Option<&'a mut [i32]>,
}

/// Writes sequences into the rows of a batch; `places` (n, 6) holds material, offset x y z, row, column of each.
///
/// `tokens`, `values` and `guess` are (rows, width). The true values stand at the last token of each voxel, with zeros at
/// the others, the tokens of the guess at all of them; places of other tokens in `values` and `guess` are left alone.
/// Returns (n, 3): length, and first and last-but-one place of the density tokens, counted from the start of the
/// sequence.
#[pyfunction]
#[pyo3(signature = (tokenizer, crystals, density, places, tokens, values, *, guess=None))]
#[allow(clippy::too_many_arguments)] // the arrays of a batch
pub(crate) fn encode_patches<'py>(
    py: Python<'py>,
    tokenizer: &Tokenizer,
    crystals: &Crystals,
    density: PyReadonlyArray1<'py, f32>,
    places: PyReadonlyArray2<'py, i64>,
    mut tokens: PyReadwriteArray2<'py, i32>,
    mut values: PyReadwriteArray2<'py, f32>,
    guess: Option<(PyReadonlyArray1<'py, f32>, PyReadwriteArray2<'py, i32>)>,
) -> PyResult<Bound<'py, PyArray2<i64>>> {
    let places = places_of(&places, crystals.items.len())?;
    let shape = tokens.as_array().raw_dim();
    if values.as_array().raw_dim() != shape {
        return Err(PyValueError::new_err("tokens and values differ in shape"));
    }
    let (guess_density, mut guess_tokens) = guess.unzip();
    // A slice is given for either order of the axes; rows are what is meant.
    let guess_rows = guess_tokens.as_ref().is_none_or(|array| array.is_c_contiguous());
    if !(tokens.is_c_contiguous() && values.is_c_contiguous() && guess_rows) {
        return Err(PyValueError::new_err("the arrays of a batch are not C-contiguous"));
    }
    let mut batch = Batch {
        width: shape[1],
        tokens: tokens.as_slice_mut()?,
        values: values.as_slice_mut()?,
        guess: guess_tokens.as_mut().map(PyReadwriteArray2::as_slice_mut).transpose()?,
    };
    let density = density.as_slice()?;
    let start = guess_density.as_ref().map(PyReadonlyArray1::as_slice).transpose()?;
    let lengths = [Some(density.len()), start.map(<[f32]>::len)];
    if lengths.iter().flatten().any(|&n| n != crystals.values) {
        return Err(PyValueError::new_err(format!(
            "the crystals have {} grid points, the arrays {lengths:?} values",
            crystals.values
        )));
    }
    let spans = py.detach(|| {
        let write = |place| crystals.write(&tokenizer.inner, density, start, place, &mut batch);
        places.iter().map(write).collect::<PyResult<Vec<[i64; 3]>>>()
    })?;
    let flat: Vec<i64> = spans.into_iter().flatten().collect();
    flat.to_pyarray(py).reshape([places.len(), 3])
}

impl Crystals {
    fn write(
        &self,
        tokenizer: &Core,
        density: &[f32],
        guess: Option<&[f32]>,
        place: &Place,
        batch: &mut Batch<'_>,
    ) -> PyResult<[i64; 3]> {
        let crystal = &self.items[place.material];
        let points: usize = crystal.grid.iter().product();
        let values = &density[crystal.start..crystal.start + points];
        let beyond = || PyValueError::new_err(format!("row {} has no column {}", place.row, place.column));
        let first = place.row.checked_mul(batch.width).ok_or_else(beyond)?;
        let range = first.saturating_add(place.column)..first.saturating_add(batch.width);
        let view = MaterialView {
            grid_shape: crystal.grid,
            density: values,
            lattice: crystal.lattice,
            atomic_numbers: &crystal.atomic_numbers,
            frac_coords: &crystal.frac_coords,
        };
        let row = batch.tokens.get_mut(range.clone()).ok_or_else(beyond)?;
        let span = tokenizer.encode_patch(&view, place.offset, row).map_err(core_error)?;
        let inside = range.start + span.density.start..range.start + span.density.end;
        let codec = tokenizer.vocabulary().density_codec();
        let k = codec.components();
        let truth = batch.values.get_mut(inside.clone()).ok_or_else(beyond)?;
        copy_patch(values, crystal.grid, &span, place.offset, truth, k);
        if let (Some(guess), Some(out)) = (guess, batch.guess.as_deref_mut()) {
            let out = out.get_mut(inside).ok_or_else(beyond)?;
            let mut cut = vec![0.0; out.len() / k];
            let start = &guess[crystal.start..crystal.start + points];
            copy_patch(start, crystal.grid, &span, place.offset, &mut cut, 1);
            codec.encode(&cut, tokenizer.vocabulary().density_bases(), out).map_err(core_error)?;
        }
        Ok([span.length, span.density.start, span.density.end].map(|n| n as i64))
    }
}

/// The voxels of a patch, each at the last of `k` places, with zeros before it.
fn copy_patch(values: &[f32], grid: [usize; 3], span: &Span, offset: [usize; 3], out: &mut [f32], k: usize) {
    let mut at = 0;
    for_each_run(grid, span.shape, offset, |run| {
        let end = at + run.len() * k;
        if k == 1 {
            out[at..end].copy_from_slice(&values[run]);
        } else {
            for (word, &value) in out[at..end].chunks_exact_mut(k).zip(&values[run]) {
                word.fill(0.0);
                word[k - 1] = value;
            }
        }
        at = end;
    });
}

fn places_of(array: &PyReadonlyArray2<'_, i64>, materials: usize) -> PyResult<Vec<Place>> {
    let view = array.as_array();
    if view.ncols() != 6 {
        return Err(PyValueError::new_err(format!("places have {} columns, not 6", view.ncols())));
    }
    let wrong = |what: &str, n: i64| PyValueError::new_err(format!("{what} {n} is out of range"));
    view.rows()
        .into_iter()
        .map(|row| {
            let number =
                |column: usize, what| usize::try_from(row[column]).map_err(|_| wrong(what, row[column]));
            let material = number(0, "material")?;
            if material >= materials {
                return Err(wrong("material", row[0]));
            }
            Ok(Place {
                material,
                offset: [number(1, "offset")?, number(2, "offset")?, number(3, "offset")?],
                row: number(4, "row")?,
                column: number(5, "column")?,
            })
        })
        .collect()
}
