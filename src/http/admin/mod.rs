//! Admin: the running edge, for people on this machine, at a socket in the file system.
//!
//! | path | answer |
//! |---|---|
//! | `GET /status` | [`Status`](views::Status) |
//! | `GET /associations?owner=…&call=…&tag=…&tag=…&limit=…` | [`Dialogs`](views::Dialogs) |
//! | `GET /associations/<id>` | the same, of one request |
//! | `DELETE /associations/<id>`, `DELETE /associations?owner=…`, `DELETE /keys?btid=…` | [`Revocation`](views::Revocation) |
//! | `POST /explain?transport=…&from=…&side=…&listener=…&peer=…&ahead=…`, a message | [`Explanation`](views::Explanation) |
//!
//! Takes:   HTTP/1.1 on a Unix socket that our own user and root may open.
//! Gives:   JSON; every request that changes something, and every user who is not let in, is in the audit.
//! Keeps:   at most `CONNECTIONS` connections, a minute each.
//! Refuses: other users, unread; other paths (404), other methods (405), queries that cannot be read (400).
//! Sources: SEC_CF 1.1 ADM-001; RFC 9110 section 15.5; V-73, V-149.

pub mod audit;
pub mod caller;
mod desk;
pub mod question;
pub mod views;

use std::fs::Permissions;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

pub use desk::Desk;

use super::{Bounds, converse};

/// Most connections.
const CONNECTIONS: u32 = 16;

/// The socket, open; the file goes with it.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: Box<Path>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The user.
    pub uid: u32,
    /// The process, if the system says.
    pub pid: Option<i32>,
}

impl Door {
    /// Opens the socket at `path`, for our own user alone. What a process that is gone left there is taken away.
    ///
    /// # Errors
    ///
    /// What binding gave; [`ErrorKind::AddrInUse`] while somebody answers there, and for a file that is no socket.
    pub fn open(path: &Path) -> io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(facts) if !facts.file_type().is_socket() => {
                return Err(io::Error::new(ErrorKind::AddrInUse, "the file is no socket"));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(io::Error::new(ErrorKind::AddrInUse, "somebody answers there"));
            }
            Ok(_) => std::fs::remove_file(path)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(path).map_err(|why| {
            io::Error::new(why.kind(), format!("cannot listen on {}: {why}", path.display()))
        })?;
        // Whoever comes before this is asked for his user all the same.
        std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.into() })
    }

    /// Answers at `desk` until `shutdown` ends.
    pub async fn serve(self, desk: Arc<Desk>, shutdown: impl Future<Output = ()>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS as usize));
        let bounds = Bounds { connections: CONNECTIONS, ..Bounds::default() };
        let (stop, stopped) = watch::channel(());
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = async {
                let place = places.clone().acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let (place, connection) = tokio::select! {
                () = &mut shutdown => break,
                accepted = accepted => accepted,
            };
            let Ok(place) = place else { break };
            let Ok((stream, _)) = connection else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let asker = match Asker::of(&stream) {
                Ok(asker) => asker,
                Err(uid) => {
                    desk.audit.turned_away(uid);
                    continue;
                }
            };
            let (desk, stopped) = (Arc::clone(&desk), stopped.clone());
            tokio::spawn(async move {
                let answer = move |request, asker| {
                    let desk = Arc::clone(&desk);
                    async move { desk.answer(request, asker).await }
                };
                converse(stream, asker, bounds, answer, stopped).await;
                drop(place);
            });
        }
        drop(stop);
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.path));
    }
}

impl Asker {
    /// Who is at the other end; for other users than ours and root whoever they are, if the system says.
    fn of(stream: &UnixStream) -> Result<Self, Option<u32>> {
        let peer = stream.peer_cred().map_err(|_| None)?;
        let ours = nix::unistd::geteuid().as_raw();
        let allowed = peer.uid() == 0 || peer.uid() == ours;
        allowed.then_some(Self { uid: peer.uid(), pid: peer.pid() }).ok_or(Some(peer.uid()))
    }
}
