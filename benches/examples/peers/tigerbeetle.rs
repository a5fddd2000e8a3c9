//! TigerBeetle, where it is installed: a single replica with a fresh file. A debit is a transfer from the wallet's account
//! to the vendor's; its id is the client's key, the account's flags check the balance and keep the history.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ::tigerbeetle::{Account, AccountFlags, Client, CreateAccountStatus, CreateTransferStatus, Transfer};
use anyhow::{anyhow, bail, ensure};
use rustix::process::Signal;

use crate::children::Running;
use crate::load::{Debit, Draws, FILLED, Measured, Shape, Terminal, Verdict, drive};
use crate::report::Proof;

/// Accounts: the vendor, the bank that fills wallets, and behind them the wallets.
const VENDOR: u128 = 1;
const BANK: u128 = 2;
const FIRST_WALLET: u128 = 10;
/// The most accounts or transfers of one request.
const BATCH: usize = 8_189;

/// How long a start may take, and the first answer.
const READY_WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct TigerBeetle {
    address: String,
    /// Clients stay: a server knows 64 at most.
    clients: Vec<Client>,
    wallets: u32,
    /// All that was acknowledged.
    debits: u64,
    amount: i64,
    last: Option<(Debit, i64)>,
    _server: Running,
}

impl TigerBeetle {
    /// `Err(why)` if it is not there, or is not one that this client can talk to.
    pub(crate) async fn start(folder: &Path, wallets: u32) -> anyhow::Result<Result<Self, String>> {
        let (file, log) = (folder.join("0_0.tigerbeetle"), folder.join("log"));
        let mut format = Command::new("tigerbeetle");
        format.args(["format", "--cluster=0", "--replica=0", "--replica-count=1"]).arg(&file);
        let Ok(made) = format.output() else { return Ok(Err("there is no `tigerbeetle` on the PATH".into())) };
        ensure!(made.status.success(), "tigerbeetle format: {}", String::from_utf8_lossy(&made.stderr));
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut server = Command::new("tigerbeetle");
        server.arg("start").arg(format!("--addresses={address}")).arg(&file);
        // It has nothing to tidy up: what it has acknowledged is on disk.
        let mut server = Running::start(server, &log, Signal::TERM)?;
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if began.elapsed() > READY_WITHIN || server.ended() {
                bail!("tigerbeetle start: {}", crate::last_words(&log));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let address = address.to_string();
        let clients = Vec::new();
        let mut this = Self { address, clients, wallets, debits: 0, amount: 0, last: None, _server: server };
        this.connect(1)?;
        // A client asks again until it is answered; one that is too new for the server never is.
        match tokio::time::timeout(READY_WITHIN, this.fill()).await {
            Ok(filled) => filled.map(|()| Ok(this)),
            Err(_) => Ok(Err(format!(
                "the server does not answer this client (0.17.9): {}",
                crate::last_words(&log).lines().last().unwrap_or_default()
            ))),
        }
    }

    fn connect(&mut self, clients: usize) -> anyhow::Result<()> {
        while self.clients.len() < clients {
            let client = Client::new(0, &self.address).map_err(|why| anyhow!("TigerBeetle's client: {why:?}"))?;
            self.clients.push(client);
        }
        Ok(())
    }

    async fn fill(&self) -> anyhow::Result<()> {
        let client = &self.clients[0];
        let account = |id, flags| Account { id, ledger: 1, code: 1, flags, ..Account::default() };
        let mut accounts = vec![account(VENDOR, AccountFlags::empty()), account(BANK, AccountFlags::empty())];
        let flags = AccountFlags::DebitsMustNotExceedCredits | AccountFlags::History;
        accounts.extend((0..u128::from(self.wallets)).map(|wallet| account(FIRST_WALLET + wallet, flags)));
        for part in accounts.chunks(BATCH) {
            for made in client.create_accounts(part).await.map_err(|why| anyhow!("{why:?}"))? {
                ensure!(made.status == CreateAccountStatus::Created, "an account: {:?}", made.status);
            }
        }
        let fill =
            (0..u128::from(self.wallets)).map(|wallet| transfer(1 + wallet, BANK, FIRST_WALLET + wallet, FILLED));
        for part in fill.collect::<Vec<_>>().chunks(BATCH) {
            for made in client.create_transfers(part).await.map_err(|why| anyhow!("{why:?}"))? {
                ensure!(made.status == CreateTransferStatus::Created, "a wallet's filling: {:?}", made.status);
            }
        }
        Ok(())
    }

    pub(crate) async fn measure(
        &mut self,
        shape: Shape,
        lasts: Duration,
        draws: &mut Draws,
    ) -> anyhow::Result<Measured> {
        self.connect(shape.connections)?;
        let mut devices: Vec<_> = self.clients[..shape.connections].iter().map(TigerBeetleTerminal).collect();
        let measured = drive(&mut devices, shape.window, lasts, draws).await?;
        self.debits += measured.debits;
        self.amount += measured.amount;
        self.last = measured.last;
        Ok(measured)
    }

    pub(crate) async fn prove(&mut self, draws: &mut Draws) -> anyhow::Result<Proof> {
        let client = &self.clients[0];
        let (mut device, mut once, mut verdicts) = (TigerBeetleTerminal(client), true, Vec::new());
        if let Some((debit, balance)) = self.last {
            device.debits(&[debit], &mut verdicts).await?;
            once &= verdicts == [Verdict::Again { balance }];
        }
        let terminal = draws.terminal();
        let too_much = Debit { amount: FILLED + 1, ..draws.debit(terminal, 1) };
        verdicts.clear();
        device.debits(&[too_much], &mut verdicts).await?;
        once &= verdicts == [Verdict::Refused];

        let (mut spent, mut odd) = (0_u128, 0_u64);
        let ids: Vec<u128> = (0..u128::from(self.wallets)).map(|wallet| FIRST_WALLET + wallet).collect();
        for part in ids.chunks(BATCH) {
            let accounts = client.lookup_accounts(part).await.map_err(|why| anyhow!("{why:?}"))?;
            odd += (part.len() - accounts.len()) as u64;
            for account in accounts {
                odd += u64::from(account.credits_posted != FILLED as u128 || account.debits_posted > FILLED as u128);
                spent += account.debits_posted;
            }
        }
        let vendor = client.lookup_accounts(&[VENDOR]).await.map_err(|why| anyhow!("{why:?}"))?;
        let taken = vendor.first().map_or(0, |vendor| vendor.credits_posted);
        let holds = once && odd == 0 && spent == self.amount as u128 && taken == spent;
        Ok(Proof {
            who: "tigerbeetle",
            holds,
            says: format!(
                "{} debits of {} acknowledged, wallets have spent {spent}, the vendor has {taken}; {odd} wallets do not \
                 add up; asked again {}",
                self.debits,
                self.amount,
                if once { "nothing happens" } else { "IT HAPPENS AGAIN" },
            ),
        })
    }
}

fn transfer(id: u128, from: u128, to: u128, amount: i64) -> Transfer {
    let amount = amount as u128;
    Transfer { id, debit_account_id: from, credit_account_id: to, amount, ledger: 1, code: 1, ..Transfer::default() }
}

struct TigerBeetleTerminal<'a>(&'a Client);

impl Terminal for TigerBeetleTerminal<'_> {
    async fn debits(&mut self, debits: &[Debit], verdicts: &mut Vec<Verdict>) -> anyhow::Result<()> {
        let key = |debit: &Debit| (debit.terminal as u128) << 64 | debit.seq as u128;
        let all: Vec<Transfer> = debits
            .iter()
            .map(|debit| transfer(key(debit), FIRST_WALLET + debit.wallet as u128, VENDOR, debit.amount))
            .collect();
        let made = self.0.create_transfers(&all).await.map_err(|why| anyhow!("{why:?}"))?;
        ensure!(made.len() == debits.len(), "{} answers to {} debits", made.len(), debits.len());
        for made in made {
            // What is left in the wallet it does not say with the answer.
            verdicts.push(match made.status {
                CreateTransferStatus::Created => Verdict::Paid { balance: 0 },
                CreateTransferStatus::Exists => Verdict::Again { balance: 0 },
                CreateTransferStatus::ExceedsCredits => Verdict::Refused,
                other => bail!("a transfer: {other:?}"),
            });
        }
        Ok(())
    }
}
