//! What can go wrong with files. Every message names the file, what is wrong and what to do.

use std::path::{Path, PathBuf};

use thiserror::Error;
use tomat_core::refusal::{Reason, Refusal};

/// An error about a file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such file.
    #[error("{}: no such file or directory", path.display())]
    Missing {
        /// The path asked for.
        path: PathBuf,
    },
    /// The operating system refused (permissions, a full disk, a directory where a file was expected, ...).
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is there but is damaged, or is not what its name or position says.
    #[error("{}: {problem}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong, where in the file, and what to do.
        problem: String,
    },
    /// The format or the codec cannot hold a sound material.
    #[error("{}", .0.detail)]
    Refused(Refusal),
    /// The sampler of a run failed, or gave what cannot be.
    #[error("{task_id}: {problem}")]
    Sampler {
        /// The material it failed on.
        task_id: String,
        /// What is wrong.
        problem: String,
    },
    /// The system did not give the memory that the file's density needs.
    #[error("{}: {bytes} bytes of memory are needed and were not given; use a machine with more memory", path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// Bytes of what was to be held.
        bytes: usize,
    },
    /// The core refused what the file holds.
    #[error(transparent)]
    Core(#[from] tomat_core::Error),
}

impl Error {
    /// Shorthand for [`Error::Unreadable`].
    pub fn unreadable(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::Unreadable { path: path.as_ref().to_owned(), problem: problem.into() }
    }

    /// Why the material is left out.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Missing { .. } => Reason::Missing,
            Self::Refused(refusal) => refusal.reason,
            Self::Core(error) => Reason::of(error),
            _ => Reason::Unreadable,
        }
    }

    /// Whether it is the machine that lacks memory, and nothing is known of the file.
    #[must_use]
    pub const fn is_memory(&self) -> bool {
        matches!(self, Self::Memory { .. } | Self::Core(tomat_core::Error::Memory { .. }))
    }

    /// An error of the core on `path`: one about memory gets its name.
    pub fn core(path: impl AsRef<Path>, error: tomat_core::Error) -> Self {
        match error {
            tomat_core::Error::Memory { bytes } => Self::Memory { path: path.as_ref().to_owned(), bytes },
            other => Self::Core(other),
        }
    }

    /// An operating system error on `path`; "not found" becomes [`Error::Missing`].
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        if source.kind() == std::io::ErrorKind::NotFound {
            Self::Missing { path }
        } else {
            Self::Io { path, source }
        }
    }
}

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
