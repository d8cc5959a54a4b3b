//! Stage 7, transactions.

pub mod client;
pub mod client_invite;
pub mod key;
pub mod server;
pub mod server_invite;
