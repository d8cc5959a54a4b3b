//! Telemetry, page: `/metrics` for Prometheus and `/healthz` for whoever restarts us.
//!
//! Takes:   a listener on loopback, the counters, and whether the edge is well.
//! Gives:   the page until it is told to stop.
//! Keeps:   at most 32 connections, 16 of one address, ten seconds each.
//! Refuses: other paths (404), methods other than GET and HEAD (405).
//! Sources: RFC 9110 sections 9.3 and 15.5; V-73, V-149.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use tokio::net::TcpListener;

use super::Metrics;
use crate::http::{Answer, Bounds, serve};

/// What the page shows.
#[derive(Clone, Debug)]
pub struct Page {
    metrics: Arc<Metrics>,
    well: Arc<AtomicBool>,
}

impl Page {
    /// A page of `metrics`; the edge is well while `well` is true.
    pub fn new(metrics: Arc<Metrics>, well: Arc<AtomicBool>) -> Self {
        Self { metrics, well }
    }

    /// Serves the page until `shutdown` ends.
    ///
    /// # Errors
    ///
    /// As [`serve`].
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let bounds = Bounds {
            connections: 32,
            per_source: 16,
            life: Duration::from_secs(10),
            drain: Duration::from_secs(1),
            ..Bounds::default()
        };
        let answer = move |request: hyper::Request<_>, _: SocketAddr| {
            let answer = self.answer(request.method(), request.uri().path());
            std::future::ready(answer)
        };
        serve(listener, bounds, answer, shutdown).await
    }

    fn answer(&self, method: &Method, path: &str) -> Answer {
        let (status, kind, text) = match path {
            "/metrics" => (StatusCode::OK, "text/plain; version=0.0.4", self.metrics.render()),
            "/healthz" if self.well.load(Ordering::Relaxed) => {
                (StatusCode::OK, "text/plain", "ok\n".to_owned())
            }
            "/healthz" => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", "stopping\n".to_owned()),
            _ => (StatusCode::NOT_FOUND, "text/plain", "/metrics or /healthz\n".to_owned()),
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        let mut answer = Response::new(Full::new(Bytes::from(text)));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;

    async fn ask(address: SocketAddr, line: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_page_answers_what_it_has() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let well = Arc::new(AtomicBool::new(true));
        let page = Page::new(Arc::new(Metrics::new()), Arc::clone(&well));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(page.serve(listener, async { drop(stopped.await) }));
        for (line, status, holds) in [
            ("GET /metrics", "200", "sipward_refusals_total{refusal=\"NonceStale\"} 0"),
            ("GET /healthz", "200", "ok"),
            ("GET /", "404", "/metrics or /healthz"),
            ("POST /metrics", "405", "allow: GET, HEAD"),
        ] {
            let answer = ask(address, line).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
            assert!(answer.contains(holds), "{line}: {answer}");
        }
        well.store(false, Ordering::Relaxed);
        assert!(ask(address, "GET /healthz").await.starts_with("HTTP/1.1 503 "));
        stop.send(()).unwrap();
        serving.await.unwrap().unwrap();
    }
}
