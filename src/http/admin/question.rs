//! Admin, questions: what a request asks for, by its method, path and query.
//!
//! Takes:   a method, a path, a query.
//! Gives:   [`Asked`].
//! Keeps:   nothing.
//! Refuses: paths that stand in no row (404), methods that a path does not have (405), queries that cannot be read or
//!          that ask for everything to be changed (400).
//! Sources: RFC 9110 sections 9.3 and 15.5; V-73.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::{Method, StatusCode};

use crate::config::Config;
use crate::edge::Told;
use crate::identity::Btid;
use crate::transport::{GroupId, ListenerId, Side, Transport};
use crate::wire;

/// Dialogs in one answer, if nobody says how many.
pub const LIMIT: usize = 100;
/// And at most.
pub const LIMIT_MAX: usize = 10_000;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// How the edge stands.
    Status,
    /// Some dialogs.
    List(Wanted),
    /// One, by number.
    Show(u64),
    /// That something is taken back.
    Revoke(Whom),
    /// What would become of a message.
    Explain(Facts),
}

/// How a message would have come.
#[derive(Debug, PartialEq, Eq)]
pub struct Facts {
    /// Over what.
    pub transport: Transport,
    /// From where.
    pub from: SocketAddr,
    /// To which side.
    pub side: Side,
    /// To the listener of that name.
    pub listener: Option<String>,
    /// From a peer with a certificate of the group of that name.
    pub peer: Option<String>,
    /// How long from now.
    pub ahead: Duration,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            transport: Transport::Udp,
            from: ([192, 0, 2, 1], 5060).into(),
            side: Side::Ue,
            listener: None,
            peer: None,
            ahead: Duration::ZERO,
        }
    }
}

impl Facts {
    /// Reads a query.
    ///
    /// # Errors
    ///
    /// 400, and why.
    pub fn parse(query: &str) -> Result<Self, Refused> {
        let bad = |why| (StatusCode::BAD_REQUEST, why);
        let mut facts = Self::default();
        for (name, value) in pairs(query)? {
            match name {
                "transport" => {
                    let known = TRANSPORTS.iter().find(|known| known.uri_token() == value);
                    facts.transport = *known.ok_or(bad("no such transport"))?;
                }
                "from" => facts.from = value.parse().map_err(|_| bad("from is no address"))?,
                "side" if value == "ue" => facts.side = Side::Ue,
                "side" if value == "core" => facts.side = Side::Core,
                "listener" => facts.listener = Some(value),
                "peer" => facts.peer = Some(value),
                "ahead" => {
                    let seconds = value.parse().ok().filter(|seconds| *seconds <= AHEAD_MAX);
                    let seconds = seconds.ok_or(bad("ahead is not from 0 to 86400"))?;
                    facts.ahead = Duration::from_secs(seconds);
                }
                _ => return Err(bad("there are transport, from, side, listener, peer and ahead")),
            }
        }
        Ok(facts)
    }
}

impl Facts {
    /// The same with what `config` calls by those names.
    ///
    /// # Errors
    ///
    /// The name that nothing has.
    pub fn told(&self, config: &Config) -> Result<Told, &'static str> {
        let place = |found: Option<usize>| found.and_then(|place| u16::try_from(place).ok());
        let listener = match &self.listener {
            None => None,
            Some(name) => {
                let found = config.listeners.iter().position(|one| *one.name == **name);
                Some(ListenerId(place(found).ok_or("no listener has that name")?))
            }
        };
        let group = match &self.peer {
            None => None,
            Some(name) => {
                let found = config.peers.iter().position(|one| *one.name == **name);
                Some(GroupId(place(found).ok_or("no peer has that name")?))
            }
        };
        let Self { transport, from, side, ahead, .. } = *self;
        Ok(Told { transport, from, side, listener, group, ahead })
    }
}

const TRANSPORTS: [Transport; 6] = [
    Transport::Udp,
    Transport::Tcp,
    Transport::Tls,
    Transport::Dtls,
    Transport::Ws,
    Transport::Wss,
];
/// How far ahead a message may be tried, in seconds: a day.
const AHEAD_MAX: u64 = 86_400;

/// Which dialogs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Those of this principal.
    pub owner: Option<String>,
    /// Those of this Call-ID.
    pub call: Option<String>,
    /// The one of these two tags.
    pub tags: Option<[String; 2]>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// Of whom something is taken back.
#[derive(Debug, PartialEq, Eq)]
pub enum Whom {
    /// What came of one request.
    Dialog(u64),
    /// A caller, as [`is_called`](crate::assembly::revocation::is_called) knows him.
    Caller(String),
    /// The holder of a bootstrapped key.
    Key(Btid),
}

impl Whom {
    /// What it is, in the audit.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Dialog(_) => "dialog",
            Self::Caller(_) => "caller",
            Self::Key(_) => "key",
        }
    }
}

/// Why a request is none.
pub type Refused = (StatusCode, &'static str);

impl Asked {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// The status it is answered with, and why.
    pub fn parse(method: &Method, path: &str, query: &str) -> Result<Self, Refused> {
        let path = path.trim_end_matches('/');
        let (gets, deletes) =
            (matches!(*method, Method::GET | Method::HEAD), *method == Method::DELETE);
        let id = path.strip_prefix("/associations/").and_then(|id| id.parse().ok());
        match (path, id) {
            ("/status", _) if gets => Ok(Self::Status),
            ("/explain", _) if *method == Method::POST => Ok(Self::Explain(Facts::parse(query)?)),
            ("/explain", _) => Err((StatusCode::METHOD_NOT_ALLOWED, "POST")),
            ("/associations", _) if gets => Ok(Self::List(Wanted::parse(query)?)),
            ("/associations", _) if deletes => match Wanted::parse(query)? {
                Wanted { owner: Some(owner), call: None, tags: None, limit: None } => {
                    Ok(Self::Revoke(Whom::Caller(owner)))
                }
                _ => Err((StatusCode::BAD_REQUEST, "an owner is needed, and he alone")),
            },
            ("/keys", _) if deletes => {
                let btid =
                    query.strip_prefix("btid=").and_then(decoded).as_deref().and_then(Btid::new);
                btid.map(|btid| Self::Revoke(Whom::Key(btid)))
                    .ok_or((StatusCode::BAD_REQUEST, "a btid is needed"))
            }
            (_, Some(id)) if gets => Ok(Self::Show(id)),
            (_, Some(id)) if deletes => Ok(Self::Revoke(Whom::Dialog(id))),
            ("/status", _) => Err((StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD")),
            ("/associations", _) | (_, Some(_)) => {
                Err((StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD, DELETE"))
            }
            ("/keys", _) => Err((StatusCode::METHOD_NOT_ALLOWED, "DELETE")),
            _ => Err((StatusCode::NOT_FOUND, "no such page")),
        }
    }
}

impl Wanted {
    fn parse(query: &str) -> Result<Self, Refused> {
        let bad = |why| (StatusCode::BAD_REQUEST, why);
        let mut wanted = Self::default();
        let mut tags = Vec::new();
        for (name, value) in pairs(query)? {
            match name {
                "owner" => wanted.owner = Some(value),
                "call" => wanted.call = Some(value),
                "tag" => tags.push(value),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    wanted.limit = Some(limit.ok_or(bad("limit is not from 1 to 10000"))?);
                }
                _ => return Err(bad("there are owner, call, tag and limit")),
            }
        }
        wanted.tags = match <[String; 2]>::try_from(tags) {
            Ok(tags) if wanted.call.is_some() => Some(tags),
            Err(none) if none.is_empty() => None,
            _ => return Err(bad("tags are two, and of a call")),
        };
        Ok(wanted)
    }
}

/// Names and values of a query.
///
/// # Errors
///
/// 400, and why.
pub fn pairs(query: &str) -> Result<Vec<(&str, String)>, Refused> {
    let parts = query.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair| {
        let (name, value) = <str>::split_once(pair, '=').ok_or("a name without a value")?;
        Ok((name, decoded(value).ok_or("a value is no UTF-8")?))
    };
    let read: Result<_, &'static str> = parts.map(pair).collect();
    read.map_err(|why| (StatusCode::BAD_REQUEST, why))
}

fn decoded(value: &str) -> Option<String> {
    String::from_utf8(wire::uri::decode(value.as_bytes())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_dialogs() {
        let text = |text: &str| Some(text.to_owned());
        let tags = Some(["a".to_owned(), "b".to_owned()]);
        for (query, expected) in [
            ("", Ok(Wanted::default())),
            ("limit=5", Ok(Wanted { limit: Some(5), ..Wanted::default() })),
            (
                "owner=ue1%40ims.example.net&limit=1",
                Ok(Wanted {
                    owner: text("ue1@ims.example.net"),
                    limit: Some(1),
                    ..Wanted::default()
                }),
            ),
            ("call=x%26y&tag=a&tag=b", Ok(Wanted { call: text("x&y"), tags, ..Wanted::default() })),
            ("limit=0", Err("limit is not from 1 to 10000")),
            ("limit=10001", Err("limit is not from 1 to 10000")),
            ("owner", Err("a name without a value")),
            ("owner=%FF", Err("a value is no UTF-8")),
            ("call=x&tag=a", Err("tags are two, and of a call")),
            ("tag=a&tag=b", Err("tags are two, and of a call")),
            ("x=1", Err("there are owner, call, tag and limit")),
        ] {
            let expected = expected.map_err(|why| (StatusCode::BAD_REQUEST, why));
            assert_eq!(Wanted::parse(query), expected, "{query}");
        }
    }

    #[test]
    fn a_query_says_how_a_message_would_have_come() {
        let facts = Facts {
            transport: Transport::Tls,
            from: ([198, 51, 100, 7], 40_000).into(),
            side: Side::Core,
            listener: Some("core".into()),
            peer: Some("home".into()),
            ahead: Duration::from_secs(90),
        };
        let all =
            "transport=tls&from=198.51.100.7%3A40000&side=core&listener=core&peer=home&ahead=90";
        assert_eq!(Facts::parse(all), Ok(facts));
        assert_eq!(Facts::parse(""), Ok(Facts::default()));
        for bad in ["transport=sctp", "from=x", "side=both", "ahead=86401", "x=1"] {
            assert!(Facts::parse(bad).is_err(), "{bad}");
        }
    }

    /// V-73: nothing is taken back that was not named.
    #[test]
    fn what_changes_something_says_what() {
        let revoke = |whom| Ok(Asked::Revoke(whom));
        let btid = Btid::new("cg==@bsf.example.net").expect("a B-TID");
        for (path, query, expected) in [
            ("/associations/7", "", revoke(Whom::Dialog(7))),
            ("/associations", "owner=a%40b", revoke(Whom::Caller("a@b".into()))),
            ("/keys", "btid=cg%3D%3D%40bsf.example.net", revoke(Whom::Key(btid))),
            ("/associations", "", Err(400)),
            ("/associations", "limit=1", Err(400)),
            ("/associations", "owner=a&call=b", Err(400)),
            ("/keys", "", Err(400)),
            ("/keys", "btid=", Err(400)),
            ("/status", "", Err(405)),
            ("/", "", Err(404)),
        ] {
            let asked = Asked::parse(&Method::DELETE, path, query);
            assert_eq!(asked.map_err(|(status, _)| status.as_u16()), expected, "{path}?{query}");
        }
    }
}
