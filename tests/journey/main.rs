//! Journeys in virtual time, each a sentence: what happens to whom, without sockets.

mod adversary;
mod agreement;
mod apart;
mod associations;
mod b2bua;
mod b2bua_classes;
mod b2bua_ends;
mod b2bua_fixtures;
mod b2bua_names;
mod channel;
mod credentials;
mod crossed;
mod dtls;
mod enablers;
mod forwarding;
mod growth;
mod hidden;
mod keys;
mod outbound;
mod phone;
mod policy;
mod proofs;
mod scene;
mod tokens;
mod ways;
mod ws;
