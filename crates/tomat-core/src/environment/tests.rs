//! Sums against a loop over images with independent formulas, and the symmetries that they must have.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::harmonics::{MAX_ANGULAR, solid_harmonics};
use super::*;
use crate::error::Error;
use crate::grid::{Crystal, Lattice, cross, dot};
use crate::promolecule::{Promolecule, RadialTable};
use crate::vector::{in_each, ln_of_one_and};

const RADIAL: Radial = Radial { cutoff: 3.1, inner: 0.5, splines: 8, reach: 1.6 };
const CORE: f64 = 0.3;
/// Radial functions with the atom's own density, and angular ones.
const SIZE: usize = 9 * 16;

type Rows = [[f64; 3]; 3];

fn basis() -> Basis {
    Basis::new(RADIAL, 3, CORE).unwrap()
}

fn own_density(r: f64) -> f64 {
    2.0 * (-1.5 * r).exp() + 0.1
}

fn promolecule() -> Promolecule {
    Promolecule::new(BTreeMap::from([(1, RadialTable::from_fn(6.0, own_density).unwrap())])).unwrap()
}

/// A crystal with all that may be said about it.
#[derive(Debug, Clone)]
struct Case {
    crystal: Crystal,
    scales: Vec<f64>,
    points: Vec<[f64; 3]>,
    factors: Vec<f32>,
}

impl Case {
    fn new(rows: Rows, frac: Vec<[f64; 3]>, points: Vec<[f64; 3]>) -> Self {
        let scales = (0..frac.len()).map(|i| [0.8, 1.0, 1.5][i % 3]).collect();
        let factors = (0..points.len()).map(|i| [1.0, 2.5, 0.3][i % 3]).collect();
        let crystal = Crystal::new(Lattice::from_matrix(rows).unwrap(), vec![1; frac.len()], frac).unwrap();
        Self { crystal, scales, points, factors }
    }

    fn with<T>(&self, f: impl FnOnce(Options<'_>) -> T) -> T {
        let promolecule = promolecule();
        let densities = Densities { promolecule: &promolecule, factors: &self.factors };
        f(Options { densities: Some(densities), scales: Some(&self.scales) })
    }

    fn by_site(&self) -> Vec<f32> {
        self.with(|options| basis().by_site(&self.crystal, &self.points, options).unwrap())
    }

    /// Sums over all atoms, `(points, functions)`.
    fn total(&self) -> Vec<f32> {
        let size = self.points.len() * SIZE;
        let mut total = vec![0.0; size];
        for site in self.by_site().chunks_exact(size) {
            for (sum, x) in total.iter_mut().zip(site) {
                *sum += x;
            }
        }
        total
    }

    fn map_rows(&self, f: impl Fn([f64; 3]) -> [f64; 3]) -> Self {
        let mut other = self.clone();
        other.crystal.lattice = Lattice::from_matrix(self.crystal.lattice.matrix().map(f)).unwrap();
        other
    }

    /// By definition, in double precision: every image in a block that is generous.
    fn oracle(&self) -> Vec<f64> {
        let rows = *self.crystal.lattice.matrix();
        let reach: [i64; 3] = std::array::from_fn(|i| {
            let area = cross(rows[(i + 1) % 3], rows[(i + 2) % 3]);
            (RADIAL.cutoff * dot(area, area).sqrt() / self.crystal.lattice.volume()).ceil() as i64 + 2
        });
        let mut out = Vec::new();
        for (frac, scale) in self.crystal.frac_coords.iter().zip(&self.scales) {
            for (point, factor) in self.points.iter().zip(&self.factors) {
                let mut sums = vec![0.0; SIZE];
                let away: [f64; 3] = std::array::from_fn(|a| (frac[a] - point[a]).rem_euclid(1.0));
                for i in -reach[0]..=reach[0] {
                    for j in -reach[1]..=reach[1] {
                        for k in -reach[2]..=reach[2] {
                            let f = [away[0] + i as f64, away[1] + j as f64, away[2] + k as f64];
                            add_by_definition(&mut sums, cartesian(&rows, f), *scale, f64::from(*factor));
                        }
                    }
                }
                out.extend(sums);
            }
        }
        out
    }
}

fn cartesian(rows: &Rows, f: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|x| (0..3).map(|a| f[a] * rows[a][x]).sum())
}

fn add_by_definition(sums: &mut [f64], v: [f64; 3], scale: f64, factor: f64) {
    let d = dot(v, v).sqrt();
    if d >= RADIAL.cutoff {
        return;
    }
    let share = (d / RADIAL.cutoff).powi(2);
    let mut radial = [0.0; 9];
    let n = RADIAL.splines as f64;
    let end = RADIAL.cutoff * RADIAL.reach / RADIAL.inner;
    let u = n * (1.0 + (scale * d / RADIAL.inner).powi(2)).ln() / (1.0 + end * end).ln();
    for (spline, r) in radial[..8].iter_mut().enumerate() {
        *r = if u < n { b_spline(u, spline as f64 - 3.0, 3) * (1.0 - share).powi(3) } else { 0.0 };
    }
    radial[8] = own_density(d) * factor * (1.0 - share.powi(4)).powi(3);
    let y = harmonics(v.map(|x| x / (d * d + CORE * CORE).sqrt()));
    for (row, r) in sums.chunks_exact_mut(16).zip(radial) {
        for (sum, y) in row.iter_mut().zip(y) {
            *sum += r * y;
        }
    }
}

/// The recursion of Cox and de Boor on whole numbers as knots, the first of them `from`.
fn b_spline(x: f64, from: f64, degree: u8) -> f64 {
    if degree == 0 {
        return f64::from(u8::from(x >= from && x < from + 1.0));
    }
    let k = f64::from(degree);
    (x - from) / k * b_spline(x, from, degree - 1)
        + (from + k + 1.0 - x) / k * b_spline(x, from + 1.0, degree - 1)
}

/// Racah's real solid harmonics by Legendre functions and angles.
fn harmonics(v: [f64; 3]) -> [f64; 16] {
    let r = dot(v, v).sqrt();
    let (cos, phi) = (if r > 0.0 { v[2] / r } else { 1.0 }, v[1].atan2(v[0]));
    let sin = (1.0 - cos * cos).max(0.0).sqrt();
    let mut out = Vec::new();
    for l in 0_i32..=3 {
        for m in -l..=l {
            let k = m.abs();
            // P_k^k = (2k - 1)!! sin^k without the phase of Condon and Shortley; then up in l.
            let mut lower = 0.0;
            let mut p = (1..=k).map(|i| f64::from(2 * i - 1) * sin).product::<f64>();
            for degree in k + 1..=l {
                let up = (f64::from(2 * degree - 1) * cos * p - f64::from(degree + k - 1) * lower)
                    / f64::from(degree - k);
                (lower, p) = (p, up);
            }
            let ratio: f64 = (l - k + 1..=l + k).map(f64::from).product();
            let norm = if k == 0 { 1.0 } else { (2.0 / ratio).sqrt() };
            let angle = f64::from(k) * phi;
            out.push(r.powi(l) * norm * p * if m < 0 { angle.sin() } else { angle.cos() });
        }
    }
    out.try_into().unwrap()
}

fn assert_close(a: &[f32], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((f64::from(*a) - b).abs() < tolerance * (1.0 + b.abs()), "{i}: {a} {b}");
    }
}

fn assert_same(a: &[f32], b: &[f32]) {
    assert_close(a, &b.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(), 3e-5);
}

/// Cells down to a fifth of the cutoff, of either handedness; atoms and points anywhere.
fn cases() -> impl Strategy<Value = Case> {
    let anywhere = prop::array::uniform3(-2.0..3.0_f64);
    (
        prop::array::uniform9(-1.0..1.0_f64),
        prop::array::uniform3(0.7..5.0_f64),
        prop::collection::vec(anywhere.clone(), 1..4),
        prop::collection::vec(anywhere, 1..9),
    )
        .prop_filter_map("the cell is too flat", |(m, lengths, frac, points)| {
            let mut rows = [[m[0], m[1], m[2]], [m[3], m[4], m[5]], [m[6], m[7], m[8]]];
            for (row, length) in rows.iter_mut().zip(lengths) {
                let norm = dot(*row, *row).sqrt();
                *row = row.map(|x| x / norm * length);
            }
            let lattice = Lattice::from_matrix(rows).ok()?;
            (lattice.volume() > 0.3 * lengths.iter().product::<f64>()).then(|| Case::new(rows, frac, points))
        })
}

/// A rotation by Rodrigues' formula.
fn rotated(axis: [f64; 3], angle: f64) -> impl Fn([f64; 3]) -> [f64; 3] {
    let norm = dot(axis, axis).sqrt();
    let k = axis.map(|x| x / norm);
    move |v| {
        let (c, along) = (cross(k, v), dot(k, v));
        std::array::from_fn(|i| v[i] * angle.cos() + c[i] * angle.sin() + k[i] * along * (1.0 - angle.cos()))
    }
}

/// For each radial function and `l`, the sum of the squares of what rotates.
fn lengths(sums: &[f32]) -> Vec<f32> {
    let of_row =
        |row: &[f32]| [0, 1, 2, 3].map(|l| row[l * l..(l + 1) * (l + 1)].iter().map(|x| x * x).sum());
    sums.chunks_exact(16).flat_map(|row| -> [f32; 4] { of_row(row) }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn sums_are_those_of_the_definition(case in cases()) {
        assert_close(&case.by_site(), &case.oracle(), 2e-5);
    }

    #[test]
    fn a_rotation_rotates_the_sums_of_one_l(case in cases(), axis in prop::array::uniform3(0.1..1.0_f64), angle in -3.0..3.0_f64) {
        let other = case.map_rows(rotated(axis, angle));
        assert_same(&lengths(&case.total()), &lengths(&other.total()));
    }

    #[test]
    fn a_mirror_changes_the_sign_of_what_is_odd_in_z(case in cases()) {
        let mirrored = case.map_rows(|[x, y, z]| [x, y, -z]).by_site();
        // In the order of m: odd in z where l + m is odd.
        let signs: Vec<f32> =
            (0..4_i32).flat_map(|l| (-l..=l).map(move |m| if (l + m) % 2 == 0 { 1.0 } else { -1.0 })).collect();
        let expected: Vec<f32> = case.by_site().iter().enumerate().map(|(i, x)| x * signs[i % 16]).collect();
        assert_same(&mirrored, &expected);
    }

    #[test]
    fn a_shift_of_crystal_and_points_changes_nothing(case in cases(), shift in prop::array::uniform3(-2.0..2.0_f64)) {
        let mut other = case.clone();
        for f in other.crystal.frac_coords.iter_mut().chain(&mut other.points) {
            *f = std::array::from_fn(|a| f[a] + shift[a]);
        }
        assert_same(&case.by_site(), &other.by_site());
    }

    #[test]
    fn another_choice_of_the_lattice_changes_nothing(case in cases(), i in -2_i8..3, j in -2_i8..3) {
        // b becomes b + i a, c becomes c + j b: fractional coordinates follow.
        let (i, j) = (f64::from(i), f64::from(j));
        let [a, b, c] = *case.crystal.lattice.matrix();
        let added = |v: [f64; 3], k: f64, w: [f64; 3]| std::array::from_fn(|x| v[x] + k * w[x]);
        let mut other = case.clone();
        other.crystal.lattice = Lattice::from_matrix([a, added(b, i, a), added(c, j, b)]).unwrap();
        for f in other.crystal.frac_coords.iter_mut().chain(&mut other.points) {
            let y = f[1] - j * f[2];
            *f = [f[0] - i * y, y, f[2]];
        }
        assert_same(&case.by_site(), &other.by_site());
    }

    #[test]
    fn equivalent_atoms_of_a_supercell_share_the_sums(case in cases()) {
        let [a, b, c] = *case.crystal.lattice.matrix();
        let mut other = case.clone();
        other.crystal.lattice = Lattice::from_matrix([a.map(|x| 2.0 * x), b.map(|x| 2.0 * x), c]).unwrap();
        other.points = case.points.iter().map(|p| [p[0] / 2.0, p[1] / 2.0, p[2]]).collect();
        let copies = [[0.0, 0.0], [0.5, 0.0], [0.0, 0.5], [0.5, 0.5]];
        let copied = |f: &[f64; 3]| copies.map(|s| [f[0] / 2.0 + s[0], f[1] / 2.0 + s[1], f[2]]);
        other.crystal.frac_coords = case.crystal.frac_coords.iter().flat_map(copied).collect();
        other.crystal.atomic_numbers = vec![1; 4 * case.crystal.atomic_numbers.len()];
        other.scales = case.scales.iter().flat_map(|s| [*s; 4]).collect();
        let size = case.points.len() * SIZE;
        let sums = other.by_site();
        let together: Vec<f32> = sums
            .chunks_exact(4 * size)
            .flat_map(|four| (0..size).map(move |i| (0..4).map(|copy| four[copy * size + i]).sum()))
            .collect();
        assert_same(&together, &case.by_site());
    }

    #[test]
    fn the_order_of_points_means_nothing(case in cases()) {
        let mut other = case.clone();
        other.points.reverse();
        other.factors.reverse();
        let turned: Vec<f32> = other
            .by_site()
            .chunks_exact(case.points.len() * SIZE)
            .flat_map(|site| site.chunks_exact(SIZE).rev().flatten().copied().collect::<Vec<_>>())
            .collect();
        assert_same(&turned, &case.by_site());
    }

    #[test]
    fn contracted_sums_are_the_sums_contracted(case in cases(), channels in prop::array::uniform4(0_usize..20)) {
        let total: usize = channels.iter().sum();
        let sites = case.crystal.frac_coords.len();
        let weights: Vec<f32> = (0..sites * 9 * total).map(|i| (i as f32 * 0.7).sin()).collect();
        let weights = Channels { channels: &channels, weights: &weights };
        let found = in_each(|| {
            case.with(|o| basis().contracted(&case.crystal, &case.points, o, weights).unwrap())
        });
        let sums = case.by_site();
        let mut expected = Vec::new();
        for point in 0..case.points.len() {
            let mut start = 0;
            for (l, count) in channels.into_iter().enumerate() {
                for lm in l * l..(l + 1) * (l + 1) {
                    for channel in start..start + count {
                        let term = |site: usize, n: usize| {
                            let sum = sums[(site * case.points.len() + point) * SIZE + n * 16 + lm];
                            f64::from(sum) * f64::from(weights.weights[(site * 9 + n) * total + channel])
                        };
                        expected.push((0..sites).flat_map(|s| (0..9).map(move |n| term(s, n))).sum());
                    }
                }
                start += count;
            }
        }
        for found in found {
            assert_eq!(found.len(), case.points.len() * weights.width());
            assert_close(&found, &expected, 5e-5);
        }
    }
}

#[test]
fn polynomials_are_the_harmonics() {
    for v in [[0.3, -0.4, 0.5], [-0.9, 0.1, 0.2], [0.0, 0.0, -0.7], [0.0; 3], [0.2, 0.6, 0.0]] {
        assert_close(&solid_harmonics(v.map(|x| x as f32)), &harmonics(v), 1e-6);
    }
    assert_eq!(angular_count(MAX_L), MAX_ANGULAR);
}

#[test]
fn the_logarithm_is_that_of_the_library() {
    for i in 0..4000 {
        let x = 10.0_f32.powf(f32::from(i as i16) / 250.0 - 8.0);
        let expected = f64::from(x).ln_1p();
        assert!((f64::from(ln_of_one_and(x)) - expected).abs() < 3e-7 * (1.0 + expected), "{x}");
    }
    assert!(ln_of_one_and(0.0).abs() < f32::EPSILON);
}

#[test]
fn many_atoms_in_a_large_cell() {
    let at = |i: usize| [0.618_034, 0.754_878, 0.569_84].map(|x| (i as f64 * x).fract());
    let rows = [[12.0, 0.0, 1.0], [-3.0, 11.0, 0.0], [0.5, 1.0, 13.0]];
    let case = Case::new(rows, (0..200).map(at).collect(), (7..60).map(|i| at(3 * i)).collect());
    assert_close(&case.by_site(), &case.oracle(), 2e-5);
}

#[test]
fn one_atom_in_a_small_cell() {
    let rows = [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]];
    let points = vec![[0.0; 3], [0.5; 3], [1.0, -3.0, 1e15], [0.25, 0.0, -1e-18]];
    let case = Case::new(rows, vec![[0.0; 3]], points);
    assert_close(&case.by_site(), &case.oracle(), 2e-5);
}

#[test]
fn nothing_reaches_into_vacuum() {
    let rows = [[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 24.0]];
    let case = Case::new(rows, vec![[0.0; 3], [0.5, 0.5, 0.1]], vec![[0.2, 0.3, 0.5], [0.2, 0.3, 0.05]]);
    let total = case.total();
    assert!(total[..SIZE].iter().all(|x| *x == 0.0));
    assert!(total[SIZE..].iter().any(|x| *x != 0.0));
}

#[test]
fn sums_are_smooth_at_the_cutoff_and_at_the_nucleus() {
    let along = |d: f64| {
        let rows = [[20.0, 0.0, 0.0], [0.0, 20.0, 0.0], [0.0, 0.0, 20.0]];
        let v = [0.6, -0.48, 0.64].map(|x| 0.5 - x * d / 20.0);
        Case::new(rows, vec![[0.5; 3]], vec![v]).by_site()
    };
    // The window closes with the third power of the distance to the cutoff: (2 * 0.01 / 3.1)^3 = 3e-7.
    assert!(along(RADIAL.cutoff - 0.01).iter().all(|x| x.abs() < 1e-5));
    assert!(along(RADIAL.cutoff + 1e-6).iter().all(|x| *x == 0.0));
    let (on, near, far) = (along(0.0), along(1e-4), along(2e-4));
    for i in 0..SIZE {
        assert!((near[i] - on[i]).abs() < 2e-3, "{i}: {} {}", near[i], on[i]);
        // One slope on both steps.
        assert!((far[i] - 2.0 * near[i] + on[i]).abs() < 2e-5, "{i}: {} {} {}", far[i], near[i], on[i]);
    }
}

#[test]
fn scales_of_one_are_none() {
    let case = Case::new([[3.0, 0.0, 0.0], [0.5, 3.0, 0.0], [0.0, 0.0, 4.0]], vec![[0.1; 3]], vec![[0.3; 3]]);
    let none = basis().by_site(&case.crystal, &case.points, Options::default()).unwrap();
    let ones = Options { scales: Some(&[1.0]), densities: None };
    assert_eq!(basis().by_site(&case.crystal, &case.points, ones).unwrap(), none);
}

#[test]
fn no_points_and_no_channels_give_no_sums() {
    let case = Case::new([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 4.0]], vec![[0.1; 3]], vec![[0.3; 3]]);
    assert!(basis().by_site(&case.crystal, &[], Options::default()).unwrap().is_empty());
    let nothing = Channels { channels: &[0; 4], weights: &[] };
    let sums = basis().contracted(&case.crystal, &case.points, Options::default(), nothing).unwrap();
    assert!(sums.is_empty());
}

fn scales(scales: &[f64]) -> Options<'_> {
    Options { scales: Some(scales), densities: None }
}

fn message<T: std::fmt::Debug>(result: crate::Result<T>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error:?}");
    error.to_string()
}

#[test]
fn bases_that_mean_nothing_are_errors() {
    let with = |radial: Radial, l_max, core| message(Basis::new(radial, l_max, core));
    assert!(with(RADIAL, 4, CORE).contains("l_max is 4"));
    assert!(with(RADIAL, 3, 0.0).contains("core is 0"));
    assert!(with(RADIAL, 3, f64::NAN).contains("core is NaN"));
    assert!(with(Radial { cutoff: -1.0, reach: -1.0, ..RADIAL }, 3, CORE).contains("cutoff is -1"));
    assert!(with(Radial { reach: f64::INFINITY, ..RADIAL }, 3, CORE).contains("reach is inf"));
    assert!(with(Radial { splines: 3, ..RADIAL }, 3, CORE).contains("3 splines"));
}

#[test]
fn input_that_means_nothing_is_an_error() {
    let case = Case::new([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 4.0]], vec![[0.1; 3]], vec![[0.3; 3]]);
    let sums = |points: &[[f64; 3]], o: Options<'_>| message(basis().by_site(&case.crystal, points, o));
    assert!(sums(&[[0.0; 3], [0.0, f64::NAN, 0.0]], Options::default()).contains("point 1 is"));
    assert!(sums(&case.points, scales(&[1.0, 1.0])).contains("2 scales for 1 atoms"));
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let bad = [bad];
        assert!(sums(&case.points, scales(&bad)).contains("the scale of atom 0"));
    }
    let promolecule = promolecule();
    let densities =
        |factors| Options { densities: Some(Densities { promolecule: &promolecule, factors }), scales: None };
    assert!(sums(&case.points, densities(&[])).contains("0 factors for 1 points"));
    assert!(sums(&case.points, densities(&[f32::NAN])).contains("the factor of point 0 is NaN"));
    let mut other = case.crystal.clone();
    other.atomic_numbers = vec![26];
    assert!(message(basis().by_site(&other, &case.points, densities(&[1.0]))).contains("Fe"));
    other.atomic_numbers.clear();
    assert!(message(basis().by_site(&other, &case.points, Options::default())).contains("no atoms"));
    let weights = Channels { channels: &[1, 0, 0, 0], weights: &[1.0; 7] };
    let few = message(basis().contracted(&case.crystal, &case.points, Options::default(), weights));
    assert!(few.contains("7 weights"), "{few}");
    let channels = Channels { channels: &[usize::MAX, 2, 0, 0], weights: &[1.0; 8] };
    assert!(basis().contracted(&case.crystal, &case.points, Options::default(), channels).is_err());
}

#[test]
fn a_cell_in_nanometres_is_an_error_before_memory_is_taken() {
    let rows = [[0.01, 0.0, 0.0], [0.0, 0.01, 0.0], [0.0, 0.0, 0.01]];
    let crystal = Crystal::new(Lattice::from_matrix(rows).unwrap(), vec![1], vec![[0.0; 3]]).unwrap();
    let error = message(basis().by_site(&crystal, &[[0.0; 3]], Options::default()));
    assert!(error.contains("is the lattice in angstrom?"), "{error}");
}
