//! `sipward serve`, page: what the page of metrics shows of a running service.
//!
//! Takes:   the service, and the counters that it began with.
//! Gives:   rows of the page, each read when the page is asked for; the page, where the configuration asks for one.
//! Keeps:   nothing.
//! Refuses: an address that cannot be bound.
//! Sources: none.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Service;
use crate::assembly::Running;
use crate::association;
use crate::cli::listen::listen;
use crate::cli::{endings, pushed};
use crate::clock;
use crate::http::admin;
use crate::telemetry::{Metrics, page::Page};

impl Service {
    /// Opens the page of metrics, if the configuration asks for it.
    pub(super) async fn show(&mut self, metrics: Arc<Metrics>) -> io::Result<()> {
        if let Some(running) = &self.running {
            show_edge(&metrics, running);
        }
        if let Some(node) = &self.node {
            node.show(&metrics);
        }
        let config = self.reloader.shared();
        let about = "Seconds until this certificate of ours ends; 0 if it has";
        metrics.gauges("sipward_certificate_seconds_left", about, move || {
            let now = clock::now().wall;
            let row = |ending: endings::Ending| {
                let (shown_by, at) = (ending.shown_by.to_string(), ending.at.to_string());
                (vec![("shown_by", shown_by), ("at", at)], ending.left(now))
            };
            endings::of(&config.load()).into_iter().map(row).collect()
        });
        if let Some(address) = self.reloader.current().telemetry.metrics {
            let page = Page::new(Arc::clone(&metrics), Arc::clone(&self.well));
            let listener = listen("telemetry.metrics", address).await?;
            self.page = Some(listener.local_addr()?);
            tokio::spawn(page.serve(listener, std::future::pending()));
        }
        self.metrics = Some(metrics);
        Ok(())
    }
}

/// What an edge holds and has counted.
fn show_edge(metrics: &Metrics, running: &Running) {
    let shared = Arc::clone(&running.shared);
    let about = "Dialogs held, ended ones and those that may come to be included";
    metrics.gauges("sipward_associations", about, move || {
        admin::views::rows(&shared.gate.associations)
    });
    let shared = Arc::clone(&running.shared);
    let about = "Dialogs held, of those that there is room for";
    metrics.ratio("sipward_association_table_ratio", about, move || {
        let associations = &shared.gate.associations;
        let (held, room) = (associations.footprint(), associations.room().max(1));
        (held.saturating_mul(1000) / room) as u64
    });
    let shared = Arc::clone(&running.shared);
    let about = "Dialogs that there is room for";
    metrics.gauge("sipward_associations_max", about, &[], move || {
        shared.gate.associations.room() as u64
    });
    let about = "Dialogs whose owner's key ended or was changed";
    type Count = fn(&association::Noted) -> &AtomicU64;
    let counts: [(_, Count); 2] =
        [("renewed", |noted| &noted.rekeyed), ("broken", |noted| &noted.not_rekeyed)];
    for (outcome, count) in counts {
        let shared = Arc::clone(&running.shared);
        let labels = [("outcome", outcome)];
        metrics.count("sipward_association_rekeys_total", about, &labels, move || {
            count(shared.gate.associations.noted()).load(Ordering::Relaxed)
        });
    }
    let shared = Arc::clone(&running.shared);
    let (about, labels) = ("Dialogs that were made again", [("source", "token")]);
    metrics.count("sipward_association_restored_total", about, &labels, move || {
        shared.gate.associations.noted().restored.load(Ordering::Relaxed)
    });
    let shared = Arc::clone(&running.shared);
    let about = "Load: 0 normal, 1 what proves nothing is dropped, 2 new dialogs are refused";
    metrics
        .gauge("sipward_load", about, &[], move || shared.gate.admission.overload().load() as u64);
    let flows = Arc::clone(&running.flows);
    metrics
        .gauge("sipward_connections", "Connections open", &[], move || flows.open_count() as u64);
    let (flows, name) = (Arc::clone(&running.flows), "sipward_connections_unauthenticated");
    let about = "Connections accepted on which nobody authenticated, silent ones included";
    metrics.gauge(name, about, &[], move || flows.unauthenticated_count() as u64);
    for (event, _) in running.flows.tally().each() {
        let flows = Arc::clone(&running.flows);
        let about = "What happened below the messages";
        metrics.count("sipward_transport_total", about, &[("event", event)], move || {
            let found = flows.tally().each().find(|(name, _)| *name == event);
            found.map_or(0, |(_, count)| count)
        });
    }
    let shared = Arc::clone(&running.shared);
    metrics.gauge("sipward_registrations", "Registrations through us", &[], move || {
        shared.bindings.len() as u64
    });
    pushed::show(metrics, &running.shared);
}
