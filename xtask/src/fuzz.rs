//! Coverage-guided fuzzing of untrusted input (libFuzzer) with the stable toolchain: the instrumentation is passed to the compiler
//! by flags, so no nightly is needed.

use crate::{Failure, cargo, root, run, say};
use std::process::Command;

const TARGETS: [&str; 2] = ["intake", "address"];

/// Flags of libFuzzer (its README, "Using libFuzzer as a library"), as rustc passes them to LLVM.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Fuzzes each target for this number of seconds, from the test fixtures and the corpus of earlier runs.
pub(crate) fn fuzz(arguments: &[String]) -> Result<(), Failure> {
    let seconds: u64 = match arguments.first() {
        None => 60,
        Some(text) => text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?,
    };
    let corpus = root().join("target/fuzz/corpus");
    let target = root().join("target/fuzz");
    say("building the fuzz targets; the first time this takes some minutes");
    let mut build = cargo();
    build.current_dir(root().join("fuzz")).args(["build", "--release", "--target", PLATFORM, "--target-dir"]);
    run(build.arg(&target).env("RUSTFLAGS", COVERAGE))?;
    for name in TARGETS {
        let own = corpus.join(name);
        std::fs::create_dir_all(&own).map_err(|error| format!("{}: {error}", own.display()))?;
        say(&format!("fuzzing {name} for {seconds} s"));
        let mut fuzzer = Command::new(target.join(PLATFORM).join("release").join(name));
        fuzzer.current_dir(&corpus).args([format!("-max_total_time={seconds}"), "-max_len=4096".to_owned()]);
        fuzzer.args(["-print_final_stats=1", "-verbosity=0", "-close_fd_mask=1"]);
        run(fuzzer.arg(&own).arg(root().join("tests/fixtures")))?;
    }
    say("nothing was found");
    Ok(())
}
