//! Commands on the store: how one ends before it is done.
//!
//! Takes:   what a command comes to.
//! Gives:   its exit code; what is wrong is told to who called it.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: none.

use std::io::{self, Write};

/// Why a command ended early: what is told, and the exit code; or that nothing can be told.
pub(super) enum Stop {
    Said(String, u8),
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The exit code, once what is wrong was told.
pub(super) fn ended(result: Result<u8, Stop>, errors: &mut dyn Write) -> io::Result<u8> {
    match result {
        Ok(code) => Ok(code),
        Err(Stop::Io(error)) => Err(error),
        Err(Stop::Said(what, code)) => {
            writeln!(errors, "{what}")?;
            Ok(code)
        }
    }
}
