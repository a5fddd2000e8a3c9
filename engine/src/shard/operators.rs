//! The operators' keys: who may use the office, in what role, at which festivals. Only a hash of a key is ever here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::command::TEXT_LEN_MAX;
use crate::event::{Already, Event};
use crate::gates::festival::Decided;
use crate::model::ids::FestivalId;
use crate::model::rejection::Rejection;
use crate::model::status::Role;
use crate::model::time::Timestamp;
use crate::view::ApiKeyView;

/// The most keys ever made: 16,384 × about 200 B.
pub const API_KEYS_MAX: usize = 16_384;
/// The most festivals one key names.
pub const KEY_FESTIVALS_MAX: usize = 64;

/// All keys of the installation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Operators {
    /// By number, from 1.
    keys: Vec<ApiKey>,
    by_hash: BTreeMap<[u8; 32], u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ApiKey {
    role: Role,
    festivals: Vec<FestivalId>,
    name: String,
    created_at: Timestamp,
    revoked: bool,
}

impl Operators {
    /// Makes a key.
    ///
    /// # Errors
    /// [`Rejection::InvalidValue`] for a hash in use, a long name, or an all-festival key that is not an ADMIN's;
    /// [`Rejection::LimitReached`].
    pub fn decide_create(
        &self,
        hash: &[u8; 32],
        role: Role,
        festivals: &[FestivalId],
        name: &str,
    ) -> Result<Event, Rejection> {
        if self.by_hash.contains_key(hash) || name.len() > TEXT_LEN_MAX || (festivals.is_empty() && role != Role::Admin)
        {
            return Err(Rejection::InvalidValue);
        }
        if self.keys.len() >= API_KEYS_MAX || festivals.len() > KEY_FESTIVALS_MAX {
            return Err(Rejection::LimitReached);
        }
        Ok(Event::ApiKeyCreated {
            key: self.keys.len() as u32 + 1,
            hash: *hash,
            role,
            festivals: festivals.to_vec(),
            name: name.to_owned(),
        })
    }

    /// Revokes a key.
    ///
    /// # Errors
    /// [`Rejection::UnknownKey`].
    pub(crate) fn decide_revoke(&self, key: u32) -> Result<Decided, Rejection> {
        match self.view(key) {
            None => Err(Rejection::UnknownKey),
            Some(known) if known.revoked => Ok(Decided::Already(Already::Done)),
            Some(_) => Ok(Decided::Event(Event::ApiKeyRevoked { key })),
        }
    }

    pub(crate) fn created(
        &mut self,
        key: u32,
        hash: [u8; 32],
        role: Role,
        festivals: Vec<FestivalId>,
        name: String,
        at: Timestamp,
    ) {
        assert_eq!(self.keys.len() as u32 + 1, key, "keys are numbered densely");
        self.keys.push(ApiKey { role, festivals, name, created_at: at, revoked: false });
        self.by_hash.insert(hash, key);
    }

    pub(crate) fn revoked(&mut self, key: u32) {
        self.keys[key as usize - 1].revoked = true;
    }

    fn view(&self, key: u32) -> Option<ApiKeyView> {
        let found = self.keys.get(key.checked_sub(1)? as usize)?;
        Some(ApiKeyView {
            no: key,
            name: found.name.clone(),
            role: found.role,
            festivals: found.festivals.clone(),
            created_at: found.created_at,
            revoked: found.revoked,
        })
    }

    /// The key with this SHA-256, revoked or not.
    pub fn by_hash(&self, hash: &[u8; 32]) -> Option<ApiKeyView> {
        self.view(*self.by_hash.get(hash)?)
    }

    pub fn all(&self) -> Vec<ApiKeyView> {
        (1..=self.keys.len() as u32).filter_map(|key| self.view(key)).collect()
    }
}
