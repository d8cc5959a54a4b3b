//! Configuration, admin: `[admin]`, where the running edge is asked.
//!
//! Takes:   the table as written.
//! Gives:   the socket's path, beside the configuration unless it says otherwise.
//! Keeps:   nothing.
//! Refuses: a path that no socket can have, since the system allows 107 octets.
//! Sources: V-73.
//!
//! ```toml
//! [admin]
//! socket = "sipward.sock"
//! ```

use std::path::{Path, PathBuf};

use super::files::Folder;
use super::raw::Section;

/// Longest path of a Unix socket.
const PATH_MAX: usize = 107;

/// Reads `[admin]`; `None` if there is none.
pub(super) fn read(root: &mut Section<'_>, folder: &Folder) -> Option<PathBuf> {
    let mut section = root.table("admin");
    let present = section.is_present();
    let notes = section.notes();
    let socket = section.maybe::<String>("socket");
    let place = section.place_of("socket");
    section.finish();
    let name = socket.map_or_else(|| "sipward.sock".into(), |spot| spot.value);
    let path = folder.resolve(Path::new(&name));
    if present && path.as_os_str().len() > PATH_MAX {
        let why = "the system allows a socket's path 107 octets";
        notes.problem(&place, "is too long", why, "\"/run/sipward/admin.sock\"");
    }
    present.then_some(path)
}
