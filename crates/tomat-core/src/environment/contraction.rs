//! Sums with each atom's weights.

use super::neighbours::Neighbour;
use crate::error::{Error, Result};
use crate::memory;
use crate::vector::{Kernel, multiply_add};

/// Channels worked on at a time: one wide register, or two.
pub(super) const LANES: usize = 8;
pub(super) type Lane = [f32; LANES];

/// Each atom's weights of the radial functions, `channels[l]` sums for each `l`.
#[derive(Debug, Clone, Copy)]
pub struct Channels<'a> {
    /// The number of sums for each `l`.
    pub channels: &'a [usize],
    /// `(sites, radial functions, sum of channels)`, row-major.
    pub weights: &'a [f32],
}

impl Channels<'_> {
    /// The sums of a point: `2 l + 1` for each channel of `l`.
    #[must_use]
    pub fn width(&self) -> usize {
        let widths = self.channels.iter().enumerate().map(|(l, c)| c.saturating_mul(2 * l + 1));
        widths.fold(0, usize::saturating_add)
    }

    /// Whether there is a number of channels for each `l`, and a weight for each atom, radial function and channel.
    pub(super) fn check(&self, sites: usize, radial: usize, l_max: usize) -> Result<()> {
        let total = self.channels.iter().fold(0_usize, |sum, &c| sum.saturating_add(c));
        let wanted = sites.saturating_mul(radial).saturating_mul(total);
        if self.channels.len() == l_max + 1 && self.weights.len() == wanted {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{} weights for channels {:?}; {} numbers of channels and weights ({sites} atoms, {radial} radial functions, \
             their sum) are needed",
            self.weights.len(),
            self.channels,
            l_max + 1
        )))
    }
}

/// The weights of all atoms in lanes, with rows of zeros behind the splines: those past the last count for nothing.
#[derive(Debug)]
pub(super) struct Table {
    lanes: Vec<Lane>,
    /// Lanes for each `l`.
    of_l: Vec<usize>,
    /// Their sum.
    wide: usize,
    /// Radial functions and zeros; the atom's own density is the last.
    rows: usize,
}

impl Table {
    /// `splines`: how many of the weights' radial functions are splines; one more is the atom's own density.
    pub(super) fn new(weights: Channels<'_>, sites: usize, splines: usize, radial: usize) -> Result<Self> {
        let total: usize = weights.channels.iter().sum();
        let of_l: Vec<usize> = weights.channels.iter().map(|c| c.div_ceil(LANES)).collect();
        let wide: usize = of_l.iter().sum();
        let rows = splines + 5;
        let number = sites.saturating_mul(rows).saturating_mul(wide);
        let mut lanes: Vec<Lane> = memory::filled(number, [0.0; LANES])?;
        for (place, values) in weights.weights.chunks_exact(total.max(1)).enumerate() {
            let (site, row) = (place / radial, place % radial);
            let row = if row < splines { row } else { rows - 1 };
            let mut lanes = lanes[(site * rows + row) * wide..].iter_mut();
            let mut rest = values;
            for &count in weights.channels {
                let (of_l, after) = rest.split_at(count);
                for (part, lane) in of_l.chunks(LANES).zip(lanes.by_ref()) {
                    lane[..part.len()].copy_from_slice(part);
                }
                rest = after;
            }
        }
        Ok(Self { lanes, of_l, wide, rows })
    }

    /// Lanes of the sums of one point.
    pub(super) fn sums(&self) -> usize {
        self.of_l.iter().enumerate().map(|(l, count)| (2 * l + 1) * count).sum()
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // see vector::Kernel
    fn row(&self, neighbour: &Neighbour, row: usize) -> &[Lane] {
        &self.lanes[(neighbour.site as usize * self.rows + row) * self.wide..][..self.wide]
    }

    /// Writes the sums of a point in the order of [`super::Basis::contracted`].
    pub(super) fn write(&self, channels: &[usize], sums: &[Lane], out: &mut [f32]) {
        let mut out = out.iter_mut();
        let mut start = 0;
        for (l, (&count, &lanes)) in channels.iter().zip(&self.of_l).enumerate() {
            let ms = 2 * l + 1;
            for m in 0..ms {
                let of_m = (0..lanes).flat_map(|lane| &sums[start + lane * ms + m]).take(count);
                for (sum, value) in of_m.zip(out.by_ref()) {
                    *value = *sum;
                }
            }
            start += lanes * ms;
        }
    }
}

/// Adds neighbours to the sums of their points.
pub(super) struct Contract<'a> {
    pub(super) table: &'a Table,
    pub(super) neighbours: &'a [Neighbour],
    /// The order to take them in: those of one site together, whose weights then stay in the cache.
    pub(super) order: &'a [u32],
    /// For each point, `l` and lane of channels: a lane for each `m`.
    pub(super) sums: &'a mut [Lane],
}

impl Kernel for Contract<'_> {
    #[inline(always)]
    #[allow(clippy::inline_always)] // see vector::Kernel
    fn run<const FUSED: bool>(self) {
        let width = self.table.sums();
        for &i in self.order {
            let neighbour = &self.neighbours[i as usize];
            let first = neighbour.first as usize;
            let mut rows = [
                self.table.row(neighbour, first),
                self.table.row(neighbour, first + 1),
                self.table.row(neighbour, first + 2),
                self.table.row(neighbour, first + 3),
                self.table.row(neighbour, self.table.rows - 1),
            ];
            let mut sums = &mut self.sums[neighbour.point as usize * width..][..width];
            for (l, &lanes) in self.table.of_l.iter().enumerate() {
                let (of_l, after) = sums.split_at_mut((2 * l + 1) * lanes);
                let mut mine = rows;
                for (mine, row) in mine.iter_mut().zip(&mut rows) {
                    (*mine, *row) = row.split_at(lanes);
                }
                let y = &neighbour.angular[l * l..];
                match l {
                    0 => band::<FUSED, 1>(of_l, mine, neighbour.radial, y),
                    1 => band::<FUSED, 3>(of_l, mine, neighbour.radial, y),
                    2 => band::<FUSED, 5>(of_l, mine, neighbour.radial, y),
                    _ => band::<FUSED, 7>(of_l, mine, neighbour.radial, y),
                }
                sums = after;
            }
        }
    }
}

/// All channels of one `l`: the weighted radial functions, times each of the `M` angular ones.
#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
fn band<const FUSED: bool, const M: usize>(
    sums: &mut [Lane],
    [a, b, c, d, own]: [&[Lane]; 5],
    [ra, rb, rc, rd, re]: [f32; 5],
    angular: &[f32],
) {
    let Some(angular) = angular.first_chunk::<M>() else { return };
    let (groups, _) = sums.as_chunks_mut::<M>();
    for (((((group, a), b), c), d), own) in groups.iter_mut().zip(a).zip(b).zip(c).zip(d).zip(own) {
        // Through variables: nothing read lies behind what is written, as slices alone do not say here.
        let mut value = [0.0; LANES];
        for i in 0..LANES {
            let far = multiply_add::<FUSED>(rd, d[i], re * own[i]);
            let near = multiply_add::<FUSED>(rb, b[i], ra * a[i]);
            value[i] = multiply_add::<FUSED>(rc, c[i], near) + far;
        }
        for (sum, y) in group.iter_mut().zip(angular) {
            let mut new = [0.0; LANES];
            for i in 0..LANES {
                new[i] = multiply_add::<FUSED>(value[i], *y, sum[i]);
            }
            *sum = new;
        }
    }
}
