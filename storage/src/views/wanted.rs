//! Reads stop when nobody waits for them any more: whoever asked has gone, or was told that it took too long.
//!
//! A read is a walk over one store, on one thread, in however many steps; so that no step has to be told of it, the thread
//! knows whether its read is still wanted.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ViewsError;

thread_local! {
    static WANTED: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Runs `read` on this thread; once `wanted` is false, every walk of it ends with [`ViewsError::NobodyWaits`].
pub fn while_wanted<R>(wanted: Arc<AtomicBool>, read: impl FnOnce() -> R) -> R {
    struct Restored(Option<Arc<AtomicBool>>);
    impl Drop for Restored {
        fn drop(&mut self) {
            WANTED.set(self.0.take());
        }
    }
    let _restored = Restored(WANTED.replace(Some(wanted)));
    read()
}

/// Whether this thread's read is still wanted; outside of one it is.
///
/// # Errors
/// [`ViewsError::NobodyWaits`].
pub fn still() -> Result<(), ViewsError> {
    let wanted = WANTED.with_borrow(|wanted| wanted.as_ref().is_none_or(|wanted| wanted.load(Ordering::Relaxed)));
    if wanted { Ok(()) } else { Err(ViewsError::NobodyWaits) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_wanted_until_it_is_not_and_the_next_one_is_again() {
        let wanted = Arc::new(AtomicBool::new(true));
        while_wanted(Arc::clone(&wanted), || {
            assert!(still().is_ok());
            wanted.store(false, Ordering::Relaxed);
            assert!(matches!(still(), Err(ViewsError::NobodyWaits)));
            while_wanted(Arc::new(AtomicBool::new(true)), || assert!(still().is_ok()));
            assert!(still().is_err());
        });
        assert!(still().is_ok());
    }
}
