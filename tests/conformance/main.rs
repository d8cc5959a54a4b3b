//! A file for each document, a function for each clause.

mod asserted;
#[cfg(feature = "edge")]
#[allow(dead_code, reason = "it serves other tests too")]
mod authority;
mod b2bua;
#[cfg(feature = "edge")]
#[allow(dead_code, reason = "it serves other tests too")]
mod gateway;
mod rfc3261_17;
mod rfc3261_7;
mod rfc3310;
mod rfc3329;
mod rfc4320;
mod rfc4475;
mod rfc5118;
mod rfc5389;
mod rfc5626;
#[cfg(feature = "edge")]
mod rfc5922;
#[cfg(feature = "edge")]
mod rfc5923;
mod rfc6026;
mod rfc6223;
#[cfg(feature = "diameter")]
mod rfc6733;
mod rfc7616;
mod sip_edge_tr;
mod sip_edge_tx;
mod sip_edge_tx_link;
mod sip_edge_via;
mod threats_wire;
mod torture;
mod torture_edge;
#[cfg(feature = "http")]
mod ts24109_digest;
#[cfg(feature = "diameter")]
mod ts29109;
#[cfg(feature = "diameter")]
mod ts29109_zpn;
#[cfg(feature = "http")]
mod ts29309;
#[cfg(feature = "http")]
mod ts29309_push;
#[cfg(feature = "http")]
mod ts29309_token;
mod ts33220;
mod ts33220_digest;
mod ts33220_ub;
mod ts33223;
mod ts35206;
mod ts35231;
mod vectors;
