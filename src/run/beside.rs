//! I/O: what goes on beside the load, on threads that keep off its processors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Running;
use super::start::StartLine;
use crate::analyze::alerts::{self, LiveWatch};
use crate::facts::alerts::Alert;
use crate::facts::live::Live;
use crate::facts::system::System;
use crate::facts::{HelperReport, ThreadTimes};
use crate::load::time::Nanos;
use crate::plan::{self, Plan, Server};
use crate::record::SliceMerger;
use crate::sys::helper::Helper;
use crate::sys::monitor::{Monitor, Watched};
use crate::sys::server::ServerProcess;

/// Merges slices.
pub(super) struct Beside {
    live: Option<Arc<Live>>,
    pub(super) merger: SliceMerger,
}

impl Beside {
    pub(super) fn new(merger: SliceMerger, live: Option<&Arc<Live>>) -> Self {
        Self { live: live.cloned(), merger }
    }

    /// Until the load is over. Once a slice is enough: a thread has one to fill and one to spare while another waits.
    pub(super) fn until(mut self, load_over: &AtomicBool, plan: &Plan) -> (Self, HelperReport) {
        let helper = Helper::begin("slices", &plan.client.helpers.cpus);
        while !load_over.load(Ordering::Acquire) {
            self.merge();
            std::thread::park_timeout(Duration::from_nanos(plan.interval.0));
        }
        let account = helper.account();
        self.merge();
        (self, account)
    }

    fn merge(&mut self) {
        match &self.live {
            None => self.merger.merge(),
            Some(live) => self.merger.merge_telling(|ended, responses| live.add(ended, responses)),
        }
    }
}

/// Whom the monitor watches.
pub(super) fn watched(
    plan: &Plan,
    running: &Running,
    monitor: plan::Monitor,
    live: Option<&Arc<Live>>,
) -> Watched {
    let server_cores = match &plan.target.server {
        Server::Stub(stub) => stub.cpus.len(),
        Server::Command { cpus, .. } => cpus.len(),
        Server::External => 0,
    };
    Watched {
        interval: monitor.interval,
        server: running.process.as_ref().map(ServerProcess::id).or(monitor.server_pid),
        server_cores: Some(server_cores).filter(|&n| n > 0),
        addresses: running.addresses.clone(),
        client_cores: plan.client.cpus.len(),
        live: live.cloned(),
    }
}

/// From the start of the load on; nothing is seen of one that did not start. `alert` is told of each alert that begins.
pub(super) fn monitor(
    plan: &Plan,
    watched: &Watched,
    start: &StartLine,
    load_over: &AtomicBool,
    alert: &dyn Fn(&Alert),
) -> (Option<System>, HelperReport) {
    let helper = Helper::begin("monitor", &plan.client.helpers.cpus);
    let monitor = Monitor::new(watched);
    let mut watch = LiveWatch::new(&alerts::rules(plan));
    let seen = start.wait(true).map(|t0| {
        monitor.watch(t0, load_over, |sample| {
            let begun = watch.observe(sample.from, sample.to, |metric| sample.value(metric));
            begun.iter().for_each(alert);
        })
    });
    (seen.map(|seen| System { alerts: watch.finish(), ..seen }), helper.account())
}

/// What those who read the live figures took during the load.
pub(super) fn readers(plan: &Plan, live: &Live, before: Nanos) -> HelperReport {
    let taken = live.readers().saturating_sub(before).0;
    let times = ThreadTimes { on_cpu_ns: Some(taken), ..ThreadTimes::default() };
    HelperReport { name: "metrics".to_owned(), cpus: plan.client.helpers.cpus.clone(), times }
}
