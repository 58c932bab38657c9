//! What can go wrong between a store and us, and when it does.

use super::http::Request;

/// What is done to a request or to its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An error in the cloud's words; the request goes no further.
    Refuse { status: u16, code: &'static str },
    /// The same with a message of its own.
    Say { status: u16, code: &'static str, message: &'static str },
    /// 503 with a number of seconds to wait.
    SlowDown { retry_after_s: u32 },
    /// 301 with the region where the bucket is.
    Redirect { region: &'static str },
    /// 301 to the other server of this port, which would get what only the first may have.
    RedirectTo { port: u16 },
    /// It is taken and never answered.
    Silence,
    /// The connection is reset before it went further.
    Reset,
    /// The connection is reset while it is sent.
    ResetWhileSent,
    /// It arrives, and the connection is cut instead of its answer.
    LostAnswer,
    /// The answer ends in its middle, by a reset.
    ResetWithin,
    /// The answer ends in its middle, in an orderly way.
    CutShort,
    /// The answer lacks its second half, and does not say so.
    Shortened,
    /// Where a part of an object was asked for, more is given as if it were all of it.
    WholeForPart,
    /// A bit of the answer's body is another one.
    Flipped,
    /// A bit of the request's body is another one when it arrives.
    FlippedOnTheWay,
    /// The answer comes byte by byte and would take for ever.
    Dripped,
    /// A list as it was when the same was asked first.
    Stale,
    /// An end of an upload that begins with 200 and tells of a failure then; the request goes no further.
    FailedWithin200,
    /// Checksums that fit nothing, in the answer's headers.
    WrongChecksums,
    /// A list is asked for in pieces of at most so many entries. A signature that counts on the question does not survive it.
    FewerAtOnce { entries: usize },
    /// It is held until so many are there at once, see [`Proxy::most_together`](super::Proxy::most_together).
    Together { count: usize },
    /// The answer tells the time of a clock that is so many seconds ahead of this machine's, or behind it.
    ClockAhead { seconds: i64 },
}

impl Fault {
    /// Those after which a second attempt goes well. None of them takes longer than its answer.
    pub(crate) const PASSING: &'static [Self] = &[
        Self::Refuse { status: 500, code: "InternalError" },
        Self::Refuse { status: 502, code: "" },
        Self::Refuse { status: 503, code: "ServiceUnavailable" },
        Self::SlowDown { retry_after_s: 0 },
        Self::SlowDown { retry_after_s: 1 },
        Self::Reset,
        Self::ResetWhileSent,
        Self::LostAnswer,
        Self::ResetWithin,
        Self::CutShort,
        Self::FlippedOnTheWay,
    ];
}

/// Which of the requests that fit are hit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Choice {
    All,
    /// So many of the first.
    First(usize),
    /// All after so many.
    After(usize),
    /// So many of a hundred, by the proxy's seed.
    Percent(u32),
}

/// What is hit by what.
pub(crate) struct Rule {
    fits: Box<dyn Fn(&Request) -> bool + Send>,
    choice: Choice,
    faults: &'static [Fault],
    one: [Fault; 1],
    met: usize,
}

impl Rule {
    pub(crate) fn new(fits: impl Fn(&Request) -> bool + Send + 'static, choice: Choice, fault: Fault) -> Self {
        Self { fits: Box::new(fits), choice, faults: &[], one: [fault], met: 0 }
    }

    /// One of several faults each time.
    pub(crate) fn any(choice: Choice, faults: &'static [Fault]) -> Self {
        Self { fits: Box::new(|_| true), choice, faults, one: [Fault::Reset], met: 0 }
    }

    /// The fault for a request, if it is hit.
    pub(super) fn judge(&mut self, request: &Request, random: &mut Random) -> Option<Fault> {
        if !(self.fits)(request) {
            return None;
        }
        self.met += 1;
        let is_hit = match self.choice {
            Choice::All => true,
            Choice::First(count) => self.met <= count,
            Choice::After(count) => self.met > count,
            Choice::Percent(percent) => random.below(100) < percent as usize,
        };
        let faults = if self.faults.is_empty() { &self.one } else { self.faults };
        is_hit.then(|| faults[random.below(faults.len())])
    }
}

/// Numbers from a seed: splitmix64.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^= number >> 31;
        usize::try_from(number % limit as u64).unwrap()
    }
}
