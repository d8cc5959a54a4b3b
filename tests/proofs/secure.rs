//! A server of the core that shows a certificate and asks for one, where the requirement of a service says so.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use sipward::transport::peer::ClientCertificate;
use sipward::transport::tls::{self, ServerSpec, ServerTls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::authority::Authority;
use crate::home::wait;
use crate::programs::{Folder, granted};

/// It grants all.
pub(crate) struct Secure {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Secure {
    /// With the certificate `NAME.pem` of `folder`.
    pub(crate) fn start(authority: &Authority, folder: &Folder, name: &str) -> Self {
        let read = |ending: &str| fs::read(folder.path(&format!("{name}.{ending}"))).unwrap();
        let shown = tls::Certificate::from_pem(&read("pem"), &read("key")).unwrap();
        let tls = ServerTls::new(&ServerSpec {
            certificates: vec![shown],
            asks: ClientCertificate::Required,
            trust: authority.trust(),
        });
        let (tls, listener) = (tls.unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let own = Self { address: listener.local_addr().unwrap(), heard: Arc::default() };
        let (address, heard) = (own.address, Arc::clone(&own.heard));
        // It ends with the process; one connection after the other.
        thread::spawn(move || {
            wait(async {
                for stream in listener.incoming().map_while(Result::ok) {
                    stream.set_nonblocking(true).unwrap();
                    let stream = tokio::net::TcpStream::from_std(stream).unwrap();
                    let Ok((mut stream, _)) = tls::accept(&tls, stream).await else { continue };
                    let mut text = String::new();
                    let mut octets = [0; 8192];
                    while let Ok(length @ 1..) = stream.read(&mut octets).await {
                        text.push_str(str::from_utf8(&octets[..length]).unwrap());
                        // None of them has a body.
                        while let Some((head, rest)) = text.split_once("\r\n\r\n") {
                            let (head, rest) = (head.trim_start().to_owned(), rest.to_owned());
                            if let Some(answer) = granted(&head, address) {
                                stream.write_all(answer.as_bytes()).await.unwrap();
                                stream.flush().await.unwrap();
                            }
                            heard.lock().unwrap().push(head);
                            text = rest;
                        }
                    }
                }
            });
        });
        own
    }

    /// What it was asked until now.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}
