//! The server of the core: registrar, and a proxy without state. What comes twice goes on twice.

use std::collections::HashMap;

use bytes::Bytes;

use crate::sheet::Sheet;

pub(crate) const ADDRESS: &str = "203.0.113.10:5060";

struct Registration {
    contact: String,
    path: Vec<String>,
}

#[derive(Default)]
pub(crate) struct Core {
    registrations: HashMap<String, Registration>,
}

impl Core {
    /// What it sends back to the edge for a message of the edge.
    pub(crate) fn receive(&mut self, octets: &Bytes) -> Option<Bytes> {
        let sheet = Sheet::read(octets);
        if sheet.is_request() { self.request(sheet) } else { response(sheet) }
    }

    fn request(&mut self, mut sheet: Sheet) -> Option<Bytes> {
        if sheet.method() == "REGISTER" {
            return Some(self.register(&sheet).print());
        }
        if sheet.first("Route").contains(ADDRESS) {
            sheet.pop("Route");
        }
        if sheet.first("Route").is_empty() {
            let user = sheet.uri().trim_start_matches("sip:").split('@').next().unwrap_or_default();
            let Some(found) = self.registrations.get(user) else {
                let none = (sheet.method() != "ACK").then(|| sheet.answer(404, "core"));
                return none.map(|answer| answer.print());
            };
            sheet.start = format!("{} {} SIP/2.0", sheet.method(), found.contact);
            for hop in found.path.iter().rev() {
                sheet.push("Route", hop.clone());
            }
            sheet.push("Record-Route", format!("<sip:{ADDRESS};lr>"));
        }
        let hops: u32 = sheet.first("Max-Forwards").parse().unwrap_or(70);
        sheet.set("Max-Forwards", hops.saturating_sub(1).to_string());
        let branch = sheet.first("Via").split(";branch=z9hG4bK").nth(1);
        let branch = branch.and_then(|rest| rest.split(';').next()).unwrap_or_default().to_owned();
        sheet.push("Via", format!("SIP/2.0/UDP {ADDRESS};branch=z9hG4bKcore{branch}"));
        Some(sheet.print())
    }

    fn register(&mut self, sheet: &Sheet) -> Sheet {
        let user = sheet.first("To").split("sip:").nth(1).and_then(|rest| rest.split('@').next());
        let contact = sheet.first("Contact").trim_matches(['<', '>']).to_owned();
        let path = sheet.all("Path").map(str::to_owned).collect();
        let registration = Registration { contact: contact.clone(), path };
        self.registrations.insert(user.unwrap_or_default().to_owned(), registration);
        let mut answer = sheet.answer(200, "core");
        answer.set("Contact", format!("<{contact}>;expires=3600"));
        answer
    }
}

/// A response goes back to the edge, whose Via is the next.
fn response(mut sheet: Sheet) -> Option<Bytes> {
    let own = sheet.pop("Via")?;
    own.contains(ADDRESS).then(|| sheet.print())
}
