//! The server of the core: registrar, notifier, and a proxy without state. What comes twice goes on twice.

use std::collections::HashMap;

use bytes::Bytes;

use sipward::testing::lab::EDGE;

use crate::sheet::Sheet;

pub(crate) const ADDRESS: &str = "203.0.113.10:5060";
/// Whose news may be subscribed to.
pub(crate) const NEWS: &str = "news";

struct Registration {
    contact: String,
    path: Vec<String>,
}

#[derive(Default)]
pub(crate) struct Core {
    registrations: HashMap<String, Registration>,
    /// NOTIFYs sent in each subscription.
    told: HashMap<String, u32>,
}

impl Core {
    /// What it sends back to the edge for a message of the edge.
    pub(crate) fn receive(&mut self, octets: &Bytes) -> Vec<Bytes> {
        let sheet = Sheet::read(octets);
        let one = if sheet.is_request() { self.request(sheet) } else { response(sheet) };
        one.into_iter().map(|sheet| sheet.print()).collect()
    }

    fn request(&mut self, mut sheet: Sheet) -> Vec<Sheet> {
        if sheet.method() == "REGISTER" {
            return vec![self.register(&sheet)];
        }
        if sheet.first("Route").contains(ADDRESS) {
            sheet.pop("Route");
        }
        let user = sheet.uri().trim_start_matches("sip:").split('@').next().unwrap_or_default();
        if user == NEWS {
            return self.subscribe(&sheet);
        }
        // Where the edge stands back to back, it is the target itself.
        let to_edge = sheet.uri().contains(EDGE);
        if sheet.first("Route").is_empty() && !to_edge {
            let Some(found) = self.registrations.get(user) else {
                let none = (sheet.method() != "ACK").then(|| sheet.answer(404, "core"));
                return none.into_iter().collect();
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
        vec![sheet]
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

    /// A subscription begins, goes on or ends: each time it is answered, and the news is told.
    fn subscribe(&mut self, sheet: &Sheet) -> Vec<Sheet> {
        if sheet.method() != "SUBSCRIBE" {
            return (sheet.method() != "ACK")
                .then(|| sheet.answer(405, "core"))
                .into_iter()
                .collect();
        }
        let own = format!("<sip:{NEWS}@{ADDRESS}>");
        let call = sheet.first("Call-ID").to_owned();
        // One request, one tag, however often it comes.
        let via = sheet.first("Via").split(";branch=").nth(1).unwrap_or_default();
        let tag: String = via.chars().filter(char::is_ascii_alphanumeric).collect();
        let mut answer = sheet.answer(200, &tag);
        answer.set("Contact", own.as_str());
        answer.set("Expires", sheet.first("Expires"));
        let number = self.told.entry(call.clone()).or_default();
        *number += 1;
        let contact = sheet.first("Contact").trim_start_matches('<').split('>').next();
        let mut notify = Sheet {
            start: format!("NOTIFY {} SIP/2.0", contact.unwrap_or_default()),
            fields: Vec::new(),
            body: String::new(),
        };
        let branch = format!("z9hG4bKnews{tag}{number}");
        notify.fields.push(("Via".into(), format!("SIP/2.0/UDP {ADDRESS};branch={branch}")));
        let routes = sheet.all("Record-Route").map(|route| ("Route".to_owned(), route.to_owned()));
        notify.fields.extend(routes);
        let state = match sheet.first("Expires") {
            "0" => "terminated;reason=timeout".to_owned(),
            expires => format!("active;expires={expires}"),
        };
        for (name, value) in [
            ("Max-Forwards", "70".to_owned()),
            ("From", answer.first("To").to_owned()),
            ("To", sheet.first("From").to_owned()),
            ("Call-ID", call),
            ("CSeq", format!("{number} NOTIFY")),
            ("Contact", own),
            ("Event", sheet.first("Event").to_owned()),
            ("Subscription-State", state),
        ] {
            notify.fields.push((name.into(), value));
        }
        vec![answer, notify]
    }
}

/// A response goes back to the edge, whose Via is the next.
fn response(mut sheet: Sheet) -> Vec<Sheet> {
    let own = sheet.pop("Via");
    own.filter(|own| own.contains(ADDRESS) && !own.contains("z9hG4bKnews"))
        .map(|_| sheet)
        .into_iter()
        .collect()
}
