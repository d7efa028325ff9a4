//! Crystals and densities: axis order, units, lattices.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::passes;
pub use crate::passes::{Extent, Real};

/// The largest grid axis the token format can write (an int token holds 0 to 1023).
pub const MAX_GRID_AXIS: usize = 1023;

/// The convention of the numbers in a density array. A density without its unit is a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// `rho(r) * V_cell` in electrons: the mean over the grid is the number of electrons in the cell.
    Chgcar,
    /// `rho(r)` in electrons per cubic angstrom: the mean over the grid is electrons / V_cell.
    ElectronsPerCubicAngstrom,
}

impl Unit {
    /// The name used in files and on the command line: `chgcar` or `e_per_A3`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chgcar => "chgcar",
            Self::ElectronsPerCubicAngstrom => "e_per_A3",
        }
    }

    /// The electrons that a value of one stands for in one of `n` voxels of a cell of `volume` cubic angstrom.
    #[must_use]
    pub fn electrons_per_value(self, volume: f64, n: usize) -> f64 {
        let volume = if self == Self::Chgcar { 1.0 } else { volume };
        volume / n as f64
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Unit {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "chgcar" => Ok(Self::Chgcar),
            "e_per_A3" => Ok(Self::ElectronsPerCubicAngstrom),
            _ => Err(Error::Unknown {
                what: "unit",
                name: name.to_owned(),
                known: "chgcar, e_per_A3".to_owned(),
            }),
        }
    }
}

/// Cell lengths in angstrom and angles in degrees: `a b c alpha beta gamma`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatticeParameters {
    /// `a, b, c` in angstrom.
    pub lengths: [f64; 3],
    /// `alpha, beta, gamma` in degrees.
    pub angles: [f64; 3],
}

impl LatticeParameters {
    /// From `[a, b, c, alpha, beta, gamma]`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a number is not finite, a length is not positive or an angle is not in (0, 180).
    pub fn new(parameters: [f64; 6]) -> Result<Self> {
        let [a, b, c, alpha, beta, gamma] = parameters;
        let (lengths, angles) = ([a, b, c], [alpha, beta, gamma]);
        if lengths.iter().any(|&x| !(x.is_finite() && x > 0.0)) {
            return Err(Error::invalid(format!(
                "lattice lengths {lengths:?} angstrom must be finite and above zero"
            )));
        }
        if angles.iter().any(|&x| !(x.is_finite() && x > 0.0 && x < 180.0)) {
            return Err(Error::invalid(format!(
                "lattice angles {angles:?} must lie between 0 and 180 degrees (radians were given?)"
            )));
        }
        Ok(Self { lengths, angles })
    }

    /// `[a, b, c, alpha, beta, gamma]`.
    #[must_use]
    pub fn to_array(self) -> [f64; 6] {
        let ([a, b, c], [alpha, beta, gamma]) = (self.lengths, self.angles);
        [a, b, c, alpha, beta, gamma]
    }
}

/// A lattice: rows of the matrix are the vectors a, b, c in angstrom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lattice {
    matrix: [[f64; 3]; 3],
}

impl Lattice {
    /// From a matrix whose rows are a, b, c in angstrom.
    ///
    /// # Errors
    /// [`Error::Invalid`] when an entry is not finite or the three vectors span no volume.
    pub fn from_matrix(matrix: [[f64; 3]; 3]) -> Result<Self> {
        if matrix.iter().flatten().any(|x| !x.is_finite()) {
            return Err(Error::invalid(format!(
                "lattice matrix {matrix:?} holds a value that is not finite"
            )));
        }
        let lattice = Self { matrix };
        let longest = matrix.iter().map(|v| dot(*v, *v).sqrt()).fold(0.0, f64::max);
        if lattice.volume() <= 1e-12 * longest.powi(3) {
            return Err(Error::invalid(format!(
                "lattice vectors {matrix:?} angstrom span no volume; give three independent rows a, b, c"
            )));
        }
        Ok(lattice)
    }

    /// The matrix, rows a, b, c in angstrom.
    #[must_use]
    pub const fn matrix(&self) -> &[[f64; 3]; 3] {
        &self.matrix
    }

    /// The cell volume in cubic angstrom.
    #[must_use]
    pub fn volume(&self) -> f64 {
        let [a, b, c] = self.matrix;
        dot(a, cross(b, c)).abs()
    }

    /// Lengths and angles, computed in the order pymatgen computes them, so that values on the edge between two
    /// bins of the LATTICE block fall on the same side.
    #[must_use]
    pub fn parameters(&self) -> LatticeParameters {
        let lengths = self.matrix.map(|v| dot(v, v).sqrt());
        let angle = |i: usize| {
            let (j, k) = ((i + 1) % 3, (i + 2) % 3);
            let cosine = dot(self.matrix[j], self.matrix[k]) / (lengths[j] * lengths[k]);
            cosine.clamp(-1.0, 1.0).acos() * 180.0 / std::f64::consts::PI
        };
        LatticeParameters { lengths, angles: [angle(0), angle(1), angle(2)] }
    }
}

pub(crate) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(crate) fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

/// The atoms of a cell: `n` atomic numbers and `n` fractional coordinates, in the order of the structure.
#[derive(Debug, Clone, PartialEq)]
pub struct Crystal {
    /// The cell.
    pub lattice: Lattice,
    /// Atomic numbers, 1 to 118.
    pub atomic_numbers: Vec<u8>,
    /// Fractional coordinates, one triple an atom; values outside [0, 1) are allowed and wrap.
    pub frac_coords: Vec<[f64; 3]>,
}

impl Crystal {
    /// Checks and builds a crystal.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there are no atoms, the two lists differ in length, an atomic number is outside
    /// 1 to 118 or a coordinate is not finite.
    pub fn new(lattice: Lattice, atomic_numbers: Vec<u8>, frac_coords: Vec<[f64; 3]>) -> Result<Self> {
        check_atoms(&atomic_numbers, &frac_coords)?;
        Ok(Self { lattice, atomic_numbers, frac_coords })
    }
}

pub(crate) fn no_atoms() -> Error {
    Error::invalid("the structure has no atoms; at least one is needed")
}

pub(crate) fn check_atoms(atomic_numbers: &[u8], frac_coords: &[[f64; 3]]) -> Result<()> {
    if atomic_numbers.is_empty() {
        return Err(no_atoms());
    }
    if atomic_numbers.len() != frac_coords.len() {
        return Err(Error::invalid(format!(
            "{} atomic numbers but {} fractional coordinates; one triple an atom is needed",
            atomic_numbers.len(),
            frac_coords.len()
        )));
    }
    if let Some(z) = atomic_numbers.iter().find(|&&z| !(1..=118).contains(&z)) {
        return Err(Error::invalid(format!("atomic number {z} is not an element; give 1 (H) to 118 (Og)")));
    }
    if let Some(i) = frac_coords.iter().position(|x| x.iter().any(|v| !v.is_finite())) {
        return Err(Error::invalid(format!(
            "fractional coordinates {:?} of atom {i} are not finite",
            frac_coords[i]
        )));
    }
    Ok(())
}

/// A density on a periodic grid of `nx * ny * nz` points, row-major (the last axis is the fastest).
///
/// Point `(i, j, k)` lies at fractional coordinates `(i/nx, j/ny, k/nz)`. All values are finite.
#[derive(Debug, Clone, PartialEq)]
pub struct Density {
    shape: [usize; 3],
    unit: Unit,
    values: Vec<f32>,
}

impl Density {
    /// Checks and builds a density.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the number of values is not the product of the shape, an axis is zero, or a value is
    /// NaN or infinite.
    pub fn new(shape: [usize; 3], unit: Unit, values: Vec<f32>) -> Result<Self> {
        check_values(shape, &values)?;
        Ok(Self { shape, unit, values })
    }

    /// Grid points along x, y, z.
    #[must_use]
    pub const fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The convention of the values.
    #[must_use]
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// The values, row-major.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values, row-major, by move.
    #[must_use]
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// The same density in another convention; `volume` is the cell volume in cubic angstrom. The product is taken
    /// in float64 and rounded once.
    #[must_use]
    pub fn into_unit(mut self, unit: Unit, volume: f64) -> Self {
        let factor = match (self.unit, unit) {
            (Unit::Chgcar, Unit::ElectronsPerCubicAngstrom) => 1.0 / volume,
            (Unit::ElectronsPerCubicAngstrom, Unit::Chgcar) => volume,
            _ => return self,
        };
        for value in &mut self.values {
            *value = (f64::from(*value) * factor) as f32;
        }
        self.unit = unit;
        self
    }

    /// Sum, least and largest value, in one fast pass.
    #[must_use]
    pub fn extent(&self) -> Extent {
        passes::extent(&self.values)
    }
}

/// Refuses NaN: it has no code. Infinities clip like any large number.
pub(crate) fn check_not_nan<T: Real>(values: &[T]) -> Result<()> {
    if !passes::all(values, |v| !v.nan()) {
        let index = values.iter().position(|v| v.nan()).unwrap_or(0);
        return Err(Error::invalid(format!(
            "value {index} is NaN and has no code; remove it or fill it before encoding"
        )));
    }
    Ok(())
}

/// Checks a row-major density array against its shape.
///
/// # Errors
/// [`Error::Invalid`] as for [`Density::new`].
pub fn check_values<T: Real>(shape: [usize; 3], values: &[T]) -> Result<()> {
    let expected = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    if expected.is_none_or(|n| n == 0 || n != values.len()) {
        return Err(Error::invalid(format!(
            "a density of shape {shape:?} cannot have {} values; give an array with three axes, none of them empty",
            values.len()
        )));
    }
    if !passes::all(values, Real::finite) {
        let index = values.iter().position(|v| !v.finite()).unwrap_or(0);
        let value: f64 = values[index].into();
        let [_, ny, nz] = shape;
        return Err(Error::invalid(format!(
            "the density is {value} at grid point ({}, {}, {}); every value must be finite",
            index / (ny * nz),
            index / nz % ny,
            index % nz
        )));
    }
    Ok(())
}

/// Checks that every axis of a grid can be written as an int token.
///
/// # Errors
/// [`Error::GridAxis`] for the first axis that is zero or above [`MAX_GRID_AXIS`].
pub fn check_grid(shape: [usize; 3]) -> Result<()> {
    for (axis, points) in ['x', 'y', 'z'].into_iter().zip(shape) {
        if points == 0 || points > MAX_GRID_AXIS {
            return Err(Error::GridAxis { axis, points, limit: MAX_GRID_AXIS });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_cubic_and_a_hexagonal_cell() {
        let cubic = Lattice::from_matrix([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]]).unwrap();
        assert_eq!(cubic.parameters(), LatticeParameters { lengths: [4.0; 3], angles: [90.0; 3] });
        assert!((cubic.volume() - 64.0).abs() < 1e-12);
        let h = 3.0_f64.sqrt() / 2.0;
        let hexagonal =
            Lattice::from_matrix([[2.0, 0.0, 0.0], [-1.0, 2.0 * h, 0.0], [0.0, 0.0, 5.0]]).unwrap();
        let gamma = hexagonal.parameters().angles[2];
        assert!((gamma - 120.0).abs() < 1e-12);
    }

    #[test]
    fn flat_and_broken_lattices_are_refused() {
        assert!(Lattice::from_matrix([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).is_err());
        assert!(Lattice::from_matrix([[f64::NAN, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).is_err());
        assert!(LatticeParameters::new([1.0, 1.0, 1.0, 90.0, 90.0, 180.0]).is_err());
        assert!(LatticeParameters::new([0.0, 1.0, 1.0, 90.0, 90.0, 90.0]).is_err());
    }

    #[test]
    fn a_density_names_its_first_bad_value() {
        let mut values = vec![1.0_f32; 2 * 3 * 4];
        values[17] = f32::NAN;
        let message = Density::new([2, 3, 4], Unit::Chgcar, values).unwrap_err().to_string();
        assert!(message.contains("NaN at grid point (1, 1, 1)"), "{message}");
        assert!(Density::new([2, 3, 4], Unit::Chgcar, vec![1.0; 23]).is_err());
        assert!(Density::new([0, 3, 4], Unit::Chgcar, vec![]).is_err());
        assert!(Density::new([usize::MAX, 2, 4], Unit::Chgcar, vec![]).is_err());
    }

    #[test]
    fn units_convert_there_and_back() {
        let density = Density::new([1, 1, 2], Unit::Chgcar, vec![8.0, 4.0]).unwrap();
        let per_volume = density.clone().into_unit(Unit::ElectronsPerCubicAngstrom, 16.0);
        assert_eq!(per_volume.values(), [0.5, 0.25]);
        assert_eq!(per_volume.into_unit(Unit::Chgcar, 16.0), density);
        assert_eq!("e_per_A3".parse::<Unit>().unwrap(), Unit::ElectronsPerCubicAngstrom);
        assert!("bohr".parse::<Unit>().is_err());
    }
}
