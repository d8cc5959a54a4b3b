//! A file for each document, a function for each clause.

mod rfc3310;
mod rfc7616;
mod ts33220;
mod ts35206;
mod ts35231;
mod vectors;
