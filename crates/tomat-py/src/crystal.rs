//! Rows of crystals: arrays of whole numbers in, token ids out, and back.

use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tomat_core::crystal::{
    Answer, Condition, CrystalLanguage as Language, CrystalRow, FIRST_COLUMN, Resolution, Site,
};
use tomat_core::grid::LatticeParameters;
use tomat_core::vocabulary::Ids;

use crate::codec::DensityCodec;
use crate::errors::core_error;

/// A slot with the numbers behind it; of a formula, atomic numbers and counts in turn.
type Slot = (u16, Vec<u16>);
/// Elements and positions that answer what was masked.
type Answered<'py> = (Bound<'py, PyArray1<i32>>, Bound<'py, PyArray2<i32>>);
/// Conditions, cell, elements, positions, answer.
type Row<'py> =
    (Vec<Slot>, [u32; 6], Bound<'py, PyArray1<i32>>, Bound<'py, PyArray2<i32>>, Option<Answered<'py>>);

/// Writes and reads rows of crystals, see `tomat.language.CrystalLanguage`.
#[pyclass(module = "tomat._core", frozen)]
pub(crate) struct CrystalLanguage {
    inner: Language,
}

#[pymethods]
impl CrystalLanguage {
    #[new]
    fn new(positions: usize, codec: Option<&Bound<'_, DensityCodec>>) -> PyResult<Self> {
        let codec = codec.map(|codec| codec.get().inner.clone());
        let inner = Resolution::of(positions).and_then(|resolution| Language::new(resolution, codec));
        Ok(Self { inner: inner.map_err(core_error)? })
    }

    #[getter]
    fn total_size(&self) -> usize {
        self.inner.vocabulary().total_size()
    }

    #[getter]
    fn atom_range(&self) -> (i32, i32) {
        let range = self.inner.vocabulary().atom_range();
        (range.start, range.end)
    }

    #[getter]
    fn int_range(&self) -> (i32, i32) {
        let range = self.inner.vocabulary().int_range();
        (range.start, range.end)
    }

    #[getter]
    fn density_range(&self) -> (i32, i32) {
        let range = self.inner.vocabulary().density_range();
        (range.start, range.end)
    }

    #[getter]
    fn specials<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, id) in self.inner.vocabulary().specials() {
            dict.set_item(name, id)?;
        }
        Ok(dict)
    }

    #[getter]
    fn hash(&self) -> String {
        self.inner.vocabulary().hash()
    }

    fn name(&self, id: i32) -> PyResult<String> {
        self.inner.vocabulary().name(id).map_err(core_error)
    }

    fn show(&self, ids: PyReadonlyArray1<'_, i32>) -> PyResult<Vec<String>> {
        self.inner.show(ids.as_slice()?).map_err(core_error)
    }

    /// The cell and the positions of a crystal in whole numbers.
    fn quantize<'py>(
        &self,
        py: Python<'py>,
        lattice: [f64; 6],
        atomic_numbers: PyReadonlyArray1<'_, i32>,
        frac_coords: PyReadonlyArray2<'_, f64>,
    ) -> PyResult<([u32; 6], Bound<'py, PyArray2<i32>>)> {
        let row = LatticeParameters::new(lattice)
            .and_then(|lattice| {
                let numbers: Vec<u8> = atomic_numbers
                    .as_array()
                    .iter()
                    .map(|&z| u8::try_from(z).unwrap_or(u8::MAX)) // no element: refused
                    .collect();
                let places: Vec<[f64; 3]> =
                    frac_coords.as_array().rows().into_iter().map(|x| [x[0], x[1], x[2]]).collect();
                CrystalRow::of(lattice, &numbers, &places, self.inner.resolution())
            })
            .map_err(core_error)?;
        let positions: Vec<[u16; 3]> = row.sites.iter().filter_map(|site| site.position).collect();
        Ok((cell_of(&row), positions_out(py, positions.iter().map(Some))?))
    }

    /// The tokens of a row, in a frame moved by whole steps; a 0 for an element, or a negative coordinate, is `[MASK]`.
    #[pyo3(signature = (conditions, cell, elements, positions, answer=None, frame=[0, 0, 0]))]
    #[allow(clippy::too_many_arguments)] // the parts of a row
    fn encode<'py>(
        &self,
        py: Python<'py>,
        conditions: Vec<Slot>,
        cell: [u32; 6],
        elements: PyReadonlyArray1<'_, i32>,
        positions: PyReadonlyArray2<'_, i32>,
        answer: Option<(PyReadonlyArray1<'_, i32>, PyReadonlyArray2<'_, i32>)>,
        frame: [u16; 3],
    ) -> PyResult<Bound<'py, PyArray1<i32>>> {
        let [a, b, c, alpha, beta, gamma] = cell;
        let (elements, positions) = (elements_in(&elements), positions_in(&positions)?);
        if elements.len() != positions.len() {
            return Err(PyValueError::new_err(format!(
                "{} elements but {} positions; one triple an atom is needed",
                elements.len(),
                positions.len()
            )));
        }
        let sites = elements
            .into_iter()
            .zip(positions)
            .map(|(element, position)| Site { element: (element != 0).then_some(element), position });
        let answer = answer
            .map(|(elements, positions)| {
                let places = positions_in(&positions)?;
                let positions: Option<Vec<[u16; 3]>> = places.into_iter().collect();
                let positions =
                    positions.ok_or_else(|| PyValueError::new_err("an answer has a masked position"))?;
                Ok::<_, PyErr>(Answer { elements: elements_in(&elements), positions })
            })
            .transpose()?;
        let mut row = CrystalRow {
            conditions: conditions.into_iter().map(condition_in).collect::<PyResult<_>>()?,
            lengths: [a, b, c],
            angles: [alpha, beta, gamma],
            sites: sites.collect(),
            answer,
        };
        row.translate(frame, self.inner.resolution());
        let ids = self.inner.encode(&row).map_err(core_error)?;
        Ok(PyArray1::from_vec(py, ids))
    }

    fn decode<'py>(&self, py: Python<'py>, ids: PyReadonlyArray1<'_, i32>) -> PyResult<Row<'py>> {
        let row = self.inner.decode(ids.as_slice()?).map_err(core_error)?;
        let elements = row.sites.iter().map(|site| site.element.map_or(0, i32::from));
        let answer = row
            .answer
            .as_ref()
            .map(|answer| {
                let elements = PyArray1::from_iter(py, answer.elements.iter().map(|&z| i32::from(z)));
                Ok::<_, PyErr>((elements, positions_out(py, answer.positions.iter().map(Some))?))
            })
            .transpose()?;
        Ok((
            row.conditions.iter().map(condition_out).collect(),
            cell_of(&row),
            PyArray1::from_iter(py, elements),
            positions_out(py, row.sites.iter().map(|site| site.position.as_ref()))?,
            answer,
        ))
    }
}

fn cell_of(row: &CrystalRow) -> [u32; 6] {
    let ([a, b, c], [alpha, beta, gamma]) = (row.lengths, row.angles);
    [a, b, c, alpha, beta, gamma]
}

/// Atomic numbers; what is none becomes one that is refused.
fn elements_in(elements: &PyReadonlyArray1<'_, i32>) -> Vec<u8> {
    elements.as_array().iter().map(|&z| u8::try_from(z).unwrap_or(u8::MAX)).collect()
}

fn positions_in(positions: &PyReadonlyArray2<'_, i32>) -> PyResult<Vec<Option<[u16; 3]>>> {
    let array = positions.as_array();
    if array.ncols() != 3 {
        return Err(PyValueError::new_err(format!("positions have {} columns, not 3", array.ncols())));
    }
    let rows = array.rows().into_iter().map(|x| {
        // What does not fit becomes a coordinate that is refused.
        (x[0] >= 0).then(|| [x[0], x[1], x[2]].map(|x| u16::try_from(x).unwrap_or(u16::MAX)))
    });
    Ok(rows.collect())
}

fn positions_out<'py, 'a>(
    py: Python<'py>,
    positions: impl ExactSizeIterator<Item = Option<&'a [u16; 3]>>,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let n = positions.len();
    let flat: Vec<i32> =
        positions.flat_map(|position| position.map_or([-1; 3], |of| of.map(i32::from))).collect();
    PyArray1::from_vec(py, flat).reshape([n, 3])
}

fn condition_in((slot, values): Slot) -> PyResult<Condition> {
    let wrong = |needed: &str| {
        Err(PyValueError::new_err(format!("slot {slot} with {} numbers; give {needed}", values.len())))
    };
    match (slot, &values[..]) {
        (0, counts) if counts.len() % 2 == 0 => Ok(Condition::Formula(
            counts.chunks_exact(2).map(|of| (u8::try_from(of[0]).unwrap_or(u8::MAX), of[1])).collect(),
        )),
        (0, _) => wrong("an atomic number and a count of each element"),
        (1, &[n]) => Ok(Condition::Atoms(n)),
        (2, &[number]) => Ok(Condition::SpaceGroup(number)),
        (FIRST_COLUMN.., &[bin]) => Ok(Condition::Column { slot, bin }),
        _ => wrong("one"),
    }
}

fn condition_out(condition: &Condition) -> Slot {
    let values = match condition {
        Condition::Formula(counts) => counts.iter().flat_map(|&(z, count)| [u16::from(z), count]).collect(),
        Condition::Atoms(value) | Condition::SpaceGroup(value) | Condition::Column { bin: value, .. } => {
            vec![*value]
        }
    };
    (condition.slot(), values)
}
