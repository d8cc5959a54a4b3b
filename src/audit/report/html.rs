//! The audit, its report as one page: no outside resource, light and dark, on screen and on paper.
//!
//! Takes:   a [`Report`].
//! Gives:   HTML; all that came from elsewhere is escaped.
//! Keeps:   nothing.
//! Refuses: scripts: there is none, and the page's own policy lets none run.
//! Sources: V-11 (what a target sends is text, wherever it is shown).

use std::fmt::{self, Write as _};

use super::{Report, Row, spoken};
use crate::audit::case::{Group, Verdict};
use crate::audit::exchange::{Step, Way};
use crate::keys::calendar::print_xml;

const STYLE: &str = include_str!("page.css");

/// The page.
pub fn page(report: &Report) -> String {
    let mut page = String::new();
    // A string takes whatever is written to it.
    let _ = write_page(report, &mut page);
    page
}

fn write_page(report: &Report, page: &mut String) -> fmt::Result {
    let target = escaped(&report.target);
    write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>SIP security audit of {target}</title><style>{STYLE}</style></head><body><main>\
         <header><p class=\"kind\">SIP security audit</p><h1>{target}</h1><p class=\"when\">{}, sipward {}</p></header>",
        print_xml(report.began),
        env!("CARGO_PKG_VERSION")
    )?;
    summary(report, page)?;
    page.push_str(FILTER);
    for group in Group::ALL {
        let rows: Vec<&Row> = report.rows.iter().filter(|row| row.case.group == group).collect();
        if !rows.is_empty() {
            write_group(group, &rows, page)?;
        }
    }
    page.push_str(FOOT);
    page.push_str("</main></body></html>\n");
    Ok(())
}

fn summary(report: &Report, page: &mut String) -> fmt::Result {
    let [failed, passed, skipped] =
        [Verdict::Failed, Verdict::Passed, Verdict::NotApplicable].map(|v| report.count(v));
    let line = match (failed, passed) {
        (0, 0) => "Nothing could be judged.".to_owned(),
        (0, _) => format!("No attack came to anything, in {passed} tries."),
        (1, _) => "One attack came to something.".to_owned(),
        (n, _) => format!("{n} attacks came to something."),
    };
    let class = if failed > 0 { "bad" } else { "good" };
    write!(
        page,
        "<section class=\"summary\"><p class=\"lead {class}\">{line}</p><div class=\"figures\">"
    )?;
    for (count, name, class) in
        [(failed, "failed", "bad"), (passed, "passed", "good"), (skipped, "not applicable", "na")]
    {
        write!(page, "<div class=\"figure {class}\"><b>{count}</b><span>{name}</span></div>")?;
    }
    page.push_str("</div><div class=\"bar\" role=\"img\" aria-label=\"shares\">");
    for (count, class) in [(failed, "bad"), (passed, "good"), (skipped, "na")] {
        if count > 0 {
            write!(page, "<i class=\"{class}\" style=\"flex:{count}\"></i>")?;
        }
    }
    page.push_str("</div>");
    page.push_str("<table class=\"groups\"><thead><tr><th>Group<th>What it asks<th>failed<th>passed<th>n/a</tr></thead><tbody>");
    for group in Group::ALL {
        let of = |verdict| {
            let ended = |row: &&Row| row.case.group == group && row.finding.verdict == verdict;
            report.rows.iter().filter(ended).count()
        };
        let counts = [Verdict::Failed, Verdict::Passed, Verdict::NotApplicable].map(of);
        if counts.iter().sum::<usize>() == 0 {
            continue;
        }
        let [failed, passed, skipped] = counts;
        let class = if failed > 0 { "bad" } else { "" };
        write!(
            page,
            "<tr><td><a href=\"#{0}\">{0}</a><td>{1}<td class=\"{class}\">{failed}<td>{passed}<td>{skipped}</tr>",
            group.as_str(),
            group.about()
        )?;
    }
    page.push_str("</tbody></table><h2>Where the target speaks</h2><ul class=\"doors\">");
    for door in &report.spoken {
        let (name, address) = (spoken(door.door.transport), door.door.address);
        let said = match door.answer {
            Some(status) => format!("answers a good OPTIONS with {status}"),
            None => "does not answer a good OPTIONS: what needs it is not applicable".to_owned(),
        };
        write!(page, "<li><b>{name}</b> <code>{address}</code> {said}</li>")?;
    }
    page.push_str("</ul></section>");
    Ok(())
}

fn write_group(group: Group, rows: &[&Row], page: &mut String) -> fmt::Result {
    write!(
        page,
        "<section id=\"{0}\"><h2>{0}</h2><p class=\"about\">{1}</p>",
        group.as_str(),
        group.about()
    )?;
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| row.finding.verdict);
    for row in rows {
        write_row(row, page)?;
    }
    page.push_str("</section>");
    Ok(())
}

fn write_row(row: &Row, page: &mut String) -> fmt::Result {
    let (case, finding) = (row.case, &row.finding);
    let (class, word) = match finding.verdict {
        Verdict::Failed => ("bad", "failed"),
        Verdict::Passed => ("good", "passed"),
        Verdict::NotApplicable => ("na", "n/a"),
    };
    write!(
        page,
        "<details class=\"{class}\"><summary><span class=\"verdict\">{word}</span><span class=\"title\">{}</span>\
         <span class=\"over\">{}</span><span class=\"seen\">{}</span></summary><div class=\"inside\">\
         <dl><dt>Why it matters<dd>{}<dt>What to do<dd>{}<dt>Written in<dd>{}<dt>Case<dd><code>{}</code> {}</dl>",
        escaped(case.title),
        row.over(),
        escaped(&finding.seen),
        escaped(case.why),
        escaped(case.remedy),
        escaped(case.clause),
        case.name,
        case.threats.join(", "),
    )?;
    for step in &row.steps {
        write_step(step, page)?;
    }
    page.push_str("</div></details>");
    Ok(())
}

fn write_step(step: &Step, page: &mut String) -> fmt::Result {
    let (text, who) = (escaped(&step.text), escaped(&step.who));
    let after = format!("{}.{:03} s", step.after.as_secs(), step.after.subsec_millis());
    match step.way {
        Way::Remark => {
            let who = if who.is_empty() { who } else { format!("{who}: ") };
            write!(page, "<p class=\"remark\"><time>{after}</time> {who}{text}</p>")
        }
        way => {
            let (class, arrow) = match way {
                Way::Sent => ("sent", format!("{who} → target")),
                _ => ("received", format!("target → {who}")),
            };
            write!(
                page,
                "<figure class=\"{class}\"><figcaption><time>{after}</time> {arrow}, {} octets</figcaption><pre>{text}</pre></figure>",
                step.length
            )
        }
    }
}

/// Text of elsewhere, for elements and for quoted attributes.
fn escaped(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => clean.push_str("&amp;"),
            '<' => clean.push_str("&lt;"),
            '>' => clean.push_str("&gt;"),
            '"' => clean.push_str("&quot;"),
            '\'' => clean.push_str("&#39;"),
            c => clean.push(c),
        }
    }
    clean
}

/// Which verdicts are shown: switches that the style alone obeys, since there is no script.
const FILTER: &str = "<fieldset class=\"filter\"><legend>Show</legend>\
    <label class=\"bad\"><input type=\"checkbox\" id=\"show-bad\" checked> failed</label>\
    <label class=\"good\"><input type=\"checkbox\" id=\"show-good\" checked> passed</label>\
    <label class=\"na\"><input type=\"checkbox\" id=\"show-na\" checked> not applicable</label></fieldset>";

const FOOT: &str = "<footer><p><b>How to read it.</b> A verdict says what was seen, and no more. <i>Passed</i>: the attack was \
    refused, met with silence, or changed nothing, and the target answered a good request afterwards. <i>Failed</i>: the attack \
    came to something; the exchange shows what. <i>Not applicable</i>: it could not be tried, or nothing follows. Responses of \
    Digest are blotted out: passwords can be guessed from them.</p></footer>";

#[cfg(test)]
mod tests {
    use super::*;

    /// V-11.
    #[test]
    fn what_a_target_sends_is_text() {
        let bad = "<script>alert(\"1\")</script> & 'x'";
        let good = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;x&#39;";
        assert_eq!(escaped(bad), good);
    }
}
