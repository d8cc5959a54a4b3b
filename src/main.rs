//! The binary: hands over to the command line.

use mimalloc::MiMalloc;

/// Some 5 % less time for a request than with the C library's, measured end to end.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    sipward::cli::main()
}
