//! The program: everything happens in [`decnet::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    decnet::cli::main()
}
