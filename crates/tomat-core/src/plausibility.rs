//! Whether a density and its crystal can belong together. Nothing here is wrong for the format: numbers like these come
//! from files in another unit, of another quantity, or damaged where no checksum tells.

use crate::grid::Extent;
use crate::promolecule::analytic::valence_electrons;

/// How far the electrons may lie above the sum of the atomic numbers: the grid integrates, and files round.
const SLACK: f64 = 1e-3;
/// Cubic angstrom an atom: the densest solids have 5; a molecule in a large box has thousands.
const VOLUME_OF_AN_ATOM: std::ops::RangeInclusive<f64> = 1.0..=1e6;

/// What is implausible about a density, in words; nothing for one that can be.
///
/// `volume` is that of the cell in cubic angstrom; `electrons_per_unit` are the electrons that a value of one stands for in one voxel: 1 / N in
/// [`crate::grid::Unit::Chgcar`], V / N in electrons per cubic angstrom.
#[must_use]
pub fn implausible(
    atomic_numbers: &[u8],
    volume: f64,
    extent: Extent,
    electrons_per_unit: f64,
) -> Vec<String> {
    let electrons = extent.sum * electrons_per_unit;
    let nuclear: f64 = atomic_numbers.iter().map(|&z| f64::from(z)).sum();
    let valence: f64 = atomic_numbers.iter().map(|&z| f64::from(valence_electrons(z).unwrap_or(z))).sum();
    let mut found = Vec::new();
    if !(electrons > 0.0 && electrons <= nuclear * (1.0 + SLACK)) {
        found.push(format!(
            "the density holds {electrons:.4} electrons, but its atoms can have more than 0 and up to {nuclear} \
             (their atomic numbers): it is in another unit, or no electron density"
        ));
    }
    let most = extent.max * electrons_per_unit;
    let bound = valence.min(electrons.max(0.0));
    if most > bound {
        found.push(format!(
            "one voxel holds {most:.4} electrons, more than all of the cell should ({bound:.4}): the file is damaged, or \
             the density is not of valence electrons"
        ));
    }
    let volume = volume / atomic_numbers.len() as f64;
    if !VOLUME_OF_AN_ATOM.contains(&volume) {
        found.push(format!(
            "the cell has {volume:.4} cubic angstrom an atom, solids and molecules in a box have {} to {}: its lengths \
             are not in angstrom, or atoms are missing",
            VOLUME_OF_AN_ATOM.start(),
            VOLUME_OF_AN_ATOM.end()
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::{Density, Unit};

    fn says(values: Vec<f32>, edge: f64) -> String {
        let n = values.len();
        let density = Density::new([1, 1, n], Unit::Chgcar, values).unwrap();
        let volume = edge.powi(3);
        implausible(
            &[14, 14],
            volume,
            density.extent(),
            density.unit().electrons_per_value(volume, density.values().len()),
        )
        .join("; ")
    }

    #[test]
    fn valence_and_all_electrons_are_plausible() {
        assert_eq!(says(vec![4.0, 12.0, 8.0, 8.0], 5.4), "");
        assert_eq!(says(vec![28.0; 8], 5.4), "");
        assert_eq!(says(vec![28.02; 8], 5.4), "");
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (values, edge, words) in [
            (vec![30.0; 8], 5.4, "holds 30.0000 electrons"),
            (vec![0.0; 8], 5.4, "holds 0.0000 electrons"),
            (vec![-1.0; 8], 5.4, "holds -1.0000 electrons"),
            // 12 electrons in all and in range, 10 of them in one voxel.
            (vec![80.0, 4.0, 4.0, 4.0, 1.0, 1.0, 1.0, 1.0], 5.4, "one voxel holds 10.0000 electrons"),
            (vec![60.0, -10.0, -2.0, 0.0, 0.0, 0.0, 0.0, 0.0], 5.4, "one voxel holds 7.5000 electrons"),
            (vec![8.0; 8], 0.54, "0.0787 cubic angstrom an atom"),
            (vec![8.0; 8], 540.0, "cubic angstrom an atom"),
        ] {
            assert!(says(values, edge).contains(words), "{words}");
        }
    }

    #[test]
    fn the_unit_does_not_matter() {
        let density = Density::new([1, 2, 2], Unit::Chgcar, vec![4.0, 12.0, 8.0, 8.0]).unwrap();
        let volume = 5.4_f64.powi(3);
        let per_volume = density.clone().into_unit(Unit::ElectronsPerCubicAngstrom, volume);
        for density in [density, per_volume] {
            let electrons =
                density.extent().sum * density.unit().electrons_per_value(volume, density.values().len());
            assert!((electrons - 8.0).abs() < 1e-5, "{electrons}");
        }
    }
}
