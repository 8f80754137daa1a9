//! The time stamp counter of the processor: whether it can be a clock here, and how it is read.
#![allow(unsafe_code)] // the counter's intrinsics

use super::line::Anchor;

/// Where the kernel says which counter it trusts.
const CLOCKSOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
/// An anchor is the tightest of so many brackets, so that one interruption does not spoil it.
const BRACKETS: u32 = 5;

/// Why the counter is no clock on this machine; `Ok` where it is: it ticks at one rate whatever the processor does, and
/// the kernel, which compares the cores' counters, trusts it.
pub(super) fn usable() -> Result<(), String> {
    invariant()?;
    match std::fs::read_to_string(CLOCKSOURCE).as_deref().map(str::trim) {
        Ok("tsc") => Ok(()),
        Ok(other) => Err(format!("the kernel's clock source is {other}, not tsc")),
        Err(error) => Err(format!("the kernel's clock source is unknown: {error}")),
    }
}

/// What counter and `monotonic` show at the same moment: within half of the tightest bracket.
pub(super) fn anchor(monotonic: impl Fn() -> u64) -> Anchor {
    let bracket = |_| {
        let before = ordered_ticks();
        let ns = monotonic();
        let width = ordered_ticks().saturating_sub(before);
        (width, Anchor { ticks: before + width / 2, ns })
    };
    let tightest = (0..BRACKETS).map(bracket).min_by_key(|(width, _)| *width);
    tightest.expect("there is at least one bracket").1
}

#[cfg(target_arch = "x86_64")]
mod arch {
    use core::arch::x86_64::{__cpuid, _mm_lfence, _rdtsc};

    /// The counter, now or some instructions earlier or later.
    #[inline]
    #[allow(unused_unsafe)] // safe in some versions of the compiler
    pub(crate) fn ticks() -> u64 {
        // SAFETY: RDTSC reads a register; `usable` has seen that it exists and is not trapped.
        unsafe { _rdtsc() }
    }

    /// The counter when everything before is done, and before anything behind begins.
    #[allow(unused_unsafe)]
    pub(crate) fn ordered_ticks() -> u64 {
        // SAFETY: LFENCE is part of SSE2, which every x86-64 has; RDTSC as above.
        unsafe {
            _mm_lfence();
            let ticks = _rdtsc();
            _mm_lfence();
            ticks
        }
    }

    #[allow(unused_unsafe)]
    pub(crate) fn invariant() -> Result<(), String> {
        const RDTSCP: u32 = 1 << 27;
        const INVARIANT: u32 = 1 << 8;
        // SAFETY: CPUID exists on every x86-64; unknown leaves read as something, so the greatest is asked first.
        let edx = |leaf: u32| unsafe { if __cpuid(0x8000_0000).eax >= leaf { __cpuid(leaf).edx } else { 0 } };
        match (edx(0x8000_0001) & RDTSCP, edx(0x8000_0007) & INVARIANT) {
            (0, _) => Err("the processor has no RDTSCP".to_owned()),
            (_, 0) => Err("the processor's time stamp counter is not invariant".to_owned()),
            _ => Ok(()),
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    pub(crate) fn ticks() -> u64 {
        0
    }

    pub(crate) fn ordered_ticks() -> u64 {
        0
    }

    pub(crate) fn invariant() -> Result<(), String> {
        Err("the time stamp counter is used on x86-64 only".to_owned())
    }
}

use arch::{invariant, ordered_ticks};

pub(super) use arch::ticks;
