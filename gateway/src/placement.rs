//! What the doors need to know of a node that is one of several; who decides it lies above them.

/// How a node is that is one of several: the shards that it has come and go.
pub trait Placement: Send + Sync {
    /// Whether it has had all the shards that it should have, since it has started. Before, nobody should be sent to it.
    fn has_settled(&self) -> bool;

    /// What is wrong with its part, for whoever is on call.
    fn fault(&self) -> Option<String>;
}
