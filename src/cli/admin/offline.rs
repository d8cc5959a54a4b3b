//! `sipward explain --offline`: what the configuration alone says of a message, where no edge runs.
//!
//! Takes:   a configuration, a message, and how it would have come.
//! Gives:   the same account as a running edge that has just begun; names of peers are looked up, once.
//! Keeps:   nothing.
//! Refuses: a configuration with problems, or without listeners; facts that it has no name for.
//! Sources: `dialog-association` section 17.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::cli::plan::{Sources, plan};
use crate::cli::{auc, serve};
use crate::clock;
use crate::config::{Config, Nbsp};
use crate::http::admin::question::Facts;
use crate::http::admin::views::Explanation;
use crate::keys::KeyServer;
use crate::keys::naf::{CacheBounds, NafCache};
use crate::keys::push::PushServer;
use crate::keys::servers::PushServers;
use crate::transport::peers::{PeerGroup, SystemDns};

/// What an edge by `config` would do with `octets`.
///
/// # Errors
///
/// What is wrong with the configuration, or why the message cannot come like that.
pub(super) fn explain(config: &Config, octets: Bytes, facts: &Facts) -> io::Result<Explanation> {
    if config.listeners.is_empty() {
        return Err(io::Error::other("there is no edge: it has no [[listen]]"));
    }
    let told = facts.told(config).map_err(io::Error::other)?;
    // Which realms are offered, and whether pushes are wrapped, depends on there being sources; they are never asked.
    let keys: Arc<dyn KeyServer> = Arc::new(NafCache::new(CacheBounds::default(), []));
    let nobody: Arc<dyn PushServer> = Arc::new(PushServers::default());
    let realms = config.nbsp.iter().flat_map(Nbsp::push_realms);
    let pushes = realms.map(|realm| (Arc::clone(realm), Arc::clone(&nobody))).collect();
    let sources = Sources { keys: Some(keys), pushes };
    let mut plan = plan(config, auc::unserved(config)?, sources)?;
    let groups = serve::peer_groups(config);
    resolve(&groups)?;
    plan.resolved = Some(Arc::new(serve::Groups(groups)));
    let now = clock::now();
    let account = plan.explain(octets, &told, now).map_err(io::Error::other)?;
    Ok(Explanation::of(account, now))
}

/// Looks up the peers that are written as names. One that is not found has no address, as on a running edge.
fn resolve(groups: &[Arc<PeerGroup>]) -> io::Result<()> {
    if groups.iter().all(|group| group.is_literal()) {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let dns = SystemDns::new().map_err(io::Error::other)?;
        for group in groups {
            group.refresh(&dns, u64::from_be_bytes(clock::random())).await;
        }
        Ok(())
    })
}
