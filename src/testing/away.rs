//! For tests: a store that does not answer.
//!
//! Takes:   any question.
//! Gives:   [`Fault::Away`].
//! Keeps:   nothing.
//! Refuses: everything.
//! Sources: none.

use std::time::Duration;

use crate::instant::WallTime;
use crate::state::{Change, Count, Fault, Record, Store, Table, Value};

/// A store that does not answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct AwayStore;

fn away<T>() -> Result<T, Fault> {
    Err(Fault::Away("nobody is there".into()))
}

impl Store for AwayStore {
    fn read(&self, _: Table, _: &[u8]) -> Result<Option<Value>, Fault> {
        away()
    }

    fn walk(&self, _: Table, _: &[u8], _: usize) -> Result<Vec<Record>, Fault> {
        away()
    }

    fn count(&self, _: Table) -> Result<u64, Fault> {
        away()
    }

    fn write(&self, _: &[Change<'_>]) -> Result<(), Fault> {
        away()
    }

    fn spend(&self, _: Count, _: Duration, _: WallTime) -> Result<bool, Fault> {
        away()
    }
}
