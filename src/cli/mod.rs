//! The command line.

pub mod check;
pub mod demo;
pub mod init;
pub mod serve;
pub mod subscriber;
pub mod ue;
