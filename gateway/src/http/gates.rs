//! Festivals and their gates over HTTP: zones, categories, tickets, devices, and the lists that follow the journal.

use super::kit::routes::Routes;

pub mod categories;
pub mod devices;
pub mod festivals;
pub mod issue;
pub mod lists;
pub mod live_counts;
pub mod tickets;
pub mod wristbands;
pub mod zones;

/// The routes of this folder, but for [`issue`]'s, which may take minutes.
pub fn router() -> Routes {
    Routes::new()
        .merge(festivals::router())
        .merge(zones::router())
        .merge(categories::router())
        .merge(tickets::router())
        .merge(wristbands::router())
        .merge(lists::router())
        .merge(devices::router())
        .merge(live_counts::router())
}
