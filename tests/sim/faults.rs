//! What goes wrong between the operator and the API server, drawn from a seed.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use crate::cluster::hash;

/// A class of faults. Each interleaving has a few of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// 500, 503, 504, 429, 401 and refused connections: nothing took effect.
    Refused,
    /// 500, 504 and resets after the write took effect.
    AnswerLost,
    /// 409 and 404 out of nothing, on writes.
    Conflict,
    /// 403 and 422 (quota, admission) on creations.
    Forbidden,
    /// Answers take up to 40 s.
    Slow,
    /// Watches are cut, closed, or end in 410.
    WatchCut,
    /// Watches are late by seconds.
    Stale,
    /// Watches repeat events.
    Duplicates,
    /// Watches go silent and are not closed.
    HalfOpen,
    /// Events never arrive; a relist follows later.
    Missed,
    /// Log streams are cut in mid-line, go silent, or have lost their beginning to rotation.
    LogCut,
    /// The sidecar is killed: neither lines nor a termination message.
    SidecarKilled,
    /// The operator is killed after some API call.
    Killed,
    /// The operator's process stops for a while and goes on.
    Paused,
    /// A second operator, live as well.
    TwoLeaders,
    /// Two operators, one of which leads: the leader stands still, or its Lease is taken away.
    LeaseLost,
    /// The clocks of two operators differ, or jump at a restart.
    ClockSkew,
    /// Pods are evicted, drained, rejected.
    Disruption,
    /// Nodes go away with their pods: minutes later those are given up.
    NodeLost,
    /// The namespace is deleted.
    NamespaceDeleted,
    /// The CRDs are removed, and come back; so does the Study, applied again.
    CrdRemoved,
    /// Trainers fail.
    TrainerFails,
    /// Somebody deletes Trials, Jobs and pods, wipes statuses and edits labels.
    Vandal,
    /// Somebody edits the Study.
    Edits,
    /// The API server is away for a minute, and has forgotten old revisions afterwards.
    Restart,
}

pub const CLASSES: [Class; 25] = [
    Class::Refused,
    Class::AnswerLost,
    Class::Conflict,
    Class::Forbidden,
    Class::Slow,
    Class::WatchCut,
    Class::Stale,
    Class::Duplicates,
    Class::HalfOpen,
    Class::Missed,
    Class::LogCut,
    Class::SidecarKilled,
    Class::Killed,
    Class::Paused,
    Class::TwoLeaders,
    Class::LeaseLost,
    Class::ClockSkew,
    Class::Disruption,
    Class::NodeLost,
    Class::NamespaceDeleted,
    Class::CrdRemoved,
    Class::TrainerFails,
    Class::Vandal,
    Class::Edits,
    Class::Restart,
];

/// What happens to one call.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    None,
    /// The API server answers with this code, without acting.
    Before(u16),
    /// It acts, and answers with this code.
    After(u16),
    /// The connection breaks; whether it acted.
    Reset {
        acted: bool,
    },
}

/// What happens to one stream.
#[derive(Clone, Debug, Default)]
pub struct StreamFault {
    /// How far it is behind.
    pub lag: Duration,
    /// It is cut after so long; whether with an error.
    pub cut: Option<(Duration, bool)>,
    /// It says nothing more after so long, and stays open.
    pub silent: Option<Duration>,
    /// It ends in 410.
    pub gone: bool,
    /// Of a log, the first half is gone.
    pub rotated: bool,
    /// Every event comes twice.
    pub twice: bool,
    /// Every n-th event is left out, and 410 follows a while later.
    pub missed: Option<u64>,
}

impl StreamFault {
    /// When a stream that started then goes silent, and when it is cut.
    pub fn moments(&self, started: Instant) -> [Option<Instant>; 2] {
        [self.silent, self.cut.map(|(after, _)| after)].map(|after| after.map(|after| started + after))
    }

    /// How a stream ends that is cut.
    pub fn end(&self) -> Option<io::Result<Bytes>> {
        self.cut.filter(|(_, with_error)| *with_error).map(|_| Err(reset()))
    }
}

/// A connection breaks.
pub fn reset() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionReset)
}

/// The faults of one interleaving.
pub struct Faults {
    pub classes: Vec<Class>,
    pub active: bool,
    /// The API server is away.
    pub away: bool,
    seed: u64,
    /// How often each was asked about.
    asked: BTreeMap<String, u64>,
    rng: ChaCha8Rng,
}

impl Faults {
    pub fn new(seed: u64, classes: Vec<Class>) -> Faults {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Faults { classes, active: true, away: false, seed, asked: BTreeMap::new(), rng }
    }

    /// What is drawn next is about the next call of this kind, in whatever order calls of one instant come.
    pub fn about(&mut self, what: &str) -> &mut Faults {
        let count = self.asked.entry(what.to_owned()).or_default();
        *count += 1;
        let n = count.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.rng = ChaCha8Rng::seed_from_u64(self.seed ^ 0xFA ^ hash(what) ^ n);
        self
    }

    /// A few classes, chosen by the seed.
    pub fn drawn(seed: u64) -> Faults {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let count = 1 + rng.next_u32() % 5;
        let mut classes: Vec<Class> = (0..count).map(|_| CLASSES[(rng.next_u32() as usize) % CLASSES.len()]).collect();
        classes.sort();
        classes.dedup();
        Faults::new(seed, classes)
    }

    pub fn has(&self, class: Class) -> bool {
        self.classes.contains(&class)
    }

    fn is_on(&self, class: Class) -> bool {
        self.active && self.has(class)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.rng.next_u64() % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// How long an answer takes.
    pub fn latency(&mut self) -> Duration {
        let millis = 1 + self.below(30);
        match self.is_on(Class::Slow) && self.chance(10) {
            true => Duration::from_millis(self.below(40_000)),
            false => Duration::from_millis(millis),
        }
    }

    /// What happens to a call.
    pub fn call(&mut self, verb: &str, creates: bool) -> Fault {
        let writes = verb != "GET";
        if self.away {
            return Fault::Reset { acted: false };
        }
        if self.is_on(Class::Refused) && self.chance(12) {
            return match self.below(6) {
                0 => Fault::Before(429),
                1 => Fault::Before(500),
                2 => Fault::Before(503),
                3 => Fault::Before(504),
                4 => Fault::Before(401),
                _ => Fault::Reset { acted: false },
            };
        }
        if writes && self.is_on(Class::AnswerLost) && self.chance(12) {
            return match self.below(3) {
                0 => Fault::After(500),
                1 => Fault::After(504),
                _ => Fault::Reset { acted: true },
            };
        }
        if writes && self.is_on(Class::Conflict) && self.chance(10) {
            return Fault::Before(if creates || self.chance(70) { 409 } else { 404 });
        }
        if creates && self.is_on(Class::Forbidden) && self.chance(20) {
            return Fault::Before(if self.chance(70) { 403 } else { 422 });
        }
        Fault::None
    }

    /// What happens to a watch.
    pub fn watch(&mut self) -> StreamFault {
        let mut fault = StreamFault { lag: Duration::from_millis(1 + self.below(100)), ..StreamFault::default() };
        if self.is_on(Class::Stale) {
            fault.lag = Duration::from_millis(self.below(20_000));
        }
        if self.is_on(Class::WatchCut) && self.chance(70) {
            fault.cut = Some((Duration::from_millis(self.below(60_000)), self.below(2) == 0));
            fault.gone = self.chance(30);
        }
        fault.twice = self.is_on(Class::Duplicates);
        if self.is_on(Class::HalfOpen) && self.chance(20) {
            fault.silent = Some(Duration::from_millis(self.below(90_000)));
        }
        if self.is_on(Class::Missed) && self.chance(50) {
            fault.missed = Some(2 + self.below(6));
            fault.cut = Some((Duration::from_millis(5_000 + self.below(60_000)), true));
            fault.gone = true;
        }
        fault
    }

    /// What happens to a log stream.
    pub fn log(&mut self) -> StreamFault {
        let mut fault = StreamFault::default();
        if self.is_on(Class::LogCut) {
            fault.rotated = self.chance(25);
            match self.below(4) {
                0 => fault.cut = Some((Duration::from_millis(self.below(20_000)), true)),
                1 => fault.cut = Some((Duration::from_millis(self.below(20_000)), false)),
                2 => fault.silent = Some(Duration::from_millis(self.below(20_000))),
                _ => {}
            }
        }
        fault
    }

    /// How many bytes of a log chunk come through.
    pub fn piece(&mut self, len: usize) -> usize {
        match self.is_on(Class::LogCut) {
            true => 1 + (self.below(len as u64) as usize),
            false => len,
        }
    }
}
