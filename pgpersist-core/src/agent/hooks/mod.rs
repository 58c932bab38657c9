//! Who is told when something fails, and when all is well again: the trait [`Hook`] with its contract, and the hooks that come
//! with pgpersist.
//!
//! [`event::Event`] is what is told; [`command::CommandHook`] runs a program with it and [`webhook::WebhookHook`] posts it.
//! A [`heartbeat::Heartbeat`] is the other way round: it is called while all is well, so that somebody else notices when it
//! stops. [`options::HooksOptions`] say which there are.
//!
//! Behind them, `watchman` looks at the cluster's health, `judge` decides what is certain, and `condition` is what it decided.
//! Each hook has a `courier` that brings it from what it was told last, which `memory` keeps on the volume, to what is now: a
//! hook that hangs holds up neither the others nor the agent, and what it missed meanwhile costs no queue. `house` is all of
//! them together.

pub mod command;
pub(crate) mod condition;
pub(crate) mod courier;
pub mod event;
pub mod heartbeat;
pub(crate) mod house;
pub mod http_client;
pub(crate) mod judge;
pub(crate) mod memory;
pub mod options;
pub(crate) mod watchman;
pub mod webhook;

use std::fmt::Debug;

use async_trait::async_trait;

use crate::agent::hooks::event::Event;
use crate::error::Result;

/// Somebody who is told.
///
/// # Contract for implementors
/// - **It may be dropped at any `await`**: when its deadline passes, when the agent stops, and when the agent is about to end
///   by itself and has something more urgent to tell. What it began ends with it.
/// - **It may be told the same twice**: after it failed, and after its process was killed before it was known that it had
///   succeeded. It is never told two things at once.
/// - **It succeeds when the event has arrived.** Anything else is an error, and it is told again later: the event as it is then.
/// - **It does not block a thread**: what may block goes through [`workers::run`](crate::workers::run).
/// - **Its errors hold no secret**, since they are logged: no path of an address, no argument of a command.
#[async_trait]
pub trait Hook: Debug + Send + Sync + 'static {
    /// Its name, unique among the hooks of an agent: lower-case letters, digits and `_`. It is the label of a metric, and what is
    /// remembered on the volume is remembered by it.
    fn name(&self) -> &str;

    /// Tells it.
    ///
    /// # Errors
    /// Why it does not know.
    async fn tell(&self, event: &Event) -> Result<()>;
}
