//! Atoms from formulas: Slater's rules, and Gaussians of the same size.
//!
//! Shells are hydrogen-like in their long range, `rho(r) = N (2 zeta)^(2n+1) / (4 pi Gamma(2n+1)) r^(2n-2)
//! exp(-2 zeta r)`, with `zeta = (Z - s) / n` in inverse bohr and the effective quantum number `n` and screening `s`
//! of J. C. Slater, Phys. Rev. 36, 57 (1930). Configurations follow the Madelung order without exceptions. Valence
//! electrons are those outside the noble-gas core, without a closed 4f or 5f shell.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use super::radial::RadialTable;
use crate::error::{Error, Result};

/// One bohr in angstrom (CODATA 2018).
const BOHR: f64 = 0.529_177_210_903;

/// Subshells `(n, l)` in the order in which they fill (Madelung).
#[rustfmt::skip]
const MADELUNG: [(u8, u8); 19] = [
    (1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (4, 0), (3, 2), (4, 1), (5, 0), (4, 2), (5, 1), (6, 0), (4, 3), (5, 2),
    (6, 1), (7, 0), (5, 3), (6, 2), (7, 1),
];

/// Atomic numbers of the noble gases.
const NOBLE: [u8; 6] = [2, 10, 18, 36, 54, 86];

/// The analytic forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// One Gaussian an atom, with the mean square radius that Slater's rules give its valence electrons.
    Gaussian,
    /// Two Gaussians, one for the outermost principal quantum number and one for the electrons below it, each with
    /// its mean square radius by Slater's rules.
    TwoShell,
    /// One exponential shell for each group of electrons of Slater's rules.
    Slater,
}

impl Form {
    /// All forms.
    pub const ALL: [Self; 3] = [Self::Gaussian, Self::TwoShell, Self::Slater];

    /// `gaussian`, `two-shell` or `slater`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gaussian => "gaussian",
            Self::TwoShell => "two-shell",
            Self::Slater => "slater",
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Form {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|form| form.name() == name).ok_or_else(|| Error::Unknown {
            what: "analytic promolecule",
            name: name.to_owned(),
            known: Self::ALL.map(Self::name).join(", "),
        })
    }
}

/// Electrons of one subshell.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Subshell {
    n: u8,
    l: u8,
    electrons: f64,
    core: bool,
}

impl Subshell {
    /// s and p screen and are screened as one group.
    fn group(self) -> (u8, u8) {
        (self.n, self.l.max(1))
    }
}

/// A group of Slater's rules that holds valence electrons.
#[derive(Debug, Clone, Copy)]
struct Shell {
    n: u8,
    electrons: f64,
    /// Effective principal quantum number.
    effective: f64,
    /// Inverse angstrom.
    zeta: f64,
}

impl Shell {
    /// Electrons per cubic angstrom at `r` angstrom.
    fn density(&self, r: f64) -> f64 {
        let (n, k) = (self.effective, 2.0 * self.zeta);
        let norm = k.powf(2.0 * n + 1.0) / (4.0 * PI * gamma_2n_plus_1(n));
        self.electrons * norm * r.powf(2.0 * n - 2.0) * (-k * r).exp()
    }

    /// `<r^2>` of one electron, square angstrom.
    fn mean_square(&self) -> f64 {
        (2.0 * self.effective + 1.0) * (2.0 * self.effective + 2.0) / (2.0 * self.zeta).powi(2)
    }

    /// Beyond this lies less than a millionth of the charge.
    fn reach(&self) -> f64 {
        (2.0 * self.effective + 26.0) / (2.0 * self.zeta)
    }
}

/// `Gamma(2 n + 1)` for the effective quantum numbers 1, 2, 3, 3.7, 4, 4.2 and 4.3.
fn gamma_2n_plus_1(n: f64) -> f64 {
    let whole = (2.0 * n).floor();
    let fraction = 2.0 * n - whole;
    // Gamma at 1, 1.4 and 1.6; the rest by Gamma(x + 1) = x Gamma(x).
    let start = if fraction < 0.1 {
        1.0
    } else if fraction < 0.5 {
        0.887_263_817_503_075_3
    } else {
        0.893_515_349_287_690_3
    };
    (1..=whole as u32).map(|i| f64::from(i) + fraction).product::<f64>() * start
}

/// Valence electrons of an element: those outside the noble-gas core, without a closed 4f or 5f shell.
///
/// # Errors
/// [`Error::Invalid`] when `z` is not 1 to 118.
pub fn valence_electrons(z: u8) -> Result<u8> {
    let shells = configuration(z)?;
    Ok(shells.iter().filter(|shell| !shell.core).map(|shell| shell.electrons).sum::<f64>() as u8)
}

/// The radial density of an element with so many valence electrons, normalised to that number.
///
/// Electrons are taken from the subshells outside the noble-gas core first, then from the core, each time those with
/// the highest principal quantum number first: a pseudopotential with semicore states names its own count.
///
/// # Errors
/// [`Error::Invalid`] when `z` is not 1 to 118 or the count is not above 0 and at most `z`.
pub fn radial_table(form: Form, z: u8, electrons: f64) -> Result<RadialTable> {
    let shells = valence_shells(z, electrons)?;
    let table = match form {
        Form::Slater => {
            let reach = shells.iter().map(Shell::reach).fold(0.0, f64::max);
            RadialTable::from_fn(reach, |r| shells.iter().map(|shell| shell.density(r)).sum())?
        }
        Form::Gaussian => gaussians(&[&shells])?,
        Form::TwoShell => {
            let outermost = shells.iter().map(|shell| shell.n).max();
            let (outer, inner): (Vec<_>, Vec<_>) =
                shells.iter().copied().partition(|shell| Some(shell.n) == outermost);
            gaussians(&[&outer, &inner])?
        }
    };
    let factor = electrons / table.electrons();
    Ok(table.scaled(factor))
}

/// One Gaussian for each set of shells, with its charge and mean square radius.
fn gaussians(sets: &[&[Shell]]) -> Result<RadialTable> {
    let terms: Vec<(f64, f64)> = sets
        .iter()
        .filter(|shells| !shells.is_empty())
        .map(|shells| {
            let charge: f64 = shells.iter().map(|shell| shell.electrons).sum();
            let square = shells.iter().map(|s| s.electrons * s.mean_square()).sum::<f64>() / charge;
            (charge, 1.5 / square)
        })
        .collect();
    let reach = terms.iter().map(|(_, alpha)| (20.0 / alpha).sqrt()).fold(0.0, f64::max);
    RadialTable::from_fn(reach, |r| {
        terms.iter().map(|(charge, alpha)| charge * (alpha / PI).powf(1.5) * (-alpha * r * r).exp()).sum()
    })
}

/// The groups that hold the outermost `electrons`, with their exponents.
fn valence_shells(z: u8, electrons: f64) -> Result<Vec<Shell>> {
    let configuration = configuration(z)?;
    if !(electrons > 0.0 && electrons <= f64::from(z)) {
        return Err(Error::invalid(format!(
            "{electrons} valence electrons for atomic number {z}; give a number above 0, up to {z}"
        )));
    }
    let mut order = configuration.clone();
    order.sort_by_key(|shell| (shell.core, 255 - shell.n, 255 - shell.l));
    let mut left = electrons;
    let mut shells: Vec<((u8, u8), Shell)> = Vec::new();
    for subshell in order {
        let taken = subshell.electrons.min(left);
        left -= taken;
        if taken <= 0.0 {
            continue;
        }
        let group = subshell.group();
        if let Some((_, shell)) = shells.iter_mut().find(|(known, _)| *known == group) {
            shell.electrons += taken;
        } else {
            let effective = effective_number(subshell.n);
            let zeta = (f64::from(z) - screening(group, &configuration)) / (effective * BOHR);
            shells.push((group, Shell { n: subshell.n, electrons: taken, effective, zeta }));
        }
    }
    Ok(shells.into_iter().map(|(_, shell)| shell).collect())
}

/// Slater's effective quantum number; that of the seventh shell continues his list.
fn effective_number(n: u8) -> f64 {
    match n {
        0..=3 => f64::from(n),
        4 => 3.7,
        5 => 4.0,
        6 => 4.2,
        _ => 4.3,
    }
}

/// Slater's screening of an electron of a group by all others.
fn screening(group: (u8, u8), configuration: &[Subshell]) -> f64 {
    let (n, l) = group;
    let by_subshell = configuration.iter().map(|other| {
        let (other_n, other_l) = other.group();
        let weight = if (other_n, other_l) == group {
            if n == 1 { 0.30 } else { 0.35 }
        } else if l <= 1 {
            match n.saturating_sub(other_n) {
                0 => 0.0,
                1 => 0.85,
                _ => 1.0,
            }
        } else if other_n < n || (other_n == n && other_l < l) {
            1.0
        } else {
            0.0
        };
        weight * other.electrons
    });
    // An electron does not screen itself.
    by_subshell.sum::<f64>() - if n == 1 { 0.30 } else { 0.35 }
}

/// The subshells of a neutral atom, in Madelung order.
fn configuration(z: u8) -> Result<Vec<Subshell>> {
    if !(1..=118).contains(&z) {
        return Err(Error::invalid(format!("atomic number {z} is not an element; give 1 (H) to 118 (Og)")));
    }
    let core = NOBLE.into_iter().filter(|&noble| noble < z).max().unwrap_or(0);
    let mut filled = 0;
    let mut shells = Vec::new();
    for (n, l) in MADELUNG {
        let room = 2 * (2 * l + 1);
        let electrons = room.min(z - filled);
        if electrons == 0 {
            break;
        }
        filled += electrons;
        let closed_f = l == 3 && electrons == room && z > filled;
        shells.push(Subshell { n, l, electrons: f64::from(electrons), core: filled <= core || closed_f });
    }
    Ok(shells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(z: u8, n: u8, electrons: f64) -> f64 {
        let shells = valence_shells(z, electrons).unwrap();
        let shell = shells.iter().find(|shell| shell.n == n).unwrap();
        shell.zeta * BOHR * shell.effective
    }

    #[test]
    fn effective_charges_of_the_textbook() {
        // Carbon 2s2p: 6 - 3 x 0.35 - 2 x 0.85; iron 4s and 3d; zinc 4s; helium 1s.
        assert!((shell(6, 2, 4.0) - 3.25).abs() < 1e-12);
        assert!((shell(26, 4, 8.0) - 3.75).abs() < 1e-12);
        assert!((shell(26, 3, 8.0) - 6.25).abs() < 1e-12);
        assert!((shell(30, 4, 12.0) - 4.35).abs() < 1e-12);
        assert!((shell(2, 1, 2.0) - 1.70).abs() < 1e-12);
    }

    #[test]
    fn valence_is_what_lies_outside_the_noble_gas() {
        for (z, valence) in [
            (1, 1),
            (2, 2),
            (6, 4),
            (10, 8),
            (11, 1),
            (26, 8),
            (31, 13),
            (57, 3),
            (60, 6),
            (72, 4),
            (82, 14),
            (118, 18),
        ] {
            assert_eq!(valence_electrons(z).unwrap(), valence, "Z = {z}");
        }
        assert!(valence_electrons(0).is_err() && valence_electrons(119).is_err());
    }

    #[test]
    fn semicore_electrons_come_from_the_outside_in() {
        let shells = valence_shells(11, 9.0).unwrap();
        let counts: Vec<_> = shells.iter().map(|s| (s.n, s.electrons)).collect();
        assert_eq!(counts, [(3, 1.0), (2, 8.0)]);
        assert!(valence_shells(11, 12.0).is_err() && valence_shells(11, 0.0).is_err());
        assert!(valence_shells(11, f64::NAN).is_err());
    }

    #[test]
    fn every_form_holds_its_electrons() {
        for z in 1..=118 {
            let valence = f64::from(valence_electrons(z).unwrap());
            for form in Form::ALL {
                let table = radial_table(form, z, valence).unwrap();
                assert!((table.electrons() - valence).abs() < 1e-9, "{form}, Z = {z}");
                // Before it is scaled, the formula itself is normalised.
                if form == Form::Slater {
                    let shells = valence_shells(z, valence).unwrap();
                    let plain = RadialTable::from_fn(table.cutoff(), |r| {
                        shells.iter().map(|shell| shell.density(r)).sum::<f64>()
                    });
                    assert!((plain.unwrap().electrons() / valence - 1.0).abs() < 2e-5, "Z = {z}");
                }
            }
        }
    }
}
