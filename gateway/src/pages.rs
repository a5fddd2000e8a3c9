//! The pages a person opens: plain files from `gateway/pages`, carried in the binary. Nothing is loaded from elsewhere,
//! and the policy sent along sees to it that nothing could be.

use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tower_http::compression::CompressionLayer;

/// A file as it is served.
struct Page {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
    /// Weak, because it goes out zipped as well as plain.
    etag: HeaderValue,
}

macro_rules! pages {
    ($($name:literal: $kind:literal,)*) => {
        LazyLock::new(|| vec![$(Page::new($name, $kind, include_bytes!(concat!("../pages/", $name))),)*])
    };
}

static PAGES: LazyLock<Vec<Page>> = pages! {
    "index.html": "text/html; charset=utf-8",
    "live.html": "text/html; charset=utf-8",
    "lost.html": "text/html; charset=utf-8",
    "app.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "cash.js": "text/javascript; charset=utf-8",
    "chart.js": "text/javascript; charset=utf-8",
    "format.js": "text/javascript; charset=utf-8",
    "gates.js": "text/javascript; charset=utf-8",
    "key.js": "text/javascript; charset=utf-8",
    "lists.js": "text/javascript; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
    "stream.js": "text/javascript; charset=utf-8",
};

/// Own files and own connections only, no inline scripts or styles, in nobody's frame. The key is in the page's
/// storage, so a foreign script would be a leak.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Page {
    fn new(name: &'static str, kind: &'static str, content: &'static [u8]) -> Self {
        let digest = URL_SAFE_NO_PAD.encode(&Sha256::digest(content)[..12]);
        let etag = HeaderValue::try_from(format!("W/\"{digest}\"")).expect("base 64 is ASCII");
        Self { name, kind, content, etag }
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let headers = [
            (header::ETAG, self.etag.clone()),
            // Kept, and asked about each time: after an update nobody sees yesterday's page against today's API.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
        if known.flat_map(|tags| tags.split(',')).any(|tag| tag.trim() == self.etag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, [(header::CONTENT_TYPE, self.kind)], self.content).into_response()
    }
}

fn page(name: &str, asked: &HeaderMap) -> Response {
    match PAGES.iter().find(|page| page.name == name) {
        Some(page) => page.answer(asked),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// For a browser that asks for a page which is not there: one that says so. `None` for everybody else, who reads JSON.
pub fn lost(uri: &Uri, asked: &HeaderMap) -> Option<Response> {
    let accepts = asked.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let for_people = !uri.path().starts_with("/api/") && accepts.contains("text/html");
    for_people.then(|| (StatusCode::NOT_FOUND, page("lost.html", &HeaderMap::new())).into_response())
}

/// `/`, `/live/{slug}` and what they load. They hold no data: that comes over the API, with a key.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(async |asked: HeaderMap| page("index.html", &asked)))
        .route("/live/{slug}", get(async |asked: HeaderMap| page("live.html", &asked)))
        .route("/assets/{name}", get(async |Path(name): Path<String>, asked: HeaderMap| page(&name, &asked)))
        .route("/favicon.ico", get(async |asked: HeaderMap| page("icon.svg", &asked)))
        .layer(CompressionLayer::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    async fn fetch(path: &str, headers: &[(header::HeaderName, &str)]) -> Response {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        routes::<()>().with_state(()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_page_is_sent_once_and_known_again() {
        let first = fetch("/live/demo", &[]).await;
        assert_eq!(first.status(), StatusCode::OK);
        let etag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
        let plain = first.into_body().collect().await.unwrap().to_bytes();
        let again = fetch("/live/demo", &[(header::IF_NONE_MATCH, &format!("\"other\", {etag}"))]).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        let zipped = fetch("/live/demo", &[(header::ACCEPT_ENCODING, "gzip")]).await;
        assert_eq!(zipped.headers()[header::CONTENT_ENCODING], "gzip");
        assert!(zipped.into_body().collect().await.unwrap().to_bytes().len() < plain.len());
    }

    #[test]
    fn a_page_that_is_not_there_is_a_page_to_people_only() {
        let browser =
            HeaderMap::from_iter([(header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8".parse().unwrap())]);
        let lost = lost(&"/nope".parse().unwrap(), &browser).expect("a browser");
        assert_eq!(
            (lost.status(), &lost.headers()[header::CONTENT_TYPE]),
            (StatusCode::NOT_FOUND, &PAGES[0].kind.parse().unwrap())
        );
        assert!(super::lost(&"/api/v1/nope".parse().unwrap(), &browser).is_none());
        assert!(super::lost(&"/nope".parse().unwrap(), &HeaderMap::new()).is_none());
    }

    /// Every address that a page or module names is one that is served, and none is on another host: a file that was
    /// forgotten in the list above would be a blank page.
    #[tokio::test]
    async fn pages_load_nothing_that_is_not_here() {
        let mut asked = 0;
        for page in PAGES.iter() {
            let text = str::from_utf8(page.content).unwrap();
            let named = text.split(['"', '\'', '(', ')', '`']).filter_map(|word| {
                let module = word.strip_prefix("./").filter(|word| word.ends_with(".js"));
                module
                    .map(|name| format!("/assets/{name}"))
                    .or_else(|| word.starts_with("/assets/").then(|| word.into()))
            });
            for address in named {
                assert_eq!(fetch(&address, &[]).await.status(), StatusCode::OK, "{} names {address}", page.name);
                asked += 1;
            }
            for foreign in ["https://", "//cdn", "http://"] {
                let own = text.replace("http://www.w3.org/2000/svg", ""); // a name, not an address
                assert!(!own.contains(foreign), "{} reaches out: {foreign}", page.name);
            }
            assert!(!text.contains("style=\"") && !text.contains("onclick="), "{}: the policy forbids it", page.name);
        }
        assert!(asked > 10, "{asked} addresses found: does this test still read them?");
        assert_eq!(fetch("/assets/../Cargo.toml", &[]).await.status(), StatusCode::NOT_FOUND);
    }
}
