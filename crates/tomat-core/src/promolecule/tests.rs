//! Sums against brute force, fits against what they were made of.

use std::collections::BTreeMap;
use std::f64::consts::PI;

use proptest::prelude::*;

use super::fit::{Coefficients, Loss, NormalEquations, Penalty};
use super::*;
use crate::grid::Unit;

const NO_PENALTY: Penalty = Penalty { ridge: 0.0, smooth: 0.0 };

/// Deterministic numbers in [0, 1).
fn numbers(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn lattice(rows: [[f64; 3]; 3]) -> Lattice {
    Lattice::from_matrix(rows).unwrap()
}

/// A function without symmetry between its ends, smooth, not zero at the cutoff.
fn bump(cutoff: f64) -> RadialTable {
    RadialTable::from_fn(cutoff, |r| 2.0 * (-r * r).exp() + 0.1 * (3.0 * r).cos() + 0.2).unwrap()
}

/// The sum over every image that can matter, point by point.
fn brute_force(crystal: &Crystal, shape: [usize; 3], table: &RadialTable) -> Vec<f64> {
    let rows = crystal.lattice.matrix();
    let volume = crystal.lattice.volume();
    let reach: Vec<i64> = (0..3)
        .map(|i| {
            let area = cross_length(rows[(i + 1) % 3], rows[(i + 2) % 3]);
            (table.cutoff() * area / volume).ceil() as i64 + 1
        })
        .collect();
    let mut out = Vec::new();
    for point in 0..shape.iter().product::<usize>() {
        let index = [point / (shape[1] * shape[2]), point / shape[2] % shape[1], point % shape[2]];
        let mut sum = 0.0;
        for f in &crystal.frac_coords {
            for i in -reach[0]..=reach[0] {
                for j in -reach[1]..=reach[1] {
                    for k in -reach[2]..=reach[2] {
                        let image = [i, j, k];
                        let d: [f64; 3] = std::array::from_fn(|a| {
                            index[a] as f64 / shape[a] as f64 - (f[a] - f[a].floor()) - image[a] as f64
                        });
                        let r: f64 = (0..3)
                            .map(|x| (0..3).map(|a| d[a] * rows[a][x]).sum::<f64>().powi(2))
                            .sum::<f64>()
                            .sqrt();
                        sum += table.value(r);
                    }
                }
            }
        }
        out.push(sum);
    }
    out
}

fn cross_length(a: [f64; 3], b: [f64; 3]) -> f64 {
    let c = crate::grid::cross(a, b);
    crate::grid::dot(c, c).sqrt()
}

/// Cells down to a third of the cutoff, with angles from 30 to 150 degrees and either handedness.
fn crystals() -> impl Strategy<Value = (Crystal, [usize; 3])> {
    let entry = -1.0..1.0_f64;
    (
        prop::array::uniform9(entry),
        prop::array::uniform3(0.7..4.0_f64),
        prop::array::uniform3(1_usize..9),
        prop::collection::vec(prop::array::uniform3(-2.0..3.0_f64), 1..4),
    )
        .prop_filter_map("the cell is too flat", |(m, lengths, shape, frac)| {
            let mut rows = [[m[0], m[1], m[2]], [m[3], m[4], m[5]], [m[6], m[7], m[8]]];
            for (row, length) in rows.iter_mut().zip(lengths) {
                let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
                *row = row.map(|x| x / norm * length);
            }
            let lattice = Lattice::from_matrix(rows).ok()?;
            if lattice.volume() < 0.25 * lengths.iter().product::<f64>() {
                return None;
            }
            let crystal = Crystal::new(lattice, vec![1; frac.len()], frac).ok()?;
            Some((crystal, shape))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sums_are_those_of_brute_force((crystal, shape) in crystals()) {
        let table = bump(2.1);
        let expected = brute_force(&crystal, shape, &table);
        let promolecule = Promolecule::new(BTreeMap::from([(1, table)])).unwrap();
        let sum = promolecule.sum(&crystal, shape).unwrap();
        for (a, b) in sum.iter().zip(&expected) {
            prop_assert!((a - b).abs() < 1e-9 * (1.0 + b.abs()), "{} {}", a, b);
        }
    }

    #[test]
    fn a_shift_by_grid_steps_rolls_the_density((mut crystal, shape) in crystals(), steps in prop::array::uniform3(-9_i64..9)) {
        // A function that ends at zero: a point on the edge of the sphere may fall on either side.
        let table = RadialTable::from_fn(2.1, |r| (1.0 - r / 2.1).powi(2)).unwrap();
        let promolecule = Promolecule::new(BTreeMap::from([(1, table)])).unwrap();
        let before = promolecule.sum(&crystal, shape).unwrap();
        for f in &mut crystal.frac_coords {
            for axis in 0..3 {
                f[axis] += steps[axis] as f64 / shape[axis] as f64;
            }
        }
        let after = promolecule.sum(&crystal, shape).unwrap();
        let [_, ny, nz] = shape;
        for (at, value) in before.iter().enumerate() {
            let index = [at / (ny * nz), at / nz % ny, at % nz];
            let moved: Vec<usize> = (0..3)
                .map(|a| (index[a] as i64 + steps[a]).rem_euclid(shape[a] as i64) as usize)
                .collect();
            let other = after[(moved[0] * ny + moved[1]) * nz + moved[2]];
            prop_assert!((other - value).abs() < 1e-9, "{} {}", other, value);
        }
    }

    #[test]
    fn splits_over_workers_add_up_to_the_same_bits(seed in any::<u64>(), split in 0_usize..4) {
        let basis = RadialBasis::new(2.5, 0.5, 6).unwrap();
        let mut next = numbers(seed);
        let materials: Vec<_> = (0..4).map(|i| random_material(&mut next, &[1 + i % 2, 3])).collect();
        let fill = |which: &[(Crystal, Vec<f64>)]| {
            let mut sums = NormalEquations::new(basis.clone());
            for (crystal, density) in which {
                let loss = Loss::Relative { floor: 0.1 };
                sums.add(crystal, [6, 6, 6], density, Unit::Chgcar, loss).unwrap();
            }
            sums
        };
        let whole = fill(&materials);
        let mut merged = fill(&materials[split..]);
        merged.merge(&fill(&materials[..split])).unwrap();
        prop_assert!(whole == merged);
        prop_assert_eq!(whole.materials(), 4);
        prop_assert_eq!(whole.voxels(), 4 * 216);
    }
}

/// A cell of 3 to 4 angstrom with one atom of each element, and noise on a grid of 6 x 6 x 6.
fn random_material(next: &mut impl FnMut() -> f64, elements: &[u8]) -> (Crystal, Vec<f64>) {
    let rows =
        std::array::from_fn(|i| std::array::from_fn(|j| if i == j { 3.0 + next() } else { next() - 0.5 }));
    let frac = elements.iter().map(|_| [next(), next(), next()]).collect();
    let crystal = Crystal::new(lattice(rows), elements.to_vec(), frac).unwrap();
    (crystal, (0..216).map(|_| next() + 0.01).collect())
}

fn synthetic(basis: &RadialBasis, seed: u64) -> (Coefficients, Promolecule) {
    let mut next = numbers(seed);
    let coefficients: Coefficients =
        [3_u8, 8].into_iter().map(|z| (z, (0..basis.len()).map(|_| 0.1 + next()).collect())).collect();
    let radial = coefficients.iter().map(|(&z, c)| (z, basis.table(c).unwrap())).collect();
    (coefficients, Promolecule::new(radial).unwrap())
}

#[test]
fn a_fit_recovers_what_the_densities_were_made_of() {
    let basis = RadialBasis::new(3.0, 0.6, 8).unwrap();
    let (truth, promolecule) = synthetic(&basis, 5);
    let mut next = numbers(77);
    let shape = [11, 12, 13];
    let materials: Vec<(Crystal, Vec<f64>)> = (0..4)
        .map(|_| {
            let (crystal, _) = random_material(&mut next, &[3, 8]);
            let density = promolecule.sum(&crystal, shape).unwrap();
            (crystal, density)
        })
        .collect();
    let start: Coefficients = truth.iter().map(|(&z, c)| (z, vec![0.5; c.len()])).collect();
    let losses =
        [Loss::Squared, Loss::Relative { floor: 0.01 }, Loss::Absolute { floor: 0.01, previous: &start }];
    for loss in losses {
        let mut sums = NormalEquations::new(basis.clone());
        for (i, (crystal, density)) in materials.iter().enumerate() {
            // Both units mean the same density.
            let (unit, factor) = match i % 2 {
                0 => (Unit::Chgcar, crystal.lattice.volume()),
                _ => (Unit::ElectronsPerCubicAngstrom, 1.0),
            };
            let values: Vec<f64> = density.iter().map(|v| v * factor).collect();
            sums.add(crystal, shape, &values, unit, loss).unwrap();
        }
        let fitted = sums.solve(NO_PENALTY, &BTreeMap::new()).unwrap();
        for (z, values) in &truth {
            for (a, b) in fitted[z].iter().zip(values) {
                assert!((a - b).abs() < 1e-5, "{loss:?} Z = {z}: {a} {b}");
            }
        }
        // A constraint that holds already changes nothing.
        let held: BTreeMap<u8, f64> =
            truth.iter().map(|(&z, c)| (z, basis.table(c).unwrap().electrons())).collect();
        let bound = sums.solve(NO_PENALTY, &held).unwrap();
        for (a, b) in bound[&8].iter().zip(&fitted[&8]) {
            assert!((a - b).abs() < 1e-5);
        }
    }
}

#[test]
fn the_normal_equations_are_those_of_a_dense_matrix() {
    // One voxel row at a time by brute force, for a grid whose points do not come in fours.
    let basis = RadialBasis::new(2.0, 0.5, 5).unwrap();
    let (crystal, _) = random_material(&mut numbers(3), &[1, 6]);
    let shape = [3, 3, 3];
    let mut next = numbers(4);
    let density: Vec<f64> = (0..27).map(|_| next() - 0.1).collect();
    let mut sums = NormalEquations::new(basis.clone());
    sums.add(&crystal, shape, &density, Unit::ElectronsPerCubicAngstrom, Loss::Squared).unwrap();
    let penalty = Penalty { ridge: 1e-3, smooth: 1e-3 };
    let solution = sums.solve(penalty, &BTreeMap::new()).unwrap();

    let n = basis.len();
    let columns: Vec<Vec<f64>> = (0..2 * n)
        .map(|column| {
            let mut unit = vec![0.0; n];
            unit[column % n] = 1.0;
            let alone = Crystal::new(crystal.lattice, vec![1], vec![crystal.frac_coords[column / n]]);
            brute_force(&alone.unwrap(), shape, &basis.table(&unit).unwrap())
        })
        .collect();
    let mean = density.iter().map(|v| v.abs()).sum::<f64>() / 27.0;
    let weight = 1.0 / (27.0 * mean * mean);
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| weight * x * y).sum::<f64>();
    let x: Vec<f64> = solution.values().flatten().copied().collect();
    for i in 0..2 * n {
        let element = i / n * n..(i / n + 1) * n;
        let diagonal = element.clone().map(|j| product(&columns[j], &columns[j])).sum::<f64>() / n as f64;
        let mut left = 1e-3 * product(&columns[i], &columns[i]) * x[i];
        for start in element.start..element.end - 2 {
            let second = x[start] - 2.0 * x[start + 1] + x[start + 2];
            if (start..start + 3).contains(&i) {
                left += 1e-3 * diagonal * second * [1.0, -2.0, 1.0][i - start];
            }
        }
        left += (0..2 * n).map(|j| product(&columns[i], &columns[j]) * x[j]).sum::<f64>();
        let right = product(&columns[i], &density);
        assert!((left - right).abs() < 1e-6 * diagonal, "row {i}: {left} {right}");
    }
}

#[test]
fn constrained_functions_hold_their_electrons() {
    let basis = RadialBasis::new(3.0, 0.6, 8).unwrap();
    let mut next = numbers(9);
    let mut sums = NormalEquations::new(basis.clone());
    for _ in 0..3 {
        let (crystal, density) = random_material(&mut next, &[3, 8]);
        sums.add(&crystal, [6, 6, 6], &density, Unit::Chgcar, Loss::Squared).unwrap();
    }
    let penalty = Penalty { ridge: 1e-6, smooth: 0.0 };
    let bound = BTreeMap::from([(3, 3.0), (8, 6.0), (92, 14.0)]);
    let fitted = sums.solve(penalty, &bound).unwrap();
    let free = sums.solve(penalty, &BTreeMap::new()).unwrap();
    for (z, count) in [(3, 3.0), (8, 6.0)] {
        let held = basis.table(&fitted[&z]).unwrap().electrons();
        assert!((held - count).abs() < 1e-5, "{held}");
        assert!((basis.table(&free[&z]).unwrap().electrons() - count).abs() > 0.1, "the test binds nothing");
    }
    assert!(sums.solve(penalty, &BTreeMap::from([(8, -1.0)])).is_err());
}

#[test]
fn tables_follow_their_function_and_its_integral() {
    let table = RadialTable::from_fn(8.0, |r| (-2.0 * r).exp()).unwrap();
    for i in 0..1000 {
        let r = f64::from(i) * 0.008_13;
        let expected = if r < 8.0 { (-2.0 * r).exp() } else { 0.0 };
        assert!((table.value(r) - expected).abs() < 1e-10, "{r}");
    }
    // The integral of 4 pi r^2 exp(-2 r) is pi.
    assert!((table.electrons() - PI).abs() < 1e-4);
    assert!((table.clone().scaled(2.0).electrons() - 2.0 * table.electrons()).abs() < 1e-12);
    assert!(table.value(1e300) == 0.0);
    assert!(RadialTable::from_fn(0.0, |_| 1.0).is_err());
    assert!(RadialTable::from_fn(f64::INFINITY, |_| 1.0).is_err());
    assert!(RadialTable::from_fn(1.0, |r| 1.0 / r).is_err());
}

#[test]
fn splines_sum_to_one_inside_and_end_smoothly() {
    let basis = RadialBasis::new(5.0, 0.5, 20).unwrap();
    let ones = vec![1.0; 20];
    assert!((basis.value(&ones, 0.0) - 1.0).abs() < 1e-12);
    assert!((basis.value(&ones, 2.0) - 1.0).abs() < 1e-12);
    assert!(basis.value(&ones, 4.999).abs() < 1e-8);
    assert!(basis.value(&ones, 5.0).abs() < f64::MIN_POSITIVE);
    let (total, table) = (basis.electrons().iter().sum::<f64>(), basis.table(&ones).unwrap());
    assert!((total / table.electrons() - 1.0).abs() < 1e-6);
    for (cutoff, inner, n) in
        [(5.0, 0.5, 3), (5.0, 0.0, 9), (f64::NAN, 0.5, 9), (5.0, 1e-9, 9), (5.0, 1.0, 10_000)]
    {
        assert!(RadialBasis::new(cutoff, inner, n).is_err());
    }
    assert!(basis.table(&[1.0; 19]).is_err() && basis.table(&[f64::NAN; 20]).is_err());
}

#[test]
fn densities_are_clipped_then_scaled_to_the_count() {
    let table = RadialTable::from_fn(2.0, |r| 1.0 - r).unwrap();
    let promolecule = Promolecule::new(BTreeMap::from([(1, table)])).unwrap();
    let cell = lattice([[5.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.0, 2.0, 5.0]]);
    let crystal = Crystal::new(cell, vec![1], vec![[0.1, 0.2, 0.3]]).unwrap();
    assert!(promolecule.sum(&crystal, [20; 3]).unwrap().iter().any(|v| *v < 0.0));
    let density = promolecule.evaluate(&crystal, [20; 3], Some(7.0)).unwrap();
    assert!(density.iter().all(|v| *v >= 0.0));
    let electrons = density.iter().sum::<f64>() / 8000.0 * cell.volume();
    assert!((electrons - 7.0).abs() < 1e-12);
    assert!(promolecule.evaluate(&crystal, [20; 3], Some(f64::NAN)).is_err());
    // No grid point in reach of the atom.
    let far = Crystal::new(
        lattice([[50.0, 0.0, 0.0], [0.0, 50.0, 0.0], [0.0, 0.0, 50.0]]),
        vec![1],
        vec![[0.5; 3]],
    );
    let message = promolecule.evaluate(&far.unwrap(), [1; 3], Some(1.0)).unwrap_err().to_string();
    assert!(message.contains("zero on the whole grid"), "{message}");
}

#[test]
fn what_cannot_be_summed_is_refused() {
    let promolecule = Promolecule::new(BTreeMap::from([(1, bump(2.0))])).unwrap();
    let cube = |a: f64| lattice([[a, 0.0, 0.0], [0.0, a, 0.0], [0.0, 0.0, a]]);
    let one = |cell, z| Crystal::new(cell, vec![z], vec![[0.0; 3]]).unwrap();
    let message = |crystal: &Crystal, shape| promolecule.sum(crystal, shape).unwrap_err().to_string();
    let text = message(&one(cube(4.0), 92), [4; 3]);
    assert!(text.contains("no radial function for U; it has H"), "{text}");
    assert!(message(&one(cube(0.01), 1), [4; 3]).contains("in angstrom?"));
    assert!(message(&one(cube(4.0), 1), [0, 4, 4]).contains("no points"));
    assert!(message(&one(cube(4.0), 1), [usize::MAX, 2, 4]).contains("no points"));
    assert!(Promolecule::new(BTreeMap::new()).is_err());
    assert!(Promolecule::new(BTreeMap::from([(0, bump(2.0))])).is_err());
    // Coordinates so large that they hold no position still give a finite sum.
    let wild = Crystal::new(cube(4.0), vec![1], vec![[1e300, -1e18, 0.5]]).unwrap();
    assert!(promolecule.sum(&wild, [4; 3]).unwrap().iter().all(|v| v.is_finite()));
}

#[test]
fn a_fit_says_what_it_cannot_use() {
    let basis = RadialBasis::new(2.0, 0.5, 5).unwrap();
    let (crystal, density) = random_material(&mut numbers(1), &[1]);
    let mut sums = NormalEquations::new(basis.clone());
    let none = BTreeMap::new();
    assert!(sums.solve(NO_PENALTY, &none).unwrap_err().to_string().contains("no material"));
    let mut refused = |density: &[f64], loss: Loss<'_>| {
        sums.add(&crystal, [6; 3], density, Unit::Chgcar, loss).unwrap_err().to_string()
    };
    assert!(refused(&[0.0; 216], Loss::Squared).contains("not zero"));
    assert!(refused(&[1.0; 215], Loss::Squared).contains("215 values"));
    assert!(refused(&[f64::NAN; 216], Loss::Squared).contains("NaN"));
    assert!(refused(&density, Loss::Relative { floor: 0.0 }).contains("floor"));
    let empty = Coefficients::new();
    assert!(refused(&density, Loss::Absolute { floor: 0.1, previous: &empty }).contains("for H"));
    assert_eq!(sums.materials(), 0);
    sums.add(&crystal, [6; 3], &density, Unit::Chgcar, Loss::Squared).unwrap();
    assert!(sums.solve(Penalty { ridge: -1.0, smooth: 0.0 }, &none).is_err());
    let other = NormalEquations::new(RadialBasis::new(2.0, 0.5, 6).unwrap());
    assert!(sums.merge(&other).unwrap_err().to_string().contains("same splines"));
    // One grid point cannot tell five splines apart.
    let mut poor = NormalEquations::new(basis);
    poor.add(&crystal, [1; 3], &[1.0], Unit::Chgcar, Loss::Squared).unwrap();
    assert!(poor.solve(NO_PENALTY, &none).unwrap_err().to_string().contains("singular"));
}

proptest! {
    #[test]
    fn a_patch_is_cut_from_the_whole(
        seed in 0_u64..1 << 40,
        shape in prop::array::uniform3(1_usize..9),
        patch in prop::array::uniform3(1_usize..12),
        skew in prop::array::uniform3(-0.6_f64..0.6),
    ) {
        let mut next = numbers(seed);
        let cell = lattice([[2.0 + next(), 0.0, skew[0]], [skew[1], 2.5, 0.2], [0.1, skew[2], 1.5 + 2.0 * next()]]);
        let atoms = (0..3).map(|_| [next() * 3.0 - 1.0, next(), next()]).collect();
        let crystal = Crystal::new(cell, vec![1, 2, 1], atoms).unwrap();
        let promolecule = Promolecule::new(BTreeMap::from([(1, bump(2.3)), (2, bump(1.1))])).unwrap();
        let offset = shape.map(|n| (next() * n as f64) as usize);
        let whole = promolecule.evaluate(&crystal, shape, None).unwrap();
        let mut cut = Vec::new();
        for_each_run(shape, patch, offset, |run| cut.extend_from_slice(&whole[run]));
        prop_assert_eq!(promolecule.evaluate_patch(&crystal, shape, offset, patch).unwrap(), cut);
        prop_assert!(promolecule.evaluate_patch(&crystal, shape, shape, patch).is_err());
    }
}
