//! Chemical symbols, by atomic number.

/// `SYMBOLS[Z - 1]`, hydrogen to oganesson.
#[rustfmt::skip]
pub const SYMBOLS: [&str; 118] = [
    "H", "He",
    "Li", "Be", "B", "C", "N", "O", "F", "Ne",
    "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar",
    "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr",
    "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe",
    "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu",
    "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn",
    "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk", "Cf", "Es", "Fm", "Md", "No", "Lr",
    "Rf", "Db", "Sg", "Bh", "Hs", "Mt", "Ds", "Rg", "Cn", "Nh", "Fl", "Mc", "Lv", "Ts", "Og",
];

/// The atomic number of a symbol, written as the periodic table writes it (`Si`, not `SI`).
#[must_use]
pub fn atomic_number(symbol: &str) -> Option<u8> {
    SYMBOLS.iter().position(|&s| s == symbol).map(|index| index as u8 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_and_numbers_agree() {
        for (symbol, z) in [("H", 1), ("Si", 14), ("Xe", 54), ("Lu", 71), ("Pt", 78), ("U", 92), ("Og", 118)]
        {
            assert_eq!(atomic_number(symbol), Some(z));
        }
        assert_eq!(atomic_number("SI"), None);
    }
}
