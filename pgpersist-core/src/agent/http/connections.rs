//! Which connections are open, and which one has to go when there is no room for another.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, Id, JoinSet};

/// How long a connection may at least take to ask before it can be closed for another one: what a client sends at once is here
/// and read by then, also on a busy machine.
const AT_LEAST: Duration = Duration::from_millis(100);

/// What a connection is doing.
#[derive(Debug)]
pub(crate) struct Activity {
    /// Since when it has been waiting for its client; `None` while the client waits for us.
    idle_since: Mutex<Option<Instant>>,
}

impl Activity {
    fn new() -> Self {
        Self { idle_since: Mutex::new(Some(Instant::now())) }
    }

    /// A request is here.
    pub(crate) fn begins(&self) {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// It has its answer, and its client has yet to go.
    pub(crate) fn ends(&self) {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn idle_since(&self) -> Option<Instant> {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Open {
    id: Id,
    activity: Arc<Activity>,
    task: AbortHandle,
}

/// The open connections. Dropping this closes them.
#[derive(Debug)]
pub(crate) struct Connections {
    most: usize,
    open: Vec<Open>,
    tasks: JoinSet<()>,
}

impl Connections {
    /// Never more than so many.
    pub(crate) fn new(most: usize) -> Self {
        Self { most: most.max(1), open: Vec::new(), tasks: JoinSet::new() }
    }

    /// Waits until one has ended; for ever when there is none.
    pub(crate) async fn one_ends(&mut self) {
        match self.tasks.join_next_with_id().await {
            Some(ended) => self.forget(&ended),
            None => std::future::pending().await,
        }
    }

    /// Waits until there is room for another one; the one that has been idle for longest goes. Returns how many had to.
    pub(crate) async fn make_room(&mut self) -> usize {
        let mut displaced = 0;
        loop {
            while let Some(ended) = self.tasks.try_join_next_with_id() {
                self.forget(&ended);
            }
            if self.open.len() < self.most {
                return displaced;
            }
            let idle = self.open.iter().enumerate().filter_map(|(at, open)| Some((open.activity.idle_since()?, at)));
            match idle.min() {
                Some((since, at)) if since.elapsed() >= AT_LEAST => {
                    self.open.swap_remove(at).task.abort();
                    displaced += 1;
                }
                Some((since, _)) => {
                    let _ = tokio::time::timeout_at((since + AT_LEAST).into(), self.one_ends()).await;
                }
                // All of them wait for us, which has its deadlines.
                None => self.one_ends().await,
            }
        }
    }

    /// Opens one.
    pub(crate) fn open<F: Future<Output = ()> + Send + 'static>(&mut self, serve: impl FnOnce(Arc<Activity>) -> F) {
        let activity = Arc::new(Activity::new());
        let task = self.tasks.spawn(serve(activity.clone()));
        self.open.push(Open { id: task.id(), activity, task });
    }

    fn forget(&mut self, ended: &Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        self.open.retain(|open| open.id != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn the_oldest_that_asked_for_nothing_goes_and_who_waits_for_us_stays() {
        let mut connections = Connections::new(3);
        let ended = Arc::new(AtomicU32::new(0));
        let (done, waits) = oneshot::channel::<()>();
        let count = ended.clone();
        connections.open(|activity| async move {
            activity.begins();
            let _ = waits.await;
            count.fetch_add(1, Ordering::SeqCst);
        });
        for _ in 0..10 {
            connections.make_room().await;
            assert!(connections.open.len() < 3);
            connections.open(|_| std::future::pending());
        }
        assert_eq!(connections.open.len(), 3);
        assert_eq!(ended.load(Ordering::SeqCst), 0);
        done.send(()).unwrap();
        // It has an end, so nobody has to go for it.
        assert_eq!((tokio::time::sleep(AT_LEAST).await, connections.make_room().await), ((), 0));
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_newcomer_waits_where_all_are_served() {
        let mut connections = Connections::new(1);
        let (done, waits) = oneshot::channel::<()>();
        connections.open(|activity| async move {
            activity.begins();
            let _ = waits.await;
        });
        assert!(tokio::time::timeout(AT_LEAST * 3, connections.make_room()).await.is_err());
        done.send(()).unwrap();
        assert_eq!(connections.make_room().await, 0);
    }
}
