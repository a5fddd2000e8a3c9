//! Figures of the festivals that are under way: scans by gate and verdict, people by zone, money by kind and outcome.
//! They are the shards' own counters, asked for now and then; the way of a scan does not know of them.

use std::time::{Duration, Instant};

use actors::Node;
use engine::cashless::view::LedgerView;
use engine::gates::view::LiveView;
use engine::model::ids::FestivalId;
use engine::model::status::FestivalStatus;
use engine::view::{Query, View};
use metrics::{counter, gauge};

/// How often the counters are asked for.
const EVERY: Duration = Duration::from_secs(5);
/// How often it is looked which festivals are under way.
const LIST_EVERY: Duration = Duration::from_secs(60);
/// So many festivals at most: 8 × (1,024 gates × 3 + 64 zones × 2 + 128 reasons × 2) series of about 250 B are 7 MB.
const FESTIVALS_MAX: usize = 8;

/// Sets these figures now and then. It has no end, and is to be run beside the doors.
pub async fn publish_metrics(node: Node) {
    metrics::describe_counter!("tapgate_scans_total", "Scans by gate and verdict; an undone scan stays counted.");
    metrics::describe_counter!("tapgate_scan_rejections_total", "Rejected scans by reason.");
    metrics::describe_gauge!("tapgate_zone_occupancy", "People in a zone now.");
    metrics::describe_gauge!("tapgate_zone_capacity", "How many people a zone holds.");
    metrics::describe_counter!("tapgate_transactions_total", "Movements of money by kind.");
    metrics::describe_counter!("tapgate_transaction_rejections_total", "Refused movements of money by reason.");
    let mut every = tokio::time::interval(EVERY);
    let (mut under_way, mut listed_at) = (Vec::new(), None::<Instant>);
    loop {
        every.tick().await;
        if listed_at.is_none_or(|at| at.elapsed() >= LIST_EVERY)
            && let View::Festivals(all) = node.query(Query::Festivals).await
        {
            let ongoing = all.into_iter().filter(|festival| festival.status == FestivalStatus::Ongoing);
            under_way = ongoing.take(FESTIVALS_MAX).map(|festival| (festival.id, festival.slug)).collect();
            listed_at = Some(Instant::now());
        }
        for (festival, slug) in &under_way {
            query(&node, *festival, slug).await;
        }
    }
}

async fn query(node: &Node, festival: FestivalId, slug: &str) {
    if let View::Live(live) = node.query(Query::Live(festival)).await {
        gates(&live, slug);
    }
    if let View::Ledger(books) = node.query(Query::Ledger(festival)).await {
        money(&books, slug);
    }
}

fn gates(live: &LiveView, slug: &str) {
    for gate in &live.gates {
        for (verdict, n) in [("admitted", gate.admitted), ("exited", gate.exited), ("rejected", gate.rejected)] {
            let labels = [("festival", slug.to_owned()), ("gate", gate.name.clone()), ("verdict", verdict.to_owned())];
            counter!("tapgate_scans_total", &labels).absolute(n);
        }
    }
    for zone in &live.zones {
        let labels = [("festival", slug.to_owned()), ("zone", zone.name.clone())];
        gauge!("tapgate_zone_occupancy", &labels).set(f64::from(zone.occupancy));
        gauge!("tapgate_zone_capacity", &labels).set(f64::from(zone.capacity));
    }
    for &(reason, n) in &live.rejections {
        let labels = [("festival", slug.to_owned()), ("reason", reason.code().to_owned())];
        counter!("tapgate_scan_rejections_total", &labels).absolute(n);
    }
}

fn money(books: &LedgerView, slug: &str) {
    for &(kind, n, _) in &books.kinds {
        let labels = [("festival", slug.to_owned()), ("kind", kind.word().to_lowercase())];
        counter!("tapgate_transactions_total", &labels).absolute(n);
    }
    for &(reason, n) in &books.rejections {
        let labels = [("festival", slug.to_owned()), ("reason", reason.code().to_owned())];
        counter!("tapgate_transaction_rejections_total", &labels).absolute(n);
    }
}
