//! Quantiles of mixtures of logistic distributions.

use crate::error::{Error, Result};
use crate::memory;
use crate::vector::{self, Kernel, Lane, Register, exp};

/// Mixtures of logistic distributions, `(points, components)` each, row-major: `share / (1 + exp((place - x) / width))`
/// of a component lie below `x`.
#[derive(Debug, Clone, Copy)]
pub struct Mixtures<'a> {
    /// The number of components.
    pub components: usize,
    /// Their probabilities.
    pub share: &'a [f32],
    /// Where they lie.
    pub place: &'a [f32],
    /// Their widths, above 0.
    pub width: &'a [f32],
}

impl Mixtures<'_> {
    /// For each point the first of the ascending `edges` below which at least the probability `of` lies, by bisection;
    /// their number where there is none.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there are not as many of each as points and components; [`Error::Memory`].
    pub fn quantiles(self, edges: &[f32], of: &[f32]) -> Result<Vec<i32>> {
        let wanted = of.len().saturating_mul(self.components);
        let given = [self.share.len(), self.place.len(), self.width.len()];
        if self.components == 0 || given != [wanted; 3] {
            return Err(Error::invalid(format!(
                "{given:?} shares, places and widths for {} points with {} components; one of each is needed",
                of.len(),
                self.components
            )));
        }
        let mut out = memory::filled(of.len(), 0)?;
        let mut lanes = memory::filled(self.components, [Lane::ZERO; 3])?;
        for (block, out) in out.chunks_mut(Lane::LEN).enumerate() {
            let first = block * Lane::LEN;
            for (component, lanes) in lanes.iter_mut().enumerate() {
                for (lane, numbers) in lanes.iter_mut().zip([self.share, self.place, self.width]) {
                    for point in 0..out.len() {
                        lane.0[point] = numbers[(first + point) * self.components + component];
                    }
                }
            }
            vector::run(Bisect { lanes: &lanes, edges, of: &of[first..], out });
        }
        Ok(out)
    }
}

/// A block of points.
struct Bisect<'a> {
    /// Share, place and width of each component.
    lanes: &'a [[Lane; 3]],
    edges: &'a [f32],
    of: &'a [f32],
    out: &'a mut [i32],
}

impl Kernel for Bisect<'_> {
    #[inline(always)]
    #[allow(clippy::inline_always)] // see vector::Kernel
    fn run<R: Register>(self) {
        if self.edges.is_empty() {
            return; // zeros
        }
        let (mut first, mut last) = ([0; Lane::LEN], [self.edges.len(); Lane::LEN]);
        // So that a range of n + 1 answers comes down to one.
        for _ in 0..usize::BITS - self.edges.len().leading_zeros() {
            let mut at = Lane::ZERO;
            for (i, at) in at.0.iter_mut().enumerate() {
                *at = self.edges[usize::midpoint(first[i], last[i]).min(self.edges.len() - 1)];
            }
            let mut below = Lane::ZERO;
            for [share, place, width] in self.lanes {
                for i in 0..Lane::LEN {
                    let u = (place.0[i] - at.0[i]) / width.0[i];
                    below.0[i] += share.0[i] / (1.0 + exp(u));
                }
            }
            for (i, &of) in self.of.iter().enumerate().take(Lane::LEN) {
                let middle = usize::midpoint(first[i], last[i]);
                if first[i] < last[i] {
                    // What is not a number is never enough.
                    if below.0[i] >= of {
                        last[i] = middle;
                    } else {
                        first[i] = middle + 1;
                    }
                }
            }
        }
        for (out, first) in self.out.iter_mut().zip(first) {
            *out = first as i32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::in_each;

    #[test]
    fn quantiles_are_the_first_edges_with_enough_below() {
        let edges: Vec<f32> = (0..37_i16).map(|i| f32::from(i - 15) * 0.21).collect();
        let number = |i: u16, seed: f32| (f32::from(i) * seed).sin();
        let share: Vec<f32> =
            (0..150).flat_map(|i| [0.5 + 0.4 * number(i, 0.7), 0.5 - 0.4 * number(i, 0.7)]).collect();
        let place: Vec<f32> = (0..300).map(|i| 2.0 * number(i, 0.31)).collect();
        let width: Vec<f32> = (0..300).map(|i| (4.0 * number(i, 1.3)).exp()).collect();
        let of: Vec<f32> = (0..150).map(|i| 0.5 + 0.499 * number(i, 2.3)).collect();
        let mixtures = Mixtures { components: 2, share: &share, place: &place, width: &width };
        let found = in_each(|| mixtures.quantiles(&edges, &of).unwrap());
        assert_eq!(found[0], found[1]);
        for found in found {
            for (i, (&found, &of)) in found.iter().zip(&of).enumerate() {
                let below = |edge: f32| -> f64 {
                    let one = |k: usize| {
                        let u = (f64::from(place[k]) - f64::from(edge)) / f64::from(width[k]);
                        f64::from(share[k]) / (1.0 + u.exp())
                    };
                    one(2 * i) + one(2 * i + 1)
                };
                let (found, of) = (found as usize, f64::from(of));
                assert!(found == 0 || below(edges[found - 1]) < of + 1e-6, "{i}");
                assert!(found == edges.len() || below(edges[found]) > of - 1e-6, "{i}");
            }
        }
    }

    #[test]
    fn what_is_out_of_reach_or_no_number_is_behind_all_edges() {
        let mixtures =
            Mixtures { components: 1, share: &[1.0, f32::NAN], place: &[0.0; 2], width: &[1.0; 2] };
        assert_eq!(mixtures.quantiles(&[-1.0, 0.0, 1.0], &[0.99, 0.5]).unwrap(), [3, 3]);
        assert_eq!(mixtures.quantiles(&[], &[0.99, 0.5]).unwrap(), [0, 0]);
        let error = mixtures.quantiles(&[0.0], &[0.5]).unwrap_err().to_string();
        assert!(error.contains("for 1 points with 1 components"), "{error}");
    }
}
