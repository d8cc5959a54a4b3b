//! Telemetry, log: where events go.
//!
//! Takes:   a filter, and whether lines are JSON.
//! Gives:   every event as one line on the standard error, and a handle by which the filter is changed.
//! Keeps:   nothing.
//! Refuses: a filter that leaves out the audit; control characters: what stands in an event can neither begin a line nor move a cursor. A log that
//!          cannot be written stops nothing (V-72).
//! Sources: V-11, V-49, V-72.

use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Changes what is logged.
#[derive(Clone, Debug)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

impl LogHandle {
    /// Puts another filter in force; false if it is none, or nothing logs any more.
    pub fn set(&self, filter: &str) -> bool {
        EnvFilter::try_new(audited(filter)).is_ok_and(|filter| self.0.reload(filter).is_ok())
    }
}

/// Whether `filter` is one.
///
/// # Errors
///
/// What is wrong with it.
pub fn check(filter: &str) -> Result<(), String> {
    EnvFilter::try_new(filter).map(drop).map_err(|error| error.to_string())
}

/// A filter that leaves out no line of the audit.
fn audited(filter: &str) -> String {
    if filter.is_empty() { AUDIT.into() } else { format!("{filter},{AUDIT}") }
}

const AUDIT: &str = "audit=info";

/// Sends events to the standard error from now on.
///
/// # Errors
///
/// If `filter` is none, or events go somewhere already.
pub fn start(filter: &str, json: bool) -> Result<LogHandle, String> {
    let (subscriber, handle) = subscriber(filter, json, || io::stderr().lock())?;
    tracing::subscriber::set_global_default(subscriber).map_err(|error| error.to_string())?;
    Ok(handle)
}

type Subscriber = Box<dyn tracing::Subscriber + Send + Sync>;

fn subscriber<W, F>(filter: &str, json: bool, open: F) -> Result<(Subscriber, LogHandle), String>
where
    W: Write,
    F: Fn() -> W + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(audited(filter)).map_err(|error| error.to_string())?;
    let (filter, handle) = reload::Layer::new(filter);
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(Plain(open));
    let registry = tracing_subscriber::registry().with(filter);
    let subscriber: Subscriber = match json {
        true => Box::new(registry.with(layer.json().flatten_event(true))),
        false => Box::new(registry.with(layer)),
    };
    Ok((subscriber, LogHandle(handle)))
}

/// Opens [`Line`]s.
struct Plain<F>(F);

impl<'a, W: Write, F: Fn() -> W> MakeWriter<'a> for Plain<F> {
    type Writer = Line<W>;

    fn make_writer(&'a self) -> Self::Writer {
        Line((self.0)())
    }
}

/// Writes each event as one line: what is written at once ends in the only line feed there is.
struct Line<W>(W);

impl<W: Write> Write for Line<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.write_all(event).map(|()| event.len())
    }

    fn write_all(&mut self, event: &[u8]) -> io::Result<()> {
        let text = event.strip_suffix(b"\n").unwrap_or(event);
        let mut line = Vec::with_capacity(text.len().saturating_add(16));
        for character in String::from_utf8_lossy(text).chars() {
            if character.is_control() {
                // The form that JSON knows too, whose own escapes leave out some controls.
                line.extend(format!("\\u{:04x}", u32::from(character)).into_bytes());
            } else {
                line.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        line.push(b'\n');
        // Nobody can be told that the log cannot be written.
        let _ = self.0.write_all(&line);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shelf(Arc<Mutex<Vec<u8>>>);

    impl Write for Shelf {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(json: bool, tell: impl FnOnce(&LogHandle)) -> String {
        let shelf = Shelf::default();
        let open = shelf.clone();
        let (subscriber, handle) = subscriber("info", json, move || open.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || tell(&handle));
        let octets = shelf.0.lock().unwrap().clone();
        String::from_utf8(octets).unwrap()
    }

    const HOSTILE: &str = "a\r\nERROR forged\u{1b}[2J\u{0}\"}\u{85}%s";

    #[test]
    fn one_event_is_one_line_whatever_stands_in_it() {
        for json in [false, true] {
            let text = logged(json, |_| {
                tracing::info!(agent = HOSTILE, shown = %HOSTILE, "seen {HOSTILE}");
            });
            assert_eq!(text.lines().count(), 1, "V-11: {text:?}");
            let clean = text.trim_end_matches('\n').chars().all(|c| !c.is_control());
            assert!(clean, "V-11: {text:?}");
            assert!(text.contains("forged"), "escaped, not lost: {text:?}");
            if json {
                let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                assert!(value["agent"].as_str().unwrap().contains("ERROR forged"));
            }
        }
    }

    #[test]
    fn the_filter_can_be_changed() {
        let text = logged(false, |handle| {
            tracing::debug!("first");
            assert!(handle.set("debug"));
            assert!(!handle.set("a=b=c"), "no filter: the old one stays");
            tracing::debug!("second");
        });
        assert!(!text.contains("first") && text.contains("second"), "{text}");
        assert!(check("sipward=debug,info").is_ok());
        assert!(check("a=b=c").is_err());
    }

    #[test]
    fn no_filter_leaves_out_the_audit() {
        let text = logged(false, |handle| {
            for filter in ["off", "error", "", "sipward=warn,audit=off"] {
                assert!(handle.set(filter), "{filter}");
                tracing::info!(target: "audit", filter, "kept");
                tracing::info!("not {filter}");
            }
        });
        assert_eq!((text.matches("kept").count(), text.contains("not")), (4, false), "{text}");
    }

    /// V-72.
    #[test]
    fn a_log_that_cannot_be_written_stops_nothing() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(Line(Full).write_all(b"event\n").is_ok(), "V-72");
    }
}
