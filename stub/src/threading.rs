//! Server threads: where they run and how exact their timers are.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::clock;
use crate::error::Error;

/// The CPUs this process may use.
pub(crate) fn allowed_cpus() -> Result<Vec<usize>, Error> {
    let set = sched_getaffinity(None).map_err(|e| Error::environment("cannot read the CPU affinity", e))?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Checks a list of CPUs to pin to and says how many CPUs the server will have.
pub(crate) fn check_cpus(cpus: &[usize]) -> Result<usize, Error> {
    let allowed = allowed_cpus()?;
    if let Some(bad) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        return Err(Error::Environment(format!(
            "--server-cpus: CPU {bad} is not available to this process; available are {allowed:?}"
        )));
    }
    Ok(if cpus.is_empty() { allowed.len() } else { cpus.len() })
}

/// What each server thread does first: pin itself to the server's CPUs, which `check_cpus` has found allowed, and
/// sharpen its timers.
pub(crate) fn prepare(cpus: &[usize]) -> impl FnOnce() + Send + 'static {
    let mut set = CpuSet::new();
    cpus.iter().filter(|cpu| **cpu < CpuSet::MAX_CPU).for_each(|cpu| set.set(*cpu));
    move || {
        if set.count() > 0 {
            // Allowed when it was checked; a cpuset that shrank since then is the machine's word against ours.
            let _ = sched_setaffinity(None, &set);
        }
        clock::sharpen_timers();
    }
}
