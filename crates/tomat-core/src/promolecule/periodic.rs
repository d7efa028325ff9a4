//! The grid points inside the cutoff sphere of an atom, with all periodic images.
//!
//! In units of grid steps `e_x = a/nx, e_y = b/ny, e_z = c/nz`, the squared distance of the unwrapped grid point
//! `(i, j, k)` from an atom splits into three squares when `e_z` is projected out of `e_y`, and both out of `e_x`:
//! distance to the plane of `i`, distance to the line of `j` in that plane, distance along the line. So the three
//! nested ranges are exact for cells of any shape, no point outside the sphere is visited, and a cell smaller
//! than the sphere is wrapped as often as needed.

use std::ops::Range;

use super::radial::{RadialTable, check_cutoff};
use crate::error::{Error, Result};
use crate::grid::{Lattice, cross, dot};

/// Images of one atom that may lie within the cutoff of a point; more means a unit error.
const MOST_IMAGES: f64 = 1e5;

/// A grid and its lattice, projected.
#[derive(Debug, Clone)]
pub(super) struct Images {
    shape: [usize; 3],
    volume: f64,
    /// Distances between neighbouring planes (100), (010), (001) of the lattice, angstrom.
    thickness: [f64; 3],
    /// Squared lengths of `e_x`, `e_y`, `e_z` after the projections.
    squares: [f64; 3],
    /// Steps of `e_y` that one step of `e_x` moves the foot of the perpendicular.
    x_along_y: f64,
    /// The same of `e_x` and `e_y` along `e_z`.
    along_z: [f64; 2],
}

/// A run of grid points along z inside the sphere; point `n` of it has the squared distance
/// `across + along * (start + n)^2` and is point `(first + n) % nz` of its row.
pub(super) struct Line {
    /// `x * ny + y`.
    pub(super) row: usize,
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) across: f64,
    pub(super) along: f64,
    pub(super) start: f64,
}

impl Line {
    /// The squared distance of point `n` from the atom, square angstrom.
    #[inline]
    pub(super) fn square(&self, n: usize) -> f64 {
        let z = self.start + n as f64;
        self.across + self.along * (z * z)
    }
}

impl Images {
    /// Projects the steps of a grid.
    pub(super) fn new(lattice: &Lattice, shape: [usize; 3]) -> Result<Self> {
        let points = shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n));
        if points.is_none_or(|n| n == 0 || n > isize::MAX as usize / 8) {
            return Err(Error::invalid(format!(
                "the grid {shape:?} has no points or too many; give three axes of at least one point"
            )));
        }
        let [a, b, c] = *lattice.matrix();
        let volume = lattice.volume();
        let thickness = [cross(b, c), cross(c, a), cross(a, b)].map(|area| volume / dot(area, area).sqrt());
        let steps: Vec<[f64; 3]> =
            lattice.matrix().iter().zip(shape).map(|(v, n)| v.map(|x| x / n as f64)).collect();
        let (ex, ey, ez) = (steps[0], steps[1], steps[2]);
        let square_z = dot(ez, ez);
        let along_z = [dot(ex, ez) / square_z, dot(ey, ez) / square_z];
        let reject = |v: [f64; 3], w: [f64; 3], t: f64| [v[0] - t * w[0], v[1] - t * w[1], v[2] - t * w[2]];
        let (flat_x, flat_y) = (reject(ex, ez, along_z[0]), reject(ey, ez, along_z[1]));
        let square_y = dot(flat_y, flat_y);
        let x_along_y = dot(flat_x, flat_y) / square_y;
        let thin_x = thickness[0] / shape[0] as f64;
        let squares = [thin_x * thin_x, square_y, square_z];
        if squares.iter().any(|&s| !(s.is_finite() && s > 0.0)) || !x_along_y.is_finite() {
            return Err(Error::invalid(format!(
                "the lattice {:?} angstrom is too small, too large or too flat for a promolecule",
                lattice.matrix()
            )));
        }
        Ok(Self { shape, volume, thickness, squares, x_along_y, along_z })
    }

    /// Number of grid points.
    pub(super) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Grid points along x, y, z.
    pub(super) const fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Refuses cells in which the images of one atom could not be summed in a sensible time.
    pub(super) fn check_cutoff(&self, cutoff: f64) -> Result<()> {
        check_cutoff(cutoff)?;
        let images = self.thickness.iter().map(|d| 2.0 * cutoff / d + 1.0).product::<f64>();
        if images <= MOST_IMAGES {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "about {images:.1e} periodic images of an atom lie within the cutoff of {cutoff} angstrom in a cell of \
             {} cubic angstrom; is the lattice in angstrom?",
            self.volume
        )))
    }

    /// Calls `visit` for every run of points within `cutoff` of any image of an atom, on the planes `planes` of x.
    pub(super) fn lines(
        &self,
        position: [f64; 3],
        cutoff: f64,
        planes: &Range<usize>,
        visit: impl FnMut(&Line),
    ) {
        self.lines_where(position, cutoff, |x| planes.contains(&x), |_| true, visit);
    }

    /// The same on the planes of x and y that are wanted.
    fn lines_where(
        &self,
        position: [f64; 3],
        cutoff: f64,
        wants_x: impl Fn(usize) -> bool,
        wants_y: impl Fn(usize) -> bool,
        mut visit: impl FnMut(&Line),
    ) {
        let [nx, ny, nz] = self.shape.map(|n| n as i64);
        let wrapped = position.map(|f| f - f.floor());
        let centre: [f64; 3] = std::array::from_fn(|axis| wrapped[axis] * self.shape[axis] as f64);
        let square = cutoff * cutoff;
        for i in within(centre[0], square / self.squares[0]) {
            let x = i.rem_euclid(nx) as usize;
            if !wants_x(x) {
                continue;
            }
            let dx = i as f64 - centre[0];
            let to_plane = dx * dx * self.squares[0];
            let foot_y = centre[1] - dx * self.x_along_y;
            for j in within(foot_y, (square - to_plane) / self.squares[1]) {
                let y = j.rem_euclid(ny) as usize;
                if !wants_y(y) {
                    continue;
                }
                let to_line = j as f64 - foot_y;
                let across = to_plane + to_line * to_line * self.squares[1];
                let dy = j as f64 - centre[1];
                let foot_z = centre[2] - dx * self.along_z[0] - dy * self.along_z[1];
                let run = within(foot_z, (square - across) / self.squares[2]);
                let first = run.start;
                if !run.is_empty() {
                    visit(&Line {
                        row: x * ny as usize + y,
                        first: first.rem_euclid(nz) as usize,
                        count: (run.end - first) as usize,
                        across,
                        along: self.squares[2],
                        start: first as f64 - foot_z,
                    });
                }
            }
        }
    }

    /// Adds a radial function around all images of an atom to a density on the whole grid.
    pub(super) fn add(&self, position: [f64; 3], table: &RadialTable, density: &mut [f64]) {
        let [nx, _, nz] = self.shape;
        self.lines(position, table.cutoff(), &(0..nx), |line| {
            let row = &mut density[line.row * nz..(line.row + 1) * nz];
            let (mut n, mut z) = (0, line.first);
            while n < line.count {
                let stretch = (line.count - n).min(nz - z);
                table.add(&mut row[z..z + stretch], |i| line.square(n + i));
                n += stretch;
                z = 0;
            }
        });
    }

    /// Adds a radial function around all images of an atom to the voxels of a patch, whose `shape` is at most the
    /// grid's: `density[i]` belongs to grid point `(offset + i) mod grid`.
    pub(super) fn add_patch(
        &self,
        position: [f64; 3],
        table: &RadialTable,
        (offset, shape): ([usize; 3], [usize; 3]),
        density: &mut [f64],
    ) {
        let [_, ny, nz] = self.shape;
        let inside = |point: usize, axis: usize| (point + self.shape[axis] - offset[axis]) % self.shape[axis];
        let wants = |axis: usize| move |point: usize| inside(point, axis) < shape[axis];
        self.lines_where(position, table.cutoff(), wants(0), wants(1), |line| {
            let row = inside(line.row / ny, 0) * shape[1] + inside(line.row % ny, 1);
            let row = &mut density[row * shape[2]..(row + 1) * shape[2]];
            // The patch begins before the run, and comes again with every period of the grid.
            let (mut start, count) = (-(inside(line.first, 2) as i64), line.count as i64);
            while start < count {
                let (low, high) = (start.max(0), (start + shape[2] as i64).min(count));
                if low < high {
                    let part = &mut row[(low - start) as usize..(high - start) as usize];
                    table.add(part, |i| line.square(low as usize + i));
                }
                start += nz as i64;
            }
        });
    }
}

/// The integers `i` with `(i - centre)^2 <= square`; none when `square` is below zero.
fn within(centre: f64, square: f64) -> Range<i64> {
    if square < 0.0 {
        return 0..0;
    }
    let half = square.sqrt();
    (centre - half).ceil() as i64..(centre + half).floor() as i64 + 1
}
