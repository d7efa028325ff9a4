//! The tokenizer: a material's arrays in, rows out, and back.

use numpy::{
    Element, PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyReadonlyArray3,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tomat_core::grid::{Lattice, LatticeParameters, Real};
use tomat_core::memory;
use tomat_core::refusal::Refusal;
use tomat_core::sequence::{LAYOUTS, Layout, MaterialView};

use crate::codec::DensityCodec;
use crate::errors::core_error;
use crate::sampler::offsets_of;
use crate::vocabulary::Vocabulary;

/// A density of three axes, float32 or float64, C order.
#[derive(FromPyObject)]
pub(crate) enum Grid<'py> {
    Single(PyReadonlyArray3<'py, f32>),
    Double(PyReadonlyArray3<'py, f64>),
}

/// Name, vocabulary, patch size, patches a material and default codec of each layout.
#[pyfunction]
pub(crate) fn layouts() -> Vec<(&'static str, &'static str, usize, usize, &'static str)> {
    let row = |layout: &Layout| {
        (
            layout.name,
            layout.vocabulary.name(),
            layout.patch_size,
            layout.patches_per_material,
            layout.default_codec,
        )
    };
    LAYOUTS.iter().map(row).collect()
}

/// Lengths in angstrom and angles in degrees of a matrix whose rows are a, b, c.
#[pyfunction]
pub(crate) fn lattice_parameters(matrix: PyReadonlyArray2<'_, f64>) -> PyResult<[f64; 6]> {
    Ok(lattice_of(&matrix)?.parameters().to_array())
}

/// The volume of the cell whose rows are a, b, c, in cubic angstrom.
#[pyfunction]
pub(crate) fn cell_volume(matrix: PyReadonlyArray2<'_, f64>) -> PyResult<f64> {
    Ok(lattice_of(&matrix)?.volume())
}

/// A refusal as Python takes it.
pub(crate) fn named(refusal: Refusal) -> (&'static str, String) {
    (refusal.reason.name(), refusal.detail)
}

pub(crate) fn lattice_of(matrix: &PyReadonlyArray2<'_, f64>) -> PyResult<Lattice> {
    let rows = triples(matrix)?;
    let [a, b, c] = rows[..] else {
        return Err(PyValueError::new_err(format!("a lattice has three rows, not {}", rows.len())));
    };
    Lattice::from_matrix([a, b, c]).map_err(core_error)
}

/// Writes and reads rows, see `tomat.PatchTokenizer`.
#[pyclass(module = "tomat._core", frozen)]
pub(crate) struct Tokenizer {
    pub(crate) inner: tomat_core::sequence::Tokenizer,
}

#[pymethods]
impl Tokenizer {
    #[new]
    fn new(
        layout: &str,
        codec: &Bound<'_, DensityCodec>,
        patch_size: Option<usize>,
        pad_to: usize,
        fallback_shapes: Vec<[usize; 3]>,
        unit: &str,
    ) -> PyResult<Self> {
        let layout = Layout::named(layout).map_err(core_error)?;
        let inner = tomat_core::sequence::Tokenizer::new(
            layout,
            codec.get().inner.clone(),
            patch_size,
            pad_to,
            fallback_shapes,
        )
        .and_then(|tokenizer| tokenizer.in_unit(unit.parse()?))
        .map_err(core_error)?;
        Ok(Self { inner })
    }

    #[getter]
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary { inner: self.inner.vocabulary().clone() }
    }

    #[getter]
    fn unit(&self) -> &'static str {
        self.inner.unit().name()
    }

    #[getter]
    fn patch_size(&self) -> usize {
        self.inner.patch_size()
    }

    #[pyo3(signature = (n_atoms, patch_shape=None))]
    fn length(&self, n_atoms: usize, patch_shape: Option<[usize; 3]>) -> PyResult<usize> {
        self.inner.length(n_atoms, patch_shape).map_err(core_error)
    }

    fn shape_for(&self, n_atoms: usize) -> PyResult<[usize; 3]> {
        Ok(self.inner.shape_for(n_atoms).map_err(core_error)?.0)
    }

    /// Raises ValueError where a material cannot be written.
    fn check(&self, grid_shape: [usize; 3], lattice: [f64; 6], n_atoms: usize) -> PyResult<()> {
        let lattice = LatticeParameters::new(lattice).map_err(core_error)?;
        self.inner.check(grid_shape, Some(&lattice), n_atoms).map_err(core_error)
    }

    /// Why a material is left out whatever its density is, and in words.
    fn refusal(
        &self,
        grid_shape: [usize; 3],
        lattice: Option<[f64; 6]>,
        n_atoms: usize,
    ) -> Option<(&'static str, String)> {
        self.inner.refusal(grid_shape, lattice, n_atoms).map(named)
    }

    fn encode<'py>(
        &self,
        py: Python<'py>,
        density: Grid<'py>,
        lattice: [f64; 6],
        atomic_numbers: PyReadonlyArray1<'py, u8>,
        frac_coords: PyReadonlyArray2<'py, f64>,
        offsets: PyReadonlyArray2<'py, i64>,
    ) -> PyResult<Bound<'py, PyArray2<i32>>> {
        let atoms = Atoms {
            lattice: LatticeParameters::new(lattice).map_err(core_error)?,
            atomic_numbers: atomic_numbers.as_slice()?,
            frac_coords: &triples(&frac_coords)?,
        };
        let offsets = offsets_of(&offsets)?;
        match density {
            Grid::Single(density) => self.encode_grid(py, &density, &atoms, &offsets),
            Grid::Double(density) => self.encode_grid(py, &density, &atoms, &offsets),
        }
    }

    fn decode(&self, py: Python<'_>, ids: PyReadonlyArray1<'_, i32>) -> PyResult<Patch> {
        let ids = ids.as_slice()?;
        let inner = py.detach(|| self.inner.decode(ids)).map_err(core_error)?;
        Ok(Patch { inner })
    }

    /// Number and problem of each row that does not decode, or whose OFFSET is not the one given.
    fn check_rows(
        &self,
        py: Python<'_>,
        ids: PyReadonlyArray2<'_, i32>,
        offsets: PyReadonlyArray2<'_, i64>,
    ) -> PyResult<Vec<(usize, String)>> {
        let (n, length) = (ids.as_array().nrows(), ids.as_array().ncols());
        let offsets = offsets_of(&offsets)?;
        if offsets.len() != n {
            return Err(PyValueError::new_err(format!("{n} rows but {} offsets", offsets.len())));
        }
        let ids = ids.as_slice()?;
        let problem = |row: usize| match self.inner.decode(&ids[row * length..(row + 1) * length]) {
            Err(error) => Some(error.to_string()),
            Ok(patch) => patch
                .offset
                .filter(|offset| *offset != offsets[row])
                .map(|offset| format!("OFFSET says {offset:?}, the columns {:?}", offsets[row])),
        };
        Ok(py.detach(|| (0..n).filter_map(|row| Some((row, problem(row)?))).collect()))
    }

    fn show(&self, ids: PyReadonlyArray1<'_, i32>) -> PyResult<Vec<String>> {
        self.inner.show(ids.as_slice()?).map_err(core_error)
    }
}

struct Atoms<'a> {
    lattice: LatticeParameters,
    atomic_numbers: &'a [u8],
    frac_coords: &'a [[f64; 3]],
}

impl Tokenizer {
    fn encode_grid<'py, T: Real + Element>(
        &self,
        py: Python<'py>,
        density: &PyReadonlyArray3<'py, T>,
        atoms: &Atoms<'_>,
        offsets: &[[usize; 3]],
    ) -> PyResult<Bound<'py, PyArray2<i32>>> {
        let dimensions = density.as_array().raw_dim();
        let view = MaterialView {
            grid_shape: [dimensions[0], dimensions[1], dimensions[2]],
            density: density.as_slice()?,
            lattice: atoms.lattice,
            atomic_numbers: atoms.atomic_numbers,
            frac_coords: atoms.frac_coords,
        };
        let pad_to = self.inner.pad_to();
        let mut rows = memory::filled(offsets.len().saturating_mul(pad_to), 0).map_err(core_error)?;
        py.detach(|| self.inner.encode(&view, offsets, &mut rows)).map_err(core_error)?;
        PyArray1::from_vec(py, rows).reshape([offsets.len(), pad_to])
    }
}

pub(crate) fn triples(array: &PyReadonlyArray2<'_, f64>) -> PyResult<Vec<[f64; 3]>> {
    let view = array.as_array();
    if view.ncols() != 3 {
        return Err(PyValueError::new_err(format!(
            "fractional coordinates have {} columns; give an array of shape (n, 3)",
            view.ncols()
        )));
    }
    Ok(view.rows().into_iter().map(|row| [row[0], row[1], row[2]]).collect())
}

/// A decoded sequence, see `tomat.Patch`.
#[pyclass(module = "tomat._core", frozen)]
pub(crate) struct Patch {
    inner: tomat_core::sequence::Patch,
}

#[pymethods]
impl Patch {
    #[getter]
    fn grid_shape(&self) -> (usize, usize, usize) {
        self.inner.grid_shape.into()
    }

    #[getter]
    fn lattice<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyArray1<f64>>> {
        self.inner.lattice.map(|lattice| PyArray1::from_slice(py, &lattice))
    }

    #[getter]
    fn atomic_numbers<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i32>> {
        PyArray1::from_iter(py, self.inner.atomic_numbers.iter().map(|&z| i32::from(z)))
    }

    #[getter]
    fn frac_coords<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let coordinates = &self.inner.frac_coords;
        PyArray1::from_iter(py, coordinates.iter().flatten().copied()).reshape([coordinates.len(), 3])
    }

    #[getter]
    fn patch_shape(&self) -> (usize, usize, usize) {
        self.inner.patch_shape.into()
    }

    #[getter]
    fn offset(&self) -> Option<(usize, usize, usize)> {
        self.inner.offset.map(Into::into)
    }

    #[getter]
    fn density<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray3<f64>>> {
        PyArray1::from_slice(py, &self.inner.density).reshape(self.inner.patch_shape)
    }
}
