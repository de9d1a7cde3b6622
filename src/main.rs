//! The binary `sweep`; everything is in the library.

fn main() -> std::process::ExitCode {
    sweep_operator::cli::main()
}
