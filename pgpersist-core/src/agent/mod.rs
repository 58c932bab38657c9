//! The long-running whole: gets a data directory ready, runs its server, and stays with it until it is told to stop.
//!
//! [`run::Agent`] is the loop. It listens to [`command::Command`]s, which a program makes of signals, and tells what
//! happens to an [`log::AgentLog`]; [`status::AgentStatus`] is what it knows at any moment. `life` is one server from its
//! start to its end, `restart_policy` decides whether there is another one after it, `volume` looks whether the place is
//! still there, [`disk_watch`] remembers how full it becomes, [`control`] is the socket on which it is asked and told, `log_relay`
//! passes the server's log on, [`jobs`] are what is done at its times, [`http`] answers probes, health, metrics and people, and
//! [`hooks`] tell of failures and recoveries. `reporter` makes the health report for both of them, and [`service_manager`] tells
//! systemd how far the agent is. [`supervising`] and [`fencing`] are what others do together with the agent of a cluster.

pub mod command;
pub mod control;
pub mod disk_watch;
pub mod fencing;
pub mod hooks;
pub mod http;
pub mod jobs;
pub(crate) mod life;
pub(crate) mod listening;
pub mod log;
pub(crate) mod log_relay;
pub(crate) mod making_ready;
pub mod options;
pub(crate) mod reporter;
pub mod restart_policy;
pub mod run;
pub mod service_manager;
pub mod status;
pub mod supervising;
pub(crate) mod volume;
