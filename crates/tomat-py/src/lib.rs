//! The Python face of tomat: conversions only. The GIL is released around the work.
#![allow(unsafe_code)] // PyO3's macros expand to it
#![allow(clippy::needless_pass_by_value)] // PyO3 hands arguments over by value

mod batch;
mod codec;
mod crystal;
mod environment;
mod errors;
mod examples;
mod fit;
mod promolecule;
mod read;
mod readout;
mod run;
mod sampler;
mod sequence;
mod vocabulary;

use pyo3::prelude::*;

/// Native part of `tomat`.
#[pymodule]
mod _core {
    #[pymodule_export]
    use super::batch::{Crystals, encode_patches, inspect};
    #[pymodule_export]
    use super::codec::{DensityCodec, named_log_codec};
    #[pymodule_export]
    use super::crystal::CrystalLanguage;
    #[pymodule_export]
    use super::environment::EnvironmentBasis;
    #[pymodule_export]
    use super::examples::{
        annotate_rows, ask_from_guess, ask_masked, ask_next_tokens, keys_of, permute, random_bits,
    };
    #[pymodule_export]
    use super::fit::{Sketch, fit};
    #[pymodule_export]
    use super::promolecule::{NormalEquations, Promolecule, valence_electrons};
    #[pymodule_export]
    use super::read::{RawMaterial, parse_structure, read, read_bytes, read_group, task_id, zarr_chunk};
    #[pymodule_export]
    use super::readout::{Readout, quantiles};
    #[pymodule_export]
    use super::run::ShardRun;
    #[pymodule_export]
    use super::sampler::{coverage_histogram, sample_offsets, tiling};
    #[pymodule_export]
    use super::sequence::{Patch, Tokenizer, cell_volume, lattice_parameters, layouts};
    #[pymodule_export]
    use super::vocabulary::{Vocabulary, elements};

    use pyo3::prelude::*;
    use pyo3::types::PyTuple;
    use tomat_core::refusal::{Checks, Reason};
    use tomat_core::sequence::{FALLBACK_SHAPES, PAD_TO};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("MAX_GRID_AXIS", tomat_core::grid::MAX_GRID_AXIS)?;
        module.add("MAX_CLIPPED", Checks::DEFAULT.max_clipped)?;
        module.add("MAX_NEGATIVE", Checks::DEFAULT.max_negative)?;
        module.add("PAD_TO", PAD_TO)?;
        module.add(
            "FALLBACK_SHAPES",
            PyTuple::new(module.py(), FALLBACK_SHAPES.map(<(usize, usize, usize)>::from))?,
        )?;
        module.add("REASONS", PyTuple::new(module.py(), Reason::ALL.map(Reason::name))?)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
