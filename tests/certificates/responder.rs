//! A status server of the tests' own, which says whatever a test wants, true or not.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SigningKey as _};
use rustls::pki_types::CertificateDer;
use sha1::{Digest as _, Sha1};
use sipward::transport::ocsp::desk::{Responder, StatusDesk, StatusSettings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::authority::{Authority, SERIAL};

/// What is said of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Good,
    Revoked,
    Unknown,
}

/// One answer: all that may be wrong with it.
pub(crate) struct Answer<'a> {
    pub(crate) says: Says,
    /// Whose certificate it is about.
    pub(crate) issuer: &'a Authority,
    pub(crate) serial: Vec<u8>,
    /// Seconds from now.
    pub(crate) since: i64,
    pub(crate) until: Option<i64>,
    /// Whose name stands under it.
    pub(crate) named: CertificateDer<'static>,
    /// Whose key signed it.
    pub(crate) key: &'a KeyPair,
    /// Certificates that come with it.
    pub(crate) with: Vec<CertificateDer<'static>>,
    pub(crate) nonce: Option<Vec<u8>>,
    /// Object identifier of a critical extension.
    pub(crate) critical: Option<&'static [u8]>,
}

impl<'a> Answer<'a> {
    /// That the certificate that `issuer` issued is good, signed by the issuer, for an hour.
    pub(crate) fn good(issuer: &'a Authority) -> Self {
        Self {
            says: Says::Good,
            issuer,
            serial: SERIAL.to_vec(),
            since: -60,
            until: Some(3600),
            named: issuer.der().clone(),
            key: issuer.key(),
            with: Vec::new(),
            nonce: None,
            critical: None,
        }
    }

    /// The same, signed by another.
    pub(crate) fn signed_by(mut self, named: &CertificateDer<'static>, key: &'a KeyPair) -> Self {
        (self.named, self.key) = (named.clone(), key);
        self.with = vec![named.clone()];
        self
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        let (_, named) = X509Certificate::from_der(&self.named).unwrap();
        let (_, issuer) = X509Certificate::from_der(self.issuer.der()).unwrap();
        let id = tlv(
            0x30,
            &[
                SHA1,
                &tlv(0x04, &[&Sha1::digest(issuer.subject().as_raw())]),
                &tlv(0x04, &[&Sha1::digest(&issuer.public_key().subject_public_key.data)]),
                &tlv(0x02, &[&self.serial]),
            ],
        );
        let status = match self.says {
            Says::Good => tlv(0x80, &[]),
            Says::Revoked => tlv(0xA1, &[&moment(-30)]),
            Says::Unknown => tlv(0x82, &[]),
        };
        let until = self.until.map(|until| tlv(0xA0, &[&moment(until)])).unwrap_or_default();
        let statement = tlv(0x30, &[&id, &status, &moment(self.since), &until]);
        let mut extensions = Vec::new();
        if let Some(nonce) = &self.nonce {
            let value = tlv(0x04, &[&tlv(0x04, &[nonce])]);
            extensions.push(tlv(0x30, &[&tlv(0x06, &[NONCE]), &value]));
        }
        if let Some(oid) = self.critical {
            let parts = [&tlv(0x06, &[oid])[..], &tlv(0x01, &[&[0xFF]]), &tlv(0x04, &[])];
            extensions.push(tlv(0x30, &parts));
        }
        let extensions = match extensions.is_empty() {
            true => Vec::new(),
            false => tlv(0xA1, &[&tlv(0x30, &[&extensions.concat()])]),
        };
        let data = tlv(
            0x30,
            &[
                &tlv(0xA1, &[named.subject().as_raw()]),
                &moment(self.since),
                &tlv(0x30, &[&statement]),
                &extensions,
            ],
        );
        let signature = [&[0][..], &self.key.sign(&data).unwrap()].concat();
        let with: Vec<u8> = self.with.iter().flat_map(|it| it.to_vec()).collect();
        let with = match with.is_empty() {
            true => Vec::new(),
            false => tlv(0xA0, &[&tlv(0x30, &[&with])]),
        };
        let basic = tlv(0x30, &[&data, ECDSA_SHA256, &tlv(0x03, &[&signature]), &with]);
        let bytes = tlv(0x30, &[&tlv(0x06, &[BASIC]), &tlv(0x04, &[&basic])]);
        tlv(0x30, &[&tlv(0x0A, &[&[0]]), &tlv(0xA0, &[&bytes])])
    }
}

/// An answer that is none, with that status.
pub(crate) fn declined(status: u8) -> Vec<u8> {
    tlv(0x30, &[&tlv(0x0A, &[&[status]])])
}

/// One whom the authority made a responder.
pub(crate) fn delegate(authority: &Authority) -> (CertificateDer<'static>, KeyPair) {
    authority.issue_alone(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        params.distinguished_name.push(rcgen::DnType::CommonName, "status");
    })
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = body.len().to_be_bytes();
    let digits: Vec<u8> = length.into_iter().skip_while(|octet| *octet == 0).collect();
    let mut octets = vec![tag];
    match body.len() {
        short @ 0..0x80 => octets.push(u8::try_from(short).unwrap()),
        _ => {
            octets.push(0x80 | u8::try_from(digits.len()).unwrap());
            octets.extend(digits);
        }
    }
    [octets, body].concat()
}

/// A GeneralizedTime so many seconds from now.
fn moment(offset: i64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let at = now.saturating_add_signed(offset);
    let text = sipward::keys::calendar::print_xml(sipward::instant::WallTime::from_unix(at));
    let digits: String = text.chars().filter(char::is_ascii_digit).take(14).collect();
    tlv(0x18, &[format!("{digits}Z").as_bytes()])
}

const SHA1: &[u8] = &[0x30, 9, 0x06, 5, 0x2B, 0x0E, 3, 2, 0x1A, 0x05, 0];
const ECDSA_SHA256: &[u8] = &[0x30, 10, 0x06, 8, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2];
const NONCE: &[u8] = &[0x2B, 6, 1, 5, 5, 7, 0x30, 1, 2];
const BASIC: &[u8] = &[0x2B, 6, 1, 5, 5, 7, 0x30, 1, 1];

/// What goes over the wire for one question.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// 200 with this body.
    Body(Vec<u8>),
    /// These octets, instead of HTTP.
    Raw(Vec<u8>),
    /// Nothing, as long as the other end waits.
    Silence,
}

/// A server on loopback.
pub(crate) struct Server {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Replies in their order; the last one is given again and again.
    replies: VecDeque<Reply>,
    questions: Vec<Vec<u8>>,
}

impl Server {
    /// Gives these replies, one for each question; the last one for all that follow.
    pub(crate) async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/status", listener.local_addr().unwrap());
        let state = State { replies: replies.into_iter().collect(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&serving)));
            }
        });
        Self { url, state }
    }

    /// From now on, this reply alone.
    pub(crate) fn says(&self, reply: Reply) {
        self.state.lock().unwrap().replies = [reply].into();
    }

    /// The bodies of all questions so far.
    pub(crate) fn questions(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().questions.clone()
    }

    /// A desk that asks here, each second at most.
    pub(crate) fn desk(&self) -> Arc<StatusDesk> {
        self.desk_with(|_| {})
    }

    pub(crate) fn desk_with(&self, change: impl FnOnce(&mut StatusSettings)) -> Arc<StatusDesk> {
        let mut settings = settings(&self.url);
        change(&mut settings);
        Arc::new(StatusDesk::new(settings))
    }
}

/// How a desk asks in these tests.
pub(crate) fn settings(url: &str) -> StatusSettings {
    StatusSettings {
        responder: Responder::new(url).unwrap(),
        timeout: Duration::from_secs(10),
        interval: Duration::from_secs(300),
        nonce: false,
        soft: false,
    }
}

async fn answer(mut stream: tokio::net::TcpStream, state: Arc<Mutex<State>>) {
    let (mut head, mut octet) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut octet).await.unwrap_or(0) == 0 {
            return;
        }
        head.extend(octet);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("post /status http/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/ocsp-request\r\n"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    let reply = {
        let mut state = state.lock().unwrap();
        state.questions.push(body);
        match state.replies.len() {
            1 => state.replies[0].clone(),
            _ => state.replies.pop_front().unwrap(),
        }
    };
    let octets = match reply {
        Reply::Body(body) => {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\n\
                 Content-Length: {}\r\n\r\n",
                body.len()
            );
            [head.into_bytes(), body].concat()
        }
        Reply::Raw(octets) => octets,
        Reply::Silence => {
            // Until the other end gives up.
            let _ = stream.read(&mut octet).await;
            return;
        }
    };
    let _ = stream.write_all(&octets).await;
}
