//! Journeys in virtual time, each a sentence: what happens to whom, without sockets.

mod adversary;
mod agreement;
mod answering;
mod apart;
mod associations;
mod b2bua;
mod b2bua_fixtures;
mod channel;
mod credentials;
mod dtls;
mod enablers;
mod forwarding;
mod growth;
mod keys;
mod outbound;
mod phone;
mod policy;
mod proofs;
mod pushes;
mod scene;
mod tokens;
mod ways;
mod ws;
