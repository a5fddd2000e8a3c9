//! Redis, as Debian has it, with `appendfsync always`, on a socket in its own folder.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, cmd, pipe};
use anyhow::ensure;
use rustix::process::Signal;

use crate::children::Running;
use crate::last_words;
use crate::load::{Debit, Draws, FILLED, Measured, Shape, Terminal, Verdict, drive};
use crate::report::Proof;

/// The key is kept for as long as ours is: 72 hours.
const DEBIT: &str = "
    local again = redis.call('GET', KEYS[3])
    if again then return {2, tonumber(again)} end
    local before = tonumber(redis.call('GET', KEYS[1]) or '0')
    local amount = tonumber(ARGV[1])
    if before < amount then return {0, before} end
    local after = before - amount
    redis.call('SET', KEYS[1], string.format('%.0f', after))
    redis.call('RPUSH', KEYS[2], string.format('%.0f %.0f %.0f', amount, before, after))
    redis.call('SET', KEYS[3], string.format('%.0f', after), 'EX', 259200)
    return {1, after}
";

pub(crate) struct Redis {
    client: Client,
    script: String,
    wallets: u32,
    /// All that was acknowledged.
    debits: u64,
    amount: i64,
    last: Option<(Debit, i64)>,
    _server: Running,
}

impl Redis {
    pub(crate) async fn start(folder: &Path, wallets: u32) -> anyhow::Result<Self> {
        let (socket, log) = (folder.join("socket"), folder.join("log"));
        let mut server = Command::new("redis-server");
        server.args(["--port", "0", "--daemonize", "no", "--maxclients", "1000"]);
        server.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
        // Rewriting its log in the middle of a measurement would count against it.
        server.args(["--auto-aof-rewrite-percentage", "0"]);
        server.arg("--unixsocket").arg(&socket).arg("--dir").arg(folder).current_dir(folder);
        let mut server = Running::start(server, &log, Signal::TERM)?;
        let client = Client::open(format!("unix://{}", socket.display()))?;
        let began = Instant::now();
        let mut control = loop {
            match connect(&client).await {
                Ok(connection) => break connection,
                Err(_) if began.elapsed() < Duration::from_secs(30) && !server.ended() => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => return Err(error.context(last_words(&log))),
            }
        };
        for first in (0..wallets).step_by(1_000) {
            let mut fill = cmd("MSET");
            for id in first..wallets.min(first + 1_000) {
                fill.arg(format!("w:{id}")).arg(FILLED);
            }
            fill.query_async::<()>(&mut control).await?;
        }
        let script = cmd("SCRIPT").arg("LOAD").arg(DEBIT).query_async(&mut control).await?;
        Ok(Self { client, script, wallets, debits: 0, amount: 0, last: None, _server: server })
    }

    pub(crate) async fn measure(
        &mut self,
        shape: Shape,
        lasts: Duration,
        draws: &mut Draws,
    ) -> anyhow::Result<Measured> {
        let mut devices = Vec::new();
        for _ in 0..shape.connections {
            devices.push(self.device().await?);
        }
        let measured = drive(&mut devices, shape.window, lasts, draws).await?;
        self.debits += measured.debits;
        self.amount += measured.amount;
        self.last = measured.last;
        Ok(measured)
    }

    async fn device(&self) -> anyhow::Result<RedisTerminal> {
        Ok(RedisTerminal { connection: connect(&self.client).await?, script: self.script.clone() })
    }

    pub(crate) async fn prove(&mut self, draws: &mut Draws) -> anyhow::Result<Proof> {
        let (mut device, mut once) = (self.device().await?, true);
        let mut verdicts = Vec::new();
        if let Some((debit, balance)) = self.last {
            device.debits(&[debit], &mut verdicts).await?;
            once &= verdicts == [Verdict::Again { balance }];
        }
        let terminal = draws.terminal();
        let too_much = Debit { amount: FILLED + 1, ..draws.debit(terminal, 1) };
        verdicts.clear();
        device.debits(&[too_much], &mut verdicts).await?;
        once &= verdicts == [Verdict::Refused];

        let (mut left, mut spent, mut debits, mut odd) = (0_i64, 0_i64, 0_u64, 0_u64);
        for id in 0..self.wallets {
            let mut ask = pipe();
            ask.cmd("GET").arg(format!("w:{id}")).cmd("LRANGE").arg(format!("h:{id}")).arg(0).arg(-1);
            let (balance, history): (i64, Vec<String>) = ask.query_async(&mut device.connection).await?;
            let mut at = FILLED;
            for entry in &history {
                let numbers: Vec<i64> = entry.split(' ').filter_map(|number| number.parse().ok()).collect();
                let [amount, before, after] = numbers[..] else { anyhow::bail!("{entry:?} in wallet {id}'s history") };
                odd += u64::from(before != at || before - amount != after);
                at = after;
                spent += amount;
                debits += 1;
            }
            odd += u64::from(balance != at);
            left += balance;
        }
        let filled = FILLED * i64::from(self.wallets);
        let holds = once && odd == 0 && debits == self.debits && spent == self.amount && left + spent == filled;
        Ok(Proof {
            who: "redis",
            holds,
            says: format!(
                "{} debits of {} acknowledged, {debits} of {spent} in the histories; {left} of {filled} left; {odd} \
                 entries do not add up; asked again {}",
                self.debits,
                self.amount,
                if once { "nothing happens" } else { "IT HAPPENS AGAIN" },
            ),
        })
    }
}

struct RedisTerminal {
    connection: MultiplexedConnection,
    script: String,
}

impl Terminal for RedisTerminal {
    async fn debits(&mut self, debits: &[Debit], verdicts: &mut Vec<Verdict>) -> anyhow::Result<()> {
        let mut all = pipe();
        for Debit { terminal, seq, wallet, amount } in debits {
            all.cmd("EVALSHA").arg(&self.script).arg(3);
            all.arg(format!("w:{wallet}")).arg(format!("h:{wallet}")).arg(format!("k:{terminal}:{seq}")).arg(amount);
        }
        let answers: Vec<(i64, i64)> = all.query_async(&mut self.connection).await?;
        ensure!(answers.len() == debits.len(), "{} answers to {} debits", answers.len(), debits.len());
        verdicts.extend(answers.into_iter().map(|(verdict, balance)| Verdict::new(verdict, balance)));
        Ok(())
    }
}

async fn connect(client: &Client) -> anyhow::Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}
