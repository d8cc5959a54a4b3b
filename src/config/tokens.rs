//! Configuration, tokens: what NAFs show at Nbsp_GBA beside their certificates, ours and those of others.
//!
//! Takes:   `nbsp.tokens`, the file of tokens that are good; `nbsp.server.token_file`, the file of the one that we show.
//! Gives:   [`Tokens`], [`Bearer`].
//! Keeps:   nothing.
//! Refuses: files that others can read; hashes that are none or there twice, NAFs that may not ask, scopes that are none or
//!          without the service, tokens without an end; a token that is none.
//! Sources: TS 29.309 clause 6.1.8; RFC 6750 section 2.1; SEC_CF 1.1 SEC-001.
//!
//! ```toml
//! [[token]]
//! sha256 = "00112233.."                     # of the token: printf %s "$TOKEN" | sha256sum
//! host = "naf7.example.net"                 # the NAF that it was given to, a [[nbsp.naf]]
//! scopes = ["nbsp-gba"]                     # and with it resources, if it is for those alone
//! expires = "2027-01-01T00:00:00Z"
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{Folder, Secrecy, Sum};
use super::nbsp::NbspNaf;
use super::problem::Notes;
use super::psk::hex;
use super::raw::{self, Document, Lines, Section};
use crate::keys::calendar;
use crate::keys::nbsp::bearer::{Bearer, Scope, TOKENS_MAX, Token, Tokens};

/// Reads `tokens`: those that NAFs have to show; `None` if they have to show none.
pub(super) fn demanded(
    section: &mut Section<'_>,
    folder: &Folder,
    nafs: &[NbspNaf],
    sum: &mut Sum,
) -> Option<Arc<Tokens>> {
    let notes = section.notes();
    let spot = section.maybe::<PathBuf>("tokens")?;
    if nafs.is_empty() && !section.has("naf") {
        let why = "it would not be used, and somebody may believe that it is";
        notes.problem(&spot.place, "stands without a NAF that asks", why, "");
    }
    let octets = folder.read_pem(&spot, Secrecy::Secret, notes)?;
    sum.add(&octets);
    let (tokens, found) = good(&folder.resolve(&spot.value), &octets, nafs);
    notes.adopt(found);
    Some(Arc::new(tokens))
}

/// Reads `token_file` of a server: what is shown there.
pub(super) fn shown(row: &mut Section<'_>, folder: &Folder, sum: &mut Sum) -> Option<Bearer> {
    let notes = row.notes();
    let spot = row.maybe::<PathBuf>("token_file")?;
    let octets = folder.read_pem(&spot, Secrecy::Secret, notes)?;
    sum.add(&octets);
    let token = Bearer::read(&octets);
    if token.is_none() {
        let why =
            "a file with one line: letters, digits and -._~+/, 4096 octets at most (RFC 6750)";
        notes.problem(&spot.place, "holds no token", why, "");
    }
    token
}

/// The tokens in `octets`, which stood in the file `name`.
fn good(name: &Path, octets: &[u8], nafs: &[NbspNaf]) -> (Tokens, Notes) {
    let notes = Notes::new(&name.display().to_string());
    let Ok(text) = std::str::from_utf8(octets) else {
        notes.say(0, "is not UTF-8 text".into(), "", "");
        return (Tokens::default(), notes);
    };
    let mut tokens: Vec<Token> = Vec::new();
    if let Some(table) = raw::parse(text, &notes) {
        let document = Document { text, lines: Lines::new(text), notes: &notes, secret: true };
        let mut root = Section::root(&document, table.get_ref());
        for section in root.tables("token") {
            let line = section.place().line;
            let Some(token) = one(section, nafs) else { continue };
            if tokens.len() == TOKENS_MAX {
                notes.say(line, format!("more than {TOKENS_MAX} tokens"), "", "");
                break;
            }
            if tokens.iter().any(|other| other.hash == token.hash) {
                let why = "one token is one NAF's";
                notes.say(line, "token.sha256 is there twice".into(), why, "");
                continue;
            }
            tokens.push(token);
        }
        root.finish();
    }
    (Tokens::new(tokens).unwrap_or_default(), notes)
}

fn one(mut section: Section<'_>, nafs: &[NbspNaf]) -> Option<Token> {
    let (notes, line) = (section.notes(), section.place().line);
    let say = |what: &str, why: &'static str, fix: &'static str| {
        notes.say(line, what.to_owned(), why, fix);
    };
    let digits = section.need::<String>("sha256", "a token is known by it", "\"..\"");
    let host = section.need::<String>("host", "a token is one NAF's", "\"naf7.example.net\"");
    let scopes = section.need::<Vec<String>>("scopes", "what it is good for", "[\"nbsp-gba\"]");
    let expires = section.need::<String>("expires", "it has an end", "\"2027-01-01T00:00:00Z\"");
    section.finish();
    let hash = digits.and_then(|spot| {
        let octets = hex(&spot.value).and_then(|octets| <[u8; 32]>::try_from(&octets[..]).ok());
        if octets.is_none() {
            say("token.sha256 is none", "it is hex, 32 octets", "printf %s \"$TOKEN\" | sha256sum");
        }
        octets
    });
    let host = host.and_then(|spot| {
        let naf = nafs.iter().find(|naf| naf.host.eq_ignore_ascii_case(&spot.value));
        if naf.is_none() {
            let why = "no NAF of that name may ask";
            notes.say(
                line,
                format!("token.host = {:?} is nobody", spot.value),
                why,
                "[[nbsp.naf]]",
            );
        }
        naf.map(|naf| Arc::clone(&naf.host))
    });
    let scopes = scopes.and_then(|spot| {
        let of = |name: &String| Scope::ALL.into_iter().find(|(own, _)| own == name);
        let scopes: Option<Vec<Scope>> =
            spot.value.iter().map(|name| of(name).map(|(_, scope)| scope)).collect();
        let scopes = scopes.filter(|scopes| scopes.contains(&Scope::Service));
        if scopes.is_none() {
            let why = "nbsp-gba is the service; nbsp-gba:bootstrapping-info-retrieval:invoke and \
                       nbsp-gba:push-info-retrieval:invoke are its resources";
            say("token.scopes reach nothing", why, "scopes = [\"nbsp-gba\"]");
        }
        scopes
    });
    let expires = expires.and_then(|spot| {
        let moment = calendar::parse_xml(&spot.value);
        if moment.is_none() {
            let fix = "expires = \"2027-01-01T00:00:00Z\"";
            say("token.expires is no moment", "date, time and zone", fix);
        }
        moment
    });
    Some(Token { hash: hash?, host: host?, scopes: scopes?, expires: expires? })
}
