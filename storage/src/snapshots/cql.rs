//! Snapshots in ScyllaDB, or whatever else speaks CQL: in chunks, since a row should not be large.
//!
//! Each attempt to save one has chunks of its own, and a row that says what it will be before the first of them is written. It
//! counts from when that row says that it is finished, and only with all its chunks and the right checksum. So whoever dies
//! on the way leaves what was there before as it was, and something that the next one to save can find and remove.

use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::model::ids::ShardId;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;

use super::{Accept, KEPT, SnapshotError, SnapshotMeta, Snapshots};
use crate::cql::Cql;
use crate::journal::Position;

/// Bytes of a chunk: of a megabyte, which is where ScyllaDB's users are told to stop, a quarter.
const CHUNK: usize = 256 << 10;
/// Chunks on their way at a time: 2 MiB.
const CONCURRENCY: usize = 8;

/// Its chunks are being written, or were when somebody died.
const UNFINISHED: i8 = 0;
const FINISHED: i8 = 1;
/// It was found to be ahead of the journal. One is kept, for a person to look at.
const AHEAD: i8 = 2;

/// Snapshots in a keyspace.
pub struct CqlSnapshots {
    cql: Arc<Cql>,
    write_head: PreparedStatement,
    read_heads: PreparedStatement,
    remove_head: PreparedStatement,
    write_chunk: PreparedStatement,
    read_chunk: PreparedStatement,
    remove_chunks: PreparedStatement,
}

/// What a row says of an attempt.
struct Head {
    seq: i64,
    /// When it was begun, in µs since 1970. Also what its writes are ordered by, so that no other clock has a say.
    attempt: i64,
    state: i8,
    chunks: i32,
    /// Over meta data and body.
    crc: i64,
    meta: Vec<u8>,
}

impl CqlSnapshots {
    /// The snapshots of this keyspace.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn open(cql: Arc<Cql>) -> Result<Self, SnapshotError> {
        let prepared = cql.wait(async {
            let write_head =
                "INSERT INTO {}.snapshots (shard, seq, attempt, state, chunks, crc, meta) VALUES (?, ?, ?, ?, ?, ?, ?)";
            let read_heads = "SELECT seq, attempt, state, chunks, crc, meta FROM {}.snapshots WHERE shard = ?";
            Ok::<_, String>([
                cql.prepare(write_head).await?,
                cql.prepare(read_heads).await?,
                cql.prepare("DELETE FROM {}.snapshots WHERE shard = ? AND seq = ? AND attempt = ?").await?,
                cql.prepare("INSERT INTO {}.snapshot_chunks (shard, attempt, chunk, body) VALUES (?, ?, ?, ?)").await?,
                cql.prepare("SELECT body FROM {}.snapshot_chunks WHERE shard = ? AND attempt = ? AND chunk = ?")
                    .await?,
                cql.prepare("DELETE FROM {}.snapshot_chunks WHERE shard = ? AND attempt = ?").await?,
            ])
        });
        let prepared = prepared.map_err(|why| SnapshotError::Io {
            doing: "prepare to keep",
            file: "in the CQL servers".into(),
            source: io::Error::other(why),
        })?;
        let [write_head, read_heads, remove_head, write_chunk, read_chunk, remove_chunks] = prepared;
        Ok(Self { cql, write_head, read_heads, remove_head, write_chunk, read_chunk, remove_chunks })
    }

    async fn execute(
        &self,
        statement: &PreparedStatement,
        timestamp: i64,
        values: impl SerializeRow,
    ) -> Result<(), io::Error> {
        let mut statement = statement.clone();
        statement.set_timestamp(Some(timestamp));
        self.cql.session.execute_unpaged(&statement, values).await.map(drop).map_err(io::Error::other)
    }

    async fn write_head(&self, shard: ShardId, head: &Head) -> Result<(), io::Error> {
        let Head { seq, attempt, state, chunks, crc, meta } = head;
        let values = (i32::from(shard.0), seq, attempt, state, chunks, crc, meta);
        self.execute(&self.write_head, attempt + i64::from(*state), values).await
    }

    /// What there is of a shard, newest first.
    async fn heads(&self, shard: ShardId) -> Result<Vec<Head>, io::Error> {
        let found = self.cql.session.execute_unpaged(&self.read_heads, (i32::from(shard.0),)).await;
        let found = found.map_err(io::Error::other)?.into_rows_result().map_err(io::Error::other)?;
        let rows = found.rows::<(i64, i64, i8, i32, i64, Vec<u8>)>().map_err(io::Error::other)?;
        let head = |(seq, attempt, state, chunks, crc, meta)| Head { seq, attempt, state, chunks, crc, meta };
        rows.map(|row| row.map(head).map_err(io::Error::other)).collect()
    }

    async fn remove(&self, shard: ShardId, head: &Head) -> Result<(), io::Error> {
        let (of, attempt, last) = (i32::from(shard.0), head.attempt, head.attempt + i64::from(i8::MAX));
        self.execute(&self.remove_chunks, last, (of, attempt)).await?;
        self.execute(&self.remove_head, last, (of, head.seq, attempt)).await
    }

    async fn write_chunks(&self, shard: ShardId, attempt: i64, body: &[u8]) -> Result<(), io::Error> {
        let chunks = body.chunks(CHUNK).zip(0_i32..);
        let chunks = chunks.map(|(chunk, number)| {
            self.execute(&self.write_chunk, attempt, (i32::from(shard.0), attempt, number, chunk))
        });
        stream::iter(chunks).buffer_unordered(CONCURRENCY).try_collect().await
    }

    /// A snapshot's body, as far as there is one.
    async fn body(&self, shard: ShardId, head: &Head) -> Result<Vec<u8>, io::Error> {
        let chunk = async |number: i32| {
            let values = (i32::from(shard.0), head.attempt, number);
            let found = self.cql.session.execute_unpaged(&self.read_chunk, values).await.map_err(io::Error::other)?;
            let found = found.into_rows_result().map_err(io::Error::other)?;
            let chunk: Option<(Vec<u8>,)> = found.maybe_first_row().map_err(io::Error::other)?;
            Ok::<_, io::Error>(chunk.map_or_else(Vec::new, |(chunk,)| chunk))
        };
        let mut chunks = stream::iter((0..head.chunks).map(chunk)).buffered(CONCURRENCY);
        let mut body = Vec::new();
        while let Some(chunk) = chunks.next().await {
            body.extend_from_slice(&chunk?);
        }
        Ok(body)
    }

    async fn save_and_forget(&self, meta: &SnapshotMeta, body: &[u8]) -> Result<(), (&'static str, io::Error)> {
        let shard = meta.shard;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let written = postcard::to_allocvec(meta).expect("plain data always encodes");
        let mut head = Head {
            seq: meta.seq as i64,
            attempt: since_1970.as_micros() as i64,
            state: UNFINISHED,
            chunks: body.chunks(CHUNK).len() as i32,
            crc: checksum(&written, body).into(),
            meta: written,
        };
        self.write_head(shard, &head).await.map_err(|why| ("begin", why))?;
        self.write_chunks(shard, head.attempt, body).await.map_err(|why| ("write", why))?;
        head.state = FINISHED;
        self.write_head(shard, &head).await.map_err(|why| ("finish", why))?;

        let (mut kept, mut set_aside) = (vec![head.seq], 0);
        for other in self.heads(shard).await.map_err(|why| ("list the others of", why))? {
            let keep = match other.state {
                _ if other.attempt == head.attempt => continue,
                FINISHED if !kept.contains(&other.seq) && kept.len() < KEPT => {
                    kept.push(other.seq);
                    true
                }
                AHEAD => {
                    set_aside += 1;
                    set_aside == 1
                }
                _ => false,
            };
            if !keep {
                self.remove(shard, &other).await.map_err(|why| ("remove an older one than", why))?;
            }
        }
        Ok(())
    }
}

fn checksum(meta: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(meta), body)
}

fn name(shard: ShardId, seq: i64) -> String {
    format!("of shard {} at record {seq}", shard.0)
}

impl Snapshots for CqlSnapshots {
    fn save(&self, meta: &SnapshotMeta, body: &[u8]) -> Result<(), SnapshotError> {
        let saved = self.cql.wait(self.save_and_forget(meta, body));
        saved.map_err(|(doing, source)| SnapshotError::Io { doing, file: name(meta.shard, meta.seq as i64), source })
    }

    fn newest(&self, shard: ShardId, within: Position, accept: &mut Accept<'_>) -> Result<bool, SnapshotError> {
        let fault = |doing, seq| move |source| SnapshotError::Io { doing, file: name(shard, seq), source };
        self.cql.wait(async {
            for mut head in self.heads(shard).await.map_err(fault("list", 0))? {
                if head.state != FINISHED {
                    continue;
                }
                let name = name(shard, head.seq);
                let body = self.body(shard, &head).await.map_err(fault("read", head.seq))?;
                if i64::from(checksum(&head.meta, &body)) != head.crc {
                    tracing::warn!(name, "a snapshot is skipped: it fails its checksum");
                    continue;
                }
                let Ok(meta) = postcard::from_bytes::<SnapshotMeta>(&head.meta) else {
                    tracing::warn!(name, "a snapshot is skipped: its meta data does not decode");
                    continue;
                };
                if meta.shard != shard {
                    tracing::warn!(name, "a snapshot is skipped: it is of another shard than its name says");
                } else if meta.position > within {
                    tracing::warn!(
                        name,
                        covers = meta.position.0,
                        journal = within.0,
                        "a snapshot is skipped and set aside: it is ahead of the journal"
                    );
                    head.state = AHEAD;
                    self.write_head(shard, &head).await.map_err(fault("set aside", head.seq))?;
                } else if accept(&meta, &body) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }
}
