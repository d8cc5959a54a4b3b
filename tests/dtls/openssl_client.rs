//! A client of OpenSSL, moved by datagrams alone.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use openssl::pkey::PKey;
use openssl::ssl::{
    ErrorCode, Ssl, SslContext, SslMethod, SslOptions, SslStream, SslVerifyMode, SslVersion,
};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use crate::papers::{Authority, Paper};
use crate::world::{Client, Told};

/// One client.
pub(crate) struct OpensslClient {
    stream: SslStream<Wire>,
    stands: bool,
    over: bool,
    told: VecDeque<Told>,
    /// What was sent last, while the handshake lasts.
    flight: Vec<Vec<u8>>,
    idle_turns: u32,
}

#[derive(Default)]
struct Wire {
    inbox: VecDeque<Vec<u8>>,
    outbox: VecDeque<Vec<u8>>,
}

impl Read for Wire {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let datagram = self.inbox.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        room[..datagram.len()].copy_from_slice(&datagram);
        Ok(datagram.len())
    }
}

impl Write for Wire {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.outbox.push_back(octets.to_vec());
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl OpensslClient {
    /// With a key, and those suites.
    pub(crate) fn psk(identity: &str, key: &[u8], suites: &str) -> Self {
        let mut context = SslContext::builder(SslMethod::dtls_client()).unwrap();
        context.set_cipher_list(suites).unwrap();
        let (identity, key) = (identity.as_bytes().to_vec(), key.to_vec());
        context.set_psk_client_callback(move |_, _, name, room| {
            name[..identity.len()].copy_from_slice(&identity);
            name[identity.len()] = 0;
            room[..key.len()].copy_from_slice(&key);
            Ok(key.len())
        });
        Self::with(context.build(), 1200)
    }

    /// With certificates: the server's must be of `authority`.
    pub(crate) fn certificate(authority: &Authority, shows: Option<&Paper>, mtu: u32) -> Self {
        Self::certificate_by(authority, shows, mtu, None)
    }

    /// The same with those suites.
    pub(crate) fn certificate_by(
        authority: &Authority,
        shows: Option<&Paper>,
        mtu: u32,
        suites: Option<&str>,
    ) -> Self {
        let mut context = SslContext::builder(SslMethod::dtls_client()).unwrap();
        if let Some(suites) = suites {
            context.set_cipher_list(suites).unwrap();
        }
        context.set_verify(SslVerifyMode::PEER);
        let mut store = X509StoreBuilder::new().unwrap();
        store.add_cert(X509::from_pem(authority.pem().as_bytes()).unwrap()).unwrap();
        context.set_cert_store(store.build());
        if let Some(paper) = shows {
            let certificate = X509::from_pem(paper.certificate.as_bytes()).unwrap();
            context.set_certificate(&certificate).unwrap();
            let key = PKey::private_key_from_pem(paper.key.as_bytes()).unwrap();
            context.set_private_key(&key).unwrap();
        }
        Self::with(context.build(), mtu)
    }

    fn with(context: SslContext, mtu: u32) -> Self {
        let mut ssl = Ssl::new(&context).unwrap();
        ssl.set_min_proto_version(Some(SslVersion::DTLS1_2)).unwrap();
        ssl.set_hostname("edge.example.net").unwrap();
        ssl.set_connect_state();
        ssl.set_mtu(mtu).unwrap();
        Self::begun(ssl)
    }

    /// After its first step.
    fn begun(ssl: Ssl) -> Self {
        let stream = SslStream::new(ssl, Wire::default()).unwrap();
        let mut new = Self {
            stream,
            stands: false,
            over: false,
            told: VecDeque::new(),
            flight: Vec::new(),
            idle_turns: 0,
        };
        new.go_on();
        new
    }

    fn go_on(&mut self) {
        if self.over {
            return;
        }
        if !self.stands {
            match self.stream.connect() {
                Ok(()) => {
                    self.stands = true;
                    self.told.push_back(Told::Established);
                }
                Err(why) if why.code() == ErrorCode::WANT_READ => {}
                Err(_) => return self.end(),
            }
        }
        let mut room = vec![0; 16_384];
        while self.stands {
            match self.stream.ssl_read(&mut room) {
                Ok(length) => self.told.push_back(Told::Data(room[..length].to_vec())),
                Err(why) if why.code() == ErrorCode::WANT_READ => return,
                Err(_) => return self.end(),
            }
        }
    }

    fn end(&mut self) {
        self.over = true;
        self.told.push_back(Told::Closed);
    }
}

impl Client for OpensslClient {
    fn input(&mut self, datagram: &[u8]) {
        self.flight.clear();
        self.idle_turns = 0;
        self.stream.get_mut().inbox.push_back(datagram.to_vec());
        self.go_on();
    }

    /// Called each 10 ms. The library's own timer follows the real clock, so the flight is repeated here.
    fn turn(&mut self) {
        self.idle_turns += 1;
        if !self.stands && !self.over && self.idle_turns.is_multiple_of(100) {
            let flight = self.flight.clone();
            self.stream.get_mut().outbox.extend(flight);
        }
    }

    fn output(&mut self) -> Option<Vec<u8>> {
        let datagram = self.stream.get_mut().outbox.pop_front()?;
        if !self.stands {
            self.flight.push(datagram.clone());
        }
        Some(datagram)
    }

    fn told(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    fn send(&mut self, message: &[u8]) -> bool {
        self.stream.ssl_write(message).is_ok()
    }
}

/// Options that no server of ours accepts: a client that speaks DTLS 1.0 alone.
pub(crate) fn old_client() -> OpensslClient {
    let mut context = SslContext::builder(SslMethod::dtls_client()).unwrap();
    context.set_security_level(0);
    context.set_options(SslOptions::NO_DTLSV1_2);
    context.set_min_proto_version(None).unwrap();
    context.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    let mut ssl = Ssl::new(&context.build()).unwrap();
    ssl.set_connect_state();
    ssl.set_mtu(1200).unwrap();
    OpensslClient::begun(ssl)
}
