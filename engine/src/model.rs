//! Values: ids, money, time, credentials, statuses, who asks. They know nothing else of the house.

pub mod credential;
pub mod ids;
pub mod money;
pub mod principal;
pub mod rejection;
pub mod status;
pub mod time;
