//! Crystals out of pymatgen's JSON, and Cartesian coordinates into fractional ones.

use serde::Deserialize;
use tomat_core::grid::{Crystal, Lattice};

use tomat_core::elements::atomic_number_of_species;

/// The part of a pymatgen `Structure` dict that makes a crystal.
#[derive(Deserialize)]
struct StructureDict {
    lattice: LatticeDict,
    sites: Vec<SiteDict>,
}

#[derive(Deserialize)]
struct LatticeDict {
    /// Rows a, b, c in angstrom.
    matrix: [[f64; 3]; 3],
}

#[derive(Deserialize)]
struct SiteDict {
    species: Vec<SpeciesDict>,
    /// Fractional coordinates.
    abc: [f64; 3],
}

#[derive(Deserialize)]
struct SpeciesDict {
    /// `Si`; older dicts of species with an oxidation state may say `Si4+`.
    element: String,
    occu: f64,
}

/// Reads the JSON text of a pymatgen `Structure` dict (`json.dumps(structure.as_dict())`).
///
/// # Errors
/// A sentence saying what is wrong, for the reader to put the name of the file before it.
pub fn crystal_from_json(text: &str) -> Result<Crystal, String> {
    let dict: StructureDict = serde_json::from_str(text).map_err(|e| {
        format!("it is not the JSON of a pymatgen Structure ({e}); write json.dumps(structure.as_dict())")
    })?;
    let mut atomic_numbers = Vec::with_capacity(dict.sites.len());
    for (i, site) in dict.sites.iter().enumerate() {
        atomic_numbers.push(ordered_site(site).map_err(|problem| format!("site {i}: {problem}"))?);
    }
    let frac_coords = dict.sites.iter().map(|site| site.abc).collect();
    let lattice = Lattice::from_matrix(dict.lattice.matrix).map_err(|e| e.to_string())?;
    Crystal::new(lattice, atomic_numbers, frac_coords).map_err(|e| e.to_string())
}

/// The element of a site that holds exactly one.
fn ordered_site(site: &SiteDict) -> Result<u8, String> {
    let [species] = site.species.as_slice() else {
        return Err(format!(
            "it is shared by {} species; a disordered structure has no density of its own, give an ordered one",
            site.species.len()
        ));
    };
    if (species.occu - 1.0).abs() > 1e-6 {
        return Err(format!(
            "{:?} occupies it to {}; a disordered structure has no density of its own, give an ordered one",
            species.element, species.occu
        ));
    }
    atomic_number_of_species(&species.element)
        .ok_or_else(|| format!("{:?} is not an element; dummy species cannot be written", species.element))
}

/// Fractional coordinates of a Cartesian position in angstrom: its projections on the reciprocal vectors.
#[must_use]
pub fn fractional(lattice: &Lattice, position: [f64; 3]) -> [f64; 3] {
    let [a, b, c] = *lattice.matrix();
    let determinant = dot(a, cross(b, c));
    [cross(b, c), cross(c, a), cross(a, b)].map(|reciprocal| dot(position, reciprocal) / determinant)
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure(species: &str) -> String {
        format!(
            r#"{{"@class": "Structure", "charge": 0, "lattice": {{"matrix": [[5.65, 0, 0], [0.1, 4.0, 0], [0, 0, 3.0]],
            "a": 1.0}}, "sites": [{{"species": [{species}], "abc": [0.25, -0.5, 1.5], "label": "Si"}}]}}"#
        )
    }

    #[test]
    fn species_as_pymatgen_writes_them() {
        for species in [
            r#"{"element": "Si", "occu": 1}"#,
            r#"{"element": "Si", "oxidation_state": 4.0, "occu": 1.0}"#,
            r#"{"element": "Si4+", "occu": 1}"#,
            r#"{"element": "Si", "oxidation_state": null, "spin": 2, "occu": 1.0}"#,
        ] {
            let crystal = crystal_from_json(&structure(species)).unwrap();
            assert_eq!((crystal.atomic_numbers, crystal.frac_coords), (vec![14], vec![[0.25, -0.5, 1.5]]));
            assert_eq!(crystal.lattice.matrix()[0].map(f64::to_bits), [5.65_f64, 0.0, 0.0].map(f64::to_bits));
        }
    }

    #[test]
    fn structures_that_cannot_be_written_say_why() {
        for (species, reason) in [
            (r#"{"element": "Si", "occu": 0.5}"#, "occupies it to 0.5"),
            (r#"{"element": "Si", "occu": 0.5}, {"element": "Ge", "occu": 0.5}"#, "shared by 2 species"),
            ("", "shared by 0 species"),
            (r#"{"element": "X", "occu": 1}"#, "not an element"),
            (r#"{"occu": 1}"#, "missing field"),
        ] {
            let message = crystal_from_json(&structure(species)).unwrap_err();
            assert!(message.contains(reason), "{message}");
        }
        for text in ["", "{}", "[]", "not JSON", r#"{"lattice": {"matrix": [[1, 0, 0]]}, "sites": []}"#] {
            assert!(crystal_from_json(text).unwrap_err().contains("pymatgen Structure"));
        }
        let empty = r#"{"lattice": {"matrix": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]}, "sites": []}"#;
        assert!(crystal_from_json(empty).unwrap_err().contains("no atoms"));
    }

    #[test]
    fn floats_keep_every_bit() {
        // The default parser of serde_json is one unit off here; lattice bins must not depend on that.
        for value in [2.683_782_201_377_245_f64, 57.684_033_292_302_51, 1.898_045_427_508_840_8] {
            let text = structure(r#"{"element": "Si", "occu": 1}"#).replace("5.65", &format!("{value:?}"));
            assert_eq!(crystal_from_json(&text).unwrap().lattice.matrix()[0][0].to_bits(), value.to_bits());
        }
    }

    #[test]
    fn fractional_inverts_the_lattice() {
        let lattice = Lattice::from_matrix([[0.0, 2.5, 2.5], [2.5, 0.0, 2.5], [-2.5, 2.5, 0.1]]).unwrap();
        let m = lattice.matrix();
        let fraction = [0.25, -0.5, 1.75];
        let position: [f64; 3] = std::array::from_fn(|x| (0..3).map(|i| fraction[i] * m[i][x]).sum());
        for (back, there) in fractional(&lattice, position).into_iter().zip(fraction) {
            assert!((back - there).abs() < 1e-14);
        }
    }
}
