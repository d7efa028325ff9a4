use proptest::prelude::*;

use super::{Dense, Fixed, Readout};
use crate::environment::{Basis, Channels, Options, Radial};
use crate::error::Result;
use crate::grid::{Crystal, Lattice};
use crate::vector::in_each;

const CHANNELS: [usize; 3] = [5, 3, 2];
const FIXED: [Fixed; 4] = [Fixed::Density, Fixed::Density, Fixed::Laplacian, Fixed::Potential];
const HIDDEN: usize = 7;
const OUTPUTS: usize = 6;

/// Numbers that look random.
fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..n).map(next).collect()
}

struct Model {
    mixing: Vec<Vec<f32>>,
    layers: Vec<(usize, usize, Vec<f32>, Vec<f32>)>,
}

impl Model {
    fn new(seed: u32) -> Self {
        let inputs = CHANNELS.iter().sum::<usize>() + 2 + FIXED.len();
        let layer = |inputs, outputs, seed| {
            (inputs, outputs, numbers(inputs * outputs, seed), numbers(outputs, seed + 1))
        };
        Self {
            mixing: CHANNELS[1..].iter().map(|&n| numbers(n * n, seed)).collect(),
            layers: vec![layer(inputs, HIDDEN, seed + 2), layer(HIDDEN, OUTPUTS, seed + 4)],
        }
    }

    fn readout(&self) -> Readout {
        let square = |(m, &n): (&Vec<f32>, &usize)| Dense::new(n, n, m, &[]).unwrap();
        let mixing = self.mixing.iter().zip(&CHANNELS[1..]).map(square).collect();
        let layers = self.layers.iter().map(|(i, o, w, b)| Dense::new(*i, *o, w, b).unwrap()).collect();
        Readout::new(&CHANNELS, &FIXED, mixing, layers).unwrap()
    }

    /// What the documentation of the module says, one point at a time, in double precision.
    fn slowly(&self, sums: &[f32], guess: f32) -> Vec<f64> {
        let s: Vec<f64> = sums.iter().map(|&x| f64::from(x)).collect();
        let mut x: Vec<f64> = s[..CHANNELS[0]].iter().map(|s| (0.5 * s).asinh()).collect();
        let fixed = &s[CHANNELS[0]..CHANNELS[0] + FIXED.len()];
        let mut first = CHANNELS[0] + FIXED.len();
        for (l, (&n, matrix)) in CHANNELS[1..].iter().zip(&self.mixing).enumerate() {
            let mut found = vec![0.0; n];
            for of_m in s[first..first + (2 * l + 3) * n].chunks(n) {
                for j in 0..n {
                    let mixed: f64 = (0..n).map(|i| of_m[i] * f64::from(matrix[i * n + j])).sum();
                    found[j] += of_m[j] * mixed;
                }
            }
            first += (2 * l + 3) * n;
            x.extend(found.iter().map(|x| (0.25 * x).asinh()));
        }
        let square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        for x in &mut x {
            *x /= (square + 0.1).sqrt();
        }
        let guess = f64::from(guess);
        x.extend([0.5 * (guess + 1e-4).ln(), guess.sqrt()]);
        for (kind, value) in FIXED.iter().zip(fixed) {
            x.push(match kind {
                Fixed::Density => 0.5 * (value.max(0.0) + 1e-4).ln(),
                Fixed::Laplacian => (0.05 * value / (fixed[0].max(0.0) + 0.02)).asinh(),
                Fixed::Potential => (0.1 * value).asinh(),
            });
        }
        for (i, (inputs, outputs, weight, bias)) in self.layers.iter().enumerate() {
            let of = |o: usize| -> f64 {
                let sum: f64 = (0..*inputs).map(|i| x[i] * f64::from(weight[i * outputs + o])).sum();
                let y = sum + f64::from(bias[o]);
                if i + 1 < self.layers.len() { y / (1.0 + (-y).exp()) } else { y }
            };
            x = (0..*outputs).map(of).collect();
        }
        x
    }
}

proptest! {
    #[test]
    fn outputs_are_those_of_the_formulas(points in 0_usize..120, seed in 0_u32..1000, size in 0.01_f32..30.0) {
        let model = Model::new(seed);
        let readout = model.readout();
        let sums: Vec<f32> = numbers(points * readout.width(), seed + 9).iter().map(|x| size * x).collect();
        let guess: Vec<f32> = numbers(points, seed + 10).iter().map(|x| (5.0 * x).exp()).collect();
        for found in in_each(|| readout.read(&sums, &guess).unwrap()) {
            prop_assert_eq!(found.len(), points * OUTPUTS);
            for ((sums, guess), found) in sums.chunks(readout.width()).zip(&guess).zip(found.chunks(OUTPUTS)) {
                for (found, expected) in found.iter().zip(model.slowly(sums, *guess)) {
                    prop_assert!((f64::from(*found) - expected).abs() < 1e-5 * (1.0 + expected.abs()));
                }
            }
        }
    }

    #[test]
    fn a_point_does_not_depend_on_the_others(points in 2_usize..100, seed in 0_u32..1000) {
        let readout = Model::new(seed).readout();
        let sums = numbers(points * readout.width(), seed);
        let guess: Vec<f32> = numbers(points, seed).iter().map(|x| x.abs() + 0.01).collect();
        let all = readout.read(&sums, &guess).unwrap();
        let last = readout.read(&sums[(points - 1) * readout.width()..], &guess[points - 1..]).unwrap();
        prop_assert_eq!(&all[(points - 1) * OUTPUTS..], &last[..]);
    }
}

#[test]
fn what_is_not_a_number_stays_with_its_point() {
    let readout = Model::new(1).readout();
    let mut sums = numbers(3 * readout.width(), 2);
    sums[readout.width()] = f32::NAN;
    let found = readout.read(&sums, &[0.1; 3]).unwrap();
    let lost: Vec<bool> = found.chunks(OUTPUTS).map(|one| one.iter().all(|x| x.is_nan())).collect();
    assert_eq!(lost, [false, true, false]);
}

#[test]
fn sizes_that_do_not_fit_are_told() {
    let layer = || Dense::new(3, 2, &[0.5; 6], &[0.0; 2]).unwrap();
    assert!(Dense::new(3, 2, &[0.5; 5], &[]).unwrap_err().to_string().contains("5 weights"));
    assert!(Dense::new(3, 2, &[0.5; 6], &[0.0]).unwrap_err().to_string().contains("1 biases"));
    assert!(Dense::new(0, 2, &[], &[]).is_err());
    let error = Readout::new(&[2], &[], vec![], vec![layer()]).unwrap_err().to_string();
    assert!(error.contains("layers from 4 inputs") && error.contains("[[3, 2]]"), "{error}");
    assert!(Readout::new(&[1], &[], vec![layer()], vec![layer()]).is_err());
    assert!(Readout::new(&[1], &[], vec![], vec![]).is_err());
    assert!(Readout::new(&[], &[], vec![], vec![layer()]).is_err());
    let readout = Readout::new(&[1], &[], vec![], vec![layer()]).unwrap();
    assert!(readout.read(&[1.0; 3], &[0.1; 2]).unwrap_err().to_string().contains("3 sums for 2 points"));
}

#[test]
fn names_tell_the_kinds_of_fixed_sums() {
    for fixed in Fixed::ALL {
        assert_eq!(Fixed::named(fixed.name()), Some(fixed));
    }
    assert_eq!(Fixed::named("charge"), None);
}

#[test]
fn around_points_is_to_sum_and_then_to_read() -> Result<()> {
    let lattice = Lattice::from_matrix([[3.0, 0.2, 0.0], [-1.0, 2.9, 0.0], [0.0, 0.4, 3.3]])?;
    let crystal = Crystal::new(lattice, vec![3, 8], vec![[0.1, 0.2, 0.3], [0.6, 0.5, 0.8]])?;
    let basis = Basis::new(Radial { cutoff: 3.0, inner: 0.5, splines: 6, reach: 1.0 }, 2, 0.3)?;
    let mut channels = CHANNELS;
    channels[0] += FIXED.len();
    let weights = numbers(2 * 6 * channels.iter().sum::<usize>(), 3);
    let weights = Channels { channels: &channels, weights: &weights };
    let readout = Model::new(7).readout();
    for n in [0_u32, 1, 15, 70, 400] {
        // In clusters, so that blocks are full and not.
        let place = |i: u32| {
            [0.618_034, 0.754_878, 0.569_84]
                .map(|x| (f64::from(i / 20) * x).fract() + f64::from(i % 20) * 1e-3)
        };
        let points: Vec<[f64; 3]> = (0..n).map(place).collect();
        let guess: Vec<f32> = (0..n).map(|i| 0.1 + i as f32 * 0.01).collect();
        let options = Options::default();
        let expected = readout.read(&basis.contracted(&crystal, &points, options, weights)?, &guess)?;
        assert_eq!(readout.around(&basis, &crystal, &points, options, weights, &guess)?, expected);
    }
    let fewer = Channels { channels: &CHANNELS, ..weights };
    let error =
        readout.around(&basis, &crystal, &[], Options::default(), fewer, &[]).unwrap_err().to_string();
    assert!(error.contains("a point and 0 starting densities"), "{error}");
    assert!(readout.around(&basis, &crystal, &[[0.0; 3]], Options::default(), weights, &[]).is_err());
    Ok(())
}
