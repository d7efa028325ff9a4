//! Fitting the bins of a Lloyd-Max codec to densities.
//!
//! Densities are streamed once into a [`Sketch`], which any number of workers can build in parts and merge to the
//! same bits; [`fit`] turns a sketch into boundaries and reconstruction points. All arithmetic is integer or plain
//! float64 in a fixed order, so a sketch and options give the same codec every time.

use crate::error::{Error, Result};

mod cells;
mod cost;
mod partition;
mod placement;
mod sketch;
mod sketch_bytes;
#[cfg(test)]
mod tests;

use cells::Cells;
pub use sketch::{MANTISSA_BITS, Sketch, WEIGHT_BITS};

/// The most bins a codec may have.
pub const MAX_BINS: usize = 1 << 20;

/// Rounds of Lloyd's algorithm in [`Method::Lloyd`].
pub const LLOYD_ITERATIONS: usize = 30;

/// How the bins are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// The least sum of absolute errors any codec can have on the sketch's cells.
    L1,
    /// The least sum of squared errors any codec can have on the sketch's cells.
    L2,
    /// Density of points as `p^(1/2)` (median points) or `p^(1/3)` (mean points) of the density of values `p`.
    Companding,
    /// [`LLOYD_ITERATIONS`] Lloyd iterations from equal mass: the field's usual recipe, for comparison.
    Lloyd,
    /// The same mass in each bin.
    EqualMass,
}

impl Method {
    /// All methods.
    pub const ALL: [Self; 5] = [Self::L1, Self::L2, Self::Companding, Self::Lloyd, Self::EqualMass];

    /// The name used in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::Companding => "companding",
            Self::Lloyd => "lloyd",
            Self::EqualMass => "equal-mass",
        }
    }
}

/// What a voxel counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weighting {
    /// Every voxel counts 1.
    Voxel,
    /// A voxel counts 1 / `sum|rho|` of its material, so that the absolute error is the mean NMAE over materials.
    Material,
}

impl Weighting {
    /// The name used in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Voxel => "voxel",
            Self::Material => "material",
        }
    }
}

/// Where in its bin a value is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Point {
    /// The weighted mean: least squared error.
    Mean,
    /// The weighted median: least absolute error.
    Median,
}

macro_rules! names {
    ($type:ty, $what:literal, $all:expr) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self> {
                let known = || $all.map(Self::name).join(", ");
                let found = $all.into_iter().find(|x| x.name() == name);
                found.ok_or_else(|| Error::Unknown { what: $what, name: name.to_owned(), known: known() })
            }
        }
    };
}

names!(Method, "method", Self::ALL);
names!(Weighting, "weighting", [Self::Voxel, Self::Material]);

/// What to fit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitOptions {
    /// How the bins are placed.
    pub method: Method,
    /// What a voxel counts for.
    pub weighting: Weighting,
    /// Spend bins below zero. Without it negative values are clipped to zero, in the fit as in the codec.
    pub signed: bool,
    /// The number of bins, 1 to [`MAX_BINS`].
    pub bins: usize,
    /// The points to decode with, and for companding the norm it is made for; [`Method::L1`] always takes the median,
    /// [`Method::L2`] the mean.
    pub point: Point,
}

impl FitOptions {
    /// Unsigned bins with median points.
    #[must_use]
    pub const fn new(method: Method, weighting: Weighting, bins: usize) -> Self {
        Self { method, weighting, signed: false, bins, point: Point::Median }
    }

    const fn point(&self) -> Point {
        match self.method {
            Method::L1 => Point::Median,
            Method::L2 => Point::Mean,
            _ => self.point,
        }
    }
}

/// A fitted codec: clip to `clip_min..=clip_max`, the bin is the number of boundaries `<=` the value, decode to
/// `recon_points[bin]`.
///
/// There are always as many bins as asked for. When the sketch has fewer distinct cells, each gets a bin and the rest
/// lie above `clip_max`, where no value comes; a bin that holds no cell has its middle for its point.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// `n - 1` boundaries, strictly ascending.
    pub boundaries: Vec<f32>,
    /// `n` points, strictly ascending, one inside each bin.
    pub recon_points: Vec<f32>,
    /// The weighted mean of each bin.
    pub recon_mean: Vec<f32>,
    /// The weighted median of each bin.
    pub recon_median: Vec<f32>,
    /// The smallest value in the sketch for a signed codec, zero otherwise.
    pub clip_min: f32,
    /// The largest value in the sketch, or zero when all are negative and the codec is not signed.
    pub clip_max: f32,
    /// The bins that hold cells.
    pub bins: usize,
    /// `sum w|error| / sum w|rho|` over the sketch, clipped negative values included: the NMAE of all voxels together
    /// (voxel weighting) or the mean NMAE over materials (material weighting).
    pub nmae: f64,
    /// `sqrt(sum w error^2 / sum w)` over the sketch.
    pub rms: f64,
}

impl Fitted {
    /// The value a value comes back as.
    #[must_use]
    pub fn round(&self, value: f32) -> f32 {
        let value = value.clamp(self.clip_min, self.clip_max);
        let bin = self.boundaries.partition_point(|&b| b <= value);
        self.recon_points.get(bin).copied().unwrap_or(value)
    }
}

/// Fits a codec to a sketch.
///
/// [`Method::L1`] and [`Method::L2`] are globally optimal over partitions of the sketch's cells, each cell at its mean.
///
/// # Errors
/// [`Error::Invalid`] when the sketch is empty, or the number of bins is zero, above [`MAX_BINS`] or too large for the
/// float32 numbers above the largest value.
pub fn fit(sketch: &Sketch, options: &FitOptions) -> Result<Fitted> {
    let n = options.bins;
    if n == 0 || n > MAX_BINS {
        return Err(Error::invalid(format!("{n} bins; give 1 to {MAX_BINS}")));
    }
    let cells = Cells::new(sketch, options)?;
    let point = options.point();
    let exponent = if point == Point::Median { 0.5 } else { 1.0 / 3.0 };
    let boundaries = if cells.values.len() <= n {
        cells.values.windows(2).map(|pair| f64::from(Cells::between(pair[0], pair[1]))).collect()
    } else {
        match options.method {
            Method::L1 => {
                let cost = cost::Absolute::new(&cells.values, &cells.weights);
                let ends = partition::optimal(&cost, n, &start(&cells, n, exponent));
                let points: Vec<_> =
                    ends.windows(2).map(|run| cells.values[cost.median(run[0], run[1])]).collect();
                points.windows(2).map(|pair| f64::from(Cells::between(pair[0], pair[1]))).collect()
            }
            Method::L2 => {
                let cost = cost::Square::new(&cells.values, &cells.weights);
                let ends = partition::optimal(&cost, n, &start(&cells, n, exponent));
                cells.midpoints(&ends)
            }
            Method::Companding => placement::companding(&cells, n, exponent),
            Method::Lloyd => placement::lloyd(&cells, n, LLOYD_ITERATIONS),
            Method::EqualMass => cells.quantiles(&placement::equal_mass(&cells, n)),
        }
    };
    cells.codec(&boundaries, n, point)
}

/// A partition to begin the search from: that of the companding codec, without its empty bins.
fn start(cells: &Cells, n: usize, exponent: f64) -> Vec<usize> {
    let inner = placement::companding(cells, n, exponent);
    let inner = inner.iter().map(|&b| cells.values.partition_point(|&v| f64::from(v) < b));
    let mut ends: Vec<usize> = std::iter::once(0).chain(inner).chain([cells.values.len()]).collect();
    ends.dedup();
    ends
}
