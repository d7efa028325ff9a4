//! Real solid harmonics as polynomials.

/// The largest `l`.
pub const MAX_L: usize = 3;
/// Angular functions up to [`MAX_L`].
pub(super) const MAX_ANGULAR: usize = (MAX_L + 1) * (MAX_L + 1);

/// The number of angular functions up to `l_max`: `(l_max + 1)^2`.
#[must_use]
pub const fn angular_count(l_max: usize) -> usize {
    (l_max + 1) * (l_max + 1)
}

/// The real solid harmonics of a vector, in the order `(0, 0), (1, -1), (1, 0), (1, 1), (2, -2), ...`, normalised so
/// that the squares of one `l` add up to `|v|^(2 l)` (Racah's normalisation; D. M. Brink and G. R. Satchler, Angular
/// Momentum, 1993).
#[inline(always)]
#[allow(clippy::inline_always)] // see vector::Kernel
pub(super) fn solid_harmonics([x, y, z]: [f32; 3]) -> [f32; MAX_ANGULAR] {
    const R3: f32 = 1.732_050_8;
    const R3_8: f32 = 0.612_372_44;
    const R5_8: f32 = 0.790_569_4;
    const R15: f32 = 3.872_983_3;
    let (x2, y2, z2) = (x * x, y * y, z * z);
    let flat = x2 + y2;
    [
        1.0,
        y,
        z,
        x,
        R3 * x * y,
        R3 * y * z,
        z2 - 0.5 * flat,
        R3 * x * z,
        0.5 * R3 * (x2 - y2),
        R5_8 * y * (3.0 * x2 - y2),
        R15 * x * y * z,
        R3_8 * y * (4.0 * z2 - flat),
        0.5 * z * (2.0 * z2 - 3.0 * flat),
        R3_8 * x * (4.0 * z2 - flat),
        0.5 * R15 * z * (x2 - y2),
        R5_8 * x * (x2 - 3.0 * y2),
    ]
}
