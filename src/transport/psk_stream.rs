//! Stage 1, PSK-TLS: one stream, whichever library shook hands.
//!
//! Takes:   a stream of OpenSSL, TLS 1.2, or of s2n-tls, TLS 1.3.
//! Gives:   what came over it in the clear, and takes what is to go.
//! Keeps:   nothing beside it; while nothing comes, no buffers.
//! Refuses: nothing by itself.
//! Sources: RFC 5246 section 6.2; RFC 8446 section 5.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use s2n_tls_tokio::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_openssl::SslStream;

use super::held::Held;

/// An encrypted stream whose handshake a shared key made.
#[derive(Debug)]
pub enum PskStream<S: AsyncRead + AsyncWrite + Unpin> {
    /// TLS 1.2.
    Tls12(Pin<Box<SslStream<Held<S>>>>),
    /// TLS 1.3.
    Tls13(Box<TlsStream<Held<S>>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for PskStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls12(stream) => stream.as_mut().poll_read(context, room),
            Self::Tls13(stream) => {
                let read = Pin::new(&mut **stream).poll_read(context, room);
                if read.is_pending() {
                    // It keeps them where part of a record is in them.
                    let _ = stream.as_mut().as_mut().release_buffers();
                }
                read
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for PskStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls12(stream) => stream.as_mut().poll_write(context, octets),
            Self::Tls13(stream) => Pin::new(&mut **stream).poll_write(context, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls12(stream) => stream.as_mut().poll_flush(context),
            Self::Tls13(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls12(stream) => stream.as_mut().poll_shutdown(context),
            Self::Tls13(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}
