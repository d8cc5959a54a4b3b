//! Promises about the tree itself, kept by reading it: what is pure, who may start a task, where
//! `unsafe` stands, and that no refusal goes without a fixture. Each checker is also shown a bad text.

mod code;
mod promises;
mod requirements;
mod threats;
mod tree;

use std::process::Command;

use code::Code;
use promises::{
    PROOFS, REQUIREMENTS, SHELL, SPAWNS, UNSAFE, dangling_documents, headerless, impure, is_pure,
    is_shell, machine_paths, marks, overlong, sleeps, starts_tasks, unearned, unfixtured, unproved,
    unsafe_lines,
};
use tree::{File, all_files, rust_files, source_files};

/// Fails with every problem at once, each with its file and line.
#[track_caller]
fn none(about: &str, problems: Vec<String>) {
    assert!(problems.is_empty(), "{about}:\n  {}", problems.join("\n  "));
}

/// Asks `check` about every file and names the file before each of its problems.
fn over(files: &[File], check: impl Fn(&File) -> Vec<String>) -> Vec<String> {
    let name = |file: &File| {
        let path = file.path.clone();
        check(file).into_iter().map(move |problem| format!("{path}:{problem}")).collect::<Vec<_>>()
    };
    files.iter().flat_map(name).collect()
}

#[test]
fn every_source_file_is_pure_or_shell() {
    let lost = source_files().into_iter().filter(|f| is_pure(&f.path) == is_shell(&f.path));
    none(
        "each of these must stand in PURE or in SHELL, once",
        lost.map(|file| file.path).collect(),
    );
}

#[test]
fn listed_files_exist() {
    let files = source_files();
    let gone = |entry: &&&str| !files.iter().any(|file| file.path.starts_with(**entry));
    let listed = [SHELL, SPAWNS, UNSAFE].concat();
    none(
        "listed, but not there",
        listed.iter().filter(gone).map(|entry| (*entry).into()).collect(),
    );
}

#[test]
fn pure_files_touch_nothing_outside() {
    let pure: Vec<File> = source_files().into_iter().filter(|file| is_pure(&file.path)).collect();
    assert!(pure.len() > 40, "only {} pure files were found", pure.len());
    none("a pure file reaches outside", over(&pure, |f| impure(&Code::read(&f.text).shipped)));
}

#[test]
fn the_pure_core_links_no_runtime() {
    let output = Command::new(env!("CARGO"))
        .current_dir(tree::root())
        .args(["tree", "--locked", "--no-default-features", "-e", "normal", "--prefix", "none"])
        .output()
        .expect("cargo runs, since it runs this");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).expect("cargo prints UTF-8");
    let crates: Vec<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(crates.contains(&"sipward") && crates.contains(&"nom"), "{listed}");
    let runtime = ["tokio", "mio", "socket2", "rustls", "hyper", "openssl", "getrandom"];
    let linked = crates.into_iter().filter(|name| runtime.contains(name));
    none("the pure core must not need", linked.map(Into::into).collect());
}

#[test]
fn every_queue_has_a_bound() {
    none(
        "a queue without bound",
        over(&source_files(), |file| promises::unbounded(&Code::read(&file.text).shipped)),
    );
}

#[test]
fn tasks_start_in_few_places() {
    let others: Vec<File> =
        source_files().into_iter().filter(|f| !SPAWNS.contains(&f.path.as_str())).collect();
    none(
        "a task or thread is started outside SPAWNS",
        over(&others, |file| starts_tasks(&Code::read(&file.text).shipped)),
    );
}

#[test]
fn nothing_is_left_for_later() {
    none(
        "unfinished",
        over(&rust_files(), |file| {
            let code = Code::read(&file.text);
            marks(&[code.shipped, code.tests].concat())
        }),
    );
}

#[test]
fn tests_do_not_sleep() {
    none(
        "a test sleeps",
        over(&rust_files(), |file| {
            let in_src = file.path.starts_with("src/");
            let code = if in_src { Code::read(&file.text) } else { Code::read_tests(&file.text) };
            sleeps(&code.tests)
        }),
    );
}

#[test]
fn every_header_has_the_five_words() {
    none("module header", over(&source_files(), |file| headerless(&file.path, &file.text)));
}

#[test]
fn files_are_read_at_one_sitting() {
    none("too long", over(&source_files(), |file| overlong(&file.text)));
}

#[test]
fn unsafe_stands_where_it_is_listed() {
    let others: Vec<File> =
        source_files().into_iter().filter(|f| !UNSAFE.contains(&f.path.as_str())).collect();
    none(
        "unsafe outside UNSAFE",
        over(&others, |file| unsafe_lines(&Code::read(&file.text).shipped)),
    );
}

#[test]
fn every_refusal_has_a_fixture() {
    let fixtures = all_files()
        .into_iter()
        .filter(|file| file.path.starts_with("sip-fixtures/") && file.path.ends_with(".toml"));
    let texts: Vec<String> = fixtures.map(|file| file.text).collect();
    none("refusals and fixtures", unfixtured(sipward::refusal::Refusal::NAMES, &texts));
}

#[test]
fn every_rule_has_a_fixture_that_earns_it_and_a_neighbour_that_does_not() {
    let fixtures = all_files()
        .into_iter()
        .filter(|file| file.path.starts_with("sip-fixtures/gate/") && file.path.ends_with(".toml"));
    let texts: Vec<String> = fixtures.map(|file| file.text).collect();
    let refused: Vec<u8> = sipward::refusal::Refusal::RULES.iter().flatten().copied().collect();
    none("rules and fixtures", unearned(&refused, &texts));
}

#[test]
fn every_code_of_a_requirement_is_listed() {
    none("codes of requirements", requirements::unlisted(&all_files()));
}

#[test]
fn every_threat_has_a_test() {
    none("threats and tests", threats::uncarried(&threats::carried(&all_files())));
}

#[test]
fn every_proof_is_a_test_of_its_name() {
    let files = rust_files();
    let proofs = files.iter().find(|file| file.path == "tests/journey/proofs.rs").expect("proofs");
    let is_test = |name: &str| proofs.text.contains(&format!("#[test]\nfn {name}() {{"));
    let missing = PROOFS.iter().filter(|name| !is_test(name)).map(|name| (*name).to_owned());
    none("proofs without a test", missing.collect());
    assert_eq!(proofs.text.matches("#[test]").count(), PROOFS.len(), "and no others");
}

#[test]
fn every_requirement_has_its_proof_run() {
    let files = rust_files();
    let proofs = files.iter().filter(|file| file.path.starts_with("tests/proofs/"));
    let proofs: Vec<&str> = proofs.map(|file| file.text.as_str()).collect();
    none("requirements without a proof run", unproved(REQUIREMENTS, &proofs));
}

#[test]
fn the_tree_stands_alone() {
    let files = all_files();
    let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    none("a path of some machine", over(&files, |file| machine_paths(&file.text)));
    none(
        "a document that is not here",
        over(&files, |file| dangling_documents(&names, &file.text)),
    );
}
