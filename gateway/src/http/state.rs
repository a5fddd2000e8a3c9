//! What every handler can reach, and how it asks: the shards for changes and views, the read models for lists. No route is
//! known here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actors::Node;
use engine::command::ask::Ask;
use engine::command::{AdminAction, AdminAnswer, AdminCommand, IdempotencyKey};
use engine::gates::view::FestivalView;
use engine::gates::view::brief::AboutView;
use engine::model::credential::QrSecret;
use engine::model::ids::FestivalId;
use engine::model::rejection::Rejection;
use engine::view::question::{GetAbout, GetFestival, Question};
use storage::views::wanted::while_wanted;
use tapgate_wire::Fingerprint;

use crate::auth::{OneTime, Operator};
use crate::http::kit::answer::Done;
use crate::http::kit::asking;
use crate::http::kit::problem::{Fault, Problem};
use crate::http::kit::shares::{CallPermits, Holder};
use crate::placement::Placement;
use crate::read_models::{ReadError, ReadModels};
use crate::server::latency::LatencyTracker;
use crate::server::metrics::PrometheusHandle;

/// What every handler can reach. Clones are cheap.
#[derive(Clone)]
pub struct AppState {
    /// The one door to the shards.
    pub node: Node,
    /// Signs QRs.
    pub qr_secret: QrSecret,
    /// Makes what is shown once.
    pub one_time: OneTime,
    /// What follows the journal; `None` until it is there.
    pub read_models: Option<Arc<dyn ReadModels>>,
    /// The node's part among several; `None`: it is alone.
    pub placement: Option<Arc<dyn Placement>>,
    /// Where readers reach the QUIC door, `host:port`, as enrolment offers say it.
    pub quic_address: Arc<str>,
    /// SHA-256 of the server's certificate, which readers pin.
    pub fingerprint: Fingerprint,
    /// How long scans took lately; the QUIC door writes it.
    pub latency: Arc<LatencyTracker>,
    /// Renders `/metrics`.
    pub metrics: PrometheusHandle,
    /// Turns of bulk calls.
    pub uploads: CallPermits,
    /// Turns of reads of the read models.
    pub reads: CallPermits,
}

impl AppState {
    /// Asks for a change, and waits until the answer is durable. `true` beside it says that nothing happened now.
    ///
    /// # Errors
    /// The engine's rejection.
    pub async fn ask(
        &self,
        operator: &Operator,
        key: Option<IdempotencyKey>,
        action: AdminAction,
    ) -> Result<(AdminAnswer, bool), Problem> {
        match self.node.ask(AdminCommand { key, by: operator.principal(), action }).await {
            (AdminAnswer::Rejected(rejection), repeated) => Err(Problem::from(rejection).replayed(repeated)),
            answered => Ok(answered),
        }
    }

    /// The same of a change that knows the type of its answer.
    ///
    /// # Errors
    /// The engine's rejection.
    pub async fn ask_for<A: Ask>(
        &self,
        operator: &Operator,
        key: IdempotencyKey,
        ask: A,
    ) -> Result<(A::Answer, bool), Problem> {
        match self.node.ask_for(ask, operator.principal(), Some(key)).await {
            (Ok(answer), repeated) => Ok((answer, repeated)),
            (Err(rejection), repeated) => Err(Problem::from(rejection).replayed(repeated)),
        }
    }

    /// The same where the answer says no more than "it is so".
    ///
    /// # Errors
    /// The engine's rejection.
    pub async fn ask_done(
        &self,
        operator: &Operator,
        key: Option<IdempotencyKey>,
        action: AdminAction,
    ) -> Result<Done, Problem> {
        let (_, replayed) = self.ask(operator, key, action).await?;
        Ok(Done { replayed })
    }

    /// Asks without changing anything.
    ///
    /// # Errors
    /// The engine's rejection.
    pub async fn get<Q: Question>(&self, question: Q) -> Result<Q::Answer, Problem> {
        Ok(self.node.get(question).await?)
    }

    /// The festival with this slug. Whoever calls has checked the operator's right.
    ///
    /// # Errors
    /// `unknown_festival`, also when another slug happens to lead to the same number.
    pub async fn festival(&self, slug: &str) -> Result<Box<FestivalView>, Problem> {
        let view = self.get(GetFestival(FestivalId::of_slug(slug))).await?;
        if view.slug == slug { Ok(view) } else { Err(Rejection::UnknownFestival.into()) }
    }

    /// The same in few words: whether there is one, and with which key it signs.
    ///
    /// # Errors
    /// As [`AppState::festival`].
    pub async fn about(&self, slug: &str) -> Result<Box<AboutView>, Problem> {
        let view = self.get(GetAbout(FestivalId::of_slug(slug))).await?;
        if view.slug == slug { Ok(view) } else { Err(Rejection::UnknownFestival.into()) }
    }

    /// Reads, on the pool for what may block, when it is this key's turn. Whoever stops waiting stops the read.
    pub(super) async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn ReadModels) -> Result<R, ReadError> + Send + 'static,
    ) -> Result<R, Problem> {
        let models = Arc::clone(self.read_models.as_ref().ok_or(Fault::ReadModelsUnavailable)?);
        let asked = Arc::clone(&models);
        let key = asking::key();
        let turn = self.reads.take(Holder { key, organiser: FestivalId(key) }).await.ok_or(Fault::TooManyReads)?;
        let wanted = Abandon(Arc::new(AtomicBool::new(true)));
        let still_wanted = Arc::clone(&wanted.0);
        let reading = move || {
            // Held until the read has ended, whoever waits for it.
            let _permit = turn;
            while_wanted(still_wanted, || read(&*asked))
        };
        match tokio::task::spawn_blocking(reading).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(ReadError::Rebuilding | ReadError::NobodyWaits)) => Err(Fault::ReadModelsUnavailable.into()),
            Ok(Err(ReadError::Failed(reason))) => {
                tracing::error!(reason, "the read models cannot be read");
                models.suspect();
                Err(Fault::ReadModelsUnavailable.into())
            }
            Err(error) => {
                tracing::error!(%error, "a read of the read models broke off");
                models.suspect();
                Err(Rejection::Internal.into())
            }
        }
    }
}

/// Says to a read that nobody waits for it any more, when this is dropped.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
