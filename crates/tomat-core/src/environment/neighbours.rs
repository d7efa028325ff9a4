//! The images within the cutoff of each point, with the values of all functions.

use super::harmonics::{MAX_ANGULAR, solid_harmonics};
use super::images::Near;
use crate::promolecule::RadialTable;
use crate::vector::{Kernel, Register, ln_of_one_and};

/// Images worked on at a time.
const LANES: usize = 16;

/// An image of an atom near a point.
#[derive(Debug, Clone, Copy)]
pub(super) struct Neighbour {
    pub(super) site: u32,
    /// The first spline that is not zero; with the number of splines, none is.
    pub(super) first: u32,
    /// It and the next three, and the atom's own density.
    pub(super) radial: [f32; 5],
    pub(super) angular: [f32; MAX_ANGULAR],
}

/// What is the same for all points.
#[derive(Debug)]
pub(super) struct Functions<'a> {
    /// The square of the cutoff.
    pub(super) square: f32,
    /// The square of the damping distance.
    pub(super) core: f32,
    /// The number of splines.
    pub(super) splines: f32,
    /// Knots per unit of the coordinate.
    pub(super) inverse_step: f32,
    /// For each site: what the squared distance is multiplied by in the coordinate of the splines.
    pub(super) stretch: Vec<f32>,
    /// For each site, or empty: its own density.
    pub(super) tables: Vec<&'a RadialTable>,
}

/// Room that is used again for each point.
#[derive(Debug, Default)]
pub(super) struct Room {
    squares: Vec<f32>,
    places: Vec<u32>,
}

/// Adds the neighbours of one point to `found`.
pub(super) struct Collect<'a> {
    pub(super) functions: &'a Functions<'a>,
    pub(super) near: &'a Near,
    /// The point relative to the centre of its block.
    pub(super) position: [f32; 3],
    /// By what the atoms' own densities are multiplied.
    pub(super) factor: f32,
    pub(super) room: &'a mut Room,
    pub(super) found: &'a mut Vec<Neighbour>,
}

impl Kernel for Collect<'_> {
    #[inline(always)]
    #[allow(clippy::inline_always)] // see vector::Kernel
    fn run<R: Register>(self) {
        let [px, py, pz] = self.position;
        let [xs, ys, zs] = &self.near.positions;
        let Room { squares, places } = self.room;
        squares.clear();
        squares.extend(xs.iter().zip(ys).zip(zs).map(|((x, y), z)| {
            let (x, y, z) = (x - px, y - py, z - pz);
            x * x + y * y + z * z
        }));
        places.resize(squares.len(), 0);
        // Every place is written, and kept if the image is near: a branch would often be guessed wrong.
        let mut count = 0;
        for (i, &square) in squares.iter().enumerate() {
            places[count] = i as u32;
            count += usize::from(square < self.functions.square);
        }
        for places in places[..count].chunks(LANES) {
            let mut lanes = Lanes::default();
            for (lane, &place) in places.iter().enumerate() {
                let i = place as usize;
                lanes.x[lane] = xs[i] - px;
                lanes.y[lane] = ys[i] - py;
                lanes.z[lane] = zs[i] - pz;
                lanes.square[lane] = squares[i];
                lanes.stretch[lane] = self.functions.stretch[self.near.sites[i] as usize];
            }
            let values = lanes.values(self.functions);
            for (lane, &place) in places.iter().enumerate() {
                let site = self.near.sites[place as usize];
                let table = self.functions.tables.get(site as usize);
                let own = table.map_or(0.0, |table| table.value(f64::from(values.distance[lane])) as f32);
                self.found.push(Neighbour {
                    site,
                    first: values.first[lane] as u32,
                    radial: [
                        values.splines[0][lane],
                        values.splines[1][lane],
                        values.splines[2][lane],
                        values.splines[3][lane],
                        own * values.taper[lane] * self.factor,
                    ],
                    angular: std::array::from_fn(|i| values.angular[i][lane]),
                });
            }
        }
    }
}

/// Vectors from a point to images, their squared lengths, and the stretch of each.
#[derive(Default)]
struct Lanes {
    x: [f32; LANES],
    y: [f32; LANES],
    z: [f32; LANES],
    square: [f32; LANES],
    stretch: [f32; LANES],
}

struct Values {
    first: [i32; LANES],
    splines: [[f32; LANES]; 4],
    distance: [f32; LANES],
    taper: [f32; LANES],
    angular: [[f32; LANES]; MAX_ANGULAR],
}

impl Lanes {
    #[inline(always)]
    #[allow(clippy::inline_always)] // see vector::Kernel
    fn values(&self, functions: &Functions<'_>) -> Values {
        let mut values = Values {
            first: [0; LANES],
            splines: [[0.0; LANES]; 4],
            distance: [0.0; LANES],
            taper: [0.0; LANES],
            angular: [[0.0; LANES]; MAX_ANGULAR],
        };
        let inverse = 1.0 / functions.square;
        for lane in 0..LANES {
            let square = self.square[lane];
            let x = ln_of_one_and(square * self.stretch[lane]) * functions.inverse_step;
            let x = x.min(functions.splines);
            let first = x as i32;
            let (t, part) = (x - first as f32, square * inverse);
            let window = (1.0 - part) * (1.0 - part) * (1.0 - part) / 6.0;
            let window = if x < functions.splines { window } else { 0.0 };
            let s = 1.0 - t;
            let (t2, s2) = (t * t, s * s);
            values.first[lane] = first;
            values.splines[0][lane] = s2 * s * window;
            values.splines[1][lane] = (4.0 - 6.0 * t2 + 3.0 * t2 * t) * window;
            values.splines[2][lane] = (4.0 - 6.0 * s2 + 3.0 * s2 * s) * window;
            values.splines[3][lane] = t2 * t * window;
            let end = 1.0 - part * part * part * part;
            values.taper[lane] = end * end * end;
            values.distance[lane] = square.sqrt();
        }
        for lane in 0..LANES {
            let damping = 1.0 / (self.square[lane] + functions.core).sqrt();
            let direction = [self.x[lane] * damping, self.y[lane] * damping, self.z[lane] * damping];
            for (values, y) in values.angular.iter_mut().zip(solid_harmonics(direction)) {
                values[lane] = y;
            }
        }
        values
    }
}
