//! Roles × routes as the document has them, and what a key may not see.

use axum::body::Body;
use axum::http::Request;
use engine::model::status::Role;
use serde_json::json;

use crate::generated::{Api, Operation, Things, roomy, verdict};
use crate::house::{House, fresh};

/// Whether a key of this role may, at its own festival.
fn may(operation: &Operation, role: Role, bound: bool) -> bool {
    operation.roles.iter().any(|may| may == role.word()) && !(operation.of_installation && bound)
}

#[tokio::test]
async fn each_role_does_what_it_may_and_nothing_else() {
    let house = House::listed().await;
    let admin = roomy(&house, "own").await;
    house.bar("foreign").await;
    let own = Things::made(&house, &admin, "own").await;
    house.listed_all().await;
    let mut keys = vec![(Role::Admin, false, admin)];
    for role in Role::ALL {
        keys.push((*role, true, house.key(*role, &["own"]).await));
    }
    let (api, mut refused, mut let_in) = (Api::of(&house).await, 0, 0);
    // Those who may not come first: what they ask for is all there still.
    for others in [false, true] {
        for operation in api.operations() {
            for (role, _, key) in keys.iter().filter(|(role, bound, _)| may(&operation, *role, *bound) == others) {
                let asked = api.request(&operation, &own, None);
                let (status, code) = verdict(&asked.of(&house, key, &fresh()).await);
                if others {
                    let wrong = ["forbidden", "not_signed_in", "unknown_festival", "validation", "internal"];
                    assert!(!wrong.contains(&code.as_str()), "{role:?} {asked:?}: {status} {code}");
                    let_in += 1;
                } else {
                    assert_eq!((status, code.as_str()), (403, "forbidden"), "{role:?} {asked:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 200 && let_in > 200, "{refused} refused, {let_in} let in");
    house.stop().await;
}

#[tokio::test]
async fn a_foreign_festival_answers_like_one_that_never_was() {
    let house = House::listed().await;
    house.bar("own").await;
    let admin = roomy(&house, "foreign").await;
    let (foreign_one, never_one) = (Things::made(&house, &admin, "foreign").await, Things::never());
    house.listed_all().await;
    let api = Api::of(&house).await;
    for role in Role::ALL {
        let key = house.key(*role, &["own"]).await;
        for operation in api.operations().iter().filter(|operation| !operation.of_installation) {
            let asked = api.request(operation, &foreign_one, None);
            let foreign = verdict(&asked.of(&house, &key, &fresh()).await);
            let never = verdict(&api.request(operation, &never_one, None).of(&house, &key, &fresh()).await);
            assert_eq!(foreign, never, "{} can tell them apart by {asked:?}", role.word());
            assert!(foreign.0 == 404 || !operation.path.contains('{'), "{} {asked:?}: {foreign:?}", role.word());
        }
    }
    let key = house.key(Role::Organizer, &["own"]).await;
    let list = house.get(&key, "/festivals").await.json();
    let slugs: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| item["slug"].clone()).collect();
    assert_eq!(slugs, ["own"]);
    house.get(&key, "/festivals/foreign").await.is(404, "unknown_festival");
    // A device of a foreign festival cannot be reached by way of one's own either.
    house
        .get(&key, &format!("/festivals/own/access-log?device={}", foreign_one.device))
        .await
        .is(404, "unknown_device");
    house.stop().await;
}

#[tokio::test]
async fn without_a_key_that_is_known_and_unrevoked_nothing_is_told() {
    let house = House::new().await;
    let admin = house.festival("own", 10).await;
    let made = house.post(&admin, "/keys", json!({"name": "door", "role": "STAFF", "festivals": ["own"]})).await;
    let made = made.is(201, "").json();
    let staff = made["key"].as_str().unwrap().to_owned();
    house.get(&staff, "/festivals/own").await.is(200, "");
    let unknown = gateway::auth::key_text(&[9; 32]);
    let operations = Api::of(&house).await.operations();
    for header in ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "Bearer tgk_short", &format!("Bearer {unknown}")] {
        for Operation { method, path: route, .. } in &operations {
            let path = route.replace(['{', '}'], "");
            let mut request = Request::builder().method(method.as_str()).uri(format!("/api/v1{path}"));
            if !header.is_empty() {
                request = request.header("authorization", header);
            }
            let reply = house.send(request.body(Body::empty()).unwrap()).await;
            // A path that cannot be read may be said first: that tells nothing about any festival.
            assert!(matches!(reply.code().0, 401 | 400), "{header:?} {method} {route}: {}", reply.text);
            if reply.status == 401 {
                assert_eq!(reply.headers["www-authenticate"], "Bearer realm=\"tapgate\"");
            }
        }
    }
    house.call(&admin, "DELETE", &format!("/keys/{}", made["no"]), &fresh(), None).await.is(204, "");
    house.get(&staff, "/festivals/own").await.is(401, "not_signed_in");
    house.call(&admin, "DELETE", "/keys/999", &fresh(), None).await.is(404, "unknown_key");
    let listed = house.get(&admin, "/keys").await.json();
    let row = listed["items"].as_array().unwrap().iter().find(|row| row["no"] == made["no"]).unwrap();
    assert_eq!((&row["revoked"], &row["festivals"]), (&json!(true), &json!(["own"])));
    assert!(!listed.to_string().contains("tgk_"), "no key is ever shown again");
    house.stop().await;
}

#[tokio::test]
async fn a_key_is_made_for_festivals_that_exist() {
    let house = House::new().await;
    let admin = house.festival("own", 10).await;
    let reply = house.post(&admin, "/keys", json!({"name": "x", "role": "STAFF", "festivals": ["own", "onw"]})).await;
    assert_eq!(reply.is(422, "validation").json()["errors"][0]["pointer"], "/festivals/1");
    let everywhere = json!({"name": "x", "role": "STAFF", "festivals": []});
    let reply = house.post(&admin, "/keys", everywhere).await;
    assert_eq!(reply.is(422, "validation").json()["errors"][0]["pointer"], "/festivals");
    let visitor = json!({"name": "x", "role": "USER", "festivals": ["own"]});
    let reply = house.post(&admin, "/keys", visitor).await;
    assert_eq!(reply.is(422, "validation").json()["errors"][0]["pointer"], "/role");
    let cashier = json!({"name": "till", "role": "CASHIER", "festivals": ["own"]});
    assert_eq!(house.post(&admin, "/keys", cashier).await.status, 201);
    house.stop().await;
}
