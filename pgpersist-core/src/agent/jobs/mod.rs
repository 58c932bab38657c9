//! What an agent does at its times: the trait [`Job`] with its contract, and the jobs that come with pgpersist.

pub(crate) mod attendant;
pub mod backup;
pub mod dump;
pub mod prune;
pub mod restore_drill;
pub(crate) mod runner;
pub(crate) mod slots;
pub mod sync;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;
use crate::progress::ProgressSink;
use crate::schedule::timetable::Timetable;

/// How long a job may take that says nothing else.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(12 * 3600);

/// Something that is done again and again.
///
/// # Contract for implementors
/// - **It may be dropped at any `await`**, when the agent stops or the deadline passes, and leaves nothing half-done then.
/// - **It may be repeated**: after a failure, and after its process was killed in the middle.
/// - **It does not block a thread**: what may block goes through [`workers::run`](crate::workers::run).
#[async_trait]
pub trait Job: Debug + Send + Sync + 'static {
    /// Its name, unique among the jobs of an agent: lower-case letters, digits and `_`, since it names a file.
    fn name(&self) -> &str;

    /// Does it once, and says in a few words what was done.
    ///
    /// # Errors
    /// Why it was not done. What is `Invalid`, `Unsafe` or `Damaged` is not tried again before its next moment.
    async fn run(&self, progress: &Arc<dyn ProgressSink>) -> Result<String>;

    /// Whether it waits until the server accepts connections.
    fn needs_server(&self) -> bool {
        true
    }
}

/// A job with its times.
#[derive(Debug, Clone)]
pub struct ScheduledJob {
    /// What is done.
    pub job: Arc<dyn Job>,
    /// When.
    pub timetable: Timetable,
    /// How long one run may take; then it is dropped and has failed.
    pub deadline: Duration,
    /// The names of the jobs after whose success it is done, beside what its timetable says.
    pub follows: Vec<String>,
}

impl ScheduledJob {
    /// A job at its times.
    pub fn new(job: Arc<dyn Job>, timetable: Timetable) -> Self {
        Self { job, timetable, deadline: DEFAULT_DEADLINE, follows: Vec::new() }
    }

    /// What is done when, in a few words.
    pub fn describe(&self) -> String {
        match (self.timetable.describe(), &self.follows[..]) {
            (Some(schedule), _) => format!("{} at {schedule}", self.job.name()),
            (None, []) => format!("{} when it is asked for", self.job.name()),
            (None, jobs) => format!("{} after each {} that succeeds", self.job.name(), jobs.join(" and each ")),
        }
    }
}
