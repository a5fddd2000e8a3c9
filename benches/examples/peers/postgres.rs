//! PostgreSQL, as Debian has it, on a socket in its own folder.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use rustix::process::Signal;
use tokio_postgres::{Client, NoTls, Statement};

use crate::children::Running;
use crate::last_words;
use crate::load::{Debit, Draws, FILLED, Measured, Shape, Terminal, Verdict, drive};
use crate::report::Proof;

/// The key is the only index that a debit needs: none for reading a wallet's history.
const TABLES: &str = "
    CREATE TABLE wallet (id bigint PRIMARY KEY, balance bigint NOT NULL CHECK (balance >= 0)) WITH (fillfactor = 50);
    CREATE TABLE history (
        terminal integer NOT NULL, seq bigint NOT NULL, wallet bigint NOT NULL, amount bigint NOT NULL,
        before bigint NOT NULL, after bigint NOT NULL, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (terminal, seq)
    );
    CREATE FUNCTION debit(t integer, s bigint, w bigint, a bigint, OUT verdict integer, OUT remains bigint)
    LANGUAGE plpgsql AS $$
    BEGIN
        SELECT after INTO remains FROM history WHERE terminal = t AND seq = s;
        IF FOUND THEN verdict := 2; RETURN; END IF;
        UPDATE wallet SET balance = balance - a WHERE id = w AND balance >= a RETURNING balance INTO remains;
        IF NOT FOUND THEN verdict := 0; remains := 0; RETURN; END IF;
        INSERT INTO history (terminal, seq, wallet, amount, before, after) VALUES (t, s, w, a, remains + a, remains);
        verdict := 1;
    END $$;
";

/// As a careful operator of a machine like this would set it; all that makes it durable is on.
const SETTINGS: &[&str] = &[
    "listen_addresses=",
    "max_connections=300",
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "shared_buffers=512MB",
    "max_wal_size=4GB",
    "checkpoint_timeout=30min",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// One function call.
    Function,
    /// Begin, look, change, note, commit.
    Statements,
}

pub(crate) struct Postgres {
    control: Client,
    wallets: u32,
    /// All that was acknowledged.
    debits: u64,
    amount: i64,
    last: Option<(Debit, i64)>,
    socket: PathBuf,
    _server: Running,
}

impl Postgres {
    pub(crate) async fn start(folder: &Path, wallets: u32) -> anyhow::Result<Self> {
        let programs = programs()?;
        let other = if rustix::process::geteuid().is_root() { Some(own_user(folder)?) } else { None };
        let command = |name: &str| match &other {
            None => Command::new(programs.join(name)),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", user, "--regid", user, "--clear-groups"]).arg(programs.join(name));
                command
            }
        };
        let (data, log) = (folder.join("data"), folder.join("log"));
        let made = command("initdb")
            .args(["--auth=trust", "--username=peers", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&data)
            .current_dir(folder)
            .output()?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut server = command("postgres");
        server.arg("-D").arg(&data).arg("-k").arg(folder).current_dir(folder);
        for setting in SETTINGS {
            server.args(["-c", setting]);
        }
        // SIGINT: rolls back what is under way, and stops.
        let mut server = Running::start(server, &log, Signal::INT)?;
        let began = Instant::now();
        let control = loop {
            match connect(folder).await {
                Ok(client) => break client,
                Err(_) if began.elapsed() < Duration::from_secs(30) && !server.ended() => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => return Err(error.context(last_words(&log))),
            }
        };
        control.batch_execute(TABLES).await?;
        let fill = "INSERT INTO wallet SELECT id, $1 FROM generate_series(0, $2::bigint - 1) id";
        control.execute(fill, &[&FILLED, &i64::from(wallets)]).await?;
        control.batch_execute("ANALYZE; CHECKPOINT").await?;
        let socket = folder.to_owned();
        Ok(Self { control, wallets, debits: 0, amount: 0, last: None, socket, _server: server })
    }

    pub(crate) async fn measure(
        &mut self,
        ask: Ask,
        shape: Shape,
        lasts: Duration,
        draws: &mut Draws,
    ) -> anyhow::Result<Measured> {
        let mut devices = Vec::new();
        for _ in 0..shape.connections {
            devices.push(PostgresTerminal::new(connect(&self.socket).await?, ask).await?);
        }
        let measured = drive(&mut devices, shape.window, lasts, draws).await?;
        self.debits += measured.debits;
        self.amount += measured.amount;
        self.last = measured.last;
        drop(devices);
        // What it would write later shall not fall into its neighbour's turn.
        self.control.batch_execute("CHECKPOINT").await?;
        Ok(measured)
    }

    pub(crate) async fn prove(&mut self, draws: &mut Draws) -> anyhow::Result<Proof> {
        let mut once = true;
        for ask in [Ask::Function, Ask::Statements] {
            let mut device = PostgresTerminal::new(connect(&self.socket).await?, ask).await?;
            let mut verdicts = Vec::new();
            if let Some((debit, balance)) = self.last {
                device.debits(&[debit], &mut verdicts).await?;
                let again = match ask {
                    Ask::Function => Verdict::Again { balance },
                    // The key alone is looked at: what the balance was then would take one more statement.
                    Ask::Statements => Verdict::Again { balance: 0 },
                };
                once &= verdicts == [again];
            }
            let terminal = draws.terminal();
            let too_much = Debit { amount: FILLED + 1, ..draws.debit(terminal, 1) };
            verdicts.clear();
            device.debits(&[too_much], &mut verdicts).await?;
            once &= verdicts == [Verdict::Refused];
        }
        let sums = self
            .control
            .query_one(
                "SELECT (SELECT sum(balance) FROM wallet)::bigint, count(*), coalesce(sum(amount), 0)::bigint, \
                 count(*) FILTER (WHERE before - amount <> after) FROM history",
                &[],
            )
            .await?;
        let odd = "SELECT count(*) FROM wallet w LEFT JOIN \
                   (SELECT wallet, sum(amount)::bigint AS spent, min(after) AS least FROM history GROUP BY wallet) h \
                   ON h.wallet = w.id WHERE w.balance <> $1 - coalesce(spent, 0) OR w.balance <> coalesce(least, $1)";
        let odd: i64 = self.control.query_one(odd, &[&FILLED]).await?.try_get(0)?;
        let (left, debits, spent): (i64, i64, i64) = (sums.try_get(0)?, sums.try_get(1)?, sums.try_get(2)?);
        let broken: i64 = sums.try_get(3)?;
        let filled = FILLED * i64::from(self.wallets);
        let holds = once && odd == 0 && broken == 0 && debits as u64 == self.debits && spent == self.amount;
        Ok(Proof {
            who: "postgres",
            holds: holds && left + spent == filled,
            says: format!(
                "{} debits of {} acknowledged, {debits} of {spent} in the history; {left} of {filled} left; {odd} wallets \
                 and {broken} entries do not add up; asked again {}",
                self.debits,
                self.amount,
                if once { "nothing happens" } else { "IT HAPPENS AGAIN" },
            ),
        })
    }
}

struct PostgresTerminal {
    client: Client,
    ask: Ask,
    statements: Vec<Statement>,
}

impl PostgresTerminal {
    async fn new(client: Client, ask: Ask) -> anyhow::Result<Self> {
        let texts: &[&str] = match ask {
            Ask::Function => &["SELECT verdict, remains FROM debit($1, $2, $3, $4)"],
            Ask::Statements => &[
                "SELECT balance FROM wallet WHERE id = $1 FOR UPDATE",
                "UPDATE wallet SET balance = $2 WHERE id = $1",
                "INSERT INTO history (terminal, seq, wallet, amount, before, after) VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT DO NOTHING",
            ],
        };
        let statements = try_join_all(texts.iter().map(|text| client.prepare(text))).await?;
        Ok(Self { client, ask, statements })
    }

    async fn call(&self, debit: &Debit) -> anyhow::Result<Verdict> {
        let Debit { terminal, seq, wallet, amount } = debit;
        let row = self.client.query_one(&self.statements[0], &[terminal, seq, wallet, amount]).await?;
        let verdict: i32 = row.try_get(0)?;
        Ok(Verdict::new(verdict.into(), row.try_get(1)?))
    }

    async fn statements(&self, debit: &Debit) -> anyhow::Result<Verdict> {
        let Debit { terminal, seq, wallet, amount } = debit;
        self.client.batch_execute("BEGIN").await?;
        let before: i64 = self.client.query_one(&self.statements[0], &[wallet]).await?.try_get(0)?;
        let after = before - amount;
        if after < 0 {
            self.client.batch_execute("ROLLBACK").await?;
            return Ok(Verdict::Refused);
        }
        self.client.execute(&self.statements[1], &[wallet, &after]).await?;
        let noted = self.client.execute(&self.statements[2], &[terminal, seq, wallet, amount, &before, &after]).await?;
        if noted == 0 {
            self.client.batch_execute("ROLLBACK").await?;
            return Ok(Verdict::Again { balance: 0 });
        }
        self.client.batch_execute("COMMIT").await?;
        Ok(Verdict::Paid { balance: after })
    }
}

impl Terminal for PostgresTerminal {
    async fn debits(&mut self, debits: &[Debit], verdicts: &mut Vec<Verdict>) -> anyhow::Result<()> {
        match self.ask {
            // What is sent before it is waited for is pipelined.
            Ask::Function => verdicts.extend(try_join_all(debits.iter().map(|debit| self.call(debit))).await?),
            Ask::Statements => {
                for debit in debits {
                    verdicts.push(self.statements(debit).await?);
                }
            }
        }
        Ok(())
    }
}

async fn connect(socket: &Path) -> anyhow::Result<Client> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(socket).user("peers").dbname("postgres");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The newest version that Debian has installed.
fn programs() -> anyhow::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed")?;
    let found = versions
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
            path.join("bin/postgres").exists().then(|| (version, path.join("bin")))
        })
        .max();
    Ok(found.context("PostgreSQL's server is not installed")?.1)
}

/// It refuses to run as root: Debian has made it a user. Gives the folder to it.
fn own_user(folder: &Path) -> anyhow::Result<String> {
    let id = |what| -> anyhow::Result<u32> {
        let said = Command::new("id").args([what, "postgres"]).output()?;
        String::from_utf8_lossy(&said.stdout).trim().parse().context("there is no user `postgres`")
    };
    chown(folder, Some(id("-u")?), Some(id("-g")?))?;
    Ok("postgres".into())
}
