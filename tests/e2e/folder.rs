//! Plugins folder with hostile content: nothing leads out of it, nothing blocks, nothing is unbounded.

use crate::harness::{Host, example, guest, text, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// Starts a host. Returns the plugins folder of its default tenant as well.
async fn host_with_folder() -> (Host, PathBuf) {
    let host = Host::start().await;
    let folder = host.data().join("plugins/default");
    std::fs::create_dir_all(&folder).unwrap();
    (host, folder)
}

/// Returns a plugin from the list, once it exists.
async fn listed(host: &Host, tenant: &str, name: &str) -> Value {
    until("the plugin", async || {
        let plugins = host.get(&format!("/v1/tenants/{tenant}/plugins")).await;
        plugins.as_array().unwrap().iter().find(|plugin| plugin["name"] == name).cloned()
    })
    .await
}

fn fifo(path: &std::path::Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[tokio::test]
async fn only_regular_files_within_a_tenants_folder_are_plugins() {
    let (host, folder) = host_with_folder().await;
    host.ask(Method::POST, "/v1/tenants", json!({"id": "other"}).to_string()).await.ok();
    let other = host.data().join("plugins/other");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("theirs.wasm"), guest("world")).unwrap();
    fifo(&folder.join("fifo.wasm"));
    drop(UnixListener::bind(folder.join("socket.wasm")).unwrap());
    std::fs::create_dir(folder.join("folder.wasm")).unwrap();
    let links = [("device", "/dev/zero"), ("kernel", "/proc/kmsg"), ("key", "../../master.key")];
    for (name, target) in links.into_iter().chain([("stolen", "../other/theirs.wasm")]) {
        symlink(target, folder.join(format!("{name}.wasm"))).unwrap();
    }
    for name in ["fifo", "socket", "folder", "device", "kernel", "key", "stolen"] {
        let plugin = listed(&host, "default", name).await;
        let is_link = ["device", "kernel", "key", "stolen"].contains(&name);
        let expected = if is_link { "leads out of the tenant's folder" } else { "not a regular file" };
        assert!(text(&plugin, "file_problem").contains(expected), "{plugin}");
        assert!(plugin["active_sha256"].is_null(), "{plugin}");
    }
    // Other files of the folder are still used.
    std::fs::write(folder.join("good.wasm"), guest("passes")).unwrap();
    until("the good one", async || listed(&host, "default", "good").await["active_sha256"].as_str().map(drop)).await;
    let (status, _) = host.stop().await;
    assert!(status.success());
}

#[tokio::test]
async fn files_of_tools_are_no_plugins() {
    let (host, folder) = host_with_folder().await;
    for name in ["._flatten.wasm", ".flatten.wasm", "Flatten.wasm", "-x.wasm", "a\u{1b}[2Jb.wasm", "flatten.wasm.tmp"] {
        std::fs::write(folder.join(name), guest("passes")).unwrap();
    }
    std::fs::write(folder.join("flatten.wasm"), example("flatten")).unwrap();
    until("the plugin", async || listed(&host, "default", "flatten").await["active_sha256"].as_str().map(drop)).await;
    assert_eq!(host.get("./plugins").await.as_array().unwrap().len(), 1);
    let log = host.log();
    assert!(log.contains(r#"file="Flatten.wasm""#) && log.contains("is ignored"), "{log}");
    assert!(!log.contains("\u{1b}[2J") && !log.contains("._flatten"), "{log}");
}

#[tokio::test]
async fn a_tenants_folder_may_not_lead_out_of_the_plugins_folder() {
    let host = Host::start().await;
    for tenant in ["out", "within"] {
        host.ask(Method::POST, "/v1/tenants", json!({"id": tenant}).to_string()).await.ok();
    }
    let root = host.data().join("plugins");
    // Another folder that is linked as a whole is not watched.
    symlink("/", root.join("default")).unwrap();
    let outside = host.folder.path().join("outside");
    for folder in [&outside, &root.join("..data/within")] {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("p.wasm"), guest("passes")).unwrap();
    }
    symlink(&outside, root.join("out")).unwrap();
    // As Kubernetes mounts a ConfigMap with folders.
    symlink("..data/within", root.join("within")).unwrap();
    until("the plugin", async || listed(&host, "within", "p").await["active_sha256"].as_str().map(drop)).await;
    assert_eq!(host.get("/v1/tenants/out/plugins").await, json!([]));
    assert_eq!(host.get("./plugins").await, json!([]));
}
