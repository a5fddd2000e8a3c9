//! Requests made from the OpenAPI document: of every operation that there is, with things of one festival in all places
//! but one. A route that is added is asked like the others; a field whose name says nothing here fails the test.

use axum::body::Body;
use axum::http::Request;
use engine::model::ids::{CategoryNo, DeviceId, FestivalId, TicketId, TransactionId, WalletId};
use serde_json::{Value, json};

use crate::house::{House, Reply, category, fresh, fresh_tag, vendor_id};

/// What a place in a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Festival,
    Ticket,
    /// A ticket by its printed code.
    Code,
    Device,
    Wallet,
    Payment,
    Tag,
    Vendor,
}

impl Kind {
    pub(crate) const ALL: &[Self] =
        &[Self::Festival, Self::Ticket, Self::Code, Self::Device, Self::Wallet, Self::Payment, Self::Tag, Self::Vendor];
}

/// Things of one festival, each of them there.
pub(crate) struct Things {
    pub(crate) slug: String,
    /// Whose the wallet is. A person is nobody's: an account may have a wallet anywhere.
    account: String,
    wallet: String,
    friend: String,
    payment: String,
    tag: String,
    ticket: String,
    pub(crate) device: String,
    /// The number of an operator's key.
    key: u64,
}

impl Things {
    pub(crate) async fn made(house: &House, admin: &str, slug: &str) -> Self {
        let account = fresh();
        let made = house.put(admin, "/cashless/account", json!({"account": account, "festival": slug})).await;
        let wallet = made.is(200, "").json()["wallet"].as_str().unwrap().to_owned();
        let cash = json!({"wallet": wallet, "festival": slug, "amount": "50.00", "currency": "EUR"});
        house.post(admin, "/cashless/topup", cash).await.is(200, "");
        let friend = house.wallet(admin, slug, "0.00").await;
        let pay = json!({"wallet": wallet, "vendorId": vendor_id(slug, 0), "amount": "1.00", "currency": "EUR"});
        let paid = house.post(admin, "/cashless/pay", pay).await.is(200, "").json();
        let (tag, ticket) = (fresh_tag(), house.ticket(admin, slug).await);
        house.post(admin, &format!("/cashless/wallets/{wallet}/tag"), json!({"tag": tag})).await.is(204, "");
        house.post(admin, &format!("/tickets/{ticket}/tag"), json!({"uid": tag})).await.is(204, "");
        let gate = json!({"gate": 0, "name": "a reader"});
        let offer = house.post(admin, &format!("/festivals/{slug}/devices/enrolment-codes"), gate).await;
        let code = offer.is(201, "").json()["code"].as_str().unwrap().to_owned();
        let mut public_key = [0; 32];
        aws_lc_rs::rand::fill(&mut public_key).unwrap();
        let device = house.enrol(slug, &code, public_key).await;
        let key = json!({"name": "somebody", "role": "STAFF", "festivals": [slug]});
        let key = house.post(admin, "/keys", key).await.is(201, "").json()["no"].as_u64().unwrap();
        let payment = paid["transactionId"].as_str().unwrap().to_owned();
        Self { slug: slug.to_owned(), account, wallet, friend, payment, tag, ticket, device, key }
    }

    /// Of a festival that never was.
    pub(crate) fn never() -> Self {
        let (festival, wallet) = (FestivalId::of_slug("never"), WalletId(0x0123_4567_89AB_CDEF));
        Self {
            slug: "never".to_owned(),
            account: fresh(),
            wallet: wallet.to_string(),
            friend: fresh(),
            payment: TransactionId { wallet, serial: 1 }.to_string(),
            tag: fresh_tag(),
            ticket: TicketId::new(festival, CategoryNo(0), 0, 7).to_string(),
            device: DeviceId::new(festival, 0).to_string(),
            key: 999,
        }
    }

    /// What a place with this name is given. A wristband that is to be given out is a new one.
    fn named(&self, kind: Kind, name: &str, given_out: bool) -> String {
        match kind {
            Kind::Festival => self.slug.clone(),
            Kind::Ticket => self.ticket.clone(),
            Kind::Code => TicketId::parse(self.ticket.as_bytes()).unwrap().code().as_str().to_owned(),
            Kind::Device => self.device.clone(),
            Kind::Wallet if name == "to" => self.friend.clone(),
            Kind::Wallet => self.wallet.clone(),
            Kind::Payment => self.payment.clone(),
            Kind::Tag if given_out => fresh_tag(),
            Kind::Tag => self.tag.clone(),
            Kind::Vendor => vendor_id(&self.slug, 0),
        }
    }
}

/// A festival in which there is room for the things of every operation.
pub(crate) async fn roomy(house: &House, slug: &str) -> String {
    let admin = house.bar(slug).await;
    house.put(&admin, &format!("/festivals/{slug}/categories/0"), category(10_000)).await.is(204, "");
    admin
}

/// Names of what is no thing of a festival's: numbers within one, people, values, pages.
const PLAIN: &[&str] = &[
    "account",
    "ack",
    "amount",
    "capacity",
    "cashier",
    "category",
    "commissionRate",
    "confirm",
    "count",
    "currency",
    "cursor",
    "day",
    "dayStartsAt",
    "endsAt",
    "entry",
    "foreignWallets",
    "format",
    "from",
    "gate",
    "gift",
    "givesBack",
    "holder",
    "hour",
    "kind",
    "limit",
    "lines",
    "location",
    "logOneRejectionIn",
    "maxBalance",
    "maxCapacity",
    "maxTopup",
    "method",
    "minPayment",
    "minTopup",
    "name",
    "no",
    "onSale",
    "open",
    "paid",
    "parent",
    "policy",
    "price",
    "product",
    "quota",
    "reason",
    "refused",
    "replace",
    "returned",
    "role",
    "sold",
    "startsAt",
    "state",
    "status",
    "timeZone",
    "to",
    "type",
    "validFrom",
    "validUntil",
    "vatRate",
    "vendor",
    "zone",
    "zones",
];

/// What a name in the path, the query or a body stands for.
fn kind(name: &str, schema: &Value, place: &str) -> Option<Kind> {
    let is_moment = schema["format"] == "date-time";
    match name {
        // In a body it is what a new festival will be called.
        "slug" if place != "path" => None,
        "slug" | "festival" | "festivals" => Some(Kind::Festival),
        "ticket" | "ticketId" => Some(Kind::Ticket),
        "code" => Some(Kind::Code),
        "device" | "deviceId" => Some(Kind::Device),
        "wallet" => Some(Kind::Wallet),
        "from" | "to" if !is_moment => Some(Kind::Wallet),
        "transaction" | "transactionId" => Some(Kind::Payment),
        "tag" | "uid" => Some(Kind::Tag),
        "vendorId" => Some(Kind::Vendor),
        name => {
            assert!(PLAIN.contains(&name), "does {name:?} in the {place} name something? Say so in generated.rs");
            None
        }
    }
}

/// Values that the document's examples and first words do not make a good request of.
fn value_of(operation: &Operation, name: &str, things: &Things) -> Option<Value> {
    Some(match (operation.path.as_str(), name) {
        ("/festivals", "slug") => json!(format!("f-{}", fresh())),
        ("/festivals/{slug}/status", _) => json!("ONGOING"),
        ("/tickets/{ticket}/status", _) => json!("CANCELLED"),
        ("/cashless/account/merge", "account") => json!(things.account),
        (_, "account") => json!(fresh()),
        (_, "capacity") => json!(20_000),
        (_, "endsAt" | "validUntil") => json!("2027-07-19T12:00:00Z"),
        _ => return None,
    })
}

/// What a good request has beside what every request has to have.
fn beside(operation: &Operation) -> &'static [&'static str] {
    match (operation.method.as_str(), operation.path.as_str()) {
        ("GET", "/cashless/account") => &["wallet"],
        ("GET", "/festivals/{slug}/access-log") => &["zone"],
        ("POST", "/festivals/{slug}/terminals/enrolment-codes") => &["vendor"],
        ("POST", "/keys") => &["festivals"],
        _ => &[],
    }
}

/// Parameters of which a request may have one only.
const ONE_OF: &[&[&str]] = &[&["wallet", "tag", "account"], &["zone", "device"]];

/// Something that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) method: String,
    /// Below `/api/v1`.
    pub(crate) path: String,
    /// The roles that may, at their own festival.
    pub(crate) roles: Vec<String>,
    /// For keys that are bound to no festival.
    pub(crate) of_installation: bool,
    parameters: Vec<Value>,
    media: String,
    body: Value,
}

/// A place in a request that names a thing.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    /// `path`, `query`, or the fields of the body that lead to it.
    at: Vec<String>,
    name: String,
}

impl Place {
    fn is(&self, place: &str, name: &str) -> bool {
        self.at == [place] && self.name == name
    }
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
    /// A wristband that is to be given out by this.
    pub(crate) fn gives_out(&self) -> bool {
        self.kind == Kind::Tag && !matches!(self.at[0].as_str(), "path" | "query")
    }
}

/// The document.
pub(crate) struct Api(Value);

impl Api {
    pub(crate) async fn of(house: &House) -> Self {
        Self(house.get("", "/openapi.json").await.json())
    }

    /// Every operation that needs a key. What ends a festival's preparations comes last.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        let mut all = Vec::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if operation["security"] == json!([{}]) {
                    continue;
                }
                let content = operation["requestBody"]["content"].as_object();
                let (media, body) = content.and_then(|content| content.iter().next()).map_or_else(
                    || ("application/json".to_owned(), Value::Null),
                    |(media, content)| (media.clone(), content["schema"].clone()),
                );
                all.push(Operation {
                    method: method.to_uppercase(),
                    path: path.strip_prefix("/api/v1").expect("below it").to_owned(),
                    roles: serde_json::from_value(operation["x-roles"].clone()).unwrap_or_else(|_| {
                        panic!("{method} {path} does not say who may: does its route name a right?")
                    }),
                    of_installation: operation["description"].as_str().unwrap().ends_with(" names no festival."),
                    parameters: operation["parameters"].as_array().cloned().unwrap_or_default(),
                    media,
                    body,
                });
            }
        }
        all.sort_by_key(|operation| operation.path == "/festivals/{slug}/status");
        all
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let mut schema = schema;
        loop {
            let inner = match &schema["$ref"] {
                Value::String(to) => self.0.pointer(to.strip_prefix('#').unwrap()).unwrap(),
                // What may be null as well.
                _ => match schema["oneOf"].as_array().and_then(|all| all.iter().find(|one| one["type"] != "null")) {
                    Some(one) if schema["oneOf"].as_array().is_some_and(|all| all.len() == 2) => one,
                    _ => return schema,
                },
            };
            schema = inner;
        }
    }

    /// The fields of an object with their schemas, and which of them have to be there.
    fn fields<'a>(&'a self, schema: &'a Value) -> (Vec<(&'a str, &'a Value)>, Vec<&'a str>) {
        let schema = self.resolved(schema);
        let (mut fields, mut required) = (Vec::new(), Vec::new());
        for part in schema["allOf"].as_array().into_iter().flatten() {
            let (more, needed) = self.fields(part);
            fields.extend(more);
            required.extend(needed);
        }
        fields.extend(schema["properties"].as_object().into_iter().flatten().map(|(name, of)| (name.as_str(), of)));
        required.extend(schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str));
        (fields, required)
    }

    /// Every place of an operation that names a thing.
    pub(crate) fn places(&self, operation: &Operation) -> Vec<Place> {
        let mut places = Vec::new();
        for parameter in operation.parameters.iter().filter(|parameter| parameter["in"] != "header") {
            let (name, place) = (parameter["name"].as_str().unwrap(), parameter["in"].as_str().unwrap());
            let named = kind(name, self.resolved(&parameter["schema"]), place);
            places.extend(named.map(|kind| Place { kind, at: vec![place.to_owned()], name: name.to_owned() }));
        }
        self.places_in(&operation.body, &mut Vec::new(), &mut places);
        places
    }

    fn places_in(&self, schema: &Value, at: &mut Vec<String>, places: &mut Vec<Place>) {
        for (name, of) in self.fields(schema).0 {
            let of = self.resolved(of);
            at.push(name.to_owned());
            match kind(name, of, "body") {
                Some(kind) => places.push(Place { kind, at: at.clone(), name: name.to_owned() }),
                None => self.places_in(if of["items"].is_object() { &of["items"] } else { of }, at, places),
            }
            at.pop();
        }
    }

    /// A body of this schema. `there`: the one place that names a stranger's thing, from here on.
    fn body(
        &self,
        operation: &Operation,
        schema: &Value,
        things: &Things,
        there: Option<(&[String], &Things)>,
    ) -> Value {
        let (fields, required) = self.fields(schema);
        let mut body = json!({});
        for (name, of) in fields {
            let below = there.filter(|(at, _)| at.first().is_some_and(|first| first == name));
            let below = below.map(|(at, strangers)| (&at[1..], strangers));
            if below.is_none() && !required.contains(&name) && !beside(operation).contains(&name) {
                continue;
            }
            let of = self.resolved(of);
            let is_list = of["items"].is_object();
            let one = if is_list { self.resolved(&of["items"]) } else { of };
            let value = match kind(name, of, "body") {
                Some(kind) => match below {
                    Some((_, strangers)) => json!(strangers.named(kind, name, false)),
                    None => json!(things.named(kind, name, true)),
                },
                None => value_of(operation, name, things)
                    .unwrap_or_else(|| self.plain(one).unwrap_or_else(|| self.body(operation, one, things, below))),
            };
            body[name] = if is_list { json!([value]) } else { value };
        }
        body
    }

    /// A value that the schema itself suggests; `None` for an object.
    fn plain(&self, schema: &Value) -> Option<Value> {
        if schema["properties"].is_object() || schema["allOf"].is_array() {
            return None;
        }
        let suggested = [&schema["example"], &schema["examples"][0], &schema["enum"][0]];
        let suggested = suggested.into_iter().find(|value| !value.is_null()).cloned();
        let of_type = || match schema["type"].as_str().or(schema["type"][0].as_str()) {
            Some("integer") => json!(0),
            Some("boolean") => json!(false),
            _ => json!("x"),
        };
        Some(suggested.unwrap_or_else(of_type))
    }

    /// A request with these things, and a stranger's in one place.
    pub(crate) fn request(&self, operation: &Operation, things: &Things, there: Option<(&Place, &Things)>) -> Asked {
        let (mut path, mut query) = (operation.path.clone(), Vec::new());
        let present = beside(operation);
        for parameter in operation.parameters.iter().filter(|parameter| parameter["in"] != "header") {
            let (name, place) = (parameter["name"].as_str().unwrap(), parameter["in"].as_str().unwrap());
            let strangers = there.filter(|(at, _)| at.is(place, name)).map(|(_, strangers)| strangers);
            let value = match kind(name, self.resolved(&parameter["schema"]), place) {
                Some(kind) => strangers.unwrap_or(things).named(kind, name, false),
                None if name == "no" => things.key.to_string(),
                None => "0".to_owned(),
            };
            if place == "path" {
                path = path.replace(&format!("{{{name}}}"), &value);
                continue;
            }
            // In place of what it cannot stand beside.
            let gives_way = there.is_some_and(|(at, _)| {
                let both = |one: &&&[&str]| one.contains(&name) && one.contains(&at.name.as_str());
                at.at == ["query"] && at.name != name && ONE_OF.iter().any(|one| both(&one))
            });
            if strangers.is_some() || (present.contains(&name) && !gives_way) || parameter["required"] == true {
                query.push(format!("{name}={value}"));
            }
        }
        let separator = if query.is_empty() { "" } else { "?" };
        let in_body = there.filter(|(at, _)| !matches!(at.at[0].as_str(), "path" | "query"));
        let in_body = in_body.map(|(at, strangers)| (at.at.as_slice(), strangers));
        Asked {
            method: operation.method.clone(),
            path: format!("{path}{separator}{}", query.join("&")),
            media: operation.media.clone(),
            body: (operation.method != "GET").then(|| self.body(operation, &operation.body, things, in_body)),
        }
    }
}

/// What is asked, but for whoever asks and the key.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) media: String,
    pub(crate) body: Option<Value>,
}

impl Asked {
    pub(crate) async fn of(&self, house: &House, key: &str, attempt: &str) -> Reply {
        let request = Request::builder()
            .method(self.method.as_str())
            .uri(format!("/api/v1{}", self.path))
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", &self.media)
            .header("idempotency-key", attempt);
        let body = self.body.as_ref().map_or(Body::empty(), |body| Body::from(body.to_string()));
        house.send(request.body(body).unwrap()).await
    }
}

/// Status and code; of an answer in lines, the code of the first one.
pub(crate) fn verdict(reply: &Reply) -> (u16, String) {
    let lines = reply.headers.get("content-type").is_some_and(|media| media == "application/x-ndjson");
    if !lines || reply.status.as_u16() >= 400 {
        return reply.code();
    }
    let first: Value = serde_json::from_str(reply.text.lines().next().unwrap_or("{}")).unwrap();
    (reply.status.as_u16(), first["error"]["code"].as_str().unwrap_or_default().to_owned())
}
