//! The sums themselves, for each atom apart or contracted with each atom's weights.

use super::blocks::{Block, Ordered, Placement};
use super::contraction::{Channels, Contract, Sums, Table};
use super::harmonics::{MAX_L, angular_count};
use super::images::{Images, Near};
use super::neighbours::{Collect, Functions, Room};
use super::terms::{Evaluate, IMAGES, POINTS, Points, Terms};
use crate::error::{Error, Result};
use crate::grid::{Crystal, check_atoms};
use crate::memory;
use crate::promolecule::{Promolecule, RadialBasis, RadialTable};
use crate::vector::{self, Lane};

/// The radial functions of a [`Basis`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Radial {
    /// The distance in angstrom from which on all functions are zero.
    pub cutoff: f64,
    /// The stretched distance in angstrom around which knots are densest.
    pub inner: f64,
    /// The number of splines.
    pub splines: usize,
    /// The splines end at this many cutoffs of stretched distance: 1, or the largest scale that will be used.
    pub reach: f64,
}

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

/// What may be added to a crystal and points.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// One more radial function.
    pub densities: Option<Densities<'a>>,
    /// By what distances from each atom are multiplied before the splines; 1 if none.
    pub scales: Option<&'a [f64]>,
}

impl Basis {
    /// The functions `radial`, angular functions up to `l_max`, damped within `core` angstrom of an atom.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a distance is not above 0, the splines are not those of [`RadialBasis::new`] or `l_max`
    /// is above [`MAX_L`].
    pub fn new(radial: Radial, l_max: usize, core: f64) -> Result<Self> {
        let Radial { cutoff, inner, splines, reach } = radial;
        if l_max > MAX_L {
            return Err(Error::invalid(format!("l_max is {l_max}; give 0 to {MAX_L}")));
        }
        let lengths = [("cutoff", cutoff, " angstrom"), ("core", core, " angstrom"), ("reach", reach, "")];
        for (name, value, unit) in lengths {
            // A thousandth to a thousand: squares and their inverses stay well within single precision.
            if !(1e-3..=1e3).contains(&value) {
                return Err(Error::invalid(format!(
                    "{name} is {value}{unit}; give a number from 0.001 to 1000"
                )));
            }
        }
        Ok(Self { radial: RadialBasis::new(cutoff * reach, inner, splines)?, cutoff, l_max, core })
    }

    /// The number of radial functions, with the atom's own density or without.
    #[must_use]
    pub fn radial_count(&self, densities: bool) -> usize {
        self.radial.len() + usize::from(densities)
    }

    /// The number of angular functions: `(l_max + 1)^2`.
    #[must_use]
    pub const fn angular_count(&self) -> usize {
        angular_count(self.l_max)
    }

    /// The sums for each atom of the cell apart: `(sites, points, radial functions, angular functions)`, row-major.
    /// Points are fractional coordinates, anywhere in space.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a crystal without atoms or with coordinates that are not finite, points or factors that
    /// are not finite, an element without a density, not one factor a point, or not one scale above 0 an atom;
    /// [`Error::Memory`].
    pub fn by_site(&self, crystal: &Crystal, points: &[[f64; 3]], options: Options<'_>) -> Result<Vec<f32>> {
        let splines = self.radial.len();
        let radial = self.radial_count(options.densities.is_some());
        let angular = angular_count(self.l_max);
        let size = radial * angular;
        let functions = self.functions(crystal, points, options)?;
        let number = crystal.frac_coords.len().saturating_mul(points.len()).saturating_mul(size);
        let mut out = memory::filled(number, 0.0_f32)?;
        let (mut room, mut found) = (Room::default(), Vec::new());
        visit(crystal, points, self.cutoff, |in_box, block, near| {
            for (&Ordered { point, .. }, &position) in in_box.iter().zip(&block.points) {
                let factor = options.densities.map_or(0.0, |d| d.factors[point]);
                let (functions, room) = (&functions, &mut room);
                vector::run(Collect { functions, near, position, factor, room, found: &mut found });
                for neighbour in found.drain(..) {
                    let block = &mut out[(neighbour.site as usize * points.len() + point) * size..][..size];
                    let first = neighbour.first as usize;
                    let of_splines = (first..splines).zip(&neighbour.radial[..4]);
                    for (row, r) in of_splines.chain((splines..radial).zip(&neighbour.radial[4..])) {
                        for (sum, y) in block[row * angular..][..angular].iter_mut().zip(&neighbour.angular) {
                            *sum += r * y;
                        }
                    }
                }
            }
        })?;
        Ok(out)
    }

    /// The sums with each atom's weights: `(points, sum over l of (2 l + 1) channels[l])`, row-major; for each `l` all
    /// channels of the first `m`, then of the next. Weights that are not finite give such sums.
    ///
    /// # Errors
    /// As [`Basis::by_site`], and for weights of the wrong number.
    pub fn contracted(
        &self,
        crystal: &Crystal,
        points: &[[f64; 3]],
        options: Options<'_>,
        weights: Channels<'_>,
    ) -> Result<Vec<f32>> {
        let width = weights.width();
        let mut out = memory::filled(points.len().saturating_mul(width), 0.0_f32)?;
        self.each_contracted(crystal, points, options, weights, |chunk, sums| {
            sums.each(|column, lane| {
                for (of, sum) in chunk.iter().zip(lane.0) {
                    out[of.point * width + column] = sum;
                }
            });
        })?;
        Ok(out)
    }

    /// Calls `f` for at most [`POINTS`] points at a time with their sums.
    ///
    /// # Errors
    /// As [`Basis::contracted`].
    pub(crate) fn each_contracted(
        &self,
        crystal: &Crystal,
        points: &[[f64; 3]],
        options: Options<'_>,
        weights: Channels<'_>,
        mut f: impl FnMut(&[Ordered], Sums<'_>),
    ) -> Result<()> {
        let sites = crystal.frac_coords.len();
        let radial = self.radial_count(options.densities.is_some());
        weights.check(sites, radial, self.l_max)?;
        let functions = self.functions(crystal, points, options)?;
        let table = Table::new(weights, sites, self.radial.len(), radial)?;
        let mut sums = memory::filled(table.sums(), Lane::ZERO)?;
        let (mut terms, mut places) = (Terms::new(self.radial.len())?, Vec::new());
        visit(crystal, points, self.cutoff, |in_box, block, near| {
            for (chunk, positions) in in_box.chunks(POINTS).zip(block.points.chunks(POINTS)) {
                let factor = |i: usize| options.densities.map_or(0.0, |d| d.factors[chunk[i].point]);
                let here = Points::new(positions, factor);
                here.near(near, self.cutoff as f32, &mut places);
                sums.fill(Lane::ZERO);
                for places in places.chunks(IMAGES) {
                    let (functions, points) = (&functions, &here);
                    vector::run(Evaluate { functions, near, places, points, terms: &mut terms });
                    vector::run(Contract { table: &table, terms: &terms, sums: &mut sums });
                }
                f(chunk, Sums { table: &table, lanes: &sums });
            }
        })
    }

    /// Checks what comes from outside, and what is the same for all points.
    fn functions<'a>(
        &self,
        crystal: &Crystal,
        points: &[[f64; 3]],
        options: Options<'a>,
    ) -> Result<Functions<'a>> {
        // The fields of a crystal are open.
        check_atoms(&crystal.atomic_numbers, &crystal.frac_coords)?;
        if let Some(i) = points.iter().position(|point| point.iter().any(|x| !x.is_finite())) {
            return Err(Error::invalid(format!(
                "point {i} is {:?}; give finite fractional coordinates",
                points[i]
            )));
        }
        let sites = crystal.frac_coords.len();
        let (inverse_square, inverse_step) = self.radial.coordinate();
        let stretch = match options.scales {
            None => memory::filled(sites, inverse_square as f32)?,
            Some(scales) => {
                check_scales(scales, sites)?;
                scales.iter().map(|scale| (scale * scale * inverse_square) as f32).collect()
            }
        };
        Ok(Functions {
            square: (self.cutoff * self.cutoff) as f32,
            core: (self.core * self.core) as f32,
            splines: self.radial.len() as f32,
            inverse_step: inverse_step as f32,
            stretch,
            tables: options.densities.map_or(Ok(Vec::new()), |d| d.tables(crystal, points.len()))?,
        })
    }
}

/// Calls `f` for each box with points, with the points relative to its centre and the images near them.
fn visit(
    crystal: &Crystal,
    points: &[[f64; 3]],
    cutoff: f64,
    mut f: impl FnMut(&[Ordered], &Block, &Near),
) -> Result<()> {
    let images = Images::new(crystal, cutoff)?;
    let placement = Placement::new(&crystal.lattice);
    let order = placement.order(points)?;
    let (mut block, mut near) = (Block::default(), Near::default());
    for in_box in order.chunk_by(|a, b| a.in_box == b.in_box) {
        placement.fill(&mut block, in_box.iter().map(|of| points[of.point]));
        images.near(&block, &mut near);
        f(in_box, &block, &near);
    }
    Ok(())
}

impl<'a> Densities<'a> {
    /// The table of each atom.
    fn tables(&self, crystal: &Crystal, points: usize) -> Result<Vec<&'a RadialTable>> {
        if self.factors.len() != points {
            return Err(Error::invalid(format!(
                "{} factors for {points} points; give one each",
                self.factors.len()
            )));
        }
        if let Some(i) = self.factors.iter().position(|x| !x.is_finite()) {
            return Err(Error::invalid(format!(
                "the factor of point {i} is {}; every factor must be finite",
                self.factors[i]
            )));
        }
        self.promolecule.check_elements(&crystal.atomic_numbers)?;
        let radial = self.promolecule.radial();
        Ok(crystal.atomic_numbers.iter().filter_map(|z| radial.get(z)).collect())
    }
}

fn check_scales(scales: &[f64], sites: usize) -> Result<()> {
    if scales.len() != sites {
        return Err(Error::invalid(format!("{} scales for {sites} atoms; give one each", scales.len())));
    }
    match scales.iter().position(|scale| !(1e-3..=1e3).contains(scale)) {
        None => Ok(()),
        Some(i) => Err(Error::invalid(format!(
            "the scale of atom {i} is {}; give a number from 0.001 to 1000",
            scales[i]
        ))),
    }
}
