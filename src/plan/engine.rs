//! How client threads reach the kernel, and how they wait for it.

use serde::{Deserialize, Serialize};

/// `--engine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum EnginePlan {
    /// The one that was measured to disturb less: epoll.
    Auto,
    /// epoll, through mio.
    Epoll,
    /// io_uring.
    Uring,
}

impl EnginePlan {
    /// As in `--engine`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto | Self::Epoll => "epoll",
            Self::Uring => "uring",
        }
    }
}

/// How threads wait when nothing is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum WaitPlan {
    /// Spin while requests are in flight or due within 150 µs if the thread has its processor to itself; else park.
    Auto,
    /// Never sleep.
    Spin,
    /// Always sleep in the kernel.
    Park,
}
