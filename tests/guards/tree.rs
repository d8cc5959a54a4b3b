//! The files of the project, as they stand in the folder this test was built from.

use std::fs;
use std::path::{Path, PathBuf};

/// A text file and its path from the top of the project, with `/` between folders.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The top of the project.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file that belongs to the project; what builds and fuzzers leave behind does not.
pub(crate) fn all_files() -> Vec<File> {
    let mut files = Vec::new();
    walk(&root(), &root(), &mut files);
    assert!(files.len() > 50, "only {} files were found", files.len());
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Every Rust file: source, tests, fuzz targets, benches, examples.
pub(crate) fn rust_files() -> Vec<File> {
    all_files().into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

/// Every Rust file of `src`, but for files that hold tests alone.
pub(crate) fn source_files() -> Vec<File> {
    let tests_alone = |path: &str| path.ends_with("/tests.rs") || path.contains("/tests/");
    let belongs = |file: &File| file.path.starts_with("src/") && !tests_alone(&file.path);
    rust_files().into_iter().filter(belongs).collect()
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<File>) {
    let left_behind = ["target", ".git", "corpus", "artifacts", "coverage", "node_modules"];
    for entry in fs::read_dir(folder).expect("a folder of the project can be listed") {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if left_behind.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root).expect("walked from the root");
            let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
            files.push(File { path: parts.join("/"), text });
        }
    }
}
