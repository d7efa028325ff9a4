use super::*;

fn options(method: Method, bins: usize) -> FitOptions {
    FitOptions::new(method, Weighting::Voxel, bins)
}

/// What every codec must be, whatever was fitted.
fn check_codec(fitted: &Fitted, n: usize) {
    assert_eq!((fitted.boundaries.len(), fitted.recon_points.len()), (n - 1, n));
    assert!(fitted.boundaries.windows(2).all(|b| b[0] < b[1]), "{:?}", fitted.boundaries);
    for points in [&fitted.recon_points, &fitted.recon_mean, &fitted.recon_median] {
        assert!(points.windows(2).all(|p| p[0] < p[1]), "{points:?}");
        for (bin, &point) in points.iter().enumerate() {
            assert!(point.is_finite());
            assert_eq!(fitted.boundaries.partition_point(|&b| b <= point), bin, "{point} of bin {bin}");
        }
    }
    assert!(fitted.clip_min <= fitted.clip_max);
    assert!(fitted.bins >= 1 && fitted.bins <= n);
}

/// Non-negative or mixed values of up to two materials.
fn small_sketch() -> impl Strategy<Value = Sketch> {
    let value = prop_oneof![
        (-5.0_f32..3.3).prop_map(|x| 10_f32.powf(x)),
        (-3.0_f32..1.4).prop_map(|x| -10_f32.powf(x)),
        (0_u8..12).prop_map(|x| f32::from(x) * 0.25),
        Just(1e-42_f32),
        Just(0.0_f32),
    ];
    let material = prop::collection::vec(value, 1..30);
    prop::collection::vec(material, 1..3).prop_map(|materials| {
        let mut sketch = Sketch::new(Unit::Chgcar);
        for (i, values) in materials.iter().enumerate() {
            sketch.add(&i.to_string(), values, 1.0).unwrap();
        }
        sketch
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn codecs_are_well_formed(sketch in small_sketch(), n in 1_usize..70, material: bool, signed: bool, mean: bool) {
        let weighting = if material { Weighting::Material } else { Weighting::Voxel };
        let point = if mean { Point::Mean } else { Point::Median };
        for method in Method::ALL {
            let fitted = fit(&sketch, &FitOptions { method, weighting, signed, bins: n, point }).unwrap();
            check_codec(&fitted, n);
        }
    }

    /// The codec, not only the partition, reaches the optimum by brute force.
    #[test]
    fn codecs_reach_the_optimum(sketch in small_sketch(), n in 1_usize..20) {
        let cells = sketch.ascending();
        let values: Vec<f32> = cells.iter().map(|cell| cell.0).collect();
        let weights: Vec<f64> = cells.iter().map(|cell| cell.1.count as f64).collect();
        let total: f64 = weights.iter().sum();
        let sum: f64 = values.iter().zip(&weights).map(|(&v, w)| w * f64::from(v.abs())).sum();
        let at = n.min(values.len());
        let l1 = fit(&sketch, &FitOptions { signed: true, ..options(Method::L1, n) }).unwrap();
        let best = brute_force(&values, &weights, false)[at];
        prop_assert!((l1.nmae * sum - best).abs() <= 1e-12 * best + 1e-300, "{} {best}", l1.nmae * sum);
        let l2 = fit(&sketch, &FitOptions { signed: true, ..options(Method::L2, n) }).unwrap();
        let best = brute_force(&values, &weights, true)[at];
        // Means are rounded to float32: half a unit in the last place of each point.
        let rounding: f64 = cells.iter().map(|(v, c)| (f64::from(*v) * 1.2e-7).powi(2) * c.count as f64).sum();
        prop_assert!(l2.rms * l2.rms * total <= best * (1.0 + 1e-9) + rounding);
    }
}

#[test]
fn nothing_beats_the_optimum_on_its_own_sketch() {
    let sketch = heavy_tail();
    for weighting in [Weighting::Voxel, Weighting::Material] {
        for signed in [false, true] {
            for bins in [1, 2, 3, 16, 100, 256, 1000, 1024, 4096] {
                let run = |method, point| {
                    let fitted =
                        fit(&sketch, &FitOptions { method, weighting, signed, bins, point }).unwrap();
                    check_codec(&fitted, bins);
                    fitted
                };
                let (l1, l2) = (run(Method::L1, Point::Median), run(Method::L2, Point::Mean));
                assert_eq!(l1.bins, bins);
                for method in Method::ALL {
                    for point in [Point::Median, Point::Mean] {
                        let other = run(method, point);
                        assert!(l1.nmae <= other.nmae * (1.0 + 1e-9), "{method} {point:?} {bins} {signed}");
                        assert!(l2.rms <= other.rms * (1.0 + 1e-6), "{method} {point:?} {bins} {signed}");
                    }
                }
            }
        }
    }
}

#[test]
fn companding_and_the_optimum_beat_the_usual_recipe_on_a_heavy_tail() {
    let sketch = heavy_tail();
    let nmae = |method| fit(&sketch, &options(method, 256)).unwrap().nmae;
    let ratio = nmae(Method::Companding) / nmae(Method::L1);
    assert!(ratio < 1.25, "{ratio}");
    assert!(nmae(Method::Lloyd) > 2.0 * nmae(Method::L1));
    assert!(nmae(Method::EqualMass) > nmae(Method::Lloyd));
}

#[test]
fn material_weighting_is_the_mean_nmae() {
    // Values with few mantissa bits stand for themselves in the sketch.
    let materials: [Vec<f32>; 3] = [
        (1..400_u16).map(|i| f32::from(i) * 0.5).collect(),
        (1..90_u16).map(|i| f32::from(i * i % 97) * 0.015_625).collect(),
        vec![0.25, -0.5, 3.0, 8.0, 8.0, 100.0],
    ];
    let mut sketch = Sketch::new(Unit::Chgcar);
    for (i, values) in materials.iter().enumerate() {
        sketch.add(&i.to_string(), values, 1.0).unwrap();
    }
    for method in Method::ALL {
        let fitted = fit(&sketch, &FitOptions::new(method, Weighting::Material, 24)).unwrap();
        let nmae = |values: &Vec<f32>| {
            let error: f64 = values.iter().map(|&v| f64::from((fitted.round(v) - v).abs())).sum();
            error / values.iter().map(|&v| f64::from(v.abs())).sum::<f64>()
        };
        let mean = materials.iter().map(nmae).sum::<f64>() / 3.0;
        assert!((fitted.nmae - mean).abs() <= 1e-6 * mean, "{method}: {} {mean}", fitted.nmae);
    }
}

#[test]
fn companding_follows_the_square_root_of_an_exponential() {
    // p = exp(-x): the integral of p^(1/2) up to x is 2 (1 - exp(-x/2)), that of p^(1/3) is 3 (1 - exp(-x/3)).
    let n = 200_000;
    let values: Vec<f32> = (0..n).map(|i| -(1.0 - (f64::from(i) + 0.5) / f64::from(n)).ln() as f32).collect();
    let sketch = sketch_of(&values);
    for (point, order) in [(Point::Median, 2.0), (Point::Mean, 3.0)] {
        let fitted = fit(&sketch, &FitOptions { point, ..options(Method::Companding, 64) }).unwrap();
        let end = 1.0 - (-f64::from(fitted.clip_max) / order).exp();
        for (t, &boundary) in (1..).zip(&fitted.boundaries).take(50) {
            let expected = -order * (1.0 - end * f64::from(t) / 64.0).ln();
            let error = (f64::from(boundary) / expected - 1.0).abs();
            assert!(error < 0.02, "{point:?} boundary {t}: {boundary} against {expected}");
        }
    }
}

#[test]
fn equal_mass_and_lloyd_on_a_worked_case() {
    let sketch = sketch_of(&[1.0, 2.0, 3.0, 4.0, 10.0, 12.0, 14.0, 16.0]);
    let equal = fit(&sketch, &options(Method::EqualMass, 4)).unwrap();
    assert_eq!(equal.boundaries, [2.5, 7.0, 13.0]);
    assert_eq!(equal.recon_mean, [1.5, 3.5, 11.0, 15.0]);
    assert_eq!(equal.recon_median, [1.0, 3.0, 10.0, 14.0]);
    // Equal mass is a fixed point of Lloyd's iteration here; with unequal weights it is not.
    assert_eq!(fit(&sketch, &options(Method::Lloyd, 4)).unwrap().boundaries, [2.5, 7.25, 13.0]);
    let uneven = sketch_of(&[0.0, 1.0, 2.0, 100.0]);
    assert_eq!(fit(&uneven, &options(Method::EqualMass, 2)).unwrap().boundaries, [1.5]);
    let lloyd = fit(&uneven, &FitOptions { point: Point::Mean, ..options(Method::Lloyd, 2) }).unwrap();
    assert_eq!((lloyd.boundaries, lloyd.recon_points), (vec![50.5], vec![1.0, 100.0]));
}

#[test]
fn fewer_values_than_bins_are_exact() {
    let sketch = sketch_of(&[0.5, 3.0, 3.0, 0.5, 7.25]);
    for method in Method::ALL {
        for n in [3, 4, 16, 1024] {
            let fitted = fit(&sketch, &options(method, n)).unwrap();
            check_codec(&fitted, n);
            assert_eq!((fitted.bins, fitted.clip_max, fitted.nmae.to_bits()), (3, 7.25, 0));
            assert_eq!(fitted.recon_points[..3], [0.5, 3.0, 7.25]);
            assert_eq!(fitted.boundaries[..2], [1.75, 5.125]);
            assert!(fitted.boundaries[2..].iter().all(|&b| b > 7.25));
            let rounded = [0.4, 3.0, 9.0].map(|v| fitted.round(v).to_bits());
            assert_eq!(rounded, [0.5_f32, 3.0, 7.25].map(f32::to_bits));
        }
    }
}

#[test]
fn zeros_and_one_bin() {
    for weighting in [Weighting::Voxel, Weighting::Material] {
        for method in Method::ALL {
            let zeros = fit(&sketch_of(&[0.0; 30]), &FitOptions::new(method, weighting, 8)).unwrap();
            check_codec(&zeros, 8);
            assert_eq!((zeros.bins, zeros.round(5.0), zeros.nmae.to_bits()), (1, 0.0, 0));
            let one = fit(&sketch_of(&[1.0, 2.0, 9.0]), &FitOptions::new(method, weighting, 1)).unwrap();
            check_codec(&one, 1);
            assert_eq!(one.recon_mean, [4.0]);
            assert_eq!(one.recon_median, [2.0]);
        }
    }
}

#[test]
fn negative_values_are_clipped_or_given_bins() {
    let sketch = sketch_of(&[-27.0, -1.0, 0.0, 1.0, 2.0]);
    for method in Method::ALL {
        let clipped = fit(&sketch, &options(method, 8)).unwrap();
        assert_eq!((clipped.clip_min, clipped.bins, clipped.round(-27.0)), (0.0, 3, 0.0));
        assert!((clipped.nmae - 28.0 / 31.0).abs() < 1e-15, "{}", clipped.nmae);
        let signed = fit(&sketch, &FitOptions { signed: true, ..options(method, 8) }).unwrap();
        assert_eq!((signed.clip_min, signed.bins, signed.round(-27.0)), (-27.0, 5, -27.0));
        assert_eq!(signed.nmae.to_bits(), 0);
        let below = fit(&sketch_of(&[-2.0, -1.0]), &options(method, 4)).unwrap();
        check_codec(&below, 4);
        assert_eq!((below.clip_max, below.bins, below.round(-2.0)), (0.0, 1, 0.0));
    }
}

#[test]
fn neighbouring_float32_stay_apart() {
    // Distinct cells 128 units in the last place apart, and denormals.
    for first in [1.0_f32, f32::from_bits(256)] {
        let values: Vec<f32> = (0..9).map(|i| f32::from_bits(first.to_bits() + 128 * i)).collect();
        for method in Method::ALL {
            for n in 1..12 {
                check_codec(&fit(&sketch_of(&values), &options(method, n)).unwrap(), n);
            }
        }
    }
}

#[test]
fn impossible_requests_say_so() {
    let sketch = sketch_of(&[1.0, 2.0]);
    for bins in [0, MAX_BINS + 1] {
        assert!(fit(&sketch, &options(Method::L1, bins)).unwrap_err().to_string().contains("bins"));
    }
    let error = fit(&Sketch::new(Unit::Chgcar), &options(Method::L1, 4)).unwrap_err();
    assert!(error.to_string().contains("empty"), "{error}");
    let error = fit(&sketch_of(&[f32::MAX]), &options(Method::L1, 4)).unwrap_err();
    assert!(error.to_string().contains("no room"), "{error}");
}

#[test]
fn names_come_back() {
    for method in Method::ALL {
        assert_eq!(method.name().parse::<Method>(), Ok(method));
    }
    assert_eq!("material".parse::<Weighting>(), Ok(Weighting::Material));
    let error = "l3".parse::<Method>().unwrap_err().to_string();
    assert!(error.contains("l3") && error.contains("equal-mass"), "{error}");
}
