//! The demonstration's scenes with a shared key.
//!
//! Takes:   bob's bootstrapped keys.
//! Gives:   a connection and a session that they make, on which nothing is asked; and a connection that another key
//!          does not make.
//! Keeps:   nothing.
//! Refuses: to go on if it went wrong.
//! Sources: TS 33.222 clause 5.4; TS 33.220 annex B.3.

use std::io::{self, Write};
use std::sync::Arc;

use crate::client::bootstrap::Bootstrapped;
use crate::client::ue::{Ue, UeError, UeSettings};
use crate::demo::stage::{expect, received};
use crate::demo::{Demo, EDGE, Trouble};
use crate::keys::NafId;
use crate::keys::psk::{PskClient, PskKey, PskName, PskUse, Scheme};
use crate::transport::Transport;
use crate::transport::dtls::server::{DtlsServer, DtlsSpec, Library, SharedKeys};
use crate::transport::psk_tls::PskServer;
use crate::transport::tls::ServerSpec;

/// The handshakes of the listener with certificates.
#[cfg(feature = "openssl")]
pub(in crate::demo) fn handshakes() -> Result<Option<Arc<PskServer>>, Trouble> {
    let server = PskServer::new(false).map_err(io::Error::other)?;
    Ok(Some(Arc::new(server)))
}

/// A build without OpenSSL has none.
#[cfg(not(feature = "openssl"))]
pub(in crate::demo) fn handshakes() -> Result<Option<Arc<PskServer>>, Trouble> {
    Ok(None)
}

/// The same over datagrams, by the library that this build has; with certificates beside the keys if it can.
pub(in crate::demo) fn sessions(
    papers: &Arc<ServerSpec>,
) -> Result<Option<Arc<DtlsServer>>, Trouble> {
    if cfg!(not(any(feature = "openssl", feature = "webrtc-dtls"))) {
        return Ok(None);
    }
    let certificates = cfg!(feature = "openssl").then(|| Arc::clone(papers));
    let spec = DtlsSpec {
        engine: Library::usual(),
        certificates,
        shared_keys: Some(SharedKeys::default()),
    };
    Ok(Some(Arc::new(DtlsServer::new(&spec).map_err(io::Error::other)?)))
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
        let shared = key(keys, PskUse::Tls13)?;
        let bob = self.with_key("bob", Transport::Tls, shared).await?;
        expect("bob's REGISTER", &bob.register(600).await?, 200)?;
        self.show(out).await?;
        self.refused("registering with a shared key", &[])?;
        let stolen = PskClient { key: wrong()?, ..key(keys, PskUse::Tls13)? };
        match self.with_key("rogue", Transport::Tls, stolen).await {
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

    /// The same without a connection: DTLS, with a key for its cipher suite.
    pub(super) async fn datagrams(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        keys: &Bootstrapped,
    ) -> Result<(), Trouble> {
        if cfg!(not(feature = "webrtc-dtls")) {
            return Ok(());
        }
        self.scene(out, "Bob comes by DTLS-PSK: the same over datagrams")?;
        let shared = key(keys, PskUse::Suite(PSK_AES128_GCM_SHA256))?;
        let bob = self.with_key("bob", Transport::Dtls, shared).await?;
        expect("bob's REGISTER", &bob.register(600).await?, 200)?;
        expect(
            "MESSAGE to bob",
            &alice.message("sip:bob@example.net", "Over DTLS-PSK").await?,
            200,
        )?;
        received("the text", &bob, "MESSAGE", b"Over DTLS-PSK").await?;
        self.show(out).await?;
        self.refused("registering over DTLS-PSK", &[])
    }

    async fn with_key(
        &self,
        user: &str,
        transport: Transport,
        key: PskClient,
    ) -> Result<Ue, UeError> {
        let settings = self.settings(user, transport);
        self.connect(user, UeSettings { psk: Some(key), ..settings }).await
    }
}

/// The suite that every stack with DTLS and shared keys has.
const PSK_AES128_GCM_SHA256: u16 = 0x00a8;

fn key(keys: &Bootstrapped, of: PskUse) -> Result<PskClient, Trouble> {
    let key = keys.naf_key(&NafId::new(EDGE, of.ua(Scheme::ThreeGpp))).map_err(io::Error::other)?;
    let key = PskKey::new(key.expose()).ok_or(Trouble::Scene("no key".into()))?;
    Ok(PskClient { identity: PskName::identity_of(&keys.btid), key, of })
}

fn wrong() -> Result<PskKey, Trouble> {
    PskKey::new(&[0; 32]).ok_or(Trouble::Scene("no key".into()))
}
