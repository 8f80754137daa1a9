//! What can go wrong, as the exit code classes it.

/// Why the stub did not start or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The flags contradict each other: exit code 64.
    #[error("{0}")]
    Usage(String),
    /// A port, file, CPU or thread could not be had: exit code 1.
    #[error("{0}")]
    Environment(String),
}

impl Error {
    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 64,
            Self::Environment(_) => 1,
        }
    }

    /// An environment error: what was being done, and what the system said.
    pub(crate) fn environment(what: impl std::fmt::Display, cause: impl std::fmt::Display) -> Self {
        Self::Environment(format!("{what}: {cause}"))
    }
}
