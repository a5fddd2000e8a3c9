//! What can be set, where from (flags, file, defaults), and what is refused.
