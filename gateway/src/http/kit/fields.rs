//! All that is wrong with a body, where serde stops at the first thing: whoever fills in a form is told of every field
//! at once.
//!
//! A body is read again for each of its values, with that value alone in its place: what is wrong with it is met before
//! anything that is missing then. What is missing in the whole is looked up in the schema, the same that is published.

use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::{Ref, RefOr};

use crate::http::kit::problem::{FieldError, Problem};
use crate::http::kit::request::parse_json;

/// How many are named. A body of 16 KiB has room for some thousand bad fields, and nobody for reading of them.
pub const NAMED_MAX: usize = 32;

/// A problem that names the first bad field, with all others beside it. `body` is JSON as far as that first field.
pub fn all_of<T: DeserializeOwned + ToSchema>(body: &[u8], first: Problem) -> Problem {
    // What is no JSON further on has no more fields that could be looked at.
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return first };
    let mut found = FieldErrors { errors: first.errors().to_vec() };
    probe::<T>(&body, &mut Vec::new(), &mut found);
    let mut named = Vec::new();
    T::schemas(&mut named);
    missing(&T::schema(), &named, &body, "", &mut found);
    Problem::fields(found.errors)
}

struct FieldErrors {
    errors: Vec<FieldError>,
}

impl FieldErrors {
    fn add(&mut self, error: FieldError) {
        if !self.is_full() && self.errors.iter().all(|known| known.pointer != error.pointer) {
            self.errors.push(error);
        }
    }
    fn is_full(&self) -> bool {
        self.errors.len() >= NAMED_MAX
    }
}

/// A step from a value into one that lies in it.
enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

/// Reads each value below this one alone.
fn probe<'a, T: DeserializeOwned>(value: &'a Value, path: &mut Vec<Step<'a>>, found: &mut FieldErrors) {
    let mut into = |step, value, found: &mut FieldErrors| {
        path.push(step);
        probe::<T>(value, path, found);
        path.pop();
    };
    match value {
        _ if found.is_full() => {}
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().for_each(|(name, value)| into(Step::Field(name), value, found));
        }
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(at, value)| into(Step::Item(at), value, found));
        }
        leaf => alone::<T>(leaf, path, found),
    }
}

/// Reads a body in which there is nothing but this value.
fn alone<T: DeserializeOwned>(leaf: &Value, path: &[Step<'_>], found: &mut FieldErrors) {
    let body = path.iter().rev().fold(leaf.clone(), |value, step| match step {
        Step::Field(name) => Value::Object([((*name).to_owned(), value)].into_iter().collect()),
        Step::Item(_) => Value::Array(vec![value]),
    });
    let Err(problem) = parse_json::<T>(body.to_string().as_bytes()) else { return };
    let Some(error) = problem.errors().first() else { return };
    // In here an item is the first of its list. A problem that lies off the path is about what was left out.
    let (mut here, mut there) = (String::new(), String::new());
    for step in path {
        if here == error.pointer {
            break;
        }
        let (so, truly) = match step {
            Step::Field(name) => (escaped(name), escaped(name)),
            Step::Item(at) => ("0".to_owned(), at.to_string()),
        };
        here = format!("{here}/{so}");
        there = format!("{there}/{truly}");
    }
    let below = error.pointer.strip_prefix(&*here).filter(|below| below.is_empty() || below.starts_with('/'));
    if let Some(below) = below.filter(|_| !path.is_empty()) {
        found.add(FieldError { pointer: format!("{there}{below}"), detail: error.detail.clone() });
    }
}

/// What the schema asks for and the body does not have.
fn missing(
    schema: &RefOr<Schema>,
    named: &[(String, RefOr<Schema>)],
    value: &Value,
    at: &str,
    found: &mut FieldErrors,
) {
    let schema = match schema {
        RefOr::T(schema) => schema,
        RefOr::Ref(Ref { ref_location, .. }) => {
            let name = ref_location.rsplit('/').next().unwrap_or_default();
            match named.iter().find(|(known, _)| known == name) {
                Some((_, RefOr::T(schema))) => schema,
                _ => return,
            }
        }
    };
    let (Schema::Object(object), Value::Object(fields)) = (schema, value) else { return };
    for name in object.required.iter().filter(|name| !fields.contains_key(*name)) {
        let (pointer, detail) = (format!("{at}/{}", escaped(name)), format!("missing field `{name}`"));
        found.add(FieldError { pointer, detail });
    }
    for (name, schema) in &object.properties {
        if let Some(value) = fields.get(name) {
            missing(schema, named, value, &format!("{at}/{}", escaped(name)), found);
        }
    }
}

/// A name as a JSON pointer spells it.
pub fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only whether it parses matters")]
    struct Price {
        amount: String,
        currency: String,
    }
    #[derive(Debug, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    #[allow(dead_code, reason = "only whether it parses matters")]
    struct Terms {
        name: String,
        price: Price,
        valid_from: u8,
        zones: Vec<u8>,
        #[serde(default)]
        quota: u32,
        note: Option<String>,
        before: Option<Price>,
    }

    #[test]
    fn everything_wrong_is_named_once() {
        let ok = r#""name":"n","price":{"amount":"1","currency":"EUR"},"validFrom":1,"zones":[]"#;
        for (body, wrong) in [
            (format!("{{{ok}}}"), ""),
            ("{}".into(), "/name /price /validFrom /zones"),
            (
                r#"{"name":1,"price":2,"validFrom":"3","zones":4,"quota":-5,"note":6,"before":7,"extra":8}"#.into(),
                "/name /before /extra /note /price /quota /validFrom /zones",
            ),
            // Beside what is wrong, what is missing; and in what lies within.
            (
                r#"{"price":{"amount":1},"zones":[1,256,3,"4"]}"#.into(),
                "/price/amount /zones/1 /zones/3 /name /validFrom /price/currency",
            ),
            (r#"{"price":{}}"#.into(), "/price/amount /name /validFrom /zones /price/currency"),
            (
                format!(r#"{{{ok},"before":{{"amount":null,"currency":[],"a/b":1}}}}"#),
                "/before/amount /before/a~1b /before/currency",
            ),
            // The name is there twice: read again, it is the last that counts.
            (r#"{"name":"a","name":"b","price":1}"#.into(), "/name /price /validFrom /zones"),
            // No JSON behind the first: nothing more can be said.
            (r#"{"name":1,"price":"#.into(), "/name"),
        ] {
            let found = match parse_json::<Terms>(body.as_bytes()) {
                Ok(_) => String::new(),
                Err(first) => {
                    let all = all_of::<Terms>(body.as_bytes(), first);
                    assert_eq!(all.code(), "validation", "{body}");
                    assert!(all.errors().iter().all(|error| !error.detail.is_empty()), "{body}: {:?}", all.errors());
                    let pointers: Vec<_> = all.errors().iter().map(|error| error.pointer.as_str()).collect();
                    pointers.join(" ")
                }
            };
            assert_eq!(found, wrong, "{body}");
        }
    }

    #[test]
    fn many_are_not_named_at_length() {
        let many: Vec<String> = (0..2_000).map(|n| format!("\"f{n}\":1")).collect();
        let body = format!("{{{}}}", many.join(","));
        let first = parse_json::<Terms>(body.as_bytes()).unwrap_err();
        assert_eq!(all_of::<Terms>(body.as_bytes(), first).errors().len(), NAMED_MAX);
    }
}
