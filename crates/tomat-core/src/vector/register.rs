//! Registers of a processor.

/// One number of each of a few points.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(C, align(64))] // a load across two lines of the cache takes twice as long
pub(crate) struct Lane(pub(crate) [f32; Self::LEN]);

impl Lane {
    /// Its numbers: those of the widest register.
    pub(crate) const LEN: usize = 16;
    pub(crate) const ZERO: Self = Self([0.0; Self::LEN]);
}

/// Single precision in one register; a [`Lane`] is one or more of them.
pub(crate) trait Register: Copy {
    /// Numbers in it.
    const LEN: usize;
    /// Whether there are 32 of them, not 16.
    const MANY: bool;
    /// Whether a product and a sum are one instruction.
    const FUSED: bool;

    /// One number everywhere.
    fn splat(x: f32) -> Self;
    /// The numbers from `place` on.
    fn read(from: &[f32], place: usize) -> Self;
    /// Puts its numbers at `place`.
    fn write(self, to: &mut [f32], place: usize);
    /// `self b + c`.
    fn times_plus(self, b: Self, c: Self) -> Self;
}

/// For any processor: the compiler takes what registers it has.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 8]);

#[allow(clippy::inline_always)] // see super::Kernel
impl Register for Portable {
    const LEN: usize = 8;
    const MANY: bool = cfg!(target_arch = "aarch64");
    const FUSED: bool = cfg!(target_arch = "aarch64");

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 8])
    }

    #[inline(always)]
    fn read(from: &[f32], place: usize) -> Self {
        let mut numbers = [0.0; 8];
        numbers.copy_from_slice(&from[place..place + 8]);
        Self(numbers)
    }

    #[inline(always)]
    fn write(self, to: &mut [f32], place: usize) {
        to[place..place + 8].copy_from_slice(&self.0);
    }

    #[inline(always)]
    fn times_plus(self, b: Self, c: Self) -> Self {
        let mut sum = [0.0; 8];
        for (i, sum) in sum.iter_mut().enumerate() {
            *sum = super::multiply_add::<Self>(self.0[i], b.0[i], c.0[i]);
        }
        Self(sum)
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    //! Registers are made only by kernels that `with_...` run, which the caller calls where there are such registers:
    //! this is why the intrinsics below may be used.

    use std::arch::x86_64::{
        __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_storeu_ps, _mm512_fmadd_ps,
        _mm512_loadu_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };

    use super::Register;
    use crate::vector::Kernel;

    pub(in crate::vector) fn has_avx2() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    /// Whole numbers in wide registers need more than the foundation.
    pub(in crate::vector) fn has_avx512() -> bool {
        has_avx2()
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
    }

    #[target_feature(enable = "avx2,fma")]
    pub(in crate::vector) fn with_avx2(kernel: impl Kernel) {
        kernel.run::<Avx2>();
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(in crate::vector) fn with_avx512(kernel: impl Kernel) {
        kernel.run::<Avx512>();
    }

    macro_rules! register {
        ($name:ident, $inner:ty, $len:literal, $many:literal, $splat:ident, $read:ident, $write:ident, $fused:ident) => {
            #[derive(Clone, Copy)]
            pub(super) struct $name($inner);

            #[allow(unsafe_code)] // intrinsics of an instruction set
            #[allow(clippy::inline_always)] // see crate::vector::Kernel
            impl Register for $name {
                const LEN: usize = $len;
                const MANY: bool = $many;
                const FUSED: bool = true;

                #[inline(always)]
                fn splat(x: f32) -> Self {
                    // SAFETY: see the module.
                    Self(unsafe { $splat(x) })
                }

                #[inline(always)]
                fn read(from: &[f32], place: usize) -> Self {
                    let from: &[f32] = &from[place..place + $len];
                    // SAFETY: see the module; as many numbers are read as there are in the slice.
                    Self(unsafe { $read(from.as_ptr()) })
                }

                #[inline(always)]
                fn write(self, to: &mut [f32], place: usize) {
                    let to: &mut [f32] = &mut to[place..place + $len];
                    // SAFETY: see the module; as many numbers are written as there are in the slice.
                    unsafe { $write(to.as_mut_ptr(), self.0) }
                }

                #[inline(always)]
                fn times_plus(self, b: Self, c: Self) -> Self {
                    // SAFETY: see the module.
                    Self(unsafe { $fused(self.0, b.0, c.0) })
                }
            }
        };
    }

    register!(Avx2, __m256, 8, false, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps);
    register!(Avx512, __m512, 16, true, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps);
}
