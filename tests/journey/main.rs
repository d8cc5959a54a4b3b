//! Journeys in virtual time, each a sentence: what happens to whom, without sockets.

mod associations;
mod credentials;
mod forwarding;
mod scene;
