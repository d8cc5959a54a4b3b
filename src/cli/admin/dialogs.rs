//! `sipward sa` and `sipward dialog`: dialogs as people read them.
//!
//! Takes:   dialogs, as the edge tells of them.
//! Gives:   a table of many, or of one with both its legs.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: SEC_CF 1.1 ADM-001.

use std::io::{self, Write};

use crate::cli::Table;
use crate::http::admin::views::{Dialog, Leg};

/// Prints a row for each.
pub(super) fn list(dialogs: Vec<Dialog>, out: &mut dyn Write) -> io::Result<()> {
    let headings = ["ID", "STATE", "CLASS", "LEVEL", "OWNER", "PEER", "BEGUN BY", "REACHED ON"];
    let mut table = Table::new(&headings);
    for one in dialogs {
        let level = format!("{}{}", one.level, if one.secure { " secure" } else { "" });
        let (id, newest) = (one.id.to_string(), one.ue.anchors.last().cloned().unwrap_or_default());
        let (owner, peer) = (one.ue.owner, one.core.owner);
        table.row([id, one.state, one.class, level, owner, peer, one.begun_by, newest]);
    }
    table.print(out)
}

/// Prints one.
pub(super) fn show(dialog: &Dialog, out: &mut dyn Write) -> io::Result<()> {
    let seconds = |left: Option<u64>| left.map_or("no end".into(), |left| format!("{left} s"));
    let ends: Vec<String> = dialog.subscriptions.iter().map(|left| seconds(*left)).collect();
    let level = if dialog.secure { ", on secure flows alone" } else { "" };
    let mut table = Table::new(&["DIALOG", &dialog.id.to_string()]);
    for (name, value) in [
        ("Call-ID", dialog.call.clone()),
        ("state", dialog.state.clone()),
        ("something of it ends in", seconds(dialog.seconds_left)),
        ("it is over in", seconds(dialog.session_left)),
        ("its owner's key ends in", seconds(dialog.key_left)),
        ("keys before this one", dialog.generation.to_string()),
        ("class", dialog.class.clone()),
        ("least level", format!("{}{level}", dialog.level)),
        ("rule of the latest request", dialog.last_rule.to_string()),
        ("INVITE usage", dialog.invite.to_string()),
        ("subscriptions end in", if ends.is_empty() { "none".into() } else { ends.join(", ") }),
    ] {
        table.row([name.to_owned(), value]);
    }
    table.print(out)?;
    writeln!(out)?;
    let mut table = Table::new(&["LEG", "UE", "CORE"]);
    for (name, value) in ROWS {
        table.row([name.to_owned(), value(&dialog.ue), value(&dialog.core)]);
    }
    table.print(out)
}

/// A name, and what it is of a leg.
type Row = (&'static str, fn(&Leg) -> String);

/// What there is to say of a leg.
const ROWS: [Row; 9] = [
    ("owner", |leg| leg.owner.clone()),
    ("role", |leg| leg.role.clone()),
    ("anchors", |leg| if leg.anchors.is_empty() { "-".into() } else { leg.anchors.join(", ") }),
    ("CSeq", |leg| number(leg.cseq)),
    ("CSeq of its INVITE", |leg| number(leg.invite_cseq)),
    ("Call-ID of its own", |leg| id(leg, 0)),
    ("tags: ours, theirs", |leg| match &leg.ids {
        Some([_, own, far]) => format!("{own} {far}"),
        None => "-".into(),
    }),
    ("remote target", |leg| leg.target.clone().unwrap_or("-".into())),
    ("route set", |leg| leg.routes.clone().unwrap_or("-".into())),
];

fn number(number: Option<u32>) -> String {
    number.map_or("-".into(), |number| number.to_string())
}

fn id(leg: &Leg, place: usize) -> String {
    leg.ids.as_ref().and_then(|ids| ids.get(place)).cloned().unwrap_or("-".into())
}
