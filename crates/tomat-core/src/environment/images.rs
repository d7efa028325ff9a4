//! The periodic images of atoms near points.

use crate::error::{Error, Result};
use crate::grid::{Crystal, cross, dot};

/// Images of all atoms that may lie within the cutoff of the cell; more means a unit error.
const MOST_IMAGES: f64 = 4e7;
/// Points that share one list of images: so few that they lie close together when they come in the order of a grid.
pub(super) const BLOCK: usize = 32;

/// An image of an atom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Image {
    pub(super) site: u32,
    pub(super) position: [f64; 3],
}

/// All images within the cutoff of the cell.
#[derive(Debug, Clone)]
pub(super) struct Images {
    cutoff: f64,
    matrix: [[f64; 3]; 3],
    all: Vec<Image>,
}

impl Images {
    pub(super) fn new(crystal: &Crystal, cutoff: f64) -> Result<Self> {
        let matrix = *crystal.lattice.matrix();
        let [a, b, c] = matrix;
        let volume = crystal.lattice.volume();
        let reach =
            [cross(b, c), cross(c, a), cross(a, b)].map(|area| cutoff * dot(area, area).sqrt() / volume);
        let number = reach.iter().map(|n| 2.0 * n + 2.0).product::<f64>() * crystal.frac_coords.len() as f64;
        if !number.is_finite() || number > MOST_IMAGES {
            return Err(Error::invalid(format!(
                "about {number:.0} atom images lie within {cutoff} angstrom of the cell; is the lattice in angstrom?"
            )));
        }
        let mut all = Vec::new();
        for (site, frac) in crystal.frac_coords.iter().enumerate() {
            let home = frac.map(|x| x - x.floor());
            // The cell is [0, 1): images up to `reach` before it and behind it.
            let range = |axis: usize| {
                let (low, high) =
                    ((-reach[axis] - home[axis]).ceil(), (1.0 + reach[axis] - home[axis]).floor());
                low as i32..=high as i32
            };
            for i in range(0) {
                for j in range(1) {
                    for k in range(2) {
                        let shifted =
                            [home[0] + f64::from(i), home[1] + f64::from(j), home[2] + f64::from(k)];
                        all.push(Image { site: site as u32, position: cartesian(&matrix, shifted) });
                    }
                }
            }
        }
        Ok(Self { cutoff, matrix, all })
    }

    /// Calls `visit` with the images near a block of points (fractional coordinates), the points' Cartesian
    /// positions relative to the block's centre, and those of the images, in angstrom.
    pub(super) fn near(&self, points: &[[f64; 3]], found: &mut Near) {
        let cartesian: Vec<[f64; 3]> =
            points.iter().map(|p| cartesian(&self.matrix, p.map(|x| x - x.floor()))).collect();
        let centre: [f64; 3] = std::array::from_fn(|axis| {
            let (low, high) = cartesian
                .iter()
                .fold((f64::MAX, f64::MIN), |(low, high), p| (low.min(p[axis]), high.max(p[axis])));
            0.5 * (low + high)
        });
        let from_centre = |p: [f64; 3]| [p[0] - centre[0], p[1] - centre[1], p[2] - centre[2]];
        found.points.clear();
        found.points.extend(cartesian.iter().map(|&p| from_centre(p).map(|x| x as f32)));
        let radius = cartesian.iter().map(|&p| from_centre(p)).map(|d| dot(d, d)).fold(0.0, f64::max).sqrt();
        let square = (self.cutoff + radius).powi(2);
        found.clear_images();
        for image in &self.all {
            let d = from_centre(image.position);
            if dot(d, d) <= square {
                found.sites.push(image.site);
                for (axis, x) in d.iter().enumerate() {
                    found.positions[axis].push(*x as f32);
                }
            }
        }
    }
}

/// The images near a block of points; positions relative to its centre, one vector an axis.
#[derive(Debug, Default)]
pub(super) struct Near {
    pub(super) points: Vec<[f32; 3]>,
    pub(super) sites: Vec<u32>,
    pub(super) positions: [Vec<f32>; 3],
    squares: Vec<f32>,
}

impl Near {
    fn clear_images(&mut self) {
        self.sites.clear();
        for axis in &mut self.positions {
            axis.clear();
        }
    }

    /// Calls `visit(site, vector from the point to the image, squared distance)` for each image within the cutoff.
    #[inline]
    pub(super) fn for_each(
        &mut self,
        point: usize,
        square: f32,
        mut visit: impl FnMut(usize, [f32; 3], f32),
    ) {
        let [px, py, pz] = self.points[point];
        let [xs, ys, zs] = &self.positions;
        // All distances first: vector registers do these, and most images are passed over.
        self.squares.clear();
        self.squares.extend(xs.iter().zip(ys).zip(zs).map(|((x, y), z)| {
            let (x, y, z) = (x - px, y - py, z - pz);
            x * x + y * y + z * z
        }));
        for (i, &d2) in self.squares.iter().enumerate() {
            if d2 < square {
                visit(self.sites[i] as usize, [xs[i] - px, ys[i] - py, zs[i] - pz], d2);
            }
        }
    }
}

fn cartesian(matrix: &[[f64; 3]; 3], frac: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|axis| (0..3).map(|row| frac[row] * matrix[row][axis]).sum())
}
