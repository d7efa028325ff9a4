//! Points that lie close together, so that they share a list of images and single precision places them well.

use crate::error::Result;
use crate::grid::{Lattice, dot};
use crate::memory;

/// The edge of a box in angstrom. Wider boxes share their list among more points; more images of the list are then
/// beyond the cutoff of each.
const EDGE: f64 = 1.0;
/// Boxes along an axis: three numbers of this size make one key.
const MOST_BOXES: f64 = 1_048_575.0;

/// Places along an edge of a box: ten bits.
const PLACES: f64 = 1023.0;

/// From fractional coordinates to the cell.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    matrix: [[f64; 3]; 3],
    boxes: [f64; 3],
}

/// A point among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ordered {
    /// The box it lies in.
    pub(super) in_box: u64,
    /// Its place along a curve through the box (G. M. Morton's order).
    along: u32,
    /// Its place among the points.
    pub(crate) point: usize,
}

/// A box with points.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// The middle of the points, Cartesian, in angstrom.
    pub(super) centre: [f64; 3],
    /// The largest distance of a point from it, in angstrom.
    pub(super) radius: f64,
    /// The points relative to it.
    pub(super) points: Vec<[f32; 3]>,
}

impl Placement {
    pub(super) fn new(lattice: &Lattice) -> Self {
        let matrix = *lattice.matrix();
        let boxes = matrix.map(|row| (dot(row, row).sqrt() / EDGE).ceil().clamp(1.0, MOST_BOXES));
        Self { matrix, boxes }
    }

    pub(super) fn cartesian(&self, frac: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|axis| (0..3).map(|row| frac[row] * self.matrix[row][axis]).sum())
    }

    /// All points in the order of boxes, and in a box so that neighbours in the list are neighbours in space.
    pub(super) fn order(&self, points: &[[f64; 3]]) -> Result<Vec<Ordered>> {
        let mut order = memory::with_room(points.len())?;
        order.extend(points.iter().enumerate().map(|(point, frac)| {
            let wrapped = wrapped(*frac);
            let mut found = Ordered { in_box: 0, along: 0, point };
            for (axis, (x, boxes)) in wrapped.into_iter().zip(self.boxes).enumerate() {
                let place = x * boxes;
                let number = place.floor().min(boxes - 1.0);
                found.in_box = (found.in_box << 20) | number as u64;
                found.along |= spread(((place - number) * PLACES) as u32) << axis;
            }
            found
        }));
        order.sort_unstable();
        Ok(order)
    }

    /// The points of one box.
    pub(super) fn fill(&self, block: &mut Block, points: impl Iterator<Item = [f64; 3]> + Clone) {
        let cartesian = points.map(|p| self.cartesian(wrapped(p)));
        let (mut low, mut high) = ([f64::MAX; 3], [f64::MIN; 3]);
        for p in cartesian.clone() {
            for axis in 0..3 {
                (low[axis], high[axis]) = (low[axis].min(p[axis]), high[axis].max(p[axis]));
            }
        }
        block.centre = std::array::from_fn(|axis| 0.5 * (low[axis] + high[axis]));
        block.points.clear();
        let mut square = 0.0_f64;
        for p in cartesian {
            let d: [f64; 3] = std::array::from_fn(|axis| p[axis] - block.centre[axis]);
            square = square.max(dot(d, d));
            block.points.push(d.map(|x| x as f32));
        }
        block.radius = square.sqrt();
    }
}

/// A place in the cell: 0 to 1 along each axis.
pub(super) fn wrapped(frac: [f64; 3]) -> [f64; 3] {
    frac.map(|x| x - x.floor())
}

/// Ten bits, each followed by two zeros.
fn spread(x: u32) -> u32 {
    let x = (x | x << 16) & 0x0300_00ff;
    let x = (x | x << 8) & 0x0300_f00f;
    let x = (x | x << 4) & 0x030c_30c3;
    (x | x << 2) & 0x0924_9249
}
