//! One idempotency key is one request: with another path, method or query it is a conflict, at every operation that takes
//! one.

use crate::generated::{Api, Asked, Things, roomy, verdict};
use crate::house::{House, fresh};

/// These look first whether there is anything to do; where there is not, nothing happens, and no key is needed.
const LOOK_FIRST: &[(&str, &str)] = &[("PUT", "/cashless/account"), ("POST", "/cashless/account/merge")];

#[tokio::test]
async fn the_same_key_for_another_call_is_a_conflict() {
    // A shard remembers its own calls' keys; here all that is asked is asked of one.
    let house = House::of_one_shard().await;
    let admin = roomy(&house, "own").await;
    roomy(&house, "another").await;
    let api = Api::of(&house).await;
    let all: Vec<_> = api.operations().into_iter().filter(|operation| operation.method != "GET").collect();
    assert!(all.len() > 35, "{}", all.len());
    let conflict = (409, "idempotency_conflict".to_owned());
    let (mut other_paths, mut other_calls) = (0, 0);
    for (nth, operation) in all.iter().enumerate() {
        let things = Things::made(&house, &admin, "own").await;
        let others = Things::made(&house, &admin, "another").await;
        let (asked, key) = (api.request(operation, &things, None), fresh());
        let first = asked.of(&house, &admin, &key).await;
        let (status, code) = verdict(&first);
        assert!(matches!(status, 200..300 | 409), "{asked:?} is no good request: {status} {code}");
        let again = asked.of(&house, &admin, &key).await;
        assert_eq!((again.status, &again.text), (first.status, &first.text), "{asked:?}: the same is told the same");
        let looks_first = LOOK_FIRST.contains(&(operation.method.as_str(), operation.path.as_str()));
        let is_refused = |reply: (u16, String)| {
            let of_lines = (200, conflict.1.clone());
            reply == conflict || (asked.media == "application/x-ndjson" && reply == of_lines)
        };

        let other_query = Asked { path: format!("{}?again=1", asked.path), ..asked.clone() };
        let told = verdict(&other_query.of(&house, &admin, &key).await);
        assert!(is_refused(told.clone()) || (looks_first && told.0 == 200), "{other_query:?}: {told:?}");

        let elsewhere = api.request(operation, &others, None);
        if elsewhere.path != asked.path {
            let other_path = Asked { path: elsewhere.path, ..asked.clone() };
            let told = verdict(&other_path.of(&house, &admin, &key).await);
            assert!(is_refused(told.clone()), "{other_path:?} after {asked:?}: {told:?}");
            other_paths += 1;
        }

        // The keys of bulk and merging calls are made of theirs, one for each part: those are others anyway.
        let next = &all[(nth + 1) % all.len()];
        let of_parts = |asked: &Asked| asked.media == "application/x-ndjson" || asked.path.ends_with("/merge");
        let other_call = api.request(next, &others, None);
        if !of_parts(&asked) && !of_parts(&other_call) {
            let told = verdict(&other_call.of(&house, &admin, &key).await);
            assert!(told == conflict || looks_first, "{other_call:?} after {asked:?}: {told:?}");
            other_calls += 1;
        }
        // Where the document has another method at this path that takes a key, that too.
        for other in all.iter().filter(|other| other.path == operation.path && other.method != operation.method) {
            let told = verdict(&Asked { method: other.method.clone(), ..asked.clone() }.of(&house, &admin, &key).await);
            assert!(is_refused(told.clone()), "{} after {asked:?}: {told:?}", other.method);
        }
    }
    assert!(other_paths > 30 && other_calls > 30, "{other_paths} {other_calls}");
    house.stop().await;
}
