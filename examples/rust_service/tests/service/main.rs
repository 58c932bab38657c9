//! The example service as a process of its own, as it stands there: what it answers, and what is true when it, its server, or
//! both are killed under load. `PGPERSIST_SERVICE_KILLS` asks for more kills than four.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails; clippy knows test functions only, not what they call")]

mod answers;
mod clients;
mod http;
mod judge;
mod kills;
mod place;
mod stopping;
