//! VASP densities: every feature of the layout on a small file, and every fault with its message.

// The numbers are chosen to be exact in binary.
#![allow(clippy::float_cmp)]

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;
use tomat_core::grid::Unit;
use tomat_io::{Error, Material, read, read_bytes};

const HEADER: &str = "comment\n 1.0\n 4.0 0.0 0.0\n 0.0 5.0 0.0\n 0.0 0.0 6.0\n Na Cl\n 1 1\nDirect\n 0.0 0.0 0.0\n 0.5 0.5 0.25\n\n";

/// The values 1, 2, 3, ... of a 2 x 3 x 4 grid in the order of the file: the first axis fastest.
fn block(per_line: usize) -> String {
    numbers(24, per_line)
}

fn numbers(n: usize, per_line: usize) -> String {
    let mut text = String::new();
    for i in 1..=n {
        let end = if i % per_line == 0 || i == n { "\n" } else { "" };
        let _ = write!(text, " {:17.11E}{end}", i as f64);
    }
    text
}

fn augmentation() -> String {
    "augmentation occupancies   1   7\n 0.1 0.2 0.3 0.4 0.5\n 0.6 0.7\naugmentation occupancies   2   1\n -.1E-03\n".to_owned()
}

fn file(after_header: &str) -> String {
    format!("{HEADER} 2 3 4\n{after_header}")
}

fn parse(text: &str) -> Result<Material, Error> {
    read_bytes("folder/mp-7/CHGCAR", text.as_bytes().to_vec())
}

#[track_caller]
fn fails(text: &str, reason: &str) {
    let message = parse(text).unwrap_err().to_string();
    assert!(message.starts_with("folder/mp-7/CHGCAR: "), "{message}");
    assert!(message.contains(reason), "{message:?} does not say {reason:?}");
}

fn row_major() -> Vec<f32> {
    let mut values = Vec::new();
    for x in 0..2 {
        for y in 0..3 {
            for z in 0..4 {
                values.push((1 + x + 2 * (y + 3 * z)) as f32);
            }
        }
    }
    values
}

#[test]
fn total_density_in_row_major_order() {
    // 12 and 24 values a line end a block at a line end, 5 and 10 do not.
    for per_line in [1, 5, 10, 12, 24] {
        let material = parse(&file(&block(per_line))).unwrap();
        assert_eq!(material.density.shape(), [2, 3, 4]);
        assert_eq!(material.density.unit(), Unit::Chgcar);
        assert_eq!(material.density.values(), row_major(), "{per_line} a line");
        assert_eq!(material.task_id, "mp-7");
        assert_eq!(material.source.format, "chgcar");
        assert!(!material.source.has_spin && !material.source.has_augmentation);
        assert_eq!(material.crystal.atomic_numbers, [11, 17]);
        assert_eq!(material.crystal.frac_coords, [[0.0; 3], [0.5, 0.5, 0.25]]);
        assert_eq!(material.crystal.lattice.matrix(), &[[4.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 6.0]]);
    }
}

#[test]
fn line_ends_of_either_kind_and_a_last_line_without() {
    for text in [
        file(&block(5)).replace('\n', "\r\n"),
        file(&block(5)).trim_end().to_owned(),
        file(&block(5)) + "\n\n",
    ] {
        assert_eq!(parse(&text).unwrap().density.values(), row_major());
    }
}

#[test]
fn a_value_too_many_or_too_few_before_a_magnetisation() {
    let (aug, grid) = (augmentation(), " 2 3 4\n");
    let moments = "  0.600000000000E+00  -0.1\n";
    let values: Vec<String> = block(5).split_whitespace().map(ToOwned::to_owned).collect();
    // Wrapped anew behind the place, and with the lines of the rest as they were.
    let wrapped = |values: &[String], width: usize| -> String {
        let lines: Vec<String> = values.chunks(width).map(|line| format!(" {}", line.join(" "))).collect();
        lines.join("\n") + "\n"
    };
    let tails =
        [format!("{grid}{}", block(5)), format!("{aug}{moments}{grid}{}{aug}", block(5)), String::new()];
    for width in [5, 6, 8, 24] {
        let whole = wrapped(&values, width);
        for tail in &tails {
            assert!(parse(&file(&(whole.clone() + tail))).is_ok(), "{width} {tail:?}");
        }
        for tail in &tails {
            for at in [0, 1, 11, 22] {
                let mut more = values.clone();
                more.insert(at, "0.5".to_owned());
                let message = parse(&file(&(wrapped(&more, width) + tail))).unwrap_err().to_string();
                assert!(
                    message.contains("line") && message.contains("copy it again")
                        || message.contains("copy the file"),
                    "{message}"
                );
                let mut fewer = values.clone();
                fewer.remove(at);
                assert!(parse(&file(&(wrapped(&fewer, width) + tail))).is_err(), "{width} {tail:?} {at}");
            }
        }
    }
    // Moments of all atoms or of their three components, and nothing between.
    let spin = |moments: &str| parse(&file(&format!("{}{aug}{moments}{grid}{}{aug}", block(5), block(5))));
    for (moments, sound) in [
        ("", true),
        ("1. 2.\n", true),
        ("1. 2. 3.\n 4. 5. 6.\n", true),
        ("1.\n", false),
        ("1. 2. 3.\n", false),
    ] {
        assert_eq!(spin(moments).is_ok(), sound, "{moments:?}");
    }
}

#[test]
fn spin_augmentation_and_moments() {
    let grid = " 2 3 4\n";
    let moments = "  0.600000000000E+00  -0.1\n";
    let facts = |tail: String| {
        let source = parse(&file(&(block(5) + &tail))).unwrap().source;
        (source.has_spin, source.non_collinear, source.has_augmentation)
    };
    let (aug, more) = (augmentation(), block(5));
    assert_eq!(facts(String::new()), (false, false, false));
    assert_eq!(facts(aug.clone()), (false, false, true));
    assert_eq!(facts(format!("{grid}{more}")), (true, false, false));
    assert_eq!(facts(format!("{aug}{moments}{grid}{more}{aug}")), (true, false, true));
    assert_eq!(
        facts(format!("{aug}{moments}{grid}{more}{aug}{grid}{more}{aug}{moments}{grid}{more}{aug}")),
        (true, true, true)
    );
    // A lost magnetisation value does not touch the total density.
    assert_eq!(facts(format!("{grid}{}", more.replacen("2.0", "***", 1))), (true, false, false));
    let imaginary = aug.replace("occupancies ", "occupancies (imaginary part) ");
    assert_eq!(facts(format!("{aug}{imaginary}")), (false, false, true));
}

#[test]
fn counts_of_augmentation_touch_from_atom_1000_on() {
    let n = 1000;
    let mut text = HEADER
        .replace(" 1 1\n", &format!(" 1 {}\n", n - 1))
        .replace(" 0.5 0.5 0.25\n", &" 0.5 0.5 0.25\n".repeat(n - 1));
    let _ = write!(text, " 2 3 4\n{}", block(5));
    for atom in 1..=n {
        let _ = write!(text, "augmentation occupancies{atom:4}{:4}\n 0.1 0.2\n", 2);
    }
    let material = parse(&text).unwrap();
    assert!(material.source.has_augmentation);
    assert_eq!(material.crystal.atomic_numbers.len(), n);
}

#[test]
fn fortran_numbers() {
    let values =
        block(5).replacen("1.00000000000E0", "0.123-101", 1).replacen("2.00000000000E0", "0.2D+01", 1);
    let material = parse(&file(&values)).unwrap();
    assert_eq!((material.density.values()[0], material.density.values()[12]), (0.0, 2.0));
}

#[test]
fn scale_factors() {
    let with = |scale: &str| {
        parse(&file(&block(5)).replacen(" 1.0\n", &format!(" {scale}\n"), 1)).map(|m| m.crystal)
    };
    assert_eq!(with("2.0").unwrap().lattice.matrix()[1], [0.0, 10.0, 0.0]);
    assert!((with("-960.0").unwrap().lattice.volume() - 960.0).abs() < 1e-9);
    assert_eq!(with("1.0 2.0 3.0").unwrap().lattice.matrix()[2], [0.0, 0.0, 18.0]);
    assert_eq!(with("2.0 ! twice").unwrap().lattice.matrix()[0], [8.0, 0.0, 0.0]);
    for scale in ["0.0", "abc", "1 1 -1", "-1 -1 -1", ""] {
        let message = with(scale).unwrap_err().to_string();
        assert!(message.contains("line 2") && message.contains("scale factor"), "{message}");
    }
}

#[test]
fn symbols_of_every_vasp() {
    let with = |symbols: &str, counts: &str| {
        let text = file(&block(5)).replace(" Na Cl\n 1 1\n", &format!("{symbols}{counts}"));
        parse(&text).map(|m| m.crystal.atomic_numbers)
    };
    assert_eq!(with(" Fe_pv Si/79d9987ad87\n", " 1 1\n").unwrap(), [26, 14]);
    assert_eq!(with(" Mg_pv/f474ac0d\n", " 2\n").unwrap(), [12, 12]);
    assert_eq!(with(" Na\n Cl\n", " 1\n 1\n").unwrap(), [11, 17]);
    for (symbols, counts, reason) in [
        (" Na Xx\n", " 1 1\n", "line 6: \"Xx\" is not the symbol"),
        (" H.5 Cl\n", " 1 1\n", "\"H.5\" is not the symbol"),
        (" Na Cl\n", " 1 1 1\n", "2 elements but 3 numbers"),
        (" Na Cl\n", " 1 x\n", "line 7: \"x\" is no number of atoms"),
        (" Na Cl\n", " 0 0\n", "do not fit"),
        (" Na Cl\n", " 1 99999999999\n", "do not fit"),
        (" Na Cl\n", " 18446744073709551615 1\n", "do not fit"),
    ] {
        let message = with(symbols, counts).unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn vasp_4_takes_symbols_from_the_comment_or_the_positions() {
    let vasp_4 = file(&block(5)).replace(" Na Cl\n", "");
    for comment in ["K Br", "K1 Br1", "K_sv Br"] {
        let text = vasp_4.replacen("comment", comment, 1);
        assert_eq!(parse(&text).unwrap().crystal.atomic_numbers, [19, 35], "{comment}");
    }
    let labelled = vasp_4.replace(" 0.0 0.0 0.0\n 0.5 0.5 0.25\n", " 0.0 0.0 0.0 Li\n 0.5 0.5 0.25 F\n");
    assert_eq!(parse(&labelled).unwrap().crystal.atomic_numbers, [3, 9]);
    for comment in ["comment", "K", "K Br I", "K2 Br1", ""] {
        fails(&vasp_4.replacen("comment", comment, 1), "VASP 4");
    }
}

#[test]
fn selective_dynamics_and_cartesian_positions() {
    let selective = file(&block(5)).replace(
        "Direct\n 0.0 0.0 0.0\n 0.5 0.5 0.25\n",
        "Selective dynamics\nDirect\n 0.0 0.0 0.0 T T F\n 0.5 0.5 0.25 F F F\n",
    );
    assert_eq!(parse(&selective).unwrap().crystal.frac_coords[1], [0.5, 0.5, 0.25]);
    for mode in ["Cartesian", "kart"] {
        let text = file(&block(5)).replacen(" 1.0\n", " 2.0\n", 1).replace(
            "Direct\n 0.0 0.0 0.0\n 0.5 0.5 0.25\n",
            &format!("{mode}\n 0.0 0.0 0.0\n 2.0 2.5 1.5\n"),
        );
        assert_eq!(parse(&text).unwrap().crystal.frac_coords[1], [0.5, 0.5, 0.25]);
    }
    fails(&file(&block(5)).replace("Direct\n", ""), "stands where Direct or Cartesian should");
}

#[test]
fn damaged_values_are_named_with_their_line() {
    let with = |word: &str| file(&block(5).replacen("8.00000000000E0", word, 1));
    fails(&with("*****************"), "line 14: value 8 of 24 is \"*****************\"");
    for word in ["NaN", "Infinity", "1.0E+999", "0x12", "1.0.0"] {
        fails(&with(word), "line 14: value 8 of 24 of the density is");
    }
    // Finite in float64, but not in float32.
    fails(&with("1.0E+60"), "at grid point (1, 0, 1)");
}

#[test]
fn wrong_counts_are_errors() {
    fails(&file(&numbers(23, 5)), "the file ends after 23 of them");
    fails(&file(&numbers(25, 5)), "more values than the grid line says");
    fails(&file(&numbers(30, 5)), "more values than the grid line says");
    fails(&file(&numbers(29, 24)), "more values than the grid line says");
    fails(&format!("{HEADER} 2 3\n{}", block(5)), "line 12: \"2 3\" stands where the grid");
    fails(&format!("{HEADER} 2 0 4\n{}", block(5)), "has no points");
    fails(&file(&format!("{} 2 3 5\n{}", block(5), numbers(30, 5))), "they must agree");
    fails(&file(&format!("{0} 2 3 4\n{0} 2 3 4\n{0}", block(5))), "holds 3 densities");
    fails(&file(&format!("{}unknown system\n 1.0\n", block(5))), "several snapshots");
}

#[test]
fn an_enormous_grid_is_refused_before_memory_is_asked_for() {
    fails(&format!("{HEADER} 600 600 600\n{}", block(5)), "needs 216000000 values, but only");
    fails(&format!("{HEADER} 1000 1000 1000\n{}", block(5)), "more than the 268435456 that are read");
    for grid in ["1024 1 1", "18446744073709551615 18446744073709551615 2"] {
        let error = parse(&format!("{HEADER} {grid}\n{}", block(5))).unwrap_err();
        assert!(matches!(error, Error::Core(tomat_core::Error::GridAxis { axis: 'x', .. })), "{error}");
    }
}

#[test]
fn augmentation_that_ends_early_is_an_error() {
    let whole = block(5) + &augmentation();
    parse(&file(&whole)).unwrap();
    fails(&file(whole.trim_end().trim_end_matches("-.1E-03")), "the file ends after 0");
    fails(&file(&(block(5) + "augmentation occupancies   1   2\n 0.1 0.2\n")), "atom 1 of 2");
    fails(
        &file(
            &(block(5)
                + "augmentation occupancies   1   3\n 0.1 0.2\naugmentation occupancies   2   1\n 1.0\n"),
        ),
        "line 20: an augmentation block needs 3",
    );
    fails(&file(&(block(5) + "augmentation occupancies\n")), "should end in");
}

#[test]
fn every_cut_within_the_total_density_is_an_error() {
    let text = file(&block(5));
    for length in 0..text.trim_end().len() {
        assert!(parse(&text[..length]).is_err(), "cut to {length} of {}", text.len());
    }
}

#[test]
fn files_and_their_compression() {
    let folder = tempfile::tempdir().unwrap();
    let text = file(&(block(5) + &augmentation()));
    let compressed = zstd::encode_all(text.as_bytes(), 3).unwrap();
    for (name, bytes) in [
        ("mp-1.CHGCAR", text.as_bytes()),
        ("mp-2.vasp.zst", &compressed),
        ("mp-3.CHGCAR.gz", text.as_bytes()),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let material = read(&path).unwrap();
        assert_eq!(material.task_id, &name[..4]);
        assert_eq!(material.density.values(), row_major());
    }
    let cut = folder.path().join("cut.CHGCAR.zst");
    std::fs::write(&cut, &compressed[..compressed.len() - 9]).unwrap();
    assert!(read(&cut).unwrap_err().to_string().contains("cut off"));
    assert!(matches!(read(&folder.path().join("no/CHGCAR")), Err(Error::Missing { .. })));
    assert!(read(folder.path()).unwrap_err().to_string().contains("this is a folder"));
    let empty = folder.path().join("CHGCAR");
    std::fs::write(&empty, b"").unwrap();
    assert!(read(&empty).unwrap_err().to_string().contains("empty"));
    assert!(read(Path::new("")).is_err());
}

fn print(values: &[f64], shape: [usize; 3], per_line: usize) -> String {
    let [nx, ny, nz] = shape;
    let mut text = format!("{HEADER} {nx} {ny} {nz}\n");
    for (i, value) in values.iter().enumerate() {
        // Eleven digits after `0.`, as E17.11 prints them: one digit moves behind the point, the exponent up.
        let printed = format!("{:.10e}", value.abs());
        let (digits, exponent) = printed.split_once('e').unwrap_or((&printed, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0) + i32::from(value.abs() > 0.0);
        let sign = if *value < 0.0 { '-' } else { '0' };
        let _ = write!(text, " {sign}.{}E{exponent:+03}", digits.replace('.', ""));
        if (i + 1) % per_line == 0 {
            text.push('\n');
        }
    }
    text + "\n"
}

proptest! {
    #[test]
    fn printed_densities_come_back(
        shape in prop::array::uniform3(1_usize..20),
        seed in prop::collection::vec((-2e3..2e3, -30_i32..5), 64),
        per_line in prop::sample::select(vec![1_usize, 5, 7, 10]),
    ) {
        let [nx, ny, nz] = shape;
        let values: Vec<f64> = (0..nx * ny * nz)
            .map(|i| { let (value, power) = seed[i % seed.len()]; value * 10_f64.powi(power) + i as f64 * 1e-3 })
            .collect();
        let material = parse(&print(&values, shape, per_line)).unwrap();
        for x in 0..nx {
            for y in 0..ny {
                for z in 0..nz {
                    let rounded: f64 = format!("{:.10e}", values[x + nx * (y + ny * z)]).parse().unwrap();
                    prop_assert_eq!(material.density.values()[(x * ny + y) * nz + z].to_bits(), (rounded as f32).to_bits());
                }
            }
        }
    }

    #[test]
    fn mutated_and_cut_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        cuts: bool,
    ) {
        let mut bytes = file(&format!("{0}{1} 0.1 0.2\n 2 3 4\n{0}{1}", block(5), augmentation())).into_bytes();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(material) = read_bytes("CHGCAR", bytes) {
            prop_assert!(material.density.values().iter().all(|v| v.is_finite()));
        }
    }
}
