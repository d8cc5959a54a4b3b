//! Progress: a bar for work that takes long.
//!
//! Takes:   what is done, and how much of it there is.
//! Gives:   a bar for whoever looks on; nothing where nobody does.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: none.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on the standard error, if that is a terminal.
pub(super) fn progress(what: &'static str, most: u64) -> ProgressBar {
    let looked_at = io::stderr().is_terminal();
    let target =
        if looked_at { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(most), target);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent} %, {eta} left") {
        bar.set_style(style);
    }
    bar.with_message(what)
}
