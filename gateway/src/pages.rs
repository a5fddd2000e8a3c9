//! The pages a person opens.
