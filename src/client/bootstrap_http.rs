//! The UE, bootstrap over HTTP: the socket under the run, in the clear or under TLS.
//!
//! Takes:   the plan, the server's address, perhaps TLS; the card and the TMPI of the last run, or the password.
//! Gives:   [`Bootstrapped`], or why not.
//! Keeps:   one connection for the run; a new one when the server has closed it. Bounds: [`STEP_TIME`] for each
//!          step, [`BODY_MAX`] octets of body, 16 KiB of head.
//! Refuses: what the machine refuses; an answer past the bounds; under TLS, a server that does not prove to be the one
//!          that the plan names. A password goes nowhere in the clear.
//! Sources: TS 24.109 clause 4 and annex I.2; RFC 9112; RFC 5705.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    ACCEPT, AUTHORIZATION, HOST, HeaderName, HeaderValue, SERVER, USER_AGENT, WWW_AUTHENTICATE,
};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, ToSocketAddrs};

use super::bootstrap::{Bootstrap, Bootstrapped, UbFailure, UbGet, UbNext, UbPlan, UbReply};
use super::bootstrap_digest::{DigestBootstrap, UbPassword};
use super::info::BODY_MAX;
use crate::clock;
use crate::identity::Impi;
use crate::keys::TlsExport;
use crate::keys::bootstrap::BODY_TYPE;
use crate::keys::usim::Usim;
use crate::transport::export;
use crate::transport::tls::{self, TlsRefusal};

/// How long connecting, and each answer, may take.
pub const STEP_TIME: Duration = Duration::from_secs(10);

const AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("authentication-info");

/// Why there is no key.
#[derive(Debug)]
pub enum UbFault {
    /// The run itself.
    Run(UbFailure),
    /// The server could not be reached.
    Unreachable(io::Error),
    /// The server took longer than [`STEP_TIME`].
    Silent,
    /// What it said is not HTTP, or over the bounds.
    NotHttp,
    /// It did not prove to be the server that was named, or speaks no TLS as we do.
    Tls(TlsRefusal),
}

impl fmt::Display for UbFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(failure) => failure.fmt(f),
            Self::Unreachable(error) => {
                write!(f, "the bootstrapping server cannot be reached: {error}")
            }
            Self::Silent => f.write_str("the bootstrapping server did not answer in time"),
            Self::NotHttp => f.write_str("the bootstrapping server's answer is not HTTP"),
            Self::Tls(refusal) => write!(f, "the bootstrapping server: {refusal}"),
        }
    }
}

impl std::error::Error for UbFault {}

/// Runs Ub with the server at `address`, in the clear. Write [`Usim::window`] down afterwards, whatever came of it.
///
/// # Errors
///
/// [`UbFault`], by what went wrong.
pub async fn bootstrap(
    plan: &UbPlan,
    address: impl ToSocketAddrs,
    card: &mut Usim,
    tmpi: Option<Impi>,
) -> Result<Bootstrapped, UbFault> {
    by_card(plan, Line::new(address, None, None), card, tmpi).await
}

/// The same over TLS, where the server proves to be the one that `plan` names; `tls` is of [`export::client`].
///
/// # Errors
///
/// As [`bootstrap`].
pub async fn bootstrap_over_tls(
    plan: &UbPlan,
    address: impl ToSocketAddrs,
    tls: &Arc<ClientConfig>,
    card: &mut Usim,
    tmpi: Option<Impi>,
) -> Result<Bootstrapped, UbFault> {
    by_card(plan, Line::new(address, Some((plan, tls)), None), card, tmpi).await
}

/// Runs Ub by password (GBA_Digest). There is no such run in the clear.
///
/// # Errors
///
/// As [`bootstrap`].
pub async fn bootstrap_by_password(
    plan: &UbPlan,
    address: impl ToSocketAddrs,
    tls: &Arc<ClientConfig>,
    user: &UbPassword,
) -> Result<Bootstrapped, UbFault> {
    let mut line = Line::new(address, Some((plan, tls)), Some(&user.exporter));
    let mut run = DigestBootstrap::new(plan, user);
    let mut get = run.start();
    loop {
        let said = line.exchange(&get).await?;
        let exported = line.exported.as_ref().ok_or(UbFault::NotHttp)?;
        let handled = said.read(|reply| run.handle(reply, clock::random(), exported, clock::now()));
        match handled.map_err(UbFault::Run)? {
            UbNext::Get(next) => get = next,
            UbNext::Done(done) => return Ok(*done),
        }
    }
}

async fn by_card<A: ToSocketAddrs>(
    plan: &UbPlan,
    mut line: Line<'_, A>,
    card: &mut Usim,
    tmpi: Option<Impi>,
) -> Result<Bootstrapped, UbFault> {
    let mut run = Bootstrap::new(plan, card, tmpi);
    let mut get = run.start();
    loop {
        let said = line.exchange(&get).await?;
        let handled = said.read(|reply| run.handle(reply, clock::random(), clock::now()));
        match handled.map_err(UbFault::Run)? {
            UbNext::Get(next) => get = next,
            UbNext::Done(done) => return Ok(*done),
        }
    }
}

type Connection = SendRequest<Empty<Bytes>>;

/// An answer.
struct Said {
    head: Response<()>,
    body: Bytes,
}

impl Said {
    /// Hands it over as the machines take it.
    fn read<T>(&self, to: impl FnOnce(&UbReply<'_>) -> T) -> T {
        let values =
            |name| self.head.headers().get_all(name).into_iter().map(HeaderValue::as_bytes);
        let challenges: Vec<&[u8]> = values(WWW_AUTHENTICATE).collect();
        to(&UbReply {
            status: self.head.status().as_u16(),
            challenges: &challenges,
            authentication_info: values(AUTHENTICATION_INFO).next(),
            server: values(SERVER).next(),
            body: &self.body,
        })
    }
}

/// The way to the server.
struct Line<'a, A> {
    address: A,
    tls: Option<(&'a UbPlan, &'a Arc<ClientConfig>)>,
    /// The label under which connections export, if they are to.
    label: Option<&'a str>,
    sender: Option<Connection>,
    /// What the present connection exports.
    exported: Option<TlsExport>,
}

impl<'a, A: ToSocketAddrs> Line<'a, A> {
    fn new(
        address: A,
        tls: Option<(&'a UbPlan, &'a Arc<ClientConfig>)>,
        label: Option<&'a str>,
    ) -> Self {
        Self { address, tls, label, sender: None, exported: None }
    }

    /// One request and its answer, over the connection that is there if it still takes one. A server that closes it
    /// just then is asked again: at worst the challenge is spent, and it gives another.
    async fn exchange(&mut self, get: &UbGet) -> Result<Said, UbFault> {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            match ask(&mut sender, get).await {
                Err(UbFault::NotHttp) => {}
                answer => {
                    self.sender = Some(sender);
                    return answer;
                }
            }
        }
        let mut sender = self.connect().await?;
        let answer = ask(&mut sender, get).await?;
        self.sender = Some(sender);
        Ok(answer)
    }

    async fn connect(&mut self) -> Result<Connection, UbFault> {
        let stream = tokio::time::timeout(STEP_TIME, TcpStream::connect(&self.address))
            .await
            .map_err(|_| UbFault::Silent)?
            .map_err(UbFault::Unreachable)?;
        stream.set_nodelay(true).map_err(UbFault::Unreachable)?;
        let Some((plan, config)) = self.tls else { return speak(stream).await };
        let shaken = tls::connect(Arc::clone(config), &plan.server, stream);
        let shaken = tokio::time::timeout(STEP_TIME, shaken).await;
        let (stream, _) = shaken.map_err(|_| UbFault::Silent)?.map_err(UbFault::Tls)?;
        self.exported = self.label.and_then(|label| export::of(stream.get_ref().1, label));
        speak(stream).await
    }
}

async fn speak<S>(stream: S) -> Result<Connection, UbFault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(16_384)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| UbFault::NotHttp)?;
    // It ends with its sender.
    tokio::spawn(connection);
    Ok(sender)
}

async fn ask(sender: &mut Connection, get: &UbGet) -> Result<Said, UbFault> {
    let request = Request::get(&*get.target)
        .header(HOST, &*get.host)
        .header(USER_AGENT, &get.user_agent)
        .header(ACCEPT, BODY_TYPE)
        .header(AUTHORIZATION, &get.authorization)
        .body(Empty::new())
        .map_err(|_| UbFault::NotHttp)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|_| UbFault::NotHttp)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, BODY_MAX).collect().await.map_err(|_| UbFault::NotHttp)?;
        Ok(Said { head: Response::from_parts(head, ()), body: body.to_bytes() })
    };
    tokio::time::timeout(STEP_TIME, answer).await.map_err(|_| UbFault::Silent)?
}
