//! Program `hookloom`: see [`hookloom::cli`].

/// Allocator. A delivery allocates and frees some hundred blocks on several threads, for which this one is made.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    hookloom::cli::main()
}
