//! DTLS without sockets: both engines, both clients, a link that may be bad, in virtual time.
#![cfg(all(feature = "openssl", feature = "webrtc-dtls"))]

mod fire;
mod handshakes;
mod openssl_client;
mod papers;
mod strangers;
mod weather;
mod world;

/// Runs `test` where no time passes but what it lets pass.
fn virtually(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap().block_on(test);
}
