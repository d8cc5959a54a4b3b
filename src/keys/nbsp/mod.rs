//! Keys, Nbsp_GBA: the bootstrapping server's door for NAFs, as JSON over HTTP/2.
//!
//! Takes:   questions for the key of a B-TID, or for push info, from NAFs whose certificate was verified.
//! Gives:   [`answer`], what the server says; [`message`] and [`push`], the JSON; [`client`] and [`push_client`], the NAF that
//!          asks for keys and for push info.
//! Keeps:   nothing.
//! Refuses: see each file.
//! Sources: TS 29.309 clauses 5 and 6 (bootstrapping-info-retrieval, push-info-retrieval); TS 33.220 clauses 4.4.6 and 4.5.3; RFC 9457.
//!
//! OAuth 2.0 is an option of TS 29.309: who asks is known by the certificate, and where it is demanded, shows a token of its
//! own beside it ([`bearer`]). Tokens come in files: no authorization server is asked for any.

pub mod answer;
pub mod bearer;
pub mod client;
pub mod message;
pub mod push;
pub mod push_client;

/// Where keys are asked for.
pub const INFO_PATH: &str = "/nbsp-gba/v1/bootstrapping-info-retrieval";
/// Where push info is asked for.
pub const PUSH_PATH: &str = "/nbsp-gba/v1/push-info-retrieval";
/// The type of questions and answers.
pub const JSON: &str = "application/json";
/// The type of answers that are a no.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// The protocol in the handshake.
pub const ALPN: &[u8] = b"h2";
/// Longest body read, in octets, by either end.
pub const BODY_MAX: usize = 32_768;
