//! The demonstration's scenes on every other transport: Digest over it, and alice's text finds bob there.
//!
//! Takes:   alice's UE and bob's bootstrapped keys.
//! Gives:   a scene for each: TCP, DTLS with the edge's certificate, WebSocket with and without TLS; and a page of
//!          another origin that is not let in.
//! Keeps:   nothing.
//! Refuses: to go on if one went wrong.
//! Sources: RFC 7118 section 4; RFC 6455 section 10.2; TS 33.220 annex O.

use std::io::Write;

use crate::client::bootstrap::Bootstrapped;
use crate::client::ue::{Ue, UeError, UeSettings};
use crate::demo::stage::{expect, gba, received};
use crate::demo::{Demo, Trouble};
use crate::refusal::Refusal;
use crate::transport::Transport;
use crate::transport::ws::Offer;

/// What they are called, in the order in which bob comes by them.
const SCENES: [(&str, Transport); 4] = [
    ("Bob comes by TCP", Transport::Tcp),
    ("Bob comes by DTLS, where the edge shows its certificate", Transport::Dtls),
    ("Bob comes from a page, by WebSocket in the clear, as behind a reverse proxy", Transport::Ws),
    ("Bob comes from a page, by WebSocket under TLS", Transport::Wss),
];

impl Demo {
    /// Bob comes by each of them.
    pub(super) async fn transports(
        &self,
        out: &mut (dyn Write + Send),
        alice: &Ue,
        keys: &Bootstrapped,
    ) -> Result<(), Trouble> {
        let dtls = cfg!(all(feature = "openssl", feature = "webrtc-dtls"));
        for (title, transport) in SCENES {
            if transport == Transport::Dtls && !dtls {
                continue;
            }
            self.scene(out, title)?;
            let bob = self.ue("bob", transport, gba(keys.clone())).await?;
            expect("bob's REGISTER", &bob.register(600).await?, 200)?;
            let text = format!("Over {transport:?}");
            expect("MESSAGE to bob", &alice.message("sip:bob@example.net", &text).await?, 200)?;
            received("the text", &bob, "MESSAGE", text.as_bytes()).await?;
            self.show(out).await?;
            self.refused(title, &[Refusal::CredentialsMissing])?;
        }
        self.foreign_page(out).await
    }

    /// A page of another origin, in bob's browser.
    async fn foreign_page(&self, out: &mut (dyn Write + Send)) -> Result<(), Trouble> {
        let ws = Offer { origin: Some("https://elsewhere.example.org".into()), ..Offer::default() };
        let settings = UeSettings { ws, ..self.settings("rogue", Transport::Wss) };
        match self.connect("rogue", settings).await {
            Err(UeError::WebSocket(_)) => {
                writeln!(out, "    From a page of another origin, the rogue gets no WebSocket.")?;
                Ok(())
            }
            Err(other) => Err(other.into()),
            Ok(_) => Err(Trouble::Scene("a foreign page opened a WebSocket".into())),
        }
    }
}
