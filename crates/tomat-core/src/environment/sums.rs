//! The sums themselves, for each atom apart or contracted with each atom's weights.

use super::harmonics::{MAX_ANGULAR, MAX_L, angular_count, solid_harmonics};
use super::images::{BLOCK, Images, Near};
use crate::error::{Error, Result};
use crate::grid::Crystal;
use crate::memory;
use crate::promolecule::{Promolecule, RadialBasis};

/// Radial and angular functions.
#[derive(Debug, Clone, PartialEq)]
pub struct Basis {
    radial: RadialBasis,
    cutoff: f64,
    l_max: usize,
    core: f64,
}

/// The radial density of each atom as one more radial function, times a factor for each point.
///
/// With the inverse of the promolecule's density as the factor, the function is the atom's share of the density
/// (F. L. Hirshfeld, Theor. Chim. Acta 44, 129 (1977)).
#[derive(Debug, Clone, Copy)]
pub struct Densities<'a> {
    /// One radial density an element.
    pub promolecule: &'a Promolecule,
    /// One factor a point.
    pub factors: &'a [f32],
}

/// Each atom's weights of the radial functions, `channels[l]` sums for each `l`.
#[derive(Debug, Clone, Copy)]
pub struct Channels<'a> {
    /// The number of sums for each `l`.
    pub channels: &'a [usize],
    /// `(sites, radial functions, sum of channels)`, row-major.
    pub weights: &'a [f32],
}

impl Basis {
    /// `radial` splines up to `cutoff` angstrom graded around `inner`, angular functions up to `l_max`, damped within
    /// `core` angstrom of an atom.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the splines are not those of [`RadialBasis::new`], `l_max` is above [`MAX_L`] or `core`
    /// is not above 0.
    pub fn new(cutoff: f64, inner: f64, radial: usize, l_max: usize, core: f64, reach: f64) -> Result<Self> {
        if l_max > MAX_L {
            return Err(Error::invalid(format!("l_max is {l_max}; give 0 to {MAX_L}")));
        }
        if !(core.is_finite() && core > 0.0) {
            return Err(Error::invalid(format!("core is {core} angstrom; give a number above 0")));
        }
        Ok(Self { radial: RadialBasis::new(cutoff * reach, inner, radial)?, cutoff, l_max, core })
    }

    /// The number of radial functions, with the atom's own density or without.
    #[must_use]
    pub fn radial_count(&self, densities: bool) -> usize {
        self.radial.len() + usize::from(densities)
    }

    /// The sums for each atom of the cell apart: `(sites, points, radial functions, angular functions)`, row-major.
    /// Points are fractional coordinates.
    ///
    /// # Errors
    /// [`Error::Invalid`] for atoms or points that are not finite, an element without a density, or not one factor a
    /// point; [`Error::OutOfMemory`].
    pub fn by_site(
        &self,
        crystal: &Crystal,
        points: &[[f64; 3]],
        densities: Option<Densities<'_>>,
        scales: Option<&[f64]>,
    ) -> Result<Vec<f32>> {
        let sites = crystal.frac_coords.len();
        let (radial, angular) = (self.radial_count(densities.is_some()), angular_count(self.l_max));
        let size = radial * angular;
        let mut out = memory::filled(sites * points.len() * size, 0.0_f32)?;
        self.visit(crystal, points, densities, scales, |point, site, first, radials, y| {
            let start = (site * points.len() + point) * size;
            let block = &mut out[start..start + size];
            let end = (first + 4).min(self.radial.len());
            for (row, r) in
                (first..end).zip(radials).chain((densities.is_some()).then_some((radial - 1, radials[4])))
            {
                for (sum, y) in block[row * angular..(row + 1) * angular].iter_mut().zip(y) {
                    *sum += r * y;
                }
            }
        })?;
        Ok(out)
    }

    /// The sums with each atom's weights: `(points, sum over l of (2 l + 1) channels[l])`, row-major; for each `l` all
    /// channels of the first `m`, then of the next.
    ///
    /// # Errors
    /// As [`Basis::by_site`], and for weights of the wrong number.
    pub fn contracted(
        &self,
        crystal: &Crystal,
        points: &[[f64; 3]],
        densities: Option<Densities<'_>>,
        scales: Option<&[f64]>,
        weights: Channels<'_>,
    ) -> Result<Vec<f32>> {
        let channels = weights.channels;
        let total: usize = channels.iter().sum();
        let radial = self.radial_count(densities.is_some());
        let wanted = crystal.frac_coords.len() * radial * total;
        if channels.len() != self.l_max + 1 || weights.weights.len() != wanted {
            return Err(Error::invalid(format!(
                "{} weights for channels {channels:?}; {wanted} and {} channels are needed",
                weights.weights.len(),
                self.l_max + 1
            )));
        }
        let width: usize = channels.iter().enumerate().map(|(l, c)| (2 * l + 1) * c).sum();
        let mut out = memory::filled(points.len() * width, 0.0_f32)?;
        let mut values = vec![0.0_f32; total];
        self.visit(crystal, points, densities, scales, |point, site, first, radials, y| {
            let rows = &weights.weights[site * radial * total..(site + 1) * radial * total];
            values.fill(0.0);
            let end = (first + 4).min(self.radial.len());
            for (row, r) in
                (first..end).zip(radials).chain((densities.is_some()).then_some((radial - 1, radials[4])))
            {
                for (value, w) in values.iter_mut().zip(&rows[row * total..(row + 1) * total]) {
                    *value += r * w;
                }
            }
            let mut sums = &mut out[point * width..(point + 1) * width];
            let (mut values, mut y) = (values.as_slice(), y.as_slice());
            for (l, &count) in channels.iter().enumerate() {
                let (of_l, rest) = values.split_at(count);
                let (harmonics, further) = y.split_at(2 * l + 1);
                for y in harmonics {
                    let (row, after) = std::mem::take(&mut sums).split_at_mut(count);
                    for (sum, value) in row.iter_mut().zip(of_l) {
                        *sum += value * y;
                    }
                    sums = after;
                }
                (values, y) = (rest, further);
            }
        })?;
        Ok(out)
    }

    /// Calls `add(point, site, first spline, [four splines, density], harmonics)` for each point and image.
    fn visit(
        &self,
        crystal: &Crystal,
        points: &[[f64; 3]],
        densities: Option<Densities<'_>>,
        scales: Option<&[f64]>,
        mut add: impl FnMut(usize, usize, usize, [f32; 5], [f32; MAX_ANGULAR]),
    ) -> Result<()> {
        if points.iter().flatten().any(|x| !x.is_finite()) {
            return Err(Error::invalid("a point is not finite; give fractional coordinates"));
        }
        let tables = densities.map(|d| d.tables(crystal, points.len())).transpose()?;
        let images = Images::new(crystal, self.cutoff)?;
        let square = (self.cutoff as f32).powi(2);
        let core = (self.core * self.core) as f32;
        let mut near = Near::default();
        for (block, chunk) in points.chunks(BLOCK).enumerate() {
            images.near(chunk, &mut near);
            for i in 0..chunk.len() {
                let point = block * BLOCK + i;
                let factor = densities.map_or(0.0, |d| d.factors[point]);
                near.for_each(i, square, |site, d, d2| {
                    let scale = scales.map_or(1.0, |s| s[site] * s[site]);
                    let Some((first, w)) = self.radial.at(f64::from(d2) * scale) else { return };
                    let window = if scales.is_some() { f64::from((1.0 - d2 / square).powi(3)) } else { 1.0 };
                    let w = w.map(|w| w * window);
                    let own =
                        tables.as_ref().map_or(0.0, |t| t[site].value(f64::from(d2.sqrt())) as f32 * factor);
                    let damping = 1.0 / (d2 + core).sqrt();
                    let y = solid_harmonics(d.map(|x| x * damping));
                    add(point, site, first, [w[0] as f32, w[1] as f32, w[2] as f32, w[3] as f32, own], y);
                });
            }
        }
        Ok(())
    }
}

impl<'a> Densities<'a> {
    /// The table of each atom.
    fn tables(&self, crystal: &Crystal, points: usize) -> Result<Vec<&'a crate::promolecule::RadialTable>> {
        if self.factors.len() != points {
            return Err(Error::invalid(format!("{} factors for {points} points", self.factors.len())));
        }
        let radial = self.promolecule.radial();
        let find = |z: &u8| {
            radial
                .get(z)
                .ok_or_else(|| Error::invalid(format!("the promolecule has no radial function for Z = {z}")))
        };
        crystal.atomic_numbers.iter().map(find).collect()
    }
}
