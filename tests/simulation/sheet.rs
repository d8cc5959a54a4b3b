//! A message as lines of text, to be rewritten freely: what a small server does, and what a forger does.

use bytes::Bytes;

#[derive(Clone, Debug)]
pub(crate) struct Sheet {
    pub(crate) start: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Sheet {
    pub(crate) fn read(octets: &Bytes) -> Self {
        let text = String::from_utf8_lossy(octets).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let mut lines = head.split("\r\n");
        let start = lines.next().expect("a first line").to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').expect("a field");
            (name.to_owned(), value.trim().to_owned())
        };
        Self { start, fields: lines.map(field).collect(), body: body.to_owned() }
    }

    pub(crate) fn print(&self) -> Bytes {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in self.fields.iter().filter(|(name, _)| name != "Content-Length") {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("Content-Length: {}\r\n\r\n{}", self.body.len(), self.body);
        text.into()
    }

    pub(crate) fn is_request(&self) -> bool {
        !self.start.starts_with("SIP/2.0")
    }

    pub(crate) fn method(&self) -> &str {
        if self.is_request() {
            self.start.split(' ').next().unwrap_or_default()
        } else {
            self.first("CSeq").split(' ').nth(1).unwrap_or_default()
        }
    }

    pub(crate) fn uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first value of that name; empty if there is none.
    pub(crate) fn first(&self, name: &str) -> &str {
        self.fields.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Takes the first field of that name away.
    pub(crate) fn pop(&mut self, name: &str) -> Option<String> {
        let place = self.fields.iter().position(|(known, _)| known == name)?;
        Some(self.fields.remove(place).1)
    }

    /// Puts a field before all others.
    pub(crate) fn push(&mut self, name: &str, value: impl Into<String>) {
        self.fields.insert(0, (name.to_owned(), value.into()));
    }

    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        match self.fields.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value.into(),
            None => self.fields.push((name.to_owned(), value.into())),
        }
    }

    /// A response to this request, with its own lines and nothing else.
    pub(crate) fn answer(&self, status: u16, tag: &str) -> Self {
        let kept = ["Via", "From", "To", "Call-ID", "CSeq", "Record-Route"];
        let fields = self.fields.iter().filter(|(name, _)| kept.contains(&name.as_str()));
        let mut answer = Self {
            start: format!("SIP/2.0 {status} Answer"),
            fields: fields.cloned().collect(),
            body: String::new(),
        };
        if !tag.is_empty() && !answer.first("To").contains(";tag=") {
            let to = format!("{};tag={tag}", answer.first("To"));
            answer.set("To", to);
        }
        answer
    }
}

/// The tag in a From or To value.
pub(crate) fn tag_of(value: &str) -> &str {
    value.split(";tag=").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_default()
}
