//! What a virtual world is made of: its network, the server in it, the client's costs, and what goes wrong. Plain data;
//! together with its seed it repeats a run exactly, so a failing test prints it.

use super::clock::Stop;
use super::dice::Dice;
use crate::load::rng::mix;
use crate::load::time::Nanos;

/// A whole world.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// Everything that is left to chance follows from it, except the service times.
    pub seed: u64,
    /// What the clock shows at first.
    pub start: Nanos,
    /// One way through the network.
    pub latency: Nanos,
    /// Up to so much more for each piece, drawn anew; pieces of one connection do not overtake each other.
    pub jitter: Nanos,
    /// What the client pays for what it does.
    pub costs: Costs,
    /// The server.
    pub server: Server,
    /// What goes wrong.
    pub faults: Faults,
    /// When the client does not run.
    pub stops: Vec<Stop>,
}

impl World {
    /// From handing over the last byte of a send until the client's kernel has stamped it as left.
    pub fn leaves_after(&self) -> Nanos {
        self.latency.min(Nanos(700))
    }
}

/// Time the client spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Costs {
    /// One reading of the clock.
    pub clock: Nanos,
    /// One operation: the system call.
    pub submit: Nanos,
    /// One event: the read and what the driver makes of it.
    pub event: Nanos,
    /// One poll; also what a spinning client pays for a turn in which nothing happens.
    pub poll: Nanos,
}

/// The server's timing.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// So many requests at a time, first come first served; `None`: all at once.
    pub servers: Option<u32>,
    /// How long the work on a request takes.
    pub service: Service,
    /// The service time of a request follows from this and its id, whatever else differs between worlds.
    pub work_seed: u64,
    /// Now and then nothing moves.
    pub freeze: Option<Freeze>,
    /// At most so many bytes of body, drawn anew for each answer.
    pub body_max: usize,
}

/// The distribution of the service time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Service {
    /// Always the same.
    Fixed(Nanos),
    /// Memoryless.
    Exponential {
        /// Its mean.
        mean: Nanos,
    },
    /// Mostly fast.
    Bimodal {
        /// Mostly.
        fast: Nanos,
        /// Else.
        slow: Nanos,
        /// How often else.
        slow_per_mille: u16,
    },
}

/// The server stands still from `first + k * every`, for `length` each time. Its kernel still accepts connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freeze {
    /// The start of the first one.
    pub first: Nanos,
    /// From start to start.
    pub every: Nanos,
    /// Shorter than `every`.
    pub length: Nanos,
}

impl Service {
    /// The service time of the request with this id.
    pub fn time(self, work_seed: u64, id: &[u8]) -> Nanos {
        let hash =
            id.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let mut dice = Dice::new(mix(work_seed, hash));
        match self {
            Self::Fixed(time) => time,
            Self::Exponential { mean } => Nanos((-dice.unit().ln() * mean.0 as f64) as u64),
            Self::Bimodal { fast, slow, slow_per_mille } => {
                if dice.chance(slow_per_mille) {
                    slow
                } else {
                    fast
                }
            }
        }
    }
}

impl Freeze {
    /// When work that is ready at `at` and takes `work` begins and ends.
    pub fn work(self, at: Nanos, work: Nanos) -> (Nanos, Nanos) {
        let started = self.frozen_until(at).unwrap_or(at);
        let (mut at, mut left) = (started, work);
        loop {
            let next = self.next_start(at);
            if at + left <= next {
                return (started, at + left);
            }
            left = left - (next - at);
            at = next + self.length;
        }
    }

    fn frozen_until(self, at: Nanos) -> Option<Nanos> {
        let since = at.0.checked_sub(self.first.0)? % self.every.0;
        (since < self.length.0).then(|| Nanos(at.0 - since) + self.length)
    }

    fn next_start(self, at: Nanos) -> Nanos {
        match at.0.checked_sub(self.first.0) {
            None => self.first,
            Some(since) => self.first + Nanos((since / self.every.0 + 1) * self.every.0),
        }
    }
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident: $most:literal,)*) => {
        /// How often what goes wrong, in thousandths. All zero by default.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Faults {
            $($(#[$doc])* pub $name: u16,)*
        }

        impl Faults {
            /// Their names.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// Swarm style: about half of all faults, each at a rate of its own, so that runs differ in kind and
            /// not only in detail.
            pub fn swarm(seed: u64) -> Self {
                let mut dice = Dice::new(seed);
                let mut rate = |most: u64| if dice.chance(500) { 1 + dice.below(most) as u16 } else { 0 };
                Self { $($name: rate($most),)* }
            }
        }
    };
}

faults! {
    /// A connect is refused.
    refused: 100,
    /// A connect is never answered.
    unanswered: 60,
    /// A connect is answered late.
    slow_accept: 200,
    /// A connect is answered with RST.
    handshake_reset: 60,
    /// A connect fails for want of a local resource, at once.
    local: 60,
    /// A connection is closed by the server as soon as it is accepted.
    hung_up: 60,
    /// A connection is reset by the server as soon as it is accepted.
    reset_up: 60,
    /// The server says something as soon as it has accepted.
    greeting: 60,
    /// The kernel takes a send in pieces.
    partial_write: 500,
    /// An answer arrives in a few pieces.
    split: 500,
    /// An answer arrives byte by byte.
    bytewise: 100,
    /// A read brings less than there is.
    short_read: 500,
    /// RST, anywhere in an answer or right after it.
    reset: 60,
    /// A reset throws away what the client has not read yet.
    reset_purges: 500,
    /// FIN, anywhere in an answer or right after it.
    fin: 60,
    /// An answer stops somewhere for good, the connection open.
    stall: 30,
    /// An answer stops somewhere for a while.
    pause: 100,
    /// An answer before the request's body has come whole.
    early: 300,
    /// Interim (1xx) responses before the answer.
    interim: 200,
    /// An answer in chunks.
    chunked: 300,
    /// An answer that ends with its connection.
    until_close: 150,
    /// An answer with `Connection: close`; the server then closes.
    closing: 150,
    /// 503.
    unavailable: 300,
    /// An answer with the id of another request.
    wrong_id: 40,
    /// Something that is not HTTP.
    garbage: 40,
    /// More bytes behind an answer than belong to it.
    surplus: 40,
    /// An idle connection is closed by the server.
    idle_fin: 150,
    /// An idle connection is reset by the server.
    idle_reset: 60,
    /// Bytes on an idle connection.
    unsolicited: 60,
    /// A stamp of the kernel gets lost, where stamps were asked for.
    stamp_missing: 100,
    /// A transmit stamp is told only behind the answer: in the same poll, in the next, or still later.
    stamp_late: 300,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_time_is_not_working_time() {
        let freeze = Freeze { first: Nanos(100), every: Nanos(50), length: Nanos(20) };
        for (at, work, expected) in [
            (0, 10, (0, 10)),
            (0, 100, (0, 100)),    // done just as it begins
            (95, 10, (95, 125)),   // interrupted
            (100, 10, (120, 130)), // waits
            (119, 30, (120, 150)), // until the next
            (119, 31, (120, 171)), // over the next
            (120, 0, (120, 120)),
            (130, 100, (130, 290)), // 20 + 30 + 30 + 20 at work, three times 20 frozen
        ] {
            let expected = (Nanos(expected.0), Nanos(expected.1));
            assert_eq!(freeze.work(Nanos(at), Nanos(work)), expected, "{work} from {at}");
        }
    }

    #[test]
    fn service_times_follow_from_the_id_and_have_their_mean() {
        let service = Service::Exponential { mean: Nanos(1_000_000) };
        let times: Vec<u64> = (0..20_000).map(|i: u32| service.time(3, i.to_string().as_bytes()).0).collect();
        let mean = times.iter().sum::<u64>() / times.len() as u64;
        assert!((970_000..1_030_000).contains(&mean), "{mean}");
        assert_eq!(service.time(3, b"77").0, times[77]);
        assert_ne!(service.time(4, b"77").0, times[77]);
    }
}
