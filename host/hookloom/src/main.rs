//! The program `hookloom`: see [`hookloom::cli`].

/// A delivery allocates and frees some hundred pieces on several threads, which is what this allocator is made for.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    hookloom::cli::main()
}
