//! Arithmetic in vector registers, as wide as the processor has them.

/// Work whose loops are compiled twice: for any processor, and for one with fused multiply and add in wide registers.
pub(super) trait Kernel {
    /// Must be inlined with all that it calls: code takes the instruction set of the function it ends up in.
    fn run<const FUSED: bool>(self);
}

/// Runs a kernel in the widest registers there are.
pub(super) fn run(kernel: impl Kernel) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor was just asked.
        #[allow(unsafe_code)] // the only way from portable code to that of an instruction set
        return unsafe { wide(kernel) };
    }
    kernel.run::<{ cfg!(target_arch = "aarch64") }>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn wide(kernel: impl Kernel) {
    kernel.run::<true>();
}

/// `a b + c`; fused only where the processor has an instruction for it, as the other way is a call of a function.
#[inline(always)]
#[allow(clippy::inline_always)] // see Kernel
pub(super) fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// `ln(1 + x)` for `x >= 0`, within 3e-7 times (1 + the value): the series of the inverse hyperbolic tangent, without
/// a call or a branch.
#[inline(always)]
#[allow(clippy::inline_always)] // see Kernel
pub(super) fn ln_of_one_and(x: f32) -> f32 {
    const SQRT_HALF: u32 = 0x3f35_04f3;
    let bits = (1.0 + x).to_bits();
    let exponent = (bits.wrapping_sub(SQRT_HALF) as i32) >> 23;
    let mantissa = f32::from_bits(bits.wrapping_sub((exponent << 23) as u32));
    let f = (mantissa - 1.0) / (mantissa + 1.0);
    let s = f * f;
    let series = 2.0 + s * (2.0 / 3.0 + s * (2.0 / 5.0 + s * (2.0 / 7.0 + s * (2.0 / 9.0))));
    exponent as f32 * std::f32::consts::LN_2 + f * series
}
