//! Puts a node, its doors and its followers together, and takes them down in order.
