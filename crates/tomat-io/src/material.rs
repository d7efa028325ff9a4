//! What every reader returns: a density with its unit, the crystal it belongs to, and facts about its file.

use tomat_core::grid::{Crystal, Density};

/// An electron density and its crystal, as read from one file or folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Material {
    /// The name of the material, taken from the name of the file or folder ([`crate::task_id`]).
    pub task_id: String,
    /// The density, `nx * ny * nz` values in float32, row-major, in the unit its file has.
    pub density: Density,
    /// The cell in angstrom and its atoms.
    pub crystal: Crystal,
    /// What the file said beyond that.
    pub source: SourceFacts,
}

/// Facts about the file that the density itself does not show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFacts {
    /// The layout of the file: `zarr`, or the `NAME` of the module of a text format.
    pub format: &'static str,
    /// Whether the file holds a magnetisation density beside the total density.
    pub has_spin: bool,
    /// Whether that magnetisation is a vector field (spin-orbit or non-collinear calculation).
    pub non_collinear: bool,
    /// Whether the file holds PAW augmentation occupancies.
    pub has_augmentation: bool,
    /// The id the file records inside (`task_id` of the Zarr `metadata` attribute). The name of the folder wins
    /// where the two differ.
    pub recorded_task_id: Option<String>,
}

impl SourceFacts {
    /// A total density in a format, and nothing else.
    #[must_use]
    pub const fn plain(format: &'static str) -> Self {
        Self {
            format,
            has_spin: false,
            non_collinear: false,
            has_augmentation: false,
            recorded_task_id: None,
        }
    }
}
