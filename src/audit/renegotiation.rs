//! The audit, renegotiation: a connection of TLS 1.2 on which the client asks for a second handshake.
//!
//! 1. The library shakes hands, with the one suite that is spelt out here.
//! 2. From its secret the keys of records are derived once more.
//! 3. A ClientHello that proves to be of the same client (RFC 5746) is sealed with them: it is refused for what it asks for, or not.
//! 4. The answer is opened, and says which. Libraries may keep it until there is something else to send: if nothing comes, a ping follows.
//!
//! Takes:   a connection.
//! Gives:   [`Told`].
//! Keeps:   the keys of one connection, while it is asked.
//! Refuses: nothing. The server's certificate is not checked, and nothing that is worth anything is sent.
//! Sources: RFC 5246 sections 5, 6.2.3.3, 6.3 and 7.4.1; RFC 5288 section 3; RFC 5746 section 3.5.

use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes128Gcm, KeyInit as _};
use hmac::{Hmac, Mac as _};
use openssl::ssl::{Ssl, SslContext, SslMethod, SslRef, SslVerifyMode, SslVersion};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_openssl::SslStream;
use zeroize::Zeroizing;

use super::hello::{self, ALERT, Alert, DATA, HANDSHAKE};
use crate::clock;

/// Most octets of a record that is read.
const RECORD_MAX: usize = 16 * 1024 + 256;

/// What the server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// No.
    Refused(Alert),
    /// It began the handshake.
    Shakes,
    /// It closed the connection.
    Closed,
    /// Nothing, in that time.
    Nothing,
    /// Nothing but the answer to a ping.
    Ignored,
}

/// Asks for it.
///
/// # Errors
///
/// There is no such connection.
pub(super) async fn ask(stream: TcpStream, name: &str, patience: Duration) -> Result<Told, String> {
    let mut stream = shaken(stream, name).await?;
    let keys = Keys::of(stream.ssl()).ok_or("the library does not tell the keys")?;
    let mut verified = [0; 12];
    if stream.ssl().finished(&mut verified) != verified.len() {
        return Err("the library does not tell how the handshake ended".into());
    }
    let hello = keys.seal(1, HANDSHAKE, &hello::again(name, &verified));
    let ping = keys.seal(2, DATA, b"\r\n\r\n");
    let io = stream.get_mut();
    let mut heard = None;
    for record in [hello, ping] {
        let record = record.ok_or("it cannot be sealed")?;
        io.write_all(&record).await.map_err(|why| why.to_string())?;
        heard = timeout(patience, record_from(io)).await.ok();
        if heard.is_some() {
            break;
        }
    }
    Ok(match heard {
        None => Told::Nothing,
        Some(None) => Told::Closed,
        Some(Some((HANDSHAKE, _))) => Told::Shakes,
        Some(Some((DATA, _))) => Told::Ignored,
        Some(Some((ALERT, content))) => match keys.open(ALERT, &content).as_deref() {
            Some([_, alert]) if Alert(*alert) == Alert::BAD_RECORD_MAC => {
                return Err("the target cannot read what was sealed for it".into());
            }
            Some([_, alert]) => Told::Refused(Alert(*alert)),
            _ => return Err("the target's alert cannot be read".into()),
        },
        Some(Some((kind, _))) => return Err(format!("a record of type {kind} came")),
    })
}

/// Type and content of a record; `None` once the connection is over.
async fn record_from(io: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    io.read_exact(&mut head).await.ok()?;
    let [kind, .., high, low] = head;
    let length = usize::from(u16::from_be_bytes([high, low])).min(RECORD_MAX);
    let mut content = vec![0; length];
    io.read_exact(&mut content).await.ok()?;
    Some((kind, content))
}

async fn shaken(io: TcpStream, name: &str) -> Result<SslStream<TcpStream>, String> {
    let made = || {
        let mut context = SslContext::builder(SslMethod::tls_client())?;
        context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        context.set_max_proto_version(Some(SslVersion::TLS1_2))?;
        context.set_cipher_list(SUITES)?;
        context.set_verify(SslVerifyMode::NONE);
        let mut ssl = Ssl::new(&context.build())?;
        if name.parse::<IpAddr>().is_err() {
            ssl.set_hostname(name)?;
        }
        SslStream::new(ssl, io)
    };
    let mut stream = made().map_err(|why| why.to_string())?;
    let connected = Pin::new(&mut stream).connect().await;
    connected.map_err(|why| format!("no handshake of TLS 1.2 with AES-128-GCM: {why}"))?;
    Ok(stream)
}

/// The keys of records, one for each way.
struct Keys {
    ours: Zeroizing<[u8; 16]>,
    theirs: Zeroizing<[u8; 16]>,
    our_salt: [u8; 4],
    their_salt: [u8; 4],
}

impl Keys {
    fn of(ssl: &SslRef) -> Option<Self> {
        let mut secret = Zeroizing::new([0; 48]);
        let (mut client, mut server) = ([0; 32], [0; 32]);
        let lengths = (
            ssl.session()?.master_key(&mut *secret),
            ssl.client_random(&mut client),
            ssl.server_random(&mut server),
        );
        if lengths != (48, 32, 32) {
            return None;
        }
        let block = expanded(&secret, &[&b"key expansion"[..], &server, &client].concat())?;
        let (ours, rest) = block.split_first_chunk()?;
        let (theirs, rest) = rest.split_first_chunk()?;
        let (our_salt, rest) = rest.split_first_chunk()?;
        let (their_salt, _) = rest.split_first_chunk()?;
        let (ours, theirs) = (Zeroizing::new(*ours), Zeroizing::new(*theirs));
        Some(Self { ours, theirs, our_salt: *our_salt, their_salt: *their_salt })
    }

    /// A record of that number and type; Finished was number 0.
    fn seal(&self, number: u8, kind: u8, message: &[u8]) -> Option<Vec<u8>> {
        let explicit: [u8; 8] = clock::random();
        let nonce = nonce(self.our_salt, explicit);
        let about = about(number, kind, message.len())?;
        let payload = Payload { msg: message, aad: &about };
        let sealed = Aes128Gcm::new(&(*self.ours).into()).encrypt(&nonce.into(), payload).ok()?;
        let length = u16::try_from(sealed.len().checked_add(explicit.len())?).ok()?;
        let mut record = vec![kind, 3, 3];
        record.extend(length.to_be_bytes());
        record.extend(explicit);
        record.extend(sealed);
        Some(record)
    }

    /// What is in the first record of theirs after Finished.
    fn open(&self, kind: u8, content: &[u8]) -> Option<Vec<u8>> {
        const TAG: usize = 16;
        let (explicit, sealed) = content.split_first_chunk()?;
        let about = about(1, kind, sealed.len().checked_sub(TAG)?)?;
        let payload = Payload { msg: sealed, aad: &about };
        let nonce = nonce(self.their_salt, *explicit);
        Aes128Gcm::new(&(*self.theirs).into()).decrypt(&nonce.into(), payload).ok()
    }
}

/// What is authenticated beside a record: its number, type, version and length.
fn about(number: u8, kind: u8, length: usize) -> Option<[u8; 13]> {
    let [high, low] = u16::try_from(length).ok()?.to_be_bytes();
    Some([0, 0, 0, 0, 0, 0, 0, number, kind, 3, 3, high, low])
}

fn nonce(salt: [u8; 4], explicit: [u8; 8]) -> [u8; 12] {
    let mut nonce = [0; 12];
    let (front, back) = nonce.split_at_mut(salt.len());
    front.copy_from_slice(&salt);
    back.copy_from_slice(&explicit);
    nonce
}

/// 64 octets of `P_SHA256`; `seed` is the label and the seed.
fn expanded(secret: &[u8; 48], seed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let hmac = |parts: &[&[u8]]| {
        let mut hmac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        parts.iter().for_each(|part| hmac.update(part));
        Some(hmac.finalize().into_bytes())
    };
    let first = hmac(&[seed])?;
    let second = hmac(&[&first])?;
    let block = [hmac(&[&first, seed])?, hmac(&[&second, seed])?].concat();
    Some(Zeroizing::new(block))
}

/// One suite for each kind of certificate: what is spelt out here is theirs.
const SUITES: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:AES128-GCM-SHA256";

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use openssl::pkey::PKey;
    use openssl::ssl::{SslAcceptor, SslOptions};
    use openssl::x509::X509;

    use super::*;

    /// `SSL_OP_ALLOW_CLIENT_RENEGOTIATION` of OpenSSL 3.
    const ALLOWED: u64 = 1 << 8;

    /// V-42: a server that shakes hands again is told from one that does not.
    #[tokio::test]
    async fn a_server_that_renegotiates_is_found_out() {
        let made = rcgen::generate_simple_self_signed(["edge.example.net".to_owned()]).unwrap();
        let certificate = X509::from_der(made.cert.der()).unwrap();
        let key = PKey::private_key_from_der(&made.signing_key.serialize_der()).unwrap();
        for (options, expected) in [
            (ALLOWED, &[Told::Shakes][..]),
            (0, &[Told::Refused(Alert(100)), Told::Refused(Alert(40))]),
        ] {
            let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
            acceptor.set_certificate(&certificate).unwrap();
            acceptor.set_private_key(&key).unwrap();
            acceptor.clear_options(SslOptions::NO_RENEGOTIATION);
            acceptor.set_options(SslOptions::from_bits_retain(options));
            let (acceptor, listener) =
                (acceptor.build(), TcpListener::bind("127.0.0.1:0").unwrap());
            let address = listener.local_addr().unwrap();
            let server = std::thread::spawn(move || {
                let (io, _) = listener.accept().unwrap();
                let mut stream = acceptor.accept(io).unwrap();
                // Until the client goes, or what it sends is refused.
                while stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
            });
            let stream = TcpStream::connect(address).await.unwrap();
            let told = ask(stream, "edge.example.net", Duration::from_secs(20)).await.unwrap();
            assert!(expected.contains(&told), "{told:?}, not one of {expected:?}");
            server.join().unwrap();
        }
    }
}
