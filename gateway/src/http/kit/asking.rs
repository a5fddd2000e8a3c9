//! Whose request a task carries out.

use std::cell::Cell;

tokio::task_local! {
    /// The number of the key of the request that this task carries out, once it is known.
    static ASKING: Cell<u32>;
}

/// Carries out a request; in it, [`key`] knows whose it is.
pub async fn on_behalf<R>(request: impl Future<Output = R>) -> R {
    ASKING.scope(Cell::new(0), request).await
}

/// The number of the key with which this task's request was made; 0 for none.
pub fn key() -> u32 {
    ASKING.try_with(Cell::get).unwrap_or(0)
}

/// Whose key it is has been looked up.
pub fn is(key: u32) {
    let _ = ASKING.try_with(|asking| asking.set(key));
}
