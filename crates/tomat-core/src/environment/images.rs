//! The periodic images of atoms near points.

use super::blocks::{Block, Placement, wrapped};
use crate::error::{Error, Result};
use crate::grid::{Crystal, cross, dot};
use crate::memory;

/// Images of all atoms that may lie within the cutoff of the cell; more means a unit error.
const MOST_IMAGES: f64 = 4e6;

/// An image of an atom.
#[derive(Debug, Clone, Copy)]
struct Image {
    site: u32,
    position: [f64; 3],
}

/// All images within the cutoff of the cell, those of one site together.
#[derive(Debug)]
pub(super) struct Images {
    cutoff: f64,
    all: Vec<Image>,
}

impl Images {
    pub(super) fn new(crystal: &Crystal, cutoff: f64) -> Result<Self> {
        let placement = Placement::new(&crystal.lattice);
        let [a, b, c] = *crystal.lattice.matrix();
        let volume = crystal.lattice.volume();
        let reach =
            [cross(b, c), cross(c, a), cross(a, b)].map(|area| cutoff * dot(area, area).sqrt() / volume);
        let number = reach.iter().map(|n| 2.0 * n + 2.0).product::<f64>() * crystal.frac_coords.len() as f64;
        if !number.is_finite() || number > MOST_IMAGES {
            return Err(Error::invalid(format!(
                "about {number:.0} atom images lie within {cutoff} angstrom of the cell, more than {MOST_IMAGES:.0}; is \
                 the lattice in angstrom?"
            )));
        }
        let mut all = memory::with_room(number as usize)?;
        for (site, frac) in crystal.frac_coords.iter().enumerate() {
            let home = wrapped(*frac);
            // Points lie in [0, 1]: images up to `reach` before it and behind it.
            let [along_a, along_b, along_c] = std::array::from_fn(|axis| {
                let low = (-reach[axis] - home[axis]).ceil();
                low as i32..=(1.0 + reach[axis] - home[axis]).floor() as i32
            });
            for i in along_a {
                for j in along_b.clone() {
                    for k in along_c.clone() {
                        let shifted =
                            [home[0] + f64::from(i), home[1] + f64::from(j), home[2] + f64::from(k)];
                        all.push(Image { site: site as u32, position: placement.cartesian(shifted) });
                    }
                }
            }
        }
        Ok(Self { cutoff, all })
    }

    /// Finds the images within the cutoff of any point of a block.
    pub(super) fn near(&self, block: &Block, found: &mut Near) {
        let square = (self.cutoff + block.radius).powi(2);
        found.sites.clear();
        for axis in &mut found.positions {
            axis.clear();
        }
        for image in &self.all {
            let d: [f64; 3] = std::array::from_fn(|axis| image.position[axis] - block.centre[axis]);
            if dot(d, d) <= square {
                found.sites.push(image.site);
                for (positions, x) in found.positions.iter_mut().zip(d) {
                    positions.push(x as f32);
                }
            }
        }
    }
}

/// The images near a block of points: their sites, and positions relative to its centre, one vector an axis.
#[derive(Debug, Default)]
pub(super) struct Near {
    pub(super) sites: Vec<u32>,
    pub(super) positions: [Vec<f32>; 3],
}
