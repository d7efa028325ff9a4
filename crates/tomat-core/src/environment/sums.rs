//! The sums themselves, for each atom apart or contracted with each atom's weights.

use super::blocks::{Block, Placement};
use super::contraction::{Channels, Contract, LANES, Table};
use super::harmonics::{MAX_L, angular_count};
use super::images::{Images, Near};
use super::neighbours::{Collect, Functions, Neighbour, Room};
use crate::error::{Error, Result};
use crate::grid::{Crystal, check_atoms};
use crate::memory;
use crate::promolecule::{Promolecule, RadialBasis, RadialTable};
use crate::vector;

/// A point's place among the points, behind the box it lies in.
type Ordered = (u64, usize);

/// Points whose sums are worked on at a time: they and the weights of an atom stay in the nearest cache.
const POINTS: usize = 16;
/// Neighbours that are gathered before they are added.
const NEIGHBOURS: usize = 4096;

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
        let mut add = |chunk: &[Ordered], neighbours: &[Neighbour]| {
            for neighbour in neighbours {
                let (_, point) = chunk[neighbour.point as usize];
                let block = &mut out[(neighbour.site as usize * points.len() + point) * size..][..size];
                let first = neighbour.first as usize;
                let of_splines = (first..splines).zip(&neighbour.radial[..4]);
                for (row, r) in of_splines.chain((splines..radial).zip(&neighbour.radial[4..])) {
                    for (sum, y) in block[row * angular..][..angular].iter_mut().zip(&neighbour.angular) {
                        *sum += r * y;
                    }
                }
            }
        };
        self.visit(crystal, points, options, &functions, &mut add, &mut |_| ())?;
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
        let sites = crystal.frac_coords.len();
        let radial = self.radial_count(options.densities.is_some());
        weights.check(sites, radial, self.l_max)?;
        let functions = self.functions(crystal, points, options)?;
        let width = weights.width();
        let mut out = memory::filled(points.len().saturating_mul(width), 0.0_f32)?;
        if width == 0 {
            return Ok(out);
        }
        let table = Table::new(weights, sites, self.radial.len(), radial)?;
        let size = table.sums();
        let sums = std::cell::RefCell::new(memory::filled(size.saturating_mul(POINTS), [0.0; LANES])?);
        let mut order = SiteOrder::new(sites)?;
        let mut add = |_: &[Ordered], neighbours: &[Neighbour]| {
            let order = order.of(neighbours);
            let sums = &mut sums.borrow_mut();
            vector::run(Contract { table: &table, neighbours, order, sums });
        };
        let mut finish = |chunk: &[Ordered]| {
            let mut sums = sums.borrow_mut();
            for (sums, &(_, point)) in sums.chunks_exact(size).zip(chunk) {
                table.write(weights.channels, sums, &mut out[point * width..][..width]);
            }
            sums.fill([0.0; LANES]);
        };
        self.visit(crystal, points, options, &functions, &mut add, &mut finish)?;
        Ok(out)
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

    /// Calls `add(points, neighbours)` for a few points at a time, once or more, and then `finish(points)`; a
    /// neighbour's point is a place in `points`, which are `(box, point)`.
    fn visit(
        &self,
        crystal: &Crystal,
        points: &[[f64; 3]],
        options: Options<'_>,
        functions: &Functions<'_>,
        add: &mut dyn FnMut(&[Ordered], &[Neighbour]),
        finish: &mut dyn FnMut(&[Ordered]),
    ) -> Result<()> {
        let images = Images::new(crystal, self.cutoff)?;
        let placement = Placement::new(&crystal.lattice);
        let order = placement.order(points)?;
        let (mut block, mut near) = (Block::default(), Near::default());
        let (mut room, mut found) = (Room::default(), Vec::new());
        for in_box in order.chunk_by(|(a, _), (b, _)| a == b) {
            placement.fill(&mut block, in_box.iter().map(|&(_, point)| points[point]));
            images.near(&block, &mut near);
            for (chunk, positions) in in_box.chunks(POINTS).zip(block.points.chunks(POINTS)) {
                for (i, (&(_, point), &position)) in chunk.iter().zip(positions).enumerate() {
                    vector::run(Collect {
                        functions,
                        near: &near,
                        position,
                        point: i as u32,
                        factor: options.densities.map_or(0.0, |d| d.factors[point]),
                        room: &mut room,
                        found: &mut found,
                    });
                    if found.len() > NEIGHBOURS || i + 1 == chunk.len() {
                        add(chunk, &found);
                        found.clear();
                    }
                }
                finish(chunk);
            }
        }
        Ok(())
    }
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

/// Neighbours in the order of their sites.
struct SiteOrder {
    ends: Vec<u32>,
    order: Vec<u32>,
}

impl SiteOrder {
    fn new(sites: usize) -> Result<Self> {
        Ok(Self { ends: memory::filled(sites + 1, 0)?, order: Vec::new() })
    }

    /// By counting: the places of `neighbours`.
    fn of(&mut self, neighbours: &[Neighbour]) -> &[u32] {
        self.ends.fill(0);
        for neighbour in neighbours {
            self.ends[neighbour.site as usize + 1] += 1;
        }
        let mut sum = 0;
        for end in &mut self.ends {
            sum += *end;
            *end = sum;
        }
        self.order.clear();
        self.order.resize(neighbours.len(), 0);
        for (i, neighbour) in neighbours.iter().enumerate() {
            let place = &mut self.ends[neighbour.site as usize];
            self.order[*place as usize] = i as u32;
            *place += 1;
        }
        &self.order
    }
}
