//! Keys, Nbsp_GBA, answers: what the bootstrapping server says to a NAF.
//!
//! Takes:   one request: method, path, type and body, the names in the certificate of who asks, a random challenge.
//! Gives:   [`Told`]: the key, push info, or a problem.
//! Keeps:   nothing.
//! Refuses: requests without a token, where one is demanded (401, 403; [`super::bearer`]); other paths (404), methods (405), types (415); bodies over the bound (413) or not as they should be (400); a
//!          NAF without a grant for the name and protocol (403), before the B-TID is looked at; B-TIDs that are not known
//!          or whose time is over, with one word (404); subscribers that are not known or barred, with one word (404); push
//!          info too often (429), for an AUTS that is not the card's (400), and of a kind that is not made here (501).
//! Sources: TS 29.309 clauses 5.2.2 and 6.1.7; TS 33.220 clause 4.5.3; TS 29.500 clause 5.2.7.2 (causes).

use std::sync::Arc;

use zeroize::Zeroizing;

use super::bearer::Unproved;
use super::message::{Malformed, Problem, Question, print_key};
use super::push::{PushQuestion, Unmade};
use super::{BODY_MAX, INFO_PATH, JSON, PROBLEM_JSON, PUSH_PATH};
use crate::instant::Now;
use crate::keys::Rand;
use crate::keys::bootstrap::{Bsf, NafRefusal, NoPush};

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its path, without a query.
    pub path: &'a str,
    /// Its Content-Type.
    pub content_type: Option<&'a [u8]>,
    /// Its body; `None` if it is over [`BODY_MAX`].
    pub body: Option<&'a [u8]>,
}

/// The answer to one.
pub struct Told {
    /// The HTTP status.
    pub status: u16,
    /// The type of the body.
    pub content_type: &'static str,
    /// The body; it may hold a key.
    pub body: Zeroizing<Vec<u8>>,
    /// The value of `WWW-Authenticate`, where a token is lacking.
    pub challenge: Option<String>,
}

/// Answers. `hosts` are the names that the certificate of who asks was verified for; `rand` is random, and used once.
pub fn answer(bsf: &Bsf, hosts: &[Arc<str>], asked: &Asked<'_>, rand: Rand, now: Now) -> Told {
    match secrets_for(bsf, hosts, asked, rand, now) {
        Ok(body) => Told { status: 200, content_type: JSON, body, challenge: None },
        Err(problem) => no(&problem),
    }
}

/// The answer to a request that lacks a token which is demanded.
///
/// Source: RFC 6750 section 3.1. The causes are our own: TS 29.500 has none for it.
pub fn unproved(lack: Unproved) -> Told {
    let problem = match lack {
        Unproved::Missing => problem(401, "TOKEN_MISSING", "a token is demanded"),
        Unproved::Invalid => problem(401, "TOKEN_INVALID", "the token is not good"),
        Unproved::Scope(_) => problem(403, "TOKEN_SCOPE", "the token is not good for this"),
    };
    Told { challenge: Some(lack.challenge()), ..no(&problem) }
}

fn no(problem: &Problem) -> Told {
    Told {
        status: problem.status,
        content_type: PROBLEM_JSON,
        body: Zeroizing::new(problem.print()),
        challenge: None,
    }
}

fn secrets_for(
    bsf: &Bsf,
    hosts: &[Arc<str>],
    asked: &Asked<'_>,
    rand: Rand,
    now: Now,
) -> Result<Zeroizing<Vec<u8>>, Problem> {
    if ![INFO_PATH, PUSH_PATH].contains(&asked.path) {
        return Err(problem(404, "RESOURCE_URI_STRUCTURE_NOT_FOUND", "no such resource"));
    }
    if asked.method != "POST" {
        return Err(problem(405, "METHOD_NOT_ALLOWED", "this resource takes POST"));
    }
    if !asked.content_type.is_some_and(is_json) {
        return Err(problem(415, "UNSUPPORTED_MEDIA_TYPE", "the body is application/json"));
    }
    let body = asked.body.filter(|body| body.len() <= BODY_MAX);
    let body = body.ok_or_else(|| problem(413, "PAYLOAD_TOO_LARGE", "the body is too long"))?;
    if asked.path == PUSH_PATH {
        return push_info_for(bsf, hosts, body, rand, now);
    }
    key_for(bsf, hosts, body, now)
}

fn key_for(
    bsf: &Bsf,
    hosts: &[Arc<str>],
    body: &[u8],
    now: Now,
) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let question = Question::parse(body).map_err(malformed)?;
    let mut refusal = NafRefusal::NotAuthorised;
    for host in hosts {
        match bsf.naf_key(host, &question.btid, &question.naf, now) {
            Ok(key) => return Ok(print_key(&key, &question.gsids)),
            Err(NafRefusal::NotAuthorised) => {}
            Err(other) => refusal = other,
        }
    }
    Err(match refusal {
        NafRefusal::NotAuthorised => not_authorised(),
        NafRefusal::UnknownBtid => {
            problem(404, "CONTEXT_NOT_FOUND", "no such B-TID, or its time is over")
        }
        NafRefusal::Unavailable => problem(503, "NF_CONGESTION", "nobody can be looked up now"),
    })
}

fn push_info_for(
    bsf: &Bsf,
    hosts: &[Arc<str>],
    body: &[u8],
    rand: Rand,
    now: Now,
) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let question =
        PushQuestion::parse(body).map_err(malformed)?.map_err(|Unmade(name)| Problem {
            param: Some(name.to_owned()),
            ..problem(501, "NOT_IMPLEMENTED", "no push info of this kind is made here")
        })?;
    let mut refusal = NoPush::NotAuthorised;
    for host in hosts {
        match bsf.push_info(host, &question.request, rand, now) {
            Ok(info) => return Ok(question.answer(&info, now.wall)),
            Err(NoPush::NotAuthorised) => {}
            // It had the grant, and the question counts once.
            Err(other) => {
                refusal = other;
                break;
            }
        }
    }
    Err(match refusal {
        NoPush::NotAuthorised => not_authorised(),
        NoPush::Unknown => problem(404, "USER_NOT_FOUND", "no such subscriber, or a barred one"),
        NoPush::AutsWrong => Problem {
            param: Some("auts".to_owned()),
            ..problem(400, "OPTIONAL_IE_INCORRECT", "not the card's, or not for this challenge")
        },
        NoPush::Paced(_) => problem(429, "NF_CONGESTION_RISK", "too often for this subscriber"),
        NoPush::Spent => problem(500, "SYSTEM_FAILURE", "none can be made for this subscriber"),
        NoPush::Unavailable => problem(503, "NF_CONGESTION", "nobody can be looked up now"),
    })
}

fn not_authorised() -> Problem {
    problem(403, "NAF_NOT_AUTHORIZED", "not for this name and protocol")
}

fn malformed(why: Malformed) -> Problem {
    let (cause, param) = match why {
        Malformed::Json => ("INVALID_MSG_FORMAT", None),
        Malformed::Missing(name) => ("MANDATORY_IE_MISSING", Some(name)),
        Malformed::Wrong(name) => ("MANDATORY_IE_INCORRECT", Some(name)),
    };
    Problem { param: param.map(str::to_owned), ..problem(400, cause, &why.to_string()) }
}

fn problem(status: u16, cause: &str, detail: &str) -> Problem {
    Problem { status, cause: cause.into(), detail: detail.into(), param: None }
}

fn is_json(value: &[u8]) -> bool {
    let name = value.split(|octet| *octet == b';').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(JSON.as_bytes())
}
