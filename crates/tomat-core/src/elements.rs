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

/// The atomic number of an element; deuterium `D` and tritium `T` are hydrogen. Case matters, as in the formulas
/// of chemistry: `Co` is cobalt, `CO` is none.
#[must_use]
pub fn atomic_number(symbol: &str) -> Option<u8> {
    match symbol {
        "D" | "T" => Some(1),
        _ => SYMBOLS.iter().position(|&known| known == symbol).and_then(|i| u8::try_from(i + 1).ok()),
    }
}

/// The atomic number of a species as pymatgen writes it: `Si`, `Si4+`, `O2-`, `Fe2.5+`, `Na+`, `Mn3+,spin=5`.
#[must_use]
pub fn atomic_number_of_species(species: &str) -> Option<u8> {
    let symbol = species.split(',').next().unwrap_or_default().trim();
    let bare = symbol.trim_end_matches(['+', '-']);
    let bare = if bare.len() < symbol.len() {
        bare.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.')
    } else {
        bare
    };
    atomic_number(bare)
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
        assert_eq!([atomic_number("D"), atomic_number("SI"), atomic_number("X")], [Some(1), None, None]);
    }

    #[test]
    fn decorated_species() {
        for (species, z) in
            [("Si4+", 14), ("O2-", 8), ("Fe2.5+", 26), ("Na+", 11), ("Mn3+,spin=5", 25), ("Si0+", 14)]
        {
            assert_eq!(atomic_number_of_species(species), Some(z), "{species}");
        }
        for species in ["X0+", "Si4", "", "+", "H.5"] {
            assert_eq!(atomic_number_of_species(species), None, "{species}");
        }
    }
}
