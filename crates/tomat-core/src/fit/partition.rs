//! The globally optimal partition of ascending cells into `k` runs.
//!
//! `F(k) = min sum cost(run)` over partitions into `k` runs, for a concave Monge cost. Three ways were weighed for
//! 16,384 runs of 1,000,000 cells: dynamic programming row by row costs `k n log n` (divide and conquer) or `k n`
//! (SMAWK) evaluations, 3e11 and 2e10 (counted, not run: hours and minutes); `F` is convex in `k`, so a Lagrangian search needs
//! a few unconstrained problems `min F(k) + lambda k` instead, each `O(n log n)` by a monotone queue of candidates and
//! in practice some ten evaluations a cell: measured at a few seconds in all (benchmark `fit`).
//!
//! The search is exact: it keeps two optimal partitions with fewer and with more than `k` runs and solves at the slope
//! of the chord between them. Either that finds an optimal partition strictly below the chord, which replaces one of
//! the two, or the chord is an edge of the convex hull of `F` and both partitions are optimal for the same `lambda`:
//! then crossing over from one to the other gives an optimal one with exactly `k` runs (Aggarwal, Schieber and
//! Tokuyama, "Finding a minimum-weight k-link path in graphs with the concave Monge property", 1994).

use super::cost::Cost;

/// A gain below this part of the value is rounding: the chord is an edge of the hull.
const ROUNDING: f64 = 1e-13;
/// Steps that follow the cost law before the search relies on chords alone.
const GUESSES: usize = 8;
/// Far above what is needed (some ten steps): the search ends even if rounding could keep it going.
const MAX_STEPS: usize = 200;

/// Ends of the runs of an optimal partition into exactly `k` runs: `k + 1` ascending indices from 0 to the number of
/// cells. `start` is any partition of the cells, to begin the search from.
///
/// The caller guarantees `1 <= k <= cost.len()`.
pub(super) fn optimal<C: Cost>(cost: &C, k: usize, start: &[usize]) -> Vec<usize> {
    let n = cost.len();
    let mut few = Partition::new(cost, vec![0, n]);
    let mut many = Partition::new(cost, (0..=n).collect());
    if k <= 1 || k >= n {
        return if k >= n { many.ends } else { few.ends };
    }
    let guess = Partition::new(cost, start.to_vec());
    let mut lambda = follow(guess.value * C::DECAY / guess.runs() as f64, guess.runs(), k, C::DECAY);
    let mut solver = Solver::new(n);
    for step in 0..MAX_STEPS {
        let chord = (few.value - many.value) / (many.runs() - few.runs()) as f64;
        // Slopes at which something strictly between the two can be optimal lie on both sides of the chord's.
        let guessed = step < GUESSES && lambda.is_finite() && lambda > 0.0;
        let slope = if guessed { lambda } else { chord };
        let found = Partition::new(cost, solver.solve(cost, slope));
        let runs = found.runs();
        if runs == k {
            return found.ends;
        }
        if runs > few.runs() && runs < many.runs() {
            let level = few.value + slope * few.runs() as f64;
            let gain = level - (found.value + slope * runs as f64);
            if !guessed && gain <= ROUNDING * level {
                break;
            }
            lambda = follow(slope, runs, k, C::DECAY);
            if runs < k {
                few = found;
            } else {
                many = found;
            }
        } else if guessed {
            // The cost law misled: go on with chords.
            lambda = f64::NAN;
        } else {
            break;
        }
    }
    splice(&few.ends, &many.ends, k)
}

/// The slope at `k` runs from that at `runs`, were the cost to follow `1 / runs^decay`.
fn follow(lambda: f64, runs: usize, k: usize, decay: f64) -> f64 {
    let ratio = runs as f64 / k as f64;
    if decay > 1.5 { lambda * ratio * ratio * ratio } else { lambda * ratio * ratio }
}

struct Partition {
    ends: Vec<usize>,
    value: f64,
}

impl Partition {
    fn new<C: Cost>(cost: &C, ends: Vec<usize>) -> Self {
        let value = ends.windows(2).map(|run| cost.cost(run[0], run[1])).sum();
        Self { ends, value }
    }

    fn runs(&self) -> usize {
        self.ends.len() - 1
    }
}

/// The first runs of one partition and the last of the other, `k` in all, where a run of `many` lies inside one of
/// `few`. By the Monge property the two partitions crossed over there cost no more than the two themselves.
fn splice(few: &[usize], many: &[usize], k: usize) -> Vec<usize> {
    let shift = k + 1 - few.len();
    for s in 0..few.len() - 1 {
        if many[s + shift + 1] <= few[s + 1] {
            return many[..=s + shift].iter().chain(&few[s + 1..]).copied().collect();
        }
    }
    many[..=shift].iter().chain(&few[1..]).copied().collect()
}

/// `min sum (cost(run) + lambda)` over all partitions, by the monotone queue of Hirschberg and Larmore (1987).
struct Solver {
    value: Vec<f64>,
    from: Vec<u32>,
    queue: Vec<(usize, usize)>,
}

impl Solver {
    fn new(n: usize) -> Self {
        Self { value: vec![0.0; n + 1], from: vec![0; n + 1], queue: Vec::new() }
    }

    fn solve<C: Cost>(&mut self, cost: &C, lambda: f64) -> Vec<usize> {
        let n = cost.len();
        self.queue.clear();
        // (candidate, first end for which it is the best start known); best starts ascend with the end.
        self.queue.push((0, 1));
        let mut head = 0;
        for j in 1..=n {
            while self.queue.get(head + 1).is_some_and(|next| next.1 <= j) {
                head += 1;
            }
            let best = self.queue[head].0;
            self.value[j] = self.value[best] + cost.cost(best, j) + lambda;
            self.from[j] = best as u32;
            if j < n {
                self.insert(cost, j, &mut head);
            }
        }
        let mut ends = vec![n];
        let mut at = n;
        while at > 0 {
            at = self.from[at] as usize;
            ends.push(at);
        }
        ends.reverse();
        ends
    }

    /// Puts the candidate `j` behind those that stay better than it for some end.
    fn insert<C: Cost>(&mut self, cost: &C, j: usize, head: &mut usize) {
        let n = cost.len();
        let value = &self.value;
        let wins = |old: usize, end: usize| value[j] + cost.cost(j, end) < value[old] + cost.cost(old, end);
        while let Some(&(old, since)) = self.queue.last() {
            let since = since.max(j + 1);
            if !wins(old, since) {
                break;
            }
            if self.queue.len() == *head + 1 {
                self.queue.truncate(*head);
                self.queue.push((j, j + 1));
                return;
            }
            self.queue.pop();
        }
        let Some(&(old, since)) = self.queue.last() else { return };
        // The crossing is near: neighbours in the queue cross near each other. Gallop, then bisect.
        let (mut lost, mut step) = (since.max(j + 1), 1);
        let won = loop {
            let end = lost + step;
            if end >= n {
                if lost == n || !wins(old, n) {
                    return;
                }
                break n;
            }
            if wins(old, end) {
                break end;
            }
            lost = end;
            step *= 2;
        };
        let mut won = won;
        while won - lost > 1 {
            let middle = usize::midpoint(lost, won);
            if wins(old, middle) {
                won = middle;
            } else {
                lost = middle;
            }
        }
        self.queue.push((j, won));
    }
}
