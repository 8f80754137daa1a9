//! SIGINT, SIGTERM and SIGHUP as a number that counts up: the first ends the load, the second cuts the drain, a third kills.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// How often the user asked to stop. Clones share the count.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicUsize>);

impl StopFlag {
    /// Counts SIGINT, SIGTERM and SIGHUP from now on.
    pub fn install() -> io::Result<Self> {
        let flag = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let count = flag.0.clone();
            let action = move || {
                if count.fetch_add(1, Ordering::SeqCst) >= 2 {
                    signal_hook::low_level::exit(130);
                }
            };
            // SAFETY: the action only touches an atomic and calls _exit, both async-signal-safe.
            #[allow(unsafe_code)]
            unsafe {
                signal_hook::low_level::register(signal, action)?;
            }
        }
        Ok(flag)
    }

    /// How many times so far.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}
