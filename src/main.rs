//! The `ringgate` command: parses arguments, hands over to [`ringgate::cli`], and is the only place that exits.

use std::process::ExitCode;

/// Every allocation of the process goes through mimalloc: thread-local heaps suit one shard per core.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringgate::cli::main()
}
