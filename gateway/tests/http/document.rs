//! The OpenAPI document against what is really answered: every answer that any test of this program gets must be one
//! that the document describes, down to its fields.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::house::Reply;

/// The document, with the schemas that were needed so far.
pub(crate) struct Document {
    api: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

static DOCUMENT: OnceLock<Document> = OnceLock::new();

impl Document {
    /// The one of this program; `text` is asked for once.
    pub(crate) fn of(text: &str) -> &'static Self {
        let read =
            || Self { api: serde_json::from_str(text).expect("a document is JSON"), validators: Mutex::default() };
        DOCUMENT.get_or_init(read)
    }

    /// The one that was read before.
    pub(crate) fn known() -> Option<&'static Self> {
        DOCUMENT.get()
    }

    /// Fails where an answer to this request is not as described. Requests that name no route are none of its business.
    pub(crate) fn check(&self, method: &str, path: &str, reply: &Reply) {
        let Some((route, operation)) = self.operation(method, path) else { return };
        let status = reply.status.as_u16().to_string();
        let responses = &operation["responses"];
        let named = if responses[&status].is_object() { status.as_str() } else { "default" };
        let response = &responses[named];
        assert!(response.is_object(), "{method} {route} may answer {status}, says nobody: {}", reply.text);
        // A success that is described as nothing in particular would make the whole of this idle.
        assert!(named != "default" || reply.status.as_u16() >= 400, "{method} {route} answers {status} unannounced");
        if reply.text.is_empty() {
            return;
        }
        let said = reply.headers["content-type"].to_str().unwrap();
        let media = said.split(';').next().unwrap().trim();
        let content = &response["content"][media];
        assert!(content.is_object(), "{method} {route} {status} is {media}, but not in the document");
        let lines: Vec<&str> = match media {
            "application/json" | "application/problem+json" => vec![&reply.text],
            "application/x-ndjson" => reply.text.lines().collect(),
            _ => return,
        };
        let validator = self.validator(&format!("{method} {route} {named} {media}"), &content["schema"]);
        for line in lines {
            let value: Value = serde_json::from_str(line).unwrap();
            if let Err(error) = validator.validate(&value) {
                panic!("{method} {route} {status}, at {}: {error}\n{value:#}", error.instance_path());
            }
        }
    }

    fn operation(&self, method: &str, path: &str) -> Option<(&str, &Value)> {
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |route: &str| {
            let of_route: Vec<&str> = route.split('/').collect();
            of_route.len() == parts.len()
                && of_route.iter().zip(&parts).all(|(of_route, part)| of_route.starts_with('{') || of_route == part)
        };
        let exact = |route: &&String| !route.contains('{');
        let mut routes: Vec<&String> = self.api["paths"].as_object()?.keys().filter(|route| fits(route)).collect();
        routes.sort_by_key(|route| !exact(route));
        let route = routes.first()?;
        let operation = &self.api["paths"][route.as_str()][method.to_lowercase()];
        operation.is_object().then_some((route.as_str(), operation))
    }

    fn validator(&self, name: &str, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap();
        let made = validators.entry(name.to_owned()).or_insert_with(|| {
            let whole = json!({"allOf": [schema], "components": self.api["components"]});
            Arc::new(jsonschema::draft202012::new(&whole).unwrap_or_else(|error| panic!("{name}: {error}")))
        });
        Arc::clone(made)
    }
}

/// The check itself is held to what must not be.
#[tokio::test]
async fn an_answer_that_is_not_described_is_found() {
    let house = crate::house::House::new().await;
    let text = house.get("", "/openapi.json").await.text;
    let document = Document { api: serde_json::from_str(&text).unwrap(), validators: Mutex::default() };
    let reply = |status: u16, body: Value| Reply {
        status: axum::http::StatusCode::from_u16(status).unwrap(),
        headers: [(axum::http::header::CONTENT_TYPE, "application/json".parse().unwrap())].into_iter().collect(),
        text: body.to_string(),
    };
    document.check("GET", "/healthz", &reply(200, json!({"status": "ok"})));
    for (status, body) in [(200, json!({})), (200, json!({"status": 7})), (202, json!({"status": "ok"}))] {
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            document.check("GET", "/healthz", &reply(status, body.clone()));
        }));
        assert!(found.is_err(), "{status} {body}");
    }
    house.stop().await;
}
