//! The demonstration's scene with a shared key.
//!
//! Takes:   bob's bootstrapped keys.
//! Gives:   a connection that they make, on which nothing is asked; and one that another key does not make.
//! Keeps:   nothing.
//! Refuses: to go on if it went wrong.
//! Sources: TS 33.222 clause 5.4; TS 33.220 annex B.3.

use std::io::{self, Write};
use std::sync::Arc;

use super::scene::{Demo, EDGE, Trouble, expect};
use crate::client::bootstrap::Bootstrapped;
use crate::client::ue::UeError;
use crate::keys::NafId;
use crate::keys::psk::{PskClient, PskKey, PskName, PskUse, Scheme};
use crate::transport::Transport;
use crate::transport::psk_tls::PskServer;

/// The handshakes of the listener with certificates.
#[cfg(feature = "openssl")]
pub(super) fn handshakes() -> Result<Option<Arc<PskServer>>, Trouble> {
    let server = PskServer::new(false).map_err(io::Error::other)?;
    Ok(Some(Arc::new(server)))
}

/// A build without OpenSSL has none.
#[cfg(not(feature = "openssl"))]
pub(super) fn handshakes() -> Result<Option<Arc<PskServer>>, Trouble> {
    Ok(None)
}

impl Demo {
    /// Bob comes again, and registers on nothing but his key; with another key he would not.
    pub(super) async fn shared_key(
        &self,
        out: &mut (dyn Write + Send),
        keys: &Bootstrapped,
    ) -> Result<(), Trouble> {
        if cfg!(not(feature = "openssl")) {
            return Ok(());
        }
        self.scene(
            out,
            "Bob comes again by PSK-TLS: his key makes the connection, nothing is asked",
        )?;
        let bob = self.ue_with("bob", Transport::Tls, Vec::new(), Some(key(keys)?)).await?;
        expect("bob's REGISTER", &bob.register(600).await?, 200)?;
        self.show(out)?;
        self.refused("registering with a shared key", &[])?;
        let stolen = PskClient { key: wrong()?, ..key(keys)? };
        match self.ue_with("rogue", Transport::Tls, Vec::new(), Some(stolen)).await {
            Err(UeError::SharedKey(_)) => {
                writeln!(
                    out,
                    "    With bob's name and another key, the rogue gets no connection."
                )?;
                Ok(())
            }
            Err(other) => Err(other.into()),
            Ok(_) => Err(Trouble::Scene("a wrong key made a connection".into())),
        }
    }
}

fn key(keys: &Bootstrapped) -> Result<PskClient, Trouble> {
    let of = PskUse::Tls13;
    let key = keys.naf_key(&NafId::new(EDGE, of.ua(Scheme::ThreeGpp))).map_err(io::Error::other)?;
    let key = PskKey::new(key.expose()).ok_or(Trouble::Scene("no key".into()))?;
    Ok(PskClient { identity: PskName::identity_of(&keys.btid), key, of })
}

fn wrong() -> Result<PskKey, Trouble> {
    PskKey::new(&[0; 32]).ok_or(Trouble::Scene("no key".into()))
}
