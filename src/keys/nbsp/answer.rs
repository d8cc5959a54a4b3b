//! Keys, Nbsp_GBA, answers: what the bootstrapping server says to a NAF.
//!
//! Takes:   one request: method, path, type and body, and the names in the certificate of who asks.
//! Gives:   [`Told`]: the key, or a problem.
//! Keeps:   nothing.
//! Refuses: other paths (404), methods (405), types (415); bodies over the bound (413) or not as they should be (400); a
//!          NAF without a grant for the name and protocol (403), before the B-TID is looked at; B-TIDs that are not known
//!          or whose time is over, with one word (404).
//! Sources: TS 29.309 clauses 5.2.2.2 and 6.1.7; TS 33.220 clause 4.5.3; TS 29.500 clause 5.2.7.2 (causes).

use std::sync::Arc;

use zeroize::Zeroizing;

use super::message::{Malformed, Problem, Question, print_key};
use super::{BODY_MAX, INFO_PATH, JSON, PROBLEM_JSON};
use crate::instant::Now;
use crate::keys::bootstrap::{Bsf, NafRefusal};

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
}

/// Answers. `hosts` are the names that the certificate of who asks was verified for.
pub fn answer(bsf: &Bsf, hosts: &[Arc<str>], asked: &Asked<'_>, now: Now) -> Told {
    match key_for(bsf, hosts, asked, now) {
        Ok(body) => Told { status: 200, content_type: JSON, body },
        Err(problem) => Told {
            status: problem.status,
            content_type: PROBLEM_JSON,
            body: Zeroizing::new(problem.print()),
        },
    }
}

fn key_for(
    bsf: &Bsf,
    hosts: &[Arc<str>],
    asked: &Asked<'_>,
    now: Now,
) -> Result<Zeroizing<Vec<u8>>, Problem> {
    if asked.path != INFO_PATH {
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
        NafRefusal::NotAuthorised => {
            problem(403, "NAF_NOT_AUTHORIZED", "not for this name and protocol")
        }
        NafRefusal::UnknownBtid => {
            problem(404, "CONTEXT_NOT_FOUND", "no such B-TID, or its time is over")
        }
        NafRefusal::Unavailable => problem(503, "NF_CONGESTION", "nobody can be looked up now"),
    })
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
