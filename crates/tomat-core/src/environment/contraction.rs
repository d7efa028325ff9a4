//! Sums with each atom's weights.

use super::harmonics::MAX_L;
use super::terms::Terms;
use crate::error::{Error, Result};
use crate::memory;
use crate::vector::{Kernel, Lane, Register};

/// Channels of each `l` that are worked on at a time: with `2 l + 1` sums each they stay in registers.
const WIDE: [usize; MAX_L + 1] = [8, 6, 4, 2];

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

/// The weights of all atoms, a few channels of one `l` together.
#[derive(Debug)]
pub(super) struct Table {
    weights: Vec<f32>,
    of_l: Vec<Tiles>,
    /// Radial functions of a site; the atom's own density is the last.
    rows: usize,
}

/// The tiles of an `l`: for each, `(sites, rows, WIDE[l])` weights, zeros behind the last channel.
#[derive(Debug)]
struct Tiles {
    /// The place of the first weight.
    start: usize,
    /// Weights of a tile.
    size: usize,
    channels: usize,
}

impl Tiles {
    /// Lanes of the sums.
    fn sums(&self, l: usize) -> usize {
        self.channels.div_ceil(WIDE[l]) * WIDE[l] * (2 * l + 1)
    }
}

impl Table {
    /// `splines`: how many of the weights' radial functions are splines; one more is the atom's own density.
    pub(super) fn new(weights: Channels<'_>, sites: usize, splines: usize, radial: usize) -> Result<Self> {
        let rows = splines + 1;
        let (mut of_l, mut number) = (Vec::new(), 0_usize);
        for (&channels, wide) in weights.channels.iter().zip(WIDE) {
            let size = sites.saturating_mul(rows).saturating_mul(wide);
            of_l.push(Tiles { start: number, size, channels });
            number = number.saturating_add(size.saturating_mul(channels.div_ceil(wide)));
        }
        let mut packed = memory::filled(number, 0.0)?;
        let total: usize = weights.channels.iter().sum();
        for (place, values) in weights.weights.chunks_exact(total.max(1)).enumerate() {
            let (site, row) = (place / radial, place % radial);
            let row = site * rows + row.min(splines);
            let mut values = values.iter();
            for (tiles, wide) in of_l.iter().zip(WIDE) {
                for (channel, value) in (0..tiles.channels).zip(values.by_ref()) {
                    packed[tiles.start + channel / wide * tiles.size + row * wide + channel % wide] = *value;
                }
            }
        }
        Ok(Self { weights: packed, of_l, rows })
    }

    /// Lanes of the sums of a few points.
    pub(super) fn sums(&self) -> usize {
        self.of_l.iter().enumerate().map(|(l, tiles)| tiles.sums(l)).sum()
    }
}

/// The sums of a few points.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sums<'a> {
    pub(super) table: &'a Table,
    pub(super) lanes: &'a [Lane],
}

impl Sums<'_> {
    /// Calls `f` with each column of [`super::Basis::contracted`].
    pub(crate) fn each(self, mut f: impl FnMut(usize, &Lane)) {
        let (mut first, mut rest) = (0, self.lanes);
        for (l, tiles) in self.table.of_l.iter().enumerate() {
            let (mine, others) = rest.split_at(tiles.sums(l));
            let ms = 2 * l + 1;
            for (i, lane) in mine[..tiles.channels * ms].iter().enumerate() {
                f(first + i % ms * tiles.channels + i / ms, lane);
            }
            first += tiles.channels * ms;
            rest = others;
        }
    }
}

/// Adds images to the sums of a few points.
pub(super) struct Contract<'a> {
    pub(super) table: &'a Table,
    pub(super) terms: &'a Terms,
    /// For each `l`, channel and `m`.
    pub(super) sums: &'a mut [Lane],
}

impl Kernel for Contract<'_> {
    #[inline(always)]
    #[allow(clippy::inline_always)] // see vector::Kernel
    fn run<R: Register>(self) {
        let Self { table, terms, mut sums } = self;
        for (l, tiles) in table.of_l.iter().enumerate() {
            let (mine, others) = sums.split_at_mut(tiles.sums(l));
            let task = Task { table, tiles, terms };
            match l {
                0 => task.run::<R, 1, { WIDE[0] }, 8>(mine, l * l),
                1 => task.run::<R, 3, { WIDE[1] }, 3>(mine, l * l),
                2 => task.run::<R, 5, { WIDE[2] }, 2>(mine, l * l),
                _ => task.run::<R, 7, { WIDE[3] }, 1>(mine, l * l),
            }
            sums = others;
        }
    }
}

/// One `l` of all.
#[derive(Clone, Copy)]
struct Task<'a> {
    table: &'a Table,
    tiles: &'a Tiles,
    terms: &'a Terms,
}

#[allow(clippy::inline_always)] // see vector::Kernel
impl Task<'_> {
    /// With `M` sums a channel and `W` channels a tile; where registers are few, `FEW` channels at a time.
    #[inline(always)]
    fn run<R: Register, const M: usize, const W: usize, const FEW: usize>(
        self,
        sums: &mut [Lane],
        angular: usize,
    ) {
        let weights = self.table.weights[self.tiles.start..].chunks_exact(self.tiles.size.max(1));
        for (sums, weights) in sums.chunks_exact_mut(M * W).zip(weights) {
            let (weights, _) = weights.as_chunks::<W>();
            for part in 0..Lane::LEN / R::LEN {
                if R::MANY {
                    self.tile::<R, M, W, W>(sums, weights, angular, 0, part * R::LEN);
                    continue;
                }
                for first in (0..W).step_by(FEW) {
                    self.tile::<R, M, W, FEW>(sums, weights, angular, first, part * R::LEN);
                }
            }
        }
    }

    /// `C` channels from the `first` of a tile on, in the places from `part` on.
    #[inline(always)]
    fn tile<R: Register, const M: usize, const W: usize, const C: usize>(
        self,
        sums: &mut [Lane],
        weights: &[[f32; W]],
        angular: usize,
        first: usize,
        part: usize,
    ) {
        let Self { table, terms, .. } = self;
        let (sums, _) = sums[first * M..].as_chunks_mut::<M>();
        let mut found = [[R::splat(0.0); M]; C];
        for (found, sums) in found.iter_mut().zip(&*sums) {
            for (found, sum) in found.iter_mut().zip(sums) {
                *found = R::read(&sum.0, part);
            }
        }
        for (term, y) in terms.all.iter().zip(&terms.angular) {
            let weights = &weights[term.site as usize * table.rows..][..table.rows];
            let mut values = [R::splat(0.0); C];
            if M == 1 {
                // The angular function is 1.
                for (value, found) in values.iter_mut().zip(&found) {
                    *value = found[0];
                }
            }
            let rows = weights[term.first as usize..][..term.splines as usize].iter();
            let radial = &terms.radial[term.start as usize..][..=term.splines as usize];
            for (weights, radial) in rows.chain(&weights[table.rows - 1..]).zip(radial) {
                let radial = R::read(&radial.0, part);
                for (i, value) in values.iter_mut().enumerate() {
                    *value = radial.times_plus(R::splat(weights[first + i]), *value);
                }
            }
            if M == 1 {
                for (value, found) in values.iter().zip(&mut found) {
                    found[0] = *value;
                }
                continue;
            }
            let Some(y) = y[angular..].first_chunk::<M>() else { continue };
            for (m, y) in y.iter().enumerate() {
                let y = R::read(&y.0, part);
                for (value, found) in values.iter().zip(&mut found) {
                    found[m] = y.times_plus(*value, found[m]);
                }
            }
        }
        for (found, sums) in found.iter().zip(sums) {
            for (found, sum) in found.iter().zip(sums) {
                found.write(&mut sum.0, part);
            }
        }
    }
}
