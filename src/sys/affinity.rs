//! Pinning threads to processors, by core_affinity behind a check: it aborts the process on ids of 1024 and more. Sets of
//! processors, which it does not know, are rustix's.

use rustix::thread::{CpuSet, sched_setaffinity};

/// The greatest processor id that a fixed cpu_set_t can hold.
pub const CPU_MAX: usize = 1023;

/// Why a thread could not be pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Beyond [`CPU_MAX`].
    #[error("processor {0}: ids above {CPU_MAX} are not supported")]
    TooLarge(usize),
    /// Not in this process's affinity mask.
    #[error(
        "processor {0} is not available to this process (available: {1}); see taskset and the cpuset of the container"
    )]
    NotAllowed(usize, String),
    /// The kernel said no.
    #[error("the kernel refused to pin a thread to processor {0}")]
    Refused(usize),
}

/// The processors this process may run on, ascending.
pub fn allowed() -> Vec<usize> {
    let mut ids: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    ids.sort_unstable();
    ids
}

/// Fails where a thread could not be pinned to `cpu`; pins nothing.
pub fn check(cpu: usize, allowed: &[usize]) -> Result<(), PinError> {
    match cpu {
        _ if cpu > CPU_MAX => Err(PinError::TooLarge(cpu)),
        _ if !allowed.contains(&cpu) => Err(PinError::NotAllowed(cpu, list(allowed))),
        _ => Ok(()),
    }
}

/// Pins the calling thread to `cpu`.
pub fn pin_current(cpu: usize) -> Result<(), PinError> {
    check(cpu, &allowed())?;
    if core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
        Ok(())
    } else {
        Err(PinError::Refused(cpu))
    }
}

/// Lets the calling thread run on these processors only. Where the kernel says no, it stays where it is: [`allowed`] tells.
pub fn confine_current(cpus: &[usize]) {
    let mut set = CpuSet::new();
    cpus.iter().filter(|&&cpu| cpu <= CPU_MAX).for_each(|&cpu| set.set(cpu));
    let _ = sched_setaffinity(None, &set);
}

/// Lets sleeps of the calling thread end when they are due instead of up to 50 µs later.
pub fn sharpen_timers() {
    // A kernel without the call only wakes us later, which is measured as send lag.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

/// `0,2,3`.
pub fn list(cpus: &[usize]) -> String {
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_would_abort_are_refused() {
        assert_eq!(pin_current(1024), Err(PinError::TooLarge(1024)));
        assert_eq!(pin_current(usize::MAX), Err(PinError::TooLarge(usize::MAX)));
        assert!(matches!(check(7, &[0, 1]), Err(PinError::NotAllowed(7, _))));
    }

    #[test]
    fn a_thread_can_be_pinned_where_it_may_run() {
        let cpu = *allowed().last().unwrap();
        std::thread::spawn(move || {
            pin_current(cpu).unwrap();
            assert_eq!(allowed(), [cpu]);
        })
        .join()
        .unwrap();
    }
}
