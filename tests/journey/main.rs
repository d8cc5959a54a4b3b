//! Journeys in virtual time, each a sentence: what happens to whom, without sockets.

mod adversary;
mod associations;
mod credentials;
mod forwarding;
mod policy;
mod scene;
