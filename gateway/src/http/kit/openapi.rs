//! The OpenAPI document: generated from the handlers, with what is the same for all of them added here.

use serde_json::json;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder};
use utoipa::{OpenApi as _, PartialSchema, ToSchema};

use crate::http::kit::problem::{FieldError, PROBLEM_JSON, ProblemBody};

const KEY_SCHEME: &str = "key";

#[derive(utoipa::OpenApi)]
#[openapi(info(
    title = "Tapgate",
    description = "The operators' API of a festival's gates and terminals.\n\n\
        **Keys.** Send `Authorization: Bearer tgk_…`. A key has a role, and festivals; what it may not see answers as \
        if it did not exist.\n\n\
        **Doing it again.** Every change carries an `Idempotency-Key` that you make, a UUID of version 7 at best. The \
        same request with the same key gets the same answer, marked `Idempotent-Replayed: true`, and happens once; \
        another request with that key, about the same festival, wallet or wristband, answers 409 `idempotency_conflict`. \
        Keys are yours alone and are kept for 72 hours. A version 7 UUID older than that is refused (`idempotency_key_expired`); any other key that was \
        forgotten is new. Some ten thousand keys of yours have room in that time; beyond that a change answers 409 \
        `limit_reached`, and nobody else's does.\n\n\
        **Money.** Amounts are decimal text with a currency beside them (`\"12.50\"`, `\"EUR\"`), never numbers, and are \
        taken exactly or refused (`invalid_amount`). Changes name a wallet by its id; `GET /api/v1/cashless/account` \
        says which wallet a wristband names and finds those of an account; `PUT` makes one. An account has a wallet for \
        each festival that issues any, seen by that festival's staff and unknown to others. Where the answer to a change is `still_pending`, ask again \
        with the same `Idempotency-Key`.\n\n\
        **Limits.** Requests count against the key that makes them: 100 a second in the long run and 500 at once, unless the \
        server is set otherwise; beyond that they answer 429 `too_many_requests`. Bulk calls, live streams and lists are \
        shared by all organisers: 503 `too_many_uploads`, `too_many_streams`, `too_many_reads`. `Retry-After` says when to \
        come again. Opening, closing and evacuating a zone, blocking, reporting lost and revoking have a lane of their own, \
        and are never refused for any of this.\n\n\
        **Errors** are `application/problem+json` (RFC 9457) with a stable `code`; `/api/v1/problems` lists them. \
        A `validation` names each bad field in `errors`. Codes may be added."
))]
struct Base;

/// What the routers start from.
pub fn base() -> OpenApi {
    Base::openapi()
}

/// Adds the key, the idempotency header and the problem to every operation.
pub fn complete(api: &mut OpenApi) {
    let components = api.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("tgk_ and 43 characters")
        .description(Some("An operator's key, made by `tapgate key create` or `POST /api/v1/keys`."))
        .build();
    components.security_schemes.insert(KEY_SCHEME.into(), SecurityScheme::Http(bearer).into());
    for (name, schema) in [
        (ProblemBody::name(), <ProblemBody as PartialSchema>::schema()),
        (FieldError::name(), <FieldError as PartialSchema>::schema()),
    ] {
        components.schemas.insert(name.into_owned(), schema);
    }
    loosen_parts(components);
    api.paths.paths.values_mut().for_each(complete_item);
    let guide = include_str!("guide.md");
    let description = api.info.description.get_or_insert_default();
    *description = format!("{description}\n\n{guide}");
}

/// What is taken as a whole body refuses fields that it does not know; as a part of an answer it has others beside it, so
/// there it stands as a copy that does not say so.
fn loosen_parts(components: &mut Components) {
    let whole = components.schemas.clone();
    let strict = |name: &str| match whole.get(name) {
        Some(RefOr::T(Schema::Object(object))) if object.additional_properties.is_some() => Some(object.clone()),
        _ => None,
    };
    for schema in components.schemas.values_mut() {
        let RefOr::T(Schema::AllOf(all)) = schema else { continue };
        for part in &mut all.items {
            let RefOr::Ref(reference) = &*part else { continue };
            let name = reference.ref_location.rsplit('/').next().unwrap_or_default();
            if let Some(mut object) = strict(name) {
                object.additional_properties = None;
                *part = Schema::Object(object).into();
            }
        }
    }
}

fn complete_item(item: &mut PathItem) {
    for (operation, changes) in [
        (&mut item.get, None),
        (&mut item.post, Some(Required::True)),
        (&mut item.put, Some(Required::True)),
        (&mut item.delete, Some(Required::False)),
    ] {
        if let Some(operation) = operation {
            complete_operation(operation, changes);
        }
    }
}

/// What any operation with a key may answer instead, each with an example. `problems` has every code there is.
const ERRORS: &[(u16, &str, &str, bool)] = &[
    (400, "invalid_query", "A part of the path, the query, or the JSON cannot be read.", false),
    (401, "not_signed_in", "No key, or one that is not known or was revoked.", false),
    (403, "forbidden", "The key's role may not do this.", false),
    (404, "unknown_festival", "There is no such thing, or it is not this key's to see.", false),
    (409, "idempotency_conflict", "It cannot be done now: the `code` says why.", true),
    (413, "body_too_large", "The body is too long.", true),
    (415, "unsupported_media_type", "The body is of another type.", true),
    (422, "validation", "A field is not what it must be; `errors` points at each.", true),
    (429, "too_many_requests", "Too many requests; `Retry-After` says when to come again.", false),
    (503, "busy", "Nothing was done; `Retry-After` says when to come again.", false),
];

fn complete_operation(operation: &mut Operation, key: Option<Required>) {
    if let Some(required) = key.clone() {
        operation.parameters.get_or_insert_default().push(RefOr::T(idempotency_key(required)));
        for response in operation.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                let header = HeaderBuilder::new()
                    .schema(Some(Schema::from(ObjectBuilder::new().schema_type(Type::String))))
                    .description(Some("`true` if this is the answer to an earlier request: nothing happened now."));
                response.headers.insert("Idempotent-Replayed".into(), header.build().into());
            }
        }
    }
    operation.security.get_or_insert_with(|| vec![SecurityRequirement::new(KEY_SCHEME, Vec::<String>::new())]);
    let needs_key = operation.extensions.as_ref().is_some_and(|all| all.contains_key("x-right"));
    for &(status, code, says, changes_only) in ERRORS.iter().filter(|_| needs_key) {
        if !changes_only || key.is_some() {
            let answer = problem(says, Some((status, code)));
            operation.responses.responses.entry(status.to_string()).or_insert(answer.into());
        }
    }
    operation.responses.responses.entry("default".into()).or_insert(problem("No, and why.", None).into());
}

fn problem(says: &str, example: Option<(u16, &str)>) -> Response {
    let mut content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ProblemBody::name())));
    if let Some((status, code)) = example {
        let kind = format!("/api/v1/problems#{code}");
        content = content.example(Some(json!({"type": kind, "title": says, "status": status, "code": code})));
    }
    ResponseBuilder::new().description(says).content(PROBLEM_JSON, content.build()).build()
}

fn idempotency_key(required: Required) -> Parameter {
    let schema: Schema =
        ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(255)).into();
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(required)
        .description(Some("Made by you, one for each change; a UUID of version 7 at best."))
        .schema(Some(schema))
        .build()
}
