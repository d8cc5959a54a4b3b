//! The binary: hands over to the command line.

use mimalloc::MiMalloc;

/// Some 5 % less time for a request than with the C library's, measured end to end.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    // The allocator asks for pages of 2 MiB: the kernel clears them in the middle of handshakes, and what idle flows
    // hold is then counted by such pages. A kernel without the switch goes on as it was.
    #[cfg(target_os = "linux")]
    let _refused = nix::sys::prctl::set_thp_disable(true);
    sipward::cli::main()
}
