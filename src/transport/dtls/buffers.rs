//! Stage 1, DTLS buffers: OpenSSL's room for records, which a session holds only while it reads or writes.
//!
//! Over datagrams the library keeps a buffer of some 17 KiB each way, whatever it is told: `SSL_MODE_RELEASE_BUFFERS`
//! is for streams alone. It has calls to do the same by hand; a write, unlike a read, needs them there.
//!
//! Takes:   a session of the library, between two calls.
//! Gives:   buffers before a call, and back to the system after it.
//! Keeps:   nothing.
//! Refuses: to give back a buffer in which something waits: the library looks.
//! Sources: OpenSSL's manual, `SSL_alloc_buffers` and `SSL_free_buffers`.

use std::ffi::c_int;

use ::openssl::ssl::SslStream;
use foreign_types::ForeignTypeRef as _;

/// Lets the library have its buffers; `false` if there is no memory for them.
pub(super) fn lend<S>(stream: &mut SslStream<S>) -> bool {
    // SAFETY: the session lives and nobody else has it; buffers that are there already stay.
    unsafe { SSL_alloc_buffers(stream.ssl().as_ptr()) == 1 }
}

/// Takes them back, unless something waits in them.
pub(super) fn take_back<S>(stream: &mut SslStream<S>) {
    // SAFETY: the session lives and nobody else has it; buffers in use are left alone.
    unsafe { SSL_free_buffers(stream.ssl().as_ptr()) };
}

unsafe extern "C" {
    /// The `openssl` crates have no binding for these.
    fn SSL_alloc_buffers(ssl: *mut openssl_sys::SSL) -> c_int;
    fn SSL_free_buffers(ssl: *mut openssl_sys::SSL) -> c_int;
}
