//! An operator of one festival who names another's thing, wherever the API's document has a place for one.

use std::sync::Arc;
use std::time::Duration;

use engine::cashless::event::CashlessEvent;
use engine::event::Event;
use engine::model::ids::FestivalId;
use engine::model::status::Role;
use serde_json::json;
use storage::journal::{Cursor, Journal};

use crate::generated::{Api, Kind, Things, roomy, verdict};
use crate::house::{House, fresh};

/// What has been recorded since one last looked.
struct Records {
    journal: Arc<dyn Journal>,
    from: Cursor,
}

impl Records {
    fn of(house: &House) -> Self {
        let journal = house.state.node.journal();
        let from = journal.end();
        Self { journal, from }
    }

    /// Waits until the shards have told each other what there was to tell.
    async fn quiet(&mut self) {
        loop {
            self.from = self.journal.end();
            tokio::time::sleep(Duration::from_millis(300)).await;
            if self.journal.end() == self.from {
                return;
            }
        }
    }

    /// All but that somebody was refused, which is kept so that the same key is told the same.
    fn news(&mut self) -> Vec<Event> {
        let mut reader = self.journal.reader(&self.from).unwrap();
        let mut events = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            self.from.advance(entry.shard, entry.position.next());
            events.extend(engine::record::read(entry.payload).unwrap().events);
        }
        events.retain(|event| !matches!(event, Event::Origin(asked) if asked.rejection.is_some()));
        events
    }
}

#[tokio::test]
async fn a_strangers_thing_is_refused_in_every_place_and_nothing_is_recorded() {
    let house = House::listed().await;
    let admin = roomy(&house, "own").await;
    roomy(&house, "foreign").await;
    let key = house.key(Role::Admin, &["own"]).await;
    let (own, strangers) = (Things::made(&house, &admin, "own").await, Things::made(&house, &admin, "foreign").await);
    let api = Api::of(&house).await;
    let operations = api.operations();

    // Each of these would be a good request: what is refused below is refused for the one thing that is a stranger's.
    let mut things = Vec::new();
    for _ in &operations {
        things.push(Things::made(&house, &admin, "own").await);
    }
    house.listed_all().await;
    for (operation, things) in operations.iter().zip(&things).filter(|(operation, _)| !operation.of_installation) {
        let asked = api.request(operation, things, None);
        let (status, code) = verdict(&asked.of(&house, &key, &fresh()).await);
        assert!(matches!(status, 200..300 | 409), "{asked:?} is no good request: {status} {code}");
    }

    let mut records = Records::of(&house);
    records.quiet().await;
    let mut tried = 0;
    for operation in &operations {
        for place in api.places(operation) {
            let asked = api.request(operation, &own, Some((&place, &strangers)));
            let reply = asked.of(&house, &key, &fresh()).await;
            let (status, code) = verdict(&reply);
            // A code is looked for among the festival's own tickets, where there is no other's.
            let not_found = place.kind == Kind::Code && status == 200 && reply.json() == json!({"items": []});
            // A wristband that somebody wears is not to be given out again; whose it is, is told to nobody.
            let taken = place.gives_out() && code == "tag_taken";
            assert!(
                taken || not_found || (matches!(status, 403 | 404) && !code.is_empty()),
                "{place:?} of another festival in {asked:?}: {status} {code}"
            );
            let mut news = records.news();
            match (operation.path.as_str(), place.name()) {
                // Only the other wallet's shard can tell whose it is: what was sent to ask it comes back.
                ("/cashless/transfer", "to") => {
                    records.quiet().await;
                    let moved = news.iter().filter_map(|event| match event {
                        Event::Transaction(t) => Some(t.posting.wallet),
                        _ => None,
                    });
                    assert_eq!(moved.sum::<i64>(), 0, "{news:?}");
                    news.clear();
                }
                // The call is remembered by its first wallet: one of its own festival, empty and without a wristband.
                ("/festivals/{slug}/wallets", "tag") => news.retain(|event| match event {
                    Event::Cashless(CashlessEvent::WalletCreated { issuer, .. }) => {
                        *issuer != FestivalId::of_slug("own")
                    }
                    event => !matches!(event, Event::Origin(_)),
                }),
                _ => {}
            }
            assert!(news.is_empty(), "{place:?} of another festival in {asked:?}: {news:?}");
            tried += 1;
        }
    }
    assert!(tried > 80, "only {tried} places name anything");
    let places: Vec<Kind> =
        operations.iter().flat_map(|operation| api.places(operation)).map(|place| place.kind).collect();
    for kind in Kind::ALL {
        assert!(places.contains(kind), "no place names a {kind:?}");
    }
    house.stop().await;
}
