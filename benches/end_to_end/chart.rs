//! The rows as a picture: bars, one panel for each unit, each bar with its spread.

use std::fmt::Write as _;

use super::report::Row;

const LEFT: f64 = 290.0;
const BARS: f64 = 520.0;
const WIDTH: f64 = 1000.0;
const BAR: f64 = 15.0;
const GAP: f64 = 12.0;
const HEAD: f64 = 64.0;

/// An SVG of its own, light on any background.
pub(crate) fn draw(rows: &[Row], about: &str) -> String {
    let mut units: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|row| value(row).is_some()) {
        if !units.contains(&row.unit) {
            units.push(row.unit);
        }
    }
    let mut body = String::new();
    let mut y = 56.0;
    for unit in units {
        let of_unit = |row: &&Row| row.unit == unit && value(row).is_some();
        y = panel(&mut body, y, unit, &rows.iter().filter(of_unit).collect::<Vec<_>>());
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" width=\"{WIDTH}\" height=\"{y}\" \
        font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
        <text x=\"20\" y=\"28\" font-size=\"18\" font-weight=\"bold\">sipward, end to end</text>\n\
        <text x=\"20\" y=\"46\" fill=\"#555\">{}</text>\n{body}</svg>\n",
        escaped(about)
    )
}

/// What the bar shows: the ratio to the first anchor, or the figure where there is no ratio.
fn value(row: &Row) -> Option<f64> {
    row.ratio.map(|ratio| ratio.value).or(row.figure)
}

fn panel(out: &mut String, top: f64, unit: &str, rows: &[&Row]) -> f64 {
    let most = |row: &&Row| row.ratio.map_or(value(row), |ratio| Some(ratio.greatest));
    let most = rows.iter().filter_map(most).fold(0.0, f64::max).max(1e-9);
    let ratios = rows.iter().any(|row| row.ratio.is_some());
    let title = match (unit, ratios) {
        ("us/txn", true) => "Processor time for one transaction, over that of the first anchor",
        ("octets/flow", true) => "Memory of one idle TLS flow, over that of the first anchor",
        ("% at once", _) => "Good MESSAGEs answered at the first try beside a flood, %",
        _ => unit,
    };
    let _never_fails = writeln!(
        out,
        "<text x=\"20\" y=\"{:.0}\" font-size=\"14\" font-weight=\"bold\">{}</text>",
        top + 28.0,
        escaped(title)
    );
    let x = |value: f64| LEFT + value / most * BARS;
    let mut y = top + HEAD - 20.0;
    let mut group = String::new();
    for row in rows {
        let label = format!("{} {}", row.workload, row.transport);
        if label != group {
            y += GAP;
            let _never_fails = writeln!(
                out,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>",
                LEFT - 84.0,
                y + BAR - 3.0,
                escaped(&label)
            );
            group = label;
        }
        bar(out, row, y, &x);
        y += BAR + 2.0;
    }
    y + GAP
}

fn bar(out: &mut String, row: &Row, y: f64, x: &impl Fn(f64) -> f64) {
    let Some(value) = value(row) else { return };
    let colour = match row.anchor {
        _ if !row.valid => "#d33",
        "sipward" => "#2a6fb0",
        "kamailio" => "#e0a030",
        _ => "#bbb",
    };
    let middle = y + BAR / 2.0;
    let _never_fails = writeln!(
        out,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" fill=\"#555\">{}</text>\
        <rect x=\"{LEFT}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>",
        LEFT - 8.0,
        y + BAR - 3.0,
        row.anchor,
        x(value) - LEFT
    );
    let mut end = x(value);
    if let Some(ratio) = row.ratio.filter(|ratio| ratio.greatest > ratio.least) {
        let (least, greatest) = (x(ratio.least), x(ratio.greatest));
        let _never_fails = writeln!(
            out,
            "<path d=\"M{least:.1} {middle:.1}H{greatest:.1}M{least:.1} {:.1}v6M{greatest:.1} {:.1}v6\" stroke=\"#222\"/>",
            middle - 3.0,
            middle - 3.0
        );
        end = greatest;
    }
    let text = match (row.ratio, row.figure) {
        (Some(ratio), Some(figure)) => {
            format!("{:.2} ({figure:.*} {})", ratio.value, usize::from(figure < 1000.0), row.unit)
        }
        (_, Some(figure)) => format!("{figure:.1}"),
        _ => String::new(),
    };
    let mark = if row.valid { "" } else { ", invalid" };
    let _never_fails = writeln!(
        out,
        "<text x=\"{:.0}\" y=\"{:.0}\">{}{mark}</text>",
        end + 6.0,
        y + BAR - 3.0,
        escaped(&text)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
