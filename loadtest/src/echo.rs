//! `echo`: the same frames through a bare quinn server that answers each with the usual answer's bytes and does nothing
//! else. The share of this that a gate or a bar reaches says what its own work costs.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use engine::cashless::command::{CashlessVerdict, TerminalAnswer};
use engine::gates::command::{DeviceAnswer, Direction, Verdict};
use engine::model::credential::QrClaim;
use engine::model::ids::{CategoryNo, FestivalId, TicketId, WalletId, ZoneNo};
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use tapgate_wire::{ALPN, Credential, Fingerprint, Frame, Scan};

use crate::bar;
use crate::cashless_model::{CashlessModel, Customer};
use crate::cli;
use crate::gate;
use crate::link::{Target, socket, transport};
use crate::load::Slot;
use crate::model::{Model, Visitor};
use crate::reader::{DeviceConfig, Reader};
use crate::report::EchoReport;
use crate::stage::{self, Watched, Worked};
use crate::terminal::Terminal;
use crate::workload::bar::CustomerMix;
use crate::workload::gate::Population;

/// What everybody can spend, in minor units: more than anybody drinks in an hour, so all but a few commands are payments.
const RICH: i64 = 1 << 40;

/// Runs it.
///
/// # Errors
/// The echo's process does not start.
pub fn run(args: &cli::Echo) -> anyhow::Result<EchoReport> {
    let echo = Echo::start()?;
    let (load, count) = (&args.load, args.load.connections as usize);
    let device_config = |window| DeviceConfig { window, keep: 0, remember: false, waits: false, echo: true };
    if args.payments {
        let window = bar::window(load, args.tickets, load.connections)?;
        let terminal = |number: usize| {
            let wallets = (number as u32..args.tickets).step_by(count);
            let customers = wallets.map(|id| Customer::new(WalletId(u64::from(id) + 1), None, RICH)).collect();
            let round = CustomerMix::new(load.seed.wrapping_add(number as u64), 0.0);
            Slot {
                simulated: Terminal::new(number, CashlessModel::new(customers), round, device_config(window)),
                offer: None,
            }
        };
        let slots = (0..count).map(terminal).collect();
        let worked = stage::start(load, window, echo.target.clone(), slots, Some(echo.watched()))?.come_home()?;
        return Ok(report("payments", worked, |terminal: &Terminal| terminal.cashless_model.totals.answered));
    }
    let window = gate::window(load, args.tickets)?;
    let reader = |number: usize| {
        let serials = (number as u32..args.tickets).step_by(count);
        let visitor = |serial| {
            let ticket = TicketId::new(FestivalId(1), CategoryNo(0), serial, u64::from(serial));
            Visitor::new(QrClaim { ticket, version: 1, hash: [7; 32] }, false)
        };
        let model = Model::new(serials.map(visitor).collect(), ZoneNo(0), args.tickets);
        let population = Population::new(&model, load.seed.wrapping_add(number as u64));
        Slot { simulated: Reader::new(number, model, population, device_config(window)), offer: None }
    };
    let slots = (0..count).map(reader).collect();
    let worked = stage::start(load, window, echo.target.clone(), slots, Some(echo.watched()))?.come_home()?;
    Ok(report("scans", worked, |reader: &Reader| reader.model.tally.answered))
}

fn report<P>(frames: &'static str, worked: Worked<P>, answered: impl Fn(&P) -> u64) -> EchoReport {
    let Worked { simulated_devices, mut metrics, complaints } = worked;
    metrics.answered(simulated_devices.iter().map(answered).sum(), metrics.took_ns);
    EchoReport { mode: "echo", frames, metrics, notes: complaints }
}

/// The echo's process. It ends with its standard input.
struct Echo {
    child: Child,
    target: Target,
}

impl Echo {
    fn start() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("echo-server").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().context("its output")?).read_line(&mut line)?;
        let (address, fingerprint) = line.trim().split_once(' ').context("the echo did not start")?;
        let target = Target { addresses: [address.parse()?].into(), fingerprint: fingerprint.parse()? };
        Ok(Self { child, target })
    }

    fn watched(&self) -> Watched {
        Watched { pid: self.child.id(), views: None }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It has nothing to lose, and might be busy.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The echo's own process: says where it is through `ready`, and serves until its standard input ends.
///
/// # Errors
/// There is no socket to be had.
pub fn serve(ready: impl FnOnce(&str)) -> anyhow::Result<()> {
    let (tls, fingerprint) = throw_away_tls()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let crypto = QuicServerConfig::try_from(Arc::new(tls))?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(Arc::new(transport()));
        let endpoint = Endpoint::new(EndpointConfig::default(), Some(config), socket()?, Arc::new(TokioRuntime))?;
        ready(&format!("{} {}", endpoint.local_addr()?, fingerprint));
        let (gone, parent_gone) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            let _ = gone.send(());
        });
        let accept = async {
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        // Whatever ends it, there is nobody to tell.
                        let _ = echo(connection).await;
                    }
                });
            }
        };
        tokio::select! {
            () = accept => {}
            _ = parent_gone => {}
        }
        Ok(())
    })
}

/// TLS as the server's own door has it, with a key that nobody keeps; and what there is to pin.
fn throw_away_tls() -> anyhow::Result<(rustls::ServerConfig, Fingerprint)> {
    let pair = rcgen::generate_simple_self_signed(["tapgate".to_owned()])?;
    let fingerprint = Fingerprint::of_key(&rcgen::PublicKeyData::subject_public_key_info(&pair.signing_key));
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.into()], key)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.send_tls13_tickets = 0;
    Ok((tls, fingerprint))
}

/// The usual answer to a scan, with `seq` at its place.
fn usual_answer() -> Vec<u8> {
    let mut answer = DeviceAnswer::rejected(Rejection::Busy, ZoneNo(0), Timestamp(1));
    answer.verdict = Verdict::Admitted;
    answer.ticket = Some(TicketId::new(FestivalId(1), CategoryNo(0), 0, 1));
    Frame::Answer { seq: 0, answer, durable: true }.to_bytes()
}

/// The usual answer to a payment.
fn usual_receipt() -> Vec<u8> {
    let answer = TerminalAnswer::rejected(Rejection::Busy, WalletId(1), Timestamp(1));
    Frame::CashlessAnswer {
        seq: 0,
        answer: TerminalAnswer { verdict: CashlessVerdict::Paid, serial: 1, order: 1, ..answer },
    }
    .to_bytes()
}

/// The number of a scan's kind.
fn scan_kind() -> u8 {
    let credential = Credential::Raw(&[]);
    let (zone, direction, captured_at) = (ZoneNo(0), Direction::Enter, Timestamp(1));
    let scan = Scan { seq: 1, floor: 1, captured_at, zone, direction, shown: None, resent: false, credential };
    Frame::Scan(scan).to_bytes()[2]
}

async fn echo(connection: Connection) -> anyhow::Result<()> {
    let (mut send, mut recv) = connection.accept_bi().await?;
    let (answer, receipt, scan) = (usual_answer(), usual_receipt(), scan_kind());
    let mut chunks: [Bytes; 32] = Default::default();
    let (mut bytes, mut out) = (Vec::new(), Vec::new());
    while let Some(arrived) = recv.read_chunks(&mut chunks).await? {
        chunks[..arrived].iter().for_each(|chunk| bytes.extend_from_slice(chunk));
        let mut at = 0;
        // Length at 0, kind at 2, seq at 4: all that an echo needs to know of a command.
        while let Some(head) = bytes.get(at..at + 12) {
            let len = usize::from(u16::from_le_bytes([head[0], head[1]]));
            if len < 12 || bytes.len() < at + len {
                break;
            }
            let from = out.len();
            out.extend_from_slice(if head[2] == scan { &answer } else { &receipt });
            out[from + 4..from + 12].copy_from_slice(&head[4..12]);
            at += len;
        }
        bytes.drain(..at);
        send.write_all(&out).await?;
        out.clear();
    }
    Ok(())
}
