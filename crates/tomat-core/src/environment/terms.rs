//! The functions of images near a few points that lie close together, a place in each lane for each point.

use super::harmonics::{MAX_ANGULAR, solid_harmonics};
use super::images::Near;
use super::neighbours::Functions;
use crate::error::Result;
use crate::memory;
use crate::vector::{Kernel, Lane, Register, ln_of_one_and};

/// Points that are worked on at a time.
pub(super) const POINTS: usize = Lane::LEN;
/// Images that are worked on at a time: their functions and the sums of the points stay in the nearest cache.
pub(super) const IMAGES: usize = 8;

/// Points relative to the centre of their block, and the factors of the atoms' own densities there.
pub(super) struct Points {
    x: [Lane; 3],
    factor: Lane,
}

/// An image, and where its functions are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    pub(super) site: u32,
    /// The first spline that is not zero at some point.
    pub(super) first: u32,
    /// The places of this and the next splines, behind them the atom's own density.
    pub(super) start: u32,
    pub(super) splines: u32,
}

/// Functions of a few images.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) all: Vec<Term>,
    pub(super) radial: Vec<Lane>,
    pub(super) angular: Vec<[Lane; MAX_ANGULAR]>,
}

impl Points {
    /// At most [`POINTS`]; what is missing is the first again.
    pub(super) fn new(points: &[[f32; 3]], factor: impl Fn(usize) -> f32) -> Self {
        let mut found = Self { x: [Lane::ZERO; 3], factor: Lane::ZERO };
        for place in 0..POINTS {
            let i = if place < points.len() { place } else { 0 };
            for (lane, x) in found.x.iter_mut().zip(points[i]) {
                lane.0[place] = x;
            }
            found.factor.0[place] = factor(i);
        }
        found
    }

    /// The middle of the points, and the largest distance of one from it.
    fn ball(&self) -> ([f32; 3], f32) {
        let mut centre = [0.0; 3];
        for (centre, lane) in centre.iter_mut().zip(&self.x) {
            let low = lane.0.iter().copied().fold(f32::MAX, f32::min);
            let high = lane.0.iter().copied().fold(f32::MIN, f32::max);
            *centre = 0.5 * (low + high);
        }
        let squares = (0..POINTS).map(|i| {
            let away = |axis: usize| self.x[axis].0[i] - centre[axis];
            (0..3).map(|axis| away(axis) * away(axis)).sum::<f32>()
        });
        (centre, squares.fold(0.0, f32::max).sqrt())
    }

    /// The images of a block that may be within the cutoff of some point.
    pub(super) fn near(&self, near: &Near, cutoff: f32, places: &mut Vec<u32>) {
        let ([cx, cy, cz], radius) = self.ball();
        let most = (cutoff + radius) * (cutoff + radius);
        let [xs, ys, zs] = &near.positions;
        places.clear();
        places.resize(xs.len(), 0);
        // Every place is written, and kept if the image is near: a branch would often be guessed wrong.
        let mut count = 0;
        for (i, ((x, y), z)) in xs.iter().zip(ys).zip(zs).enumerate() {
            let (x, y, z) = (x - cx, y - cy, z - cz);
            places[count] = i as u32;
            count += usize::from(x * x + y * y + z * z < most);
        }
        places.truncate(count);
    }
}

impl Terms {
    pub(super) fn new(splines: usize) -> Result<Self> {
        Ok(Self {
            all: memory::with_room(IMAGES)?,
            radial: memory::filled(IMAGES.saturating_mul(splines.saturating_add(1)), Lane::ZERO)?,
            angular: memory::filled(IMAGES, [Lane::ZERO; MAX_ANGULAR])?,
        })
    }
}

/// Writes the functions of at most [`IMAGES`] images; those beyond the cutoff of all points are left out.
pub(super) struct Evaluate<'a> {
    pub(super) functions: &'a Functions<'a>,
    pub(super) near: &'a Near,
    pub(super) places: &'a [u32],
    pub(super) points: &'a Points,
    pub(super) terms: &'a mut Terms,
}

impl Kernel for Evaluate<'_> {
    #[inline(always)]
    #[allow(clippy::inline_always)] // see vector::Kernel
    fn run<R: Register>(self) {
        let Self { functions, near, places, points, terms } = self;
        terms.all.clear();
        let mut start = 0;
        for &place in places {
            let place = place as usize;
            let position: [f32; 3] =
                [near.positions[0][place], near.positions[1][place], near.positions[2][place]];
            let site = near.sites[place];
            let image = Image::new(points, position, functions, functions.stretch[site as usize]);
            if image.nearest >= functions.square.to_bits() {
                continue;
            }
            let (first, end) = image.splines(functions.splines as i32);
            let radial = &mut terms.radial[start..][..=(end - first) as usize];
            image.radial(first, radial);
            let own = &mut radial[(end - first) as usize];
            if let Some(table) = functions.tables.get(site as usize) {
                for (i, own) in own.0.iter_mut().enumerate() {
                    *own = table.value(f64::from(image.distance.0[i])) as f32;
                }
                image.tapered(&points.factor, own);
            } else {
                *own = Lane::ZERO;
            }
            image.angular(functions.core, &mut terms.angular[terms.all.len()]);
            let splines = (end - first) as u32;
            terms.all.push(Term { site, first: first as u32, start: start as u32, splines });
            start += splines as usize + 1;
        }
    }
}

/// An image seen from the points.
struct Image {
    away: [Lane; 3],
    square: Lane,
    distance: Lane,
    /// The squares as shares of that of the cutoff.
    part: Lane,
    /// The coordinates of the splines: whole numbers are knots.
    coordinate: Lane,
    /// The bits of the smallest square, and of the smallest and largest coordinate.
    nearest: u32,
    least: u32,
    most: u32,
}

#[allow(clippy::inline_always)] // see vector::Kernel
impl Image {
    #[inline(always)]
    fn new(points: &Points, [px, py, pz]: [f32; 3], functions: &Functions<'_>, stretch: f32) -> Self {
        let mut image = Self {
            away: [Lane::ZERO; 3],
            square: Lane::ZERO,
            distance: Lane::ZERO,
            part: Lane::ZERO,
            coordinate: Lane::ZERO,
            nearest: u32::MAX,
            least: u32::MAX,
            most: 0,
        };
        let inverse = 1.0 / functions.square;
        for i in 0..POINTS {
            let (x, y, z) = (px - points.x[0].0[i], py - points.x[1].0[i], pz - points.x[2].0[i]);
            let square = x * x + y * y + z * z;
            (image.away[0].0[i], image.away[1].0[i], image.away[2].0[i]) = (x, y, z);
            image.square.0[i] = square;
            image.distance.0[i] = square.sqrt();
            image.part.0[i] = square * inverse;
            image.coordinate.0[i] = ln_of_one_and(square * stretch) * functions.inverse_step;
        }
        for (square, x) in image.square.0.iter().zip(&image.coordinate.0) {
            // Of numbers that are not below zero, bits have the same order.
            image.nearest = image.nearest.min(square.to_bits());
            image.least = image.least.min(x.to_bits());
            image.most = image.most.max(x.to_bits());
        }
        image
    }

    /// The splines that are not zero everywhere: from the first to before the second.
    #[inline(always)]
    fn splines(&self, number: i32) -> (i32, i32) {
        let knot = |bits: u32| f32::from_bits(bits) as i32;
        (knot(self.least).min(number), knot(self.most).saturating_add(4).min(number))
    }

    /// Cubic B-splines under the window.
    #[inline(always)]
    fn radial(&self, first: i32, out: &mut [Lane]) {
        let mut window = Lane::ZERO;
        for (window, part) in window.0.iter_mut().zip(&self.part.0) {
            let x = (1.0 - part).max(0.0);
            *window = x * x * x / 6.0;
        }
        let mut middle = (first - 1) as f32;
        for out in out {
            for i in 0..POINTS {
                let x = (self.coordinate.0[i] - middle).abs();
                let (far, near) = ((2.0 - x).max(0.0), (1.0 - x).max(0.0));
                out.0[i] = (far * far * far - 4.0 * (near * near * near)) * window.0[i];
            }
            middle += 1.0;
        }
    }

    #[inline(always)]
    fn tapered(&self, factor: &Lane, values: &mut Lane) {
        for i in 0..POINTS {
            let part = self.part.0[i];
            let end = (1.0 - part * part * part * part).max(0.0);
            values.0[i] *= end * end * end * factor.0[i];
        }
    }

    #[inline(always)]
    fn angular(&self, core: f32, out: &mut [Lane; MAX_ANGULAR]) {
        for i in 0..POINTS {
            let damping = 1.0 / (self.square.0[i] + core).sqrt();
            let direction =
                [self.away[0].0[i] * damping, self.away[1].0[i] * damping, self.away[2].0[i] * damping];
            for (out, y) in out.iter_mut().zip(solid_harmonics(direction)) {
                out.0[i] = y;
            }
        }
    }
}
