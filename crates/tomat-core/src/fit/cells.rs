//! What is fitted: a sketch's cells under one weighting, and the codec read off a set of boundaries.

use super::sketch::{Cell, Sketch};
use super::{FitOptions, Fitted, Point, Weighting};
use crate::error::{Error, Result};

/// Weights are integers whose sum stays below 2^53, so that float64 adds them exactly.
const MAX_WEIGHT: f64 = (1_u64 << 52) as f64;

/// Values in ascending order and their weights: positive integers, in all below 2^53.
#[derive(Debug)]
pub(super) struct Cells {
    pub(super) values: Vec<f32>,
    pub(super) weights: Vec<f64>,
    all: Vec<(f32, Cell)>,
    weighting: Weighting,
    clip: (f32, f32),
}

impl Cells {
    /// Without `signed`, everything below zero is moved to zero.
    pub(super) fn new(sketch: &Sketch, options: &FitOptions) -> Result<Self> {
        let Some((min, max)) = sketch.range() else {
            return Err(Error::invalid("the sketch is empty; sketch at least one density before fitting"));
        };
        let clip = if options.signed { (min, max) } else { (0.0, max.max(0.0)) };
        let all = sketch.ascending();
        // Densities that are zero everywhere have no material weight; any codec serves them equally.
        let weightless = all.iter().all(|(_, cell)| cell.weight == 0);
        let weighting = if weightless { Weighting::Voxel } else { options.weighting };
        let weigh = |cell: &Cell| match weighting {
            Weighting::Voxel => u128::from(cell.count),
            Weighting::Material => cell.weight,
        };
        let total = all.iter().map(|(_, cell)| weigh(cell) as f64).sum::<f64>();
        let scale = if total > MAX_WEIGHT { MAX_WEIGHT / total } else { 1.0 };
        let (mut values, mut weights) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
        for (value, cell) in &all {
            let (value, weight) = (value.clamp(clip.0, clip.1), weigh(cell));
            if weight == 0 {
                continue;
            }
            let weight = (weight as f64 * scale).round().max(1.0);
            match (values.last(), weights.last_mut()) {
                (Some(&last), Some(sum)) if value <= last => *sum += weight,
                _ => {
                    values.push(value);
                    weights.push(weight);
                }
            }
        }
        Ok(Self { values, weights, all, weighting, clip })
    }

    /// The boundary between two runs of cells, half way between their points: above `low`, at most `high`.
    pub(super) fn between(low: f32, high: f32) -> f32 {
        let middle = f64::midpoint(f64::from(low), f64::from(high)) as f32;
        if middle > low { middle } else { high }
    }

    /// Mean and median, rounded to float32, of the cells `i..j`, if there are any.
    fn points(&self, i: usize, j: usize) -> Option<(f32, f32)> {
        let (values, weights) = (&self.values[i..j], &self.weights[i..j]);
        let first = f64::from(*values.first()?);
        let total: f64 = weights.iter().sum();
        // Relative to the first value: the mean of equal or neighbouring values is then right to the last bit.
        let moment: f64 = values.iter().zip(weights).map(|(&v, w)| w * (f64::from(v) - first)).sum();
        let (mut before, mut median) = (0.0, values[0]);
        for (&value, weight) in values.iter().zip(weights) {
            before += weight;
            median = value;
            if before >= 0.5 * total {
                break;
            }
        }
        let mean = (first + moment / total) as f32;
        Some((mean.clamp(values[0], values[values.len() - 1]), median))
    }

    /// The codec with the given boundaries, at most `n - 1` of them: made strictly ascending in float32, padded above
    /// the largest value to `n - 1`, points from the cells of each bin.
    pub(super) fn codec(&self, boundaries: &[f64], n: usize, point: Point) -> Result<Fitted> {
        let boundaries = self.pad(boundaries, n)?;
        let mut ends: Vec<usize> =
            boundaries.iter().map(|&b| self.values.partition_point(|&v| v < b)).collect();
        ends.insert(0, 0);
        ends.push(self.values.len());
        let (mut recon_mean, mut recon_median) = (Vec::with_capacity(n), Vec::with_capacity(n));
        let mut bins = 0;
        for (t, run) in ends.windows(2).enumerate() {
            let low = t.checked_sub(1).and_then(|t| boundaries.get(t)).copied();
            let high = boundaries.get(t).copied();
            let found = self.points(run[0], run[1]);
            bins += usize::from(found.is_some());
            let (mean, median) = found.unwrap_or_else(|| {
                let center = self.center(low, high);
                (center, center)
            });
            recon_mean.push(mean);
            recon_median.push(median);
        }
        let recon_points = match point {
            Point::Mean => recon_mean.clone(),
            Point::Median => recon_median.clone(),
        };
        let (clip_min, clip_max) = self.clip;
        let (nmae, rms) = (0.0, 0.0);
        let mut fitted = Fitted {
            boundaries,
            recon_points,
            recon_mean,
            recon_median,
            clip_min,
            clip_max,
            bins,
            nmae,
            rms,
        };
        self.measure(&mut fitted);
        Ok(fitted)
    }

    fn pad(&self, boundaries: &[f64], n: usize) -> Result<Vec<f32>> {
        let mut padded: Vec<f32> = Vec::with_capacity(n.saturating_sub(1));
        for &boundary in boundaries {
            let least = padded.last().map_or(f32::MIN, |last| last.next_up());
            padded.push((boundary as f32).max(least));
        }
        let mut top = padded.last().map_or(self.clip.1, |last| last.max(self.clip.1));
        while padded.len() + 1 < n {
            // Not by denormals: some hardware flushes them to zero.
            top = top.next_up().max(f32::MIN_POSITIVE);
            padded.push(top);
        }
        if padded.last().is_some_and(|top| !top.is_finite()) {
            return Err(Error::invalid(format!(
                "values up to {} leave no room for {n} bins in float32; take fewer bins",
                self.clip.1
            )));
        }
        Ok(padded)
    }

    /// The point of a bin without cells: its middle, inside it after rounding.
    fn center(&self, low: Option<f32>, high: Option<f32>) -> f32 {
        let (bottom, top) = (low.unwrap_or(self.clip.0), high.unwrap_or(self.clip.1));
        let middle = f64::midpoint(f64::from(bottom), f64::from(top)) as f32;
        let middle = high.map_or(middle, |high| middle.min(high.next_down()));
        low.map_or(middle, |low| middle.max(low))
    }

    /// The errors of the codec on the cells as they are, negative ones included.
    fn measure(&self, fitted: &mut Fitted) {
        let (mut weights, mut sum, mut absolute, mut square) = (0.0, 0.0, 0.0, 0.0);
        for (value, cell) in &self.all {
            let weight = match self.weighting {
                Weighting::Voxel => cell.count as f64,
                Weighting::Material => cell.weight as f64,
            };
            let error = f64::from(fitted.round(*value)) - f64::from(*value);
            weights += weight;
            sum += weight * f64::from(value.abs());
            absolute += weight * error.abs();
            square += weight * error * error;
        }
        fitted.nmae = if sum > 0.0 { absolute / sum } else { 0.0 };
        fitted.rms = (square / weights).sqrt();
    }
}

impl Cells {
    /// Boundaries half way between the means of neighbouring runs.
    pub(super) fn midpoints(&self, ends: &[usize]) -> Vec<f64> {
        let means: Vec<f32> =
            ends.windows(2).filter_map(|run| Some(self.points(run[0], run[1])?.0)).collect();
        means.windows(2).map(|pair| f64::from(Self::between(pair[0], pair[1]))).collect()
    }

    /// Boundaries half way between the cells on the two sides of each inner end.
    pub(super) fn quantiles(&self, ends: &[usize]) -> Vec<f64> {
        let inner = ends.get(1..ends.len().saturating_sub(1)).unwrap_or_default();
        inner.iter().map(|&end| f64::from(Self::between(self.values[end - 1], self.values[end]))).collect()
    }
}
