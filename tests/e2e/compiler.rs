//! Compile child: it runs this host's program even if its file has changed, and its death by a signal proves nothing about a
//! component.

use crate::bad_input::slow_to_compile;
use crate::harness::{Host, example, guest, program, text, until};
use crate::reload::{metrics, renumbered};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Returns the compile children of a host.
fn children(host: &Host) -> Vec<u32> {
    let parent = format!("PPid:\t{}\n", host.process.id().unwrap());
    let entries = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    let processes = entries.filter_map(|name| name.to_str()?.parse::<u32>().ok());
    let is_child = |process: &u32| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        read("status").contains(&parent) && read("cmdline").contains("compile-plugin")
    };
    processes.filter(is_child).collect()
}

/// Kills the host's next compile child, as the system does for lack of memory.
async fn kill_child(host: &Host) {
    let child = until("a compile child", async || children(host).first().copied()).await;
    assert!(std::process::Command::new("kill").args(["-9", &child.to_string()]).status().unwrap().success());
    until("its end", async || (!children(host).contains(&child)).then_some(())).await;
}

#[tokio::test]
async fn the_compiler_is_this_program_although_its_file_was_replaced() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("hookloom");
    std::fs::copy(program(), &file).unwrap();
    let host = Host::with().program(&file).start().await;
    // As by an upgrade, or the removal of a package.
    let other = folder.path().join("other");
    std::fs::write(&other, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::rename(&other, &file).unwrap();
    host.plugin("one", guest("passes")).await;
    std::fs::remove_file(&file).unwrap();
    host.plugin("two", example("flatten")).await;
}

#[tokio::test]
async fn an_upload_survives_a_compiler_that_is_killed() {
    let host = Host::start().await;
    let uploaded = {
        let upload = host.plugin("p", slow_to_compile(10));
        tokio::pin!(upload);
        tokio::select! {
            uploaded = &mut upload => panic!("{uploaded}"),
            () = kill_child(&host) => {}
        }
        upload.await
    };
    assert_eq!(text(&host.get("./plugins").await[0], "active_sha256"), text(&uploaded, "sha256"));
    assert!(host.log().contains("could not be compiled because of a fault of the host"));
}

#[tokio::test]
async fn a_compiler_that_is_killed_every_time_is_no_fault_of_the_component() {
    let host = Host::start().await;
    let component = slow_to_compile(10);
    let refused = {
        let upload = host.ask(reqwest::Method::PUT, "./plugins/p", component.clone());
        tokio::pin!(upload);
        loop {
            tokio::select! {
                reply = &mut upload => break reply,
                () = kill_child(&host) => {}
            }
        }
    };
    assert_eq!((refused.status, refused.headers.contains_key("retry-after")), (503, true), "{}", refused.text);
    assert_eq!(text(&refused.json, "type"), "urn:hookloom:problem:compiler-unavailable");
    assert!(metrics(&host).await.contains("hookloom_plugin_compiles_total{result=\"failed\"} 1"));

    // The host tries a file again by itself.
    let folder = host.data().join("plugins/default");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("p.wasm"), &component).unwrap();
    let problem = {
        let problem = until("what is wrong", async || {
            let plugins = host.get("./plugins").await;
            plugins[0]["file_problem"].as_str().map(str::to_owned)
        });
        tokio::pin!(problem);
        loop {
            tokio::select! {
                problem = &mut problem => break problem,
                () = kill_child(&host) => {}
            }
        }
    };
    assert!(problem.contains("the compile process ended without an answer (signal: 9"), "{problem}");
    let plugin = until("the plugin", async || {
        let plugin = host.get("./plugins").await[0].clone();
        (plugin["active_sha256"].is_string() && plugin["file_problem"].is_null()).then_some(())
    });
    plugin.await;
}

/// Returns a program that forbids executable memory (prctl(2), `PR_SET_MDWE`) and then becomes the host, as a hardened unit does.
fn hardened(folder: &Path) -> PathBuf {
    const SOURCE: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int count, char **arguments) {
    if (prctl(65 /* PR_SET_MDWE */, 1, 0, 0, 0) != 0) { perror("PR_SET_MDWE"); return 99; }
    execv(getenv("HARDENED_PROGRAM"), arguments);
    perror("execv");
    return 99;
}
"#;
    let source = folder.join("hardened.c");
    let built = folder.join("hardened");
    std::fs::write(&source, SOURCE).unwrap();
    assert!(std::process::Command::new("cc").arg("-o").arg(&built).arg(&source).status().unwrap().success());
    built
}

#[tokio::test]
async fn a_system_without_executable_memory_is_named() {
    let folder = TempDir::new().unwrap();
    let hardened = hardened(folder.path());
    let host = Host::with().program(&hardened).env("HARDENED_PROGRAM", program().to_str().unwrap()).start().await;
    assert!(host.log().contains("does not let the host make memory executable"), "{}", host.log());
    let ready = host.ask_as("", reqwest::Method::GET, "/readyz", "").await.ok();
    let part = ready["parts"].as_array().unwrap().iter().find(|part| part["part"] == "plugins").unwrap();
    assert!(part["ready"] == false && text(part, "detail").contains("MemoryDenyWriteExecute"), "{part}");
    let refused = host.ask(reqwest::Method::PUT, "./plugins/p", guest("passes")).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(text(&refused.json, "detail").contains("does not let the host make memory executable"), "{}", refused.text);
}

#[tokio::test]
async fn a_file_that_is_written_in_place_with_its_previous_time_is_detected() {
    let host = Host::with().set("plugins_rescan_s=1").start().await;
    let folder = host.data().join("plugins/default");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("p.wasm");
    let versions = [1, 2].map(|number| renumbered(&guest("passes"), number));
    assert_eq!(versions[0].len(), versions[1].len());
    std::fs::write(&file, &versions[0]).unwrap();
    let active = async || host.get("./plugins").await[0]["active_sha256"].as_str().map(str::to_owned);
    let before = until("the first version", async || active().await).await;
    let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
    // As by rsync --inplace --times.
    let opened = std::fs::File::options().write(true).open(&file).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&opened, &versions[1], 0).unwrap();
    opened.set_modified(modified).unwrap();
    drop(opened);
    let after = until("the second version", async || active().await.filter(|now| *now != before)).await;
    assert_ne!(before, after);
}
