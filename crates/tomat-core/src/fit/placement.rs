//! Codecs placed by a rule rather than by an optimum: companding, Lloyd's iterations, equal mass.

use super::cells::Cells;

/// The density of values at a cell is estimated over this many cells on each side. Neighbours are counted, not measured
/// by width or mass: the estimate then has the same relative noise everywhere, also where values are few.
const NEIGHBOURS: usize = 16;

/// Boundaries of `n` bins whose density of points follows `p^exponent`, `p` being the density of values: equal
/// increments of the integral of `p^exponent`.
///
/// For many bins the error of a bin of width `d` is `p d^2 / 4` (absolute) or `p d^3 / 12` (squared); minimising the
/// sum under a fixed number of bins gives points as `p^(1/2)` or `p^(1/3)`: W. R. Bennett, Bell Syst. Tech. J. 27, 446
/// (1948); P. F. Panter and W. Dite, Proc. IRE 39, 44 (1951); for any power of the error A. Gersho, IEEE Trans.
/// Inf. Theory 25, 373 (1979).
pub(super) fn companding(cells: &Cells, n: usize, exponent: f64) -> Vec<f64> {
    let steps: Vec<_> = densities(cells)
        .map(|(low, high, density)| {
            let height = if exponent > 0.4 { density.sqrt() } else { density.cbrt() };
            (low, high, height * (high - low))
        })
        .collect();
    let total: f64 = steps.iter().map(|step| step.2).sum();
    let mut boundaries = Vec::with_capacity(n.saturating_sub(1));
    let (mut before, mut rest) = (0.0, steps.iter());
    let Some(mut step) = rest.next() else { return boundaries };
    for t in 1..n {
        let target = total * t as f64 / n as f64;
        while before + step.2 < target {
            let Some(next) = rest.next() else { break };
            before += step.2;
            step = next;
        }
        let part = if step.2 > 0.0 { ((target - before) / step.2).clamp(0.0, 1.0) } else { 0.0 };
        boundaries.push(step.0 + (step.1 - step.0) * part);
    }
    boundaries
}

/// For each cell its share of the axis, `(low, high)`, and the density of values there; cells meet half way.
fn densities(cells: &Cells) -> impl Iterator<Item = (f64, f64, f64)> {
    let n = cells.values.len();
    let mut before = Vec::with_capacity(n + 1);
    before.push(0.0);
    before.extend(cells.weights.iter().scan(0.0, |sum, w| {
        *sum += w;
        Some(*sum)
    }));
    let edge = move |i: usize| {
        let outer = (cells.values[i.saturating_sub(1)], cells.values[i.min(n - 1)]);
        f64::midpoint(f64::from(outer.0), f64::from(outer.1))
    };
    (0..n).map(move |i| {
        let (first, end) = (i.saturating_sub(NEIGHBOURS), (i + NEIGHBOURS + 1).min(n));
        (edge(i), edge(i + 1), (before[end] - before[first]) / (edge(end) - edge(first)))
    })
}

/// Ends of `n` runs of as nearly equal mass as whole, non-empty runs of cells can have; `n` is at most the number of
/// cells.
pub(super) fn equal_mass(cells: &Cells, n: usize) -> Vec<usize> {
    let total: f64 = cells.weights.iter().sum();
    let n_cells = cells.values.len();
    let (mut ends, mut at, mut mass) = (vec![0], 0, 0.0);
    for t in 1..n {
        let target = total * t as f64 / n as f64;
        // A run takes the cell that crosses the target when most of that cell lies before it.
        while at < n_cells && mass + 0.5 * cells.weights[at] < target {
            mass += cells.weights[at];
            at += 1;
        }
        let end = at.clamp(ends[t - 1] + 1, n_cells - (n - t));
        ends.push(end);
    }
    ends.push(n_cells);
    ends
}

/// Boundaries after `iterations` rounds of Lloyd's algorithm (S. P. Lloyd, IEEE Trans. Inf. Theory 28, 129 (1982))
/// from an equal-mass start: points to the means of their bins, boundaries to the midpoints of points. The point of
/// a bin that has lost its cells stays.
pub(super) fn lloyd(cells: &Cells, n: usize, iterations: usize) -> Vec<f64> {
    let sums = Sums::new(cells);
    let mut ends = equal_mass(cells, n);
    let mut points: Vec<f64> = ends.windows(2).filter_map(|run| sums.mean(run[0], run[1])).collect();
    let mut boundaries = Vec::new();
    for _ in 0..iterations {
        boundaries = points.windows(2).map(|pair| f64::midpoint(pair[0], pair[1])).collect();
        for (end, boundary) in ends.iter_mut().skip(1).zip(&boundaries) {
            *end = cells.values.partition_point(|&v| f64::from(v) < *boundary);
        }
        for (point, run) in points.iter_mut().zip(ends.windows(2)) {
            *point = sums.mean(run[0], run[1]).unwrap_or(*point);
        }
    }
    boundaries
}

/// Prefix sums for means; float64 is plenty for a recipe that stops after a fixed number of rounds.
struct Sums {
    before: Vec<(f64, f64)>,
}

impl Sums {
    fn new(cells: &Cells) -> Self {
        let mut before = vec![(0.0, 0.0)];
        let (mut weight, mut moment) = (0.0, 0.0);
        for (&v, &w) in cells.values.iter().zip(&cells.weights) {
            weight += w;
            moment += w * f64::from(v);
            before.push((weight, moment));
        }
        Self { before }
    }

    fn mean(&self, i: usize, j: usize) -> Option<f64> {
        let ((w0, m0), (w1, m1)) = (self.before[i], self.before[j]);
        (j > i).then(|| (m1 - m0) / (w1 - w0))
    }
}
