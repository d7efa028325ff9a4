//! Gaussian cube files: units, origin, axis order, and every fault with its message.

use proptest::prelude::*;
use tomat_core::grid::Unit;
use tomat_io::cube::BOHR;
use tomat_io::{Error, Material, read_bytes};

/// 2 x 3 x 4 voxels of 2, 1.5 and 1 bohr, atoms at the corner and at (1/2, 1/3, 1/4), values 0 to 23.
fn file() -> String {
    let mut text = "title\n density\n 2 0.0 0.0 0.0\n 2 2.0 0.0 0.0\n 3 0.0 1.5 0.0\n 4 0.0 0.0 1.0\n\
                    11 11.0 0.0 0.0 0.0\n 17 17.0 2.0 1.5 1.0\n"
        .to_owned();
    for row in 0..6 {
        let values: Vec<String> = (0..4).map(|z| format!("{:13.5E}", f64::from(4 * row + z))).collect();
        text += &(values.concat() + "\n");
    }
    text
}

fn parse(text: &str) -> Result<Material, Error> {
    read_bytes("folder/a.cube", text.as_bytes().to_vec())
}

#[track_caller]
fn fails(text: &str, reason: &str) {
    let message = parse(text).unwrap_err().to_string();
    assert!(message.starts_with("folder/a.cube: "), "{message}");
    assert!(message.contains(reason), "{message:?} does not say {reason:?}");
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-12
}

#[test]
fn lengths_in_bohr_and_z_fastest() {
    let material = parse(&file()).unwrap();
    assert_eq!(
        (material.density.shape(), material.density.unit()),
        ([2, 3, 4], Unit::ElectronsPerCubicAngstrom)
    );
    assert_eq!((material.task_id.as_str(), material.source.format), ("a", "cube"));
    // 1 bohr^3 is 0.148184711 A^3 (CODATA 2018).
    for (i, &value) in material.density.values().iter().enumerate() {
        assert!(
            (f64::from(value) - i as f64 / 0.148_184_711).abs() < 1e-5 * (1.0 + i as f64),
            "{i}: {value}"
        );
    }
    let matrix = material.crystal.lattice.matrix();
    assert!(
        close(matrix[0][0], 4.0 * BOHR) && close(matrix[1][1], 4.5 * BOHR) && close(matrix[2][2], 4.0 * BOHR)
    );
    assert_eq!(material.crystal.atomic_numbers, [11, 17]);
    let [x, y, z] = material.crystal.frac_coords[1];
    assert!(close(x, 0.5) && close(y, 1.0 / 3.0) && close(z, 0.25));
}

#[test]
fn counts_below_zero_mean_angstrom_but_the_density_stays_in_bohr() {
    let text = file()
        .replace("\n 2 2.0", "\n -2 2.0")
        .replace("\n 3 0.0", "\n -3 0.0")
        .replace("\n 4 0.0", "\n -4 0.0");
    let (angstrom, bohr) = (parse(&text).unwrap(), parse(&file()).unwrap());
    assert!(close(angstrom.crystal.lattice.matrix()[0][0], 4.0));
    assert!(close(angstrom.crystal.frac_coords[1][1], 1.0 / 3.0));
    assert_eq!(angstrom.density, bohr.density);
    fails(&file().replace("\n 3 0.0", "\n -3 0.0"), "must all be above zero (lengths in bohr) or all below");
}

#[test]
fn atoms_move_with_the_origin() {
    let material = parse(&file().replace(" 2 0.0 0.0 0.0\n", " 2 1.0 -1.5 0.5\n")).unwrap();
    let [x, y, z] = material.crystal.frac_coords[1];
    assert!(close(x, 0.25) && close(y, 2.0 / 3.0) && close(z, 0.125));
}

#[test]
fn one_data_set_may_have_a_name() {
    let named = |names: &str| {
        let text = file().replace(" 2 0.0 0.0 0.0\n", " -2 0.0 0.0 0.0\n");
        text.replace(" 17 17.0 2.0 1.5 1.0\n", &format!(" 17 17.0 2.0 1.5 1.0\n{names}"))
    };
    for names in [" 1 36\n", " 1\n 36\n"] {
        assert_eq!(parse(&named(names)).unwrap(), parse(&file()).unwrap());
    }
    fails(&named(" 2 36 37\n"), "one data set a file");
    assert!(parse(&named("")).is_err());
    assert!(parse(&file().replace(" 2 0.0 0.0 0.0\n", " 2 0.0 0.0 0.0 1\n")).is_ok());
    fails(&file().replace(" 2 0.0 0.0 0.0\n", " 2 0.0 0.0 0.0 2\n"), "one value a voxel");
}

#[test]
fn faults() {
    let text = file();
    fails(&text.replace("\n11 11.0", "\n0 11.0"), "line 7: atomic number 0 is not an element");
    fails(&text.replace("\n11 11.0", "\n119 11.0"), "atomic number 119");
    fails(&text.replace("\n11 11.0", "\n11.5 11.0"), "must be a whole number");
    fails(&text.replace("\n 4 0.0", "\n 5 0.0"), "the file ends after 24 of them");
    fails(&text.replace("\n 4 0.0", "\n 3 0.0"), "follows the last value");
    fails(&text.replace("\n 4 0.0 0.0", "\n 4 0.0"), "line 6: the voxels along z needs 4 numbers");
    fails(&text.replace("7.00000E0", "*********"), "line 10: value 8 of 24");
    fails(&text.replace("7.00000E0", "      NaN"), "line 10: value 8 of 24");
    fails(
        &text.replace("\n 2 2.0", "\n 1000 2.0").replace("\n 3 0.0", "\n 1000 0.0"),
        "needs 4000000 values",
    );
    fails(&text.replace("\n 2 2.0", "\n 0 2.0"), "above zero");
    fails(&text.replace(" 2 0.0 0.0 0.0\n", " 999999999999 0.0 0.0 0.0\n"), "do not fit");
    fails(&text.replace(" 2 0.0 0.0 0.0\n", " 0 0.0 0.0 0.0\n"), "");
    fails(&text.replace("\n 3 0.0 1.5 0.0", "\n 3 2.0 0.0 0.0"), "span no volume");
    let error = parse(&text.replace("\n 4 0.0", "\n 1024 0.0")).unwrap_err();
    assert!(matches!(error, Error::Core(tomat_core::Error::GridAxis { axis: 'z', points: 1024, .. })));
}

#[test]
fn every_cut_is_an_error() {
    let text = file();
    for length in 0..text.trim_end().len() {
        assert!(parse(&text[..length]).is_err(), "cut to {length} of {}", text.len());
    }
}

proptest! {
    #[test]
    fn mutated_and_cut_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        cuts: bool,
    ) {
        let mut bytes = file().into_bytes();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(material) = read_bytes("a.cube", bytes) {
            prop_assert!(material.density.values().iter().all(|v| v.is_finite()));
        }
    }
}
