//! The facts in `sip-fixtures/vectors`, and their hex opened.

use toml::{Table, Value};

/// One file.
pub(crate) fn file(name: &str) -> Table {
    let path = format!("{}/sip-fixtures/vectors/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The rows of one array of tables; there is at least one.
pub(crate) fn rows(file: &Table, name: &str) -> Vec<Table> {
    let rows = file.get(name).and_then(Value::as_array).unwrap_or_else(|| panic!("no {name}"));
    assert!(!rows.is_empty(), "{name} is empty");
    rows.iter().map(|row| row.as_table().expect("a table").clone()).collect()
}

/// A text.
pub(crate) fn text<'a>(row: &'a Table, name: &str) -> &'a str {
    row.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no {name} in {row:?}"))
}

/// A length.
pub(crate) fn count(row: &Table, name: &str) -> usize {
    let value = row.get(name).and_then(Value::as_integer);
    value.and_then(|value| value.try_into().ok()).unwrap_or_else(|| panic!("no {name} in {row:?}"))
}

/// Octets from hex.
pub(crate) fn octets(row: &Table, name: &str) -> Vec<u8> {
    let digits = text(row, name);
    assert!(digits.len().is_multiple_of(2), "{name}: {digits}");
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex"))
        .collect()
}

/// Octets of a fixed length.
pub(crate) fn fixed<const N: usize>(row: &Table, name: &str) -> [u8; N] {
    octets(row, name).try_into().unwrap_or_else(|_| panic!("{name} is not {N} octets: {row:?}"))
}
