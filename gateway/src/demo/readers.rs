//! The demo's devices: each is enrolled once by the way every device is, keeps its identity and its queue in the demo's
//! folder, and stands at one gate.

use std::net::SocketAddr;
use std::path::Path;

use actors::Node;
use engine::command::{AdminAction, AdminAnswer};
use engine::gates::view::FestivalView;
use engine::model::ids::FestivalId;
use engine::view::{Query, View};
use tapgate_client::{ClientError, Identity, Reader, ReaderOptions};
use tapgate_wire::{Fingerprint, Offer};

use super::festival::{DemoError, ask};
use crate::auth::{enrolment_code, enrolment_code_hash};
use crate::demo::visitors::Place;

/// Three at each gate of the perimeter, two at each inner one.
pub const READERS: usize = 4 * 3 + 2 * 2;

/// Readers by where they stand.
pub struct Readers {
    ground: Vec<Reader>,
    deck: Vec<Reader>,
    backstage: Vec<Reader>,
}

impl Readers {
    /// Those at gates into this place.
    pub fn at(&self, place: Place) -> &[Reader] {
        match place {
            Place::Outside | Place::Ground => &self.ground,
            Place::Deck => &self.deck,
            Place::Backstage => &self.backstage,
        }
    }

    /// Says goodbye for all of them.
    pub async fn close(&self) {
        let all = self.ground.iter().chain(&self.deck).chain(&self.backstage);
        futures_util::future::join_all(all.map(Reader::close)).await;
    }
}

/// Where the server is, as its readers see it.
#[derive(Clone, Copy)]
pub struct Server {
    /// Its QUIC door.
    pub at: SocketAddr,
    /// Its certificate.
    pub fingerprint: Fingerprint,
}

/// Enrols whoever is not enrolled yet, and connects all.
///
/// # Errors
/// [`DemoError`].
pub async fn connect(node: &Node, view: &FestivalView, folder: &Path, server: Server) -> Result<Readers, DemoError> {
    let folder = folder.join("readers");
    std::fs::create_dir_all(&folder).map_err(|why| DemoError::File { path: folder.display().to_string(), why })?;
    let mut readers = Readers { ground: Vec::new(), deck: Vec::new(), backstage: Vec::new() };
    for gate in &view.gates {
        let (place, count) = match gate.zone.0 {
            0 => (&mut readers.ground, 3),
            1 => (&mut readers.deck, 2),
            _ => (&mut readers.backstage, 2),
        };
        for number in 1..=count {
            let name = format!("{} {number}", gate.name);
            let named = |why: ClientError| DemoError::Reader { name: name.clone(), why: why.to_string() };
            let file = folder.join(format!("{}-{number}.json", gate.no.0));
            let (festival, gate, called) = (view.id, gate.no, name.clone());
            let offer = |code_hash| AdminAction::OfferEnrolment { festival, gate, code_hash, name: called };
            let identity = enrolled(node, festival, &name, &file, server, offer).await?;
            let options = ReaderOptions::with_queue(&file.with_extension("queue"));
            place.push(Reader::start(identity, options).map_err(named)?);
        }
    }
    Ok(readers)
}

/// The identity kept in a file, or a new one, for a code that is offered so.
pub(super) async fn enrolled(
    node: &Node,
    festival: FestivalId,
    name: &str,
    file: &Path,
    server: Server,
    offer: impl FnOnce([u8; 32]) -> AdminAction,
) -> Result<Identity, DemoError> {
    if let Ok(kept) = Identity::load(file) {
        let known = matches!(node.query(Query::Device(kept.device)).await, View::Device(device) if !device.revoked);
        if known {
            // The port may be another one today.
            return Ok(Identity { server: server.at.to_string(), fingerprint: server.fingerprint, ..kept });
        }
        // Somebody has revoked it: a new device takes its place, with nothing of the old one's queue.
        for old in [file.to_owned(), file.with_extension("queue")] {
            let _ = std::fs::remove_file(old);
        }
    }
    let failed = |why: String| DemoError::Reader { name: name.into(), why };
    let random = crate::server::secret::random().map_err(|why| failed(why.to_string()))?;
    let code = enrolment_code(festival, &random);
    let offer = offer(enrolment_code_hash(code.as_bytes()));
    let AdminAnswer::CodeUntil(_) = ask(node, "enrolment code", offer).await? else {
        return Err(failed("there is no code for it".into()));
    };
    let offer = Offer::new(&server.at.to_string(), server.fingerprint, festival, &code)
        .map_err(|why| failed(why.to_string()))?;
    tapgate_client::enrol(&offer, file).await.map_err(|why| failed(why.to_string()))
}
