//! Room for arrays whose size comes from input: not having it is an error, where `vec![]` would end the process.

use crate::error::{Error, Result};

/// An empty vector with room for `n` values.
///
/// # Errors
/// [`Error::Memory`] when the system does not give it.
pub fn with_room<T>(n: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(n).map_err(|_| Error::Memory { bytes: n.saturating_mul(size_of::<T>()) })?;
    Ok(values)
}

/// `n` times `value`.
///
/// # Errors
/// As [`with_room`].
pub fn filled<T: Clone>(n: usize, value: T) -> Result<Vec<T>> {
    let mut values = with_room(n)?;
    values.resize(n, value);
    Ok(values)
}

/// Makes `values` hold `n`, new ones being `value`.
///
/// # Errors
/// As [`with_room`].
pub fn resize<T: Clone>(values: &mut Vec<T>, n: usize, value: T) -> Result<()> {
    values
        .try_reserve(n.saturating_sub(values.len()))
        .map_err(|_| Error::Memory { bytes: n.saturating_mul(size_of::<T>()) })?;
    values.resize(n, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_an_error() {
        assert_eq!(filled(3, 1.5_f32).unwrap(), [1.5; 3]);
        assert_eq!(with_room::<f64>(usize::MAX).unwrap_err(), Error::Memory { bytes: usize::MAX });
        assert_eq!(filled(1 << 60, 0_u64).unwrap_err(), Error::Memory { bytes: 1 << 63 });
        let mut values = vec![1, 2];
        assert!(resize(&mut values, 1 << 62, 0_i32).is_err());
        resize(&mut values, 3, 7).unwrap();
        assert_eq!(values, [1, 2, 7]);
    }
}
