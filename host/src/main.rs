//! The program `hookloom`: see [`hookloom::cli`].

fn main() -> std::process::ExitCode {
    hookloom::cli::main()
}
