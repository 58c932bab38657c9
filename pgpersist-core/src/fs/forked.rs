//! What a child that was forked, and executes no program, must not keep open: descriptors of which somebody waits for the last copy
//! to be closed, and takes that for our end.
//!
//! Programs that we run keep none of them, since each closes on exec. But a process may fork for itself, as `multiprocessing` of
//! Python does, and its child would hold our locks and pipes for as long as it lives.

use std::sync::{Arc, Mutex, PoisonError, TryLockError, Weak};

/// All that is open.
static OPEN: Mutex<Vec<Weak<dyn LetGo>>> = Mutex::new(Vec::new());

/// Something open that is this process's alone: [`let_go`] closes the copy of a forked child.
#[derive(Debug)]
pub struct Unshared<T>(Arc<Mutex<Option<T>>>);

impl<T: Send + 'static> Unshared<T> {
    /// Holds it open.
    pub fn new(open: T) -> Self {
        let open = Arc::new(Mutex::new(Some(open)));
        let known = Arc::downgrade(&open);
        let mut all = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| other.strong_count() > 0);
        all.push(known);
        Self(open)
    }

    /// Uses it; `None` when it was taken, or this is a child that has let it go.
    pub fn with<R>(&self, usage: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(usage)
    }

    /// Takes it out; `None` as with [`Unshared::with`].
    pub fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

trait LetGo: Send + Sync {
    fn let_go(&self);
}

impl<T: Send> LetGo for Mutex<Option<T>> {
    fn let_go(&self) {
        match self.try_lock() {
            Ok(mut open) => drop(open.take()),
            Err(TryLockError::Poisoned(poisoned)) => drop(poisoned.into_inner().take()),
            // A thread of the parent uses it, which is not here and never comes to an end.
            Err(TryLockError::WouldBlock) => {}
        }
    }
}

/// Closes the copies that a forked child has of what is its parent's alone, which keeps its own: to be called in the child, first
/// thing after the fork. What a thread of the parent was just opening or closing at that moment stays open.
pub fn let_go() {
    // Never waited for: who holds it may be a thread that only the parent has.
    let Ok(all) = OPEN.try_lock() else { return };
    for open in all.iter().filter_map(Weak::upgrade) {
        open.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells when it is closed.
    struct Closes(Arc<Mutex<u32>>);

    impl Drop for Closes {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }

    #[test]
    fn what_is_taken_out_is_nobodys_to_close() {
        let closed = Arc::new(Mutex::new(0));
        let open = Unshared::new(Closes(closed.clone()));
        assert!(open.with(|_| ()).is_some());
        let taken = open.take().unwrap();
        assert!(open.take().is_none() && open.with(|_| ()).is_none());
        open.0.let_go();
        assert_eq!(*closed.lock().unwrap(), 0);
        drop(taken);
        assert_eq!(*closed.lock().unwrap(), 1);
    }

    #[test]
    fn what_is_let_go_is_closed_once_and_what_is_in_use_is_not_waited_for() {
        let closed = Arc::new(Mutex::new(0));
        let open = Unshared::new(Closes(closed.clone()));
        open.with(|_| open.0.let_go());
        assert_eq!(*closed.lock().unwrap(), 0);
        // Not of all: other tests have locks of their own at this moment.
        open.0.let_go();
        open.0.let_go();
        assert!(open.take().is_none());
        drop(open);
        assert_eq!(*closed.lock().unwrap(), 1);
    }
}
