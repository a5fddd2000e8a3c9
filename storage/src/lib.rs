//! Journal, snapshots and read models.
