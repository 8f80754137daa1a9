//! TCP_INFO of the connections to the target, at both ends where both are here.

use std::collections::HashMap;

use super::diag::{self, Ask, Socket};
use super::table::Sheet;
use crate::facts::system::{ConnectionSeen, Side};

/// So many connections are reported one by one.
const SHOWN: usize = 64;

/// The connections to one port.
#[derive(Debug)]
pub(super) struct Connections {
    port: Option<u16>,
    families: Vec<u8>,
    /// The target is on this machine, so that the kernel tells of its ends too.
    local: bool,
    client: End,
    server: End,
}

/// All connections' ends on one side.
#[derive(Debug, Default)]
struct End {
    before: HashMap<u16, ConnectionSeen>,
    /// Since the first reading, over all connections.
    retransmits: u64,
    busy_us: u64,
    rwnd_limited_us: u64,
    sndbuf_limited_us: u64,
    first: bool,
    last_seen: Vec<ConnectionSeen>,
}

impl Connections {
    pub(super) fn new(port: Option<u16>, families: Vec<u8>, local: bool) -> Self {
        let end = || End { first: true, ..End::default() };
        Self { port, families, local, client: end(), server: end() }
    }

    /// One reading.
    pub(super) fn slow(&mut self, sheet: &mut Sheet) {
        let sockets = self.port.and_then(|port| diag::sockets(Ask::Connected(port), &self.families).ok());
        let ends = |side: Side| {
            let of = |socket: &&Socket| (Some(socket.port) == self.port) == (side == Side::Server);
            let sockets = sockets.as_ref()?.iter().filter(of);
            Some(sockets.filter_map(|socket| connection(side, socket)).collect::<Vec<_>>())
        };
        let (at_client, at_server) = (ends(Side::Client), ends(Side::Server));
        let why = if at_client.is_some() {
            "no connection was open when the kernel was asked"
        } else {
            "the kernel has no sock_diag"
        };
        self.client.sample(Side::Client, at_client, why, sheet);
        let why = if self.local { why } else { "the target is on another machine" };
        self.server.sample(Side::Server, at_server.filter(|_| self.local), why, sheet);
    }

    /// Those of the last reading that found any.
    pub(super) fn last_seen(self) -> Vec<ConnectionSeen> {
        self.client.last_seen.into_iter().chain(self.server.last_seen).collect()
    }
}

impl End {
    fn sample(
        &mut self,
        side: Side,
        seen: Option<Vec<ConnectionSeen>>,
        why: &'static str,
        sheet: &mut Sheet,
    ) {
        if let Some(seen) = &seen {
            self.add(seen);
        }
        let [connections, rtt, retransmits, busy, rwnd, sndbuf] = match side {
            Side::Client => [
                "client.connections",
                "client.rtt",
                "client.retransmits",
                "client.busy",
                "client.rwnd_limited",
                "client.sndbuf_limited",
            ],
            Side::Server => [
                "server.connections",
                "server.rtt",
                "server.retransmits",
                "server.busy",
                "server.rwnd_limited",
                "server.sndbuf_limited",
            ],
        };
        let n = seen.as_ref().map(Vec::len);
        let mean_rtt = seen
            .as_ref()
            .filter(|seen| !seen.is_empty())
            .map(|seen| seen.iter().map(|one| f64::from(one.rtt_us)).sum::<f64>() / seen.len() as f64);
        // percent of the time of one connection: 300 are three that do nothing else
        const PERCENT_OF_US: f64 = 100.0 / 1e6;
        let known = |value: u64| n.map(|_| value);
        sheet.gauge(connections, n.map(|n| n as f64));
        sheet.unless(why);
        sheet.gauge(rtt, mean_rtt);
        sheet.unless(why);
        sheet.counter(retransmits, known(self.retransmits), 1.0);
        sheet.unless(why);
        sheet.counter(busy, known(self.busy_us), PERCENT_OF_US);
        sheet.unless(why);
        sheet.counter(rwnd, known(self.rwnd_limited_us), PERCENT_OF_US);
        sheet.unless(why);
        sheet.counter(sndbuf, known(self.sndbuf_limited_us), PERCENT_OF_US);
        sheet.unless(why);
    }

    /// A connection that is new since the first reading counts from its begin.
    fn add(&mut self, seen: &[ConnectionSeen]) {
        let mut now = HashMap::with_capacity(seen.len());
        for one in seen {
            let before = self.before.get(&one.client_port).copied();
            let before = before.or_else(|| self.first.then_some(*one));
            // a port that was used again begins anew
            let more = |of: fn(&ConnectionSeen) -> u64| {
                let before = before.as_ref().map_or(0, of);
                of(one).checked_sub(before).unwrap_or_else(|| of(one))
            };
            self.retransmits += more(|one| u64::from(one.retransmits));
            self.busy_us += more(|one| one.busy_us);
            self.rwnd_limited_us += more(|one| one.rwnd_limited_us);
            self.sndbuf_limited_us += more(|one| one.sndbuf_limited_us);
            now.insert(one.client_port, *one);
        }
        (self.before, self.first) = (now, false);
        if !seen.is_empty() {
            self.last_seen = seen.iter().take(SHOWN).copied().collect();
        }
    }
}

fn connection(side: Side, socket: &Socket) -> Option<ConnectionSeen> {
    let info = socket.info?;
    Some(ConnectionSeen {
        side,
        client_port: if side == Side::Client { socket.port } else { socket.peer_port },
        rtt_us: info.rtt_us,
        rttvar_us: info.rttvar_us,
        min_rtt_us: info.min_rtt_us,
        retransmits: info.retransmits,
        busy_us: info.busy_us,
        rwnd_limited_us: info.rwnd_limited_us,
        sndbuf_limited_us: info.sndbuf_limited_us,
    })
}
