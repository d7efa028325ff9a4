//! Arithmetic in vector registers, as wide as the processor has them.

mod register;

pub(crate) use register::{Lane, Portable, Register};

/// Work that is compiled for each kind of register: any processor's, those of AVX2 and those of AVX-512.
pub(crate) trait Kernel {
    /// Must be inlined with all that it calls: code takes the instruction set of the function it ends up in.
    fn run<R: Register>(self);
}

/// Runs a kernel in the widest registers there are.
pub(crate) fn run(kernel: impl Kernel) {
    #[cfg(target_arch = "x86_64")]
    {
        use register::x86;
        if allowed(2) && x86::has_avx512() {
            // SAFETY: the processor was just asked.
            #[allow(unsafe_code)] // the only way from portable code to that of an instruction set
            return unsafe { x86::with_avx512(kernel) };
        }
        if allowed(1) && x86::has_avx2() {
            // SAFETY: the processor was just asked.
            #[allow(unsafe_code)] // as above
            return unsafe { x86::with_avx2(kernel) };
        }
    }
    kernel.run::<register::Portable>();
}

#[cfg(not(test))]
#[allow(clippy::inline_always)] // nothing is left of it
#[inline(always)]
fn allowed(_: u8) -> bool {
    true
}

#[cfg(test)]
thread_local!(static WIDEST: std::cell::Cell<u8> = const { std::cell::Cell::new(2) });

#[cfg(test)]
fn allowed(width: u8) -> bool {
    WIDEST.get() >= width
}

/// What `f` gives in portable registers, in those of AVX2 and in those of AVX-512, as far as this processor has them.
#[cfg(test)]
pub(crate) fn in_each<T>(f: impl Fn() -> T) -> [T; 3] {
    [0, 1, 2].map(|widest| {
        WIDEST.set(widest);
        let found = f();
        WIDEST.set(2);
        found
    })
}

/// `a b + c`; fused only where the processor has an instruction for it, as the other way is a call of a function.
#[inline(always)]
#[allow(clippy::inline_always)] // see Kernel
pub(crate) fn multiply_add<R: Register>(a: f32, b: f32, c: f32) -> f32 {
    if R::FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `ln(1 + x)` for `x >= 0`, within 3e-7 times (1 + the value).
#[inline(always)]
#[allow(clippy::inline_always)] // see Kernel
pub(crate) fn ln_of_one_and(x: f32) -> f32 {
    ln(1.0 + x)
}

/// `ln(x)` of a normal number above zero, within 3e-7 times (1 + its size).
#[inline(always)]
#[allow(clippy::inline_always)] // see Kernel
pub(crate) fn ln(x: f32) -> f32 {
    let (exponent, of_mantissa) = ln_in_parts(x);
    exponent as f32 * std::f32::consts::LN_2 + of_mantissa
}

/// The exponent of a normal number above zero, and `ln` of its mantissa, which lies between `sqrt(1/2)` and `sqrt(2)`,
/// within 7e-8: the series of the inverse hyperbolic tangent, without a call or a branch.
#[inline(always)]
#[allow(clippy::inline_always)] // see Kernel
pub(crate) fn ln_in_parts(x: f32) -> (i32, f32) {
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let bits = x.to_bits();
    let exponent = (bits.wrapping_sub(SQRT_HALF) as i32) >> 23;
    let mantissa = f32::from_bits(bits.wrapping_sub((exponent << 23) as u32));
    let f = (mantissa - 1.0) / (mantissa + 1.0);
    let s = f * f;
    let series = 2.0 + s * (2.0 / 3.0 + s * (2.0 / 5.0 + s * (2.0 / 7.0 + s * (2.0 / 9.0))));
    (exponent, f * series)
}

/// `exp(x)`, within 2e-7 of it: a power of two and a polynomial. Beyond +-87 it stays what it is there.
#[inline(always)]
#[allow(clippy::inline_always)] // see Kernel
pub(crate) fn exp(x: f32) -> f32 {
    // Added and taken away again, this leaves the nearest whole number, whose bits are then the last of the sum.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, so that a whole multiple of the first is exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let r = (x - whole * HIGH) - whole * LOW;
    let series = 0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))));
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    f32::from_bits(power) * (1.0 + r + r * r * series)
}

/// The inverse hyperbolic sine, within 4e-7 times (1 + its size).
#[inline(always)]
#[allow(clippy::inline_always)] // see Kernel
pub(crate) fn asinh(x: f32) -> f32 {
    let square = x * x;
    // x + sqrt(1 + x^2), less 1, without taking nearly equal numbers from each other.
    let more = x.abs() + square / (1.0 + (1.0 + square).sqrt());
    // What is not a number stays so: the logarithm reads bits.
    ln_of_one_and(more).copysign(x) + 0.0 * x
}

#[cfg(test)]
mod tests {
    use super::{asinh, exp, ln, ln_in_parts};

    fn close(name: &str, found: f32, expected: f64, x: f32, tolerance: f64) {
        let size = if name == "exp" { expected } else { 1.0 + expected.abs() };
        let off = (f64::from(found) - expected).abs() / size;
        assert!(off <= tolerance, "{name}({x}) = {found}, which is {expected}");
    }

    #[test]
    fn functions_are_those_of_the_library() {
        for i in -200_000..=200_000_i32 {
            let x = i as f32 * 4e-4;
            close("exp", exp(x), f64::from(x).exp(), x, 3e-7);
            close("asinh", asinh(x), f64::from(x).asinh(), x, 4e-7);
            let positive = exp(x);
            close("ln", ln(positive), f64::from(positive).ln(), positive, 3e-7);
        }
        for x in [1e6_f32, -1e6, 1e15, -1e15, 1e-20, 0.0] {
            close("asinh", asinh(x), f64::from(x).asinh(), x, 4e-7);
        }
    }

    #[test]
    fn logarithms_of_all_mantissas_are_as_good_as_they_say() {
        for pattern in std::f32::consts::FRAC_1_SQRT_2.to_bits()..=std::f32::consts::SQRT_2.to_bits() {
            let x = f32::from_bits(pattern);
            let (exponent, found) = ln_in_parts(x);
            let expected = (f64::from(x) * 0.5_f64.powi(exponent)).ln();
            let off = (f64::from(found) - expected).abs();
            assert!((-1..=1).contains(&exponent) && off < 7e-8, "ln({x}) is off by {off}");
        }
    }

    #[test]
    fn exponentials_stay_finite_and_above_zero() {
        for x in [-1e30, -100.0, 100.0, 1e30, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(exp(x).is_finite() && exp(x) > 0.0, "{x}");
        }
    }
}
