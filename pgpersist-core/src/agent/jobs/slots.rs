//! Who may run a job now: its attendant, or somebody who does the same by hand. Never both.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Mutex as Slot;

/// The slots of all jobs, by their names; also of jobs that have no schedule.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slots(Arc<Mutex<BTreeMap<String, Arc<Slot<()>>>>>);

/// As many names as anybody may have jobs.
const MOST: usize = 64;

impl Slots {
    /// The slot of a job; held by whoever runs it.
    pub(crate) fn of(&self, job: &str) -> Arc<Slot<()>> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MOST {
            // What nobody holds or waits for can be made again.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(job.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_one_slot_however_often_it_is_asked_for() {
        let slots = Slots::default();
        let held = slots.of("dump").try_lock_owned().unwrap();
        for number in 0..1000 {
            drop(slots.of(&format!("job {number}")));
        }
        assert!(slots.of("dump").try_lock_owned().is_err());
        drop(held);
        assert!(slots.of("dump").try_lock_owned().is_ok());
        assert!(slots.0.lock().unwrap().len() <= MOST);
    }
}
