//! How large a density may be: what is checked before anything of a size from a file is allocated.

use std::sync::OnceLock;

/// The variable of the environment that sets the most grid points of a density that is read.
pub const VARIABLE: &str = "TOMAT_MAX_GRID_POINTS";

/// Grid points where the variable is not set: 2^28, a grid of 645^3 and 1 GiB of float32. The largest densities in
/// use have some 560^3.
pub const DEFAULT_POINTS: usize = 1 << 28;

/// The most grid points of a density that is read: a file of a few kB can say, and give, any size up to the 1023^3
/// of the token format.
fn max_points() -> Result<usize, String> {
    static POINTS: OnceLock<Result<usize, String>> = OnceLock::new();
    let read = || match std::env::var_os(VARIABLE) {
        None => Ok(DEFAULT_POINTS),
        Some(text) => {
            let given = text.to_str().and_then(|text| text.trim().parse().ok()).filter(|&n: &usize| n > 0);
            given.ok_or_else(|| {
                let text = text.to_string_lossy();
                format!("{VARIABLE} is {text:?} in the environment; give a whole number above 0, or unset it")
            })
        }
    };
    POINTS.get_or_init(read).clone()
}

/// The number of points of a grid whose axes fit the token format.
///
/// # Errors
/// What is wrong, and what to do, where there are more than are read.
pub(crate) fn check_points(shape: [usize; 3]) -> Result<usize, String> {
    let (points, most) = (shape.iter().product(), max_points()?);
    if points <= most {
        return Ok(points);
    }
    let [nx, ny, nz] = shape;
    Err(format!(
        "the grid {nx} x {ny} x {nz} has {points} points, more than the {most} that are read; set {VARIABLE} to read \
         it, or down-sample it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_of_any_density_in_use_is_read_and_larger_ones_are_not() {
        assert_eq!(check_points([640, 640, 640]), Ok(262_144_000));
        let message = check_points([1023, 1023, 1023]).unwrap_err();
        assert!(message.contains("1070599167 points") && message.contains(VARIABLE), "{message}");
    }
}
