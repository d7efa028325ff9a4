//! Why a material is left out of a data set. The reasons are decided here alone, in one order: what writes rows to disk,
//! what plans a run and what cuts rows while training ask the same two functions.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::codec::DensityCodec;
use crate::error::{Error, Result};
use crate::grid::{Extent, LatticeParameters};
use crate::plausibility::implausible;
use crate::sequence::Tokenizer;

/// Why a material is left out; the names are those of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// No file.
    Missing,
    /// A grid axis above 1023.
    Oversized,
    /// A lattice that cannot be encoded.
    BadLattice,
    /// No patch shape fits a row.
    Overflow,
    /// More of its electrons lie beyond the codec's range than the run allows.
    Clipped,
    /// Damaged, or not a density.
    Unreadable,
}

impl Reason {
    /// All reasons, in the order of the format page.
    pub const ALL: [Self; 6] =
        [Self::Missing, Self::Oversized, Self::BadLattice, Self::Overflow, Self::Clipped, Self::Unreadable];

    /// The name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Oversized => "oversized",
            Self::BadLattice => "bad_lattice",
            Self::Overflow => "overflow",
            Self::Clipped => "clipped",
            Self::Unreadable => "unreadable",
        }
    }

    /// The reason an error stands for.
    #[must_use]
    pub const fn of(error: &Error) -> Self {
        match error {
            Error::GridAxis { points, .. } if *points > 0 => Self::Oversized,
            Error::LatticeOutOfRange { .. } => Self::BadLattice,
            Error::Overflow { .. } => Self::Overflow,
            _ => Self::Unreadable,
        }
    }

    /// Whether the input is at fault (it is not there or is damaged), as opposed to a sound material that the
    /// format cannot hold.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        matches!(self, Self::Missing | Self::Unreadable)
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A reason, and the same in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// As the format names it.
    pub reason: Reason,
    /// What is wrong, with the numbers, and what to do.
    pub detail: String,
}

/// What a density must be like to be written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Checks {
    /// The largest share of a material's electrons that may lie above the codec's range, 0 to 1; more leaves it out.
    pub max_clipped: f64,
    /// The same of what lies below it. Clipping a negative voxel loses no electron, it makes some up; PAW densities
    /// often have 0.1 % there, which most codecs take for zero.
    pub max_negative: f64,
    /// Whether an implausible density is taken for unreadable, not only named.
    pub strict: bool,
}

impl Checks {
    /// One electron in a thousand above, one in a hundred below, and warnings.
    pub const DEFAULT: Self = Self { max_clipped: 0.001, max_negative: 0.01, strict: false };
}

/// A density in the unit of the tokenizer, and the crystal it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Grid points along x, y, z.
    pub grid_shape: [usize; 3],
    /// The cell.
    pub lattice: LatticeParameters,
    /// Its volume in cubic angstrom.
    pub volume: f64,
    /// The atoms.
    pub atomic_numbers: &'a [u8],
    /// The density, row-major.
    pub values: &'a [f32],
    /// Its sum, least and largest value.
    pub extent: Extent,
}

/// What is known of a material before any of it is encoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// Why it is left out, if it is.
    pub refusal: Option<Refusal>,
    /// What the codec clips of the whole density, where it clips anything.
    pub clipped: Option<Clipped>,
    /// What is implausible about it, in words.
    pub warnings: Vec<String>,
}

/// What a codec clips of a density: of all its voxels, whether they are in a row or not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Clipped {
    /// Voxels beyond the codec's range.
    pub voxels: u64,
    /// Electrons that are lost: the sum of `|v - clip(v)|` over all voxels.
    pub electrons: f64,
    /// Their share of the material's electrons.
    pub share: f64,
    /// The part of that share that lies below the codec's range: negative voxels.
    pub share_below: f64,
    /// The value that loses most, in the unit of the tokenizer.
    pub worst: f64,
    /// The grid point where it is.
    pub worst_voxel: [usize; 3],
}

impl Clipped {
    /// Whether it is more than a run allows.
    #[must_use]
    pub fn exceeds(&self, checks: &Checks) -> bool {
        self.share - self.share_below > checks.max_clipped || self.share_below > checks.max_negative
    }

    /// [`None`] where nothing is clipped, which the extent alone says.
    fn of(codec: &DensityCodec, subject: &Subject<'_>, electrons_per_unit: f64) -> Result<Option<Self>> {
        let (low, high) = codec.range();
        if low <= subject.extent.min && subject.extent.max <= high {
            return Ok(None);
        }
        let [_, ny, nz] = subject.grid_shape;
        Ok(codec.clipping(subject.values)?.map(|found| Self {
            voxels: found.voxels,
            electrons: (found.above + found.below) * electrons_per_unit,
            share: found.share(),
            share_below: found.share_below(),
            worst: found.worst,
            worst_voxel: [found.worst_index / (ny * nz), found.worst_index / nz % ny, found.worst_index % nz],
        }))
    }

    /// Why a density is left out as clipped, in words.
    fn detail(&self, tokenizer: &Tokenizer, n: usize, checks: &Checks, warnings: &[String]) -> String {
        let (low, high) = tokenizer.vocabulary().density_codec().range();
        let [x, y, z] = self.worst_voxel;
        let (limit, option, range) = if self.share_below > checks.max_negative {
            (
                checks.max_negative,
                "may lie below (max_negative)",
                "for negative values: a signed one, tomat codec fit",
            )
        } else {
            (checks.max_clipped, "may lie above (max_clipped)", "of a wider range: tomat codec list")
        };
        let implausible =
            if warnings.is_empty() { String::new() } else { format!("; {}", in_words(warnings)) };
        format!(
            "the codec holds {low} to {high} {unit} and would lose {percent:.3} % of the electrons ({electrons:.4}, in \
             {voxels} of {n} voxels, the worst {worst} at grid point ({x}, {y}, {z})), where {limit} % {option}; take a \
             codec {range}{implausible}",
            unit = tokenizer.unit(),
            percent = 100.0 * self.share,
            electrons = self.electrons,
            voxels = self.voxels,
            worst = self.worst,
            limit = 100.0 * limit,
        )
    }
}

fn in_words(warnings: &[String]) -> String {
    format!("implausible: {}", warnings.join("; "))
}

impl Tokenizer {
    /// Why a material is left out whatever its density is; `lattice` is `[a, b, c, alpha, beta, gamma]` in angstrom and
    /// degrees, and not looked at where it is not known.
    #[must_use]
    pub fn refusal(
        &self,
        grid_shape: [usize; 3],
        lattice: Option<[f64; 6]>,
        n_atoms: usize,
    ) -> Option<Refusal> {
        let checked = lattice
            .map(LatticeParameters::new)
            .transpose()
            .and_then(|lattice| self.check(grid_shape, lattice.as_ref(), n_atoms));
        checked.err().map(|error| Refusal { reason: Reason::of(&error), detail: error.to_string() })
    }

    /// What is known of a material before it is encoded: first what [`Self::refusal`] says, then whether it is
    /// plausible, then what is clipped.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that are NaN, or that are not as many as the grid has points.
    pub fn inspect(&self, subject: &Subject<'_>, checks: &Checks) -> Result<Inspection> {
        let n_atoms = subject.atomic_numbers.len();
        let refusal = self.refusal(subject.grid_shape, Some(subject.lattice.to_array()), n_atoms);
        if refusal.is_some() {
            return Ok(Inspection { refusal, clipped: None, warnings: Vec::new() });
        }
        let n = subject.values.len();
        if n != subject.grid_shape.iter().product::<usize>() {
            return Err(Error::invalid(format!("{n} values for the grid {:?}", subject.grid_shape)));
        }
        let electrons_per_unit = self.unit().electrons_per_value(subject.volume, n);
        let warnings =
            implausible(subject.atomic_numbers, subject.volume, subject.extent, electrons_per_unit);
        if checks.strict && !warnings.is_empty() {
            let refusal = Refusal { reason: Reason::Unreadable, detail: in_words(&warnings) };
            return Ok(Inspection { refusal: Some(refusal), clipped: None, warnings });
        }
        let clipped = Clipped::of(self.vocabulary().density_codec(), subject, electrons_per_unit)?;
        let refusal = clipped
            .filter(|lost| lost.exceeds(checks))
            .map(|lost| Refusal { reason: Reason::Clipped, detail: lost.detail(self, n, checks, &warnings) });
        Ok(Inspection { refusal, clipped, warnings })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::codec::LogCodec;
    use crate::sequence::{FALLBACK_SHAPES, Layout};

    const CELL: [f64; 6] = [4.0, 4.0, 4.0, 90.0, 90.0, 90.0];
    const LONG: [f64; 6] = [51.18, 4.0, 4.0, 90.0, 90.0, 90.0];

    fn tokenizer() -> Tokenizer {
        let codec = DensityCodec::Log(Arc::new(LogCodec::new(-4.0, 1.0, &[8]).unwrap()));
        Tokenizer::new(Layout::named("v3").unwrap(), codec, Some(4), 256, FALLBACK_SHAPES.to_vec()).unwrap()
    }

    #[test]
    fn the_first_reason_in_the_order_of_the_format_counts() {
        let said = |grid, lattice, n_atoms| {
            tokenizer().refusal(grid, lattice, n_atoms).map(|refusal| refusal.reason)
        };
        assert_eq!(said([4; 3], Some(CELL), 1), None);
        assert_eq!(said([4; 3], None, 1), None);
        assert_eq!(said([4, 1024, 4], Some(LONG), 500), Some(Reason::Oversized));
        assert_eq!(said([4; 3], Some(LONG), 500), Some(Reason::BadLattice));
        assert_eq!(said([4; 3], None, 500), Some(Reason::Overflow));
        // What no reader would have taken.
        for (grid, lattice, n_atoms) in
            [([4, 0, 4], CELL, 1), ([4; 3], CELL, 0), ([4; 3], [0.0; 6], 1), ([1024; 3], [f64::NAN; 6], 1)]
        {
            assert_eq!(said(grid, Some(lattice), n_atoms), Some(Reason::Unreadable));
        }
    }

    #[test]
    fn then_plausibility_then_clipping() {
        let inspect = |values: &[f32], lattice: [f64; 6], checks: &Checks| {
            let extent = Extent {
                sum: values.iter().map(|&v| f64::from(v)).sum(),
                min: values.iter().copied().fold(f32::INFINITY, f32::min).into(),
                max: values.iter().copied().fold(f32::NEG_INFINITY, f32::max).into(),
            };
            let lattice = LatticeParameters::new(lattice).unwrap();
            let subject = Subject {
                grid_shape: [1, 1, values.len()],
                lattice,
                volume: 64.0,
                atomic_numbers: &[14],
                values,
                extent,
            };
            tokenizer().inspect(&subject, checks).unwrap()
        };
        let reason = |found: Inspection| found.refusal.map(|refusal| refusal.reason);
        let strict = Checks { strict: true, ..Checks::DEFAULT };
        let fine = inspect(&[4.0; 4], CELL, &strict);
        assert_eq!(fine, Inspection { refusal: None, clipped: None, warnings: Vec::new() });
        assert_eq!(reason(inspect(&[50.0; 4], LONG, &strict)), Some(Reason::BadLattice));
        assert_eq!(reason(inspect(&[50.0; 4], CELL, &strict)), Some(Reason::Unreadable));
        let lost = inspect(&[50.0; 4], CELL, &Checks::DEFAULT);
        assert_eq!(lost.clipped.unwrap().voxels, 4);
        let refusal = lost.refusal.unwrap();
        assert_eq!(refusal.reason, Reason::Clipped);
        assert!(
            refusal.detail.contains("80.000 % of the electrons (40.0000, in 4 of 4 voxels"),
            "{}",
            refusal.detail
        );
        assert!(refusal.detail.contains("may lie above (max_clipped)"), "{}", refusal.detail);
        let allowed = inspect(&[50.0; 4], CELL, &Checks { max_clipped: 0.9, ..Checks::DEFAULT });
        assert!(allowed.refusal.is_none() && allowed.clipped.is_some());
    }
}
