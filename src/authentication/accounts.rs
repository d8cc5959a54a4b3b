//! Stage 4, accounts.

use super::digest::{Ha1, Hash};
use crate::identity::Impu;
use std::sync::Arc;

/// Accounts.
#[derive(Debug, Default)]
pub struct Accounts;
impl Accounts {
    /// x
    pub fn ha1(&self, _realm: &str, _username: &str, _hash: Hash) -> Option<Ha1> {
        None
    }
    /// x
    pub fn identities(&self, _realm: &str, _username: &str) -> Option<Arc<[Impu]>> {
        None
    }
}
