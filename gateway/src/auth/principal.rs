//! Whoever is signed in, and what they may.

use engine::model::ids::FestivalId;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::Role;
use engine::view::ApiKeyView;

use super::rights::{Right, role_may};

/// Why something may not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// What it is about does not exist, as far as this key is concerned.
    Unknown(Rejection),
    /// The key's role may not do this there.
    Forbidden {
        /// Which role. If it is ADMIN, the key is bound to festivals.
        role: Role,
    },
}

/// Whoever is signed in, and the right that the route asks for. Taking this as a handler's argument is what makes a route
/// need a key; whether the key may is then asked with [`Operator::at`], [`Operator::within`] or [`Operator::may`].
#[derive(Clone, Debug)]
pub struct Operator {
    /// The number of the key; commands and idempotency keys belong to it.
    pub no: u32,
    /// What the key may do.
    pub role: Role,
    /// What it is asked for here.
    pub right: Right,
    festivals: Vec<FestivalId>,
}

impl Operator {
    /// The operator that an unrevoked key stands for, where a route asks for this right.
    pub fn of(key: &ApiKeyView, right: Right) -> Option<Self> {
        (!key.revoked).then(|| Self { no: key.no, role: key.role, festivals: key.festivals.clone(), right })
    }

    /// Who that is in the journal.
    pub fn principal(&self) -> Principal {
        if self.no == 0 { Principal::Installation } else { Principal::ApiKey(self.no) }
    }

    /// Bound to no festival: an ADMIN whose key names none.
    pub fn sees_all(&self) -> bool {
        self.role == Role::Admin && self.festivals.is_empty()
    }

    /// Whether this festival exists as far as this key is concerned.
    pub fn sees(&self, festival: FestivalId) -> bool {
        self.sees_all() || self.festivals.contains(&festival)
    }

    /// The festival with this slug, if this key sees it and may do this there.
    ///
    /// # Errors
    /// `unknown_festival` for one it does not see, whether or not there is one; [`Denied::Forbidden`].
    pub fn at(&self, slug: &str) -> Result<FestivalId, Denied> {
        let festival = FestivalId::of_slug(slug);
        self.within(festival, Rejection::UnknownFestival)?;
        Ok(festival)
    }

    /// The same for something whose id names its festival; `unknown` is the answer for a foreign one.
    ///
    /// # Errors
    /// As [`Operator::at`].
    pub fn within(&self, festival: FestivalId, unknown: Rejection) -> Result<(), Denied> {
        if !self.sees(festival) {
            return Err(Denied::Unknown(unknown));
        }
        self.may()
    }

    /// For what names no festival: lists that are filtered by [`Operator::sees`] afterwards, and what concerns the whole
    /// installation. The latter a key that is bound to festivals may not, whatever its role.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn may(&self) -> Result<(), Denied> {
        self.may_also(self.right)
    }

    /// For what needs another right than the route's, beside it.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn may_also(&self, right: Right) -> Result<(), Denied> {
        let bound = right.is_of_installation() && !self.sees_all();
        if role_may(self.role, right) && !bound { Ok(()) } else { Err(Denied::Forbidden { role: self.role }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_admin_is_admin_there_only() {
        let (own, foreign) = (FestivalId::of_slug("own"), FestivalId::of_slug("foreign"));
        let bound = Operator { no: 1, role: Role::Admin, festivals: vec![own], right: Right::LookUp };
        assert!(bound.sees(own) && !bound.sees(foreign));
        assert!(bound.may().is_ok() && bound.may_also(Right::ManageFestival).is_ok());
        assert!(bound.may_also(Right::ManageKeys).is_err(), "or it could make itself an unbound key");
        let nobody = Operator { no: 2, role: Role::Organizer, festivals: vec![], right: Right::LookUp };
        assert!(!nobody.sees(own), "no festivals means all for ADMIN only");
        let foreign = bound.at("foreign").unwrap_err();
        assert_eq!(foreign, Denied::Unknown(Rejection::UnknownFestival));
    }
}
