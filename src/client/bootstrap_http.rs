//! The UE, bootstrap over HTTP: the socket under the run.
//!
//! Takes:   the plan, the server's address, the card, and the TMPI of the last run.
//! Gives:   [`Bootstrapped`], or why not.
//! Keeps:   one connection for the run; a new one when the server has closed it. Bounds: [`STEP_TIME`] for each
//!          step, [`BODY_MAX`] octets of body, 16 KiB of head.
//! Refuses: what the machine refuses; an answer past the bounds.
//! Sources: TS 24.109 clause 4; RFC 9112.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{
    ACCEPT, AUTHORIZATION, HOST, HeaderName, HeaderValue, SERVER, USER_AGENT, WWW_AUTHENTICATE,
};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, ToSocketAddrs};

use super::bootstrap::{Bootstrap, Bootstrapped, UbFailure, UbGet, UbNext, UbPlan, UbReply};
use super::info::BODY_MAX;
use crate::clock;
use crate::identity::Impi;
use crate::keys::bootstrap::BODY_TYPE;
use crate::keys::usim::Usim;

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
        }
    }
}

impl std::error::Error for UbFault {}

/// Runs Ub with the server at `address`. Write [`Usim::window`] down afterwards, whatever came of it.
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
    let mut run = Bootstrap::new(plan, card, tmpi);
    let mut get = run.start();
    let mut connection = None;
    loop {
        let (head, body) = exchange(&address, &mut connection, &get).await?;
        let values = |name| head.headers().get_all(name).into_iter().map(HeaderValue::as_bytes);
        let challenges: Vec<&[u8]> = values(WWW_AUTHENTICATE).collect();
        let reply = UbReply {
            status: head.status().as_u16(),
            challenges: &challenges,
            authentication_info: values(AUTHENTICATION_INFO).next(),
            server: values(SERVER).next(),
            body: &body,
        };
        match run.handle(&reply, clock::random(), clock::now()).map_err(UbFault::Run)? {
            UbNext::Get(next) => get = next,
            UbNext::Done(done) => return Ok(*done),
        }
    }
}

type Connection = SendRequest<Empty<Bytes>>;

/// One request and its answer, over the connection that is there if it still takes one. A server that closes it
/// just then is asked again: at worst the challenge is spent, and it gives another.
async fn exchange(
    address: &impl ToSocketAddrs,
    connection: &mut Option<Connection>,
    get: &UbGet,
) -> Result<(Response<()>, Bytes), UbFault> {
    if let Some(mut sender) = connection.take()
        && sender.ready().await.is_ok()
    {
        match ask(&mut sender, get).await {
            Err(UbFault::NotHttp) => {}
            answer => {
                *connection = Some(sender);
                return answer;
            }
        }
    }
    let mut sender = connect(address).await?;
    let answer = ask(&mut sender, get).await?;
    *connection = Some(sender);
    Ok(answer)
}

async fn ask(sender: &mut Connection, get: &UbGet) -> Result<(Response<()>, Bytes), UbFault> {
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
        Ok((Response::from_parts(head, ()), body.to_bytes()))
    };
    tokio::time::timeout(STEP_TIME, answer).await.map_err(|_| UbFault::Silent)?
}

async fn connect(address: &impl ToSocketAddrs) -> Result<Connection, UbFault> {
    let stream = tokio::time::timeout(STEP_TIME, TcpStream::connect(address))
        .await
        .map_err(|_| UbFault::Silent)?
        .map_err(UbFault::Unreachable)?;
    stream.set_nodelay(true).map_err(UbFault::Unreachable)?;
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(16_384)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| UbFault::NotHttp)?;
    // It ends with its sender.
    tokio::spawn(connection);
    Ok(sender)
}
