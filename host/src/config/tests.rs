//! Tests of the layers of settings and of their checks.

use super::*;

fn settled(file: &str, environment: &[(&str, &str)], flags: &str) -> Result<Settled, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("hookloom.toml");
    std::fs::write(&path, file).expect("written");
    let environment: Vec<_> = environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    settle(Some(&path), &environment, flags.parse().expect("flags"))
        .map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
}

#[test]
fn later_sources_win_and_say_who_they_are() {
    let file = "log = \"warn\"\nevent_bytes_max = 1000\nstop_grace_s = 3";
    let environment = [
        ("HOOKLOOM_EVENT_BYTES_MAX", "2000"),
        ("HOOKLOOM_EGRESS_ALLOW", "10.0.0.0/8, fd00::/8"),
        ("HOOKLOOM_ADMIN_KEY", "k"),
        ("HOOKLOOM_EGRESS_PORTS_ALLOW", "9200, 25"),
        ("HOOKLOOM_PLUGIN_LIMITS_MAX", "{ headers = 2 }"),
    ];
    let settled = settled(file, &environment, "event_bytes_max = 3000").expect("fits");
    assert_eq!((settled.config.event_bytes_max, settled.config.stop_grace_s), (3000, 3));
    assert_eq!(settled.config.egress_allow.len(), 2);
    assert_eq!(settled.config.egress_ports_allow, [9200, 25]);
    assert_eq!(settled.config.plugin_limits_max.len(), 1);
    let source =
        |wanted: &str| settled.origins.iter().find(|(name, _, _)| name == wanted).map(|(_, _, source)| source.as_str());
    assert_eq!(source("event_bytes_max"), Some("flag"));
    assert_eq!(source("egress_allow"), Some("HOOKLOOM_EGRESS_ALLOW"));
    assert_eq!(source("listen"), Some("default"));
}

#[test]
fn every_fault_is_told_by_name() {
    #[track_caller]
    fn check(file: &str, environment: &[(&str, &str)], expected: &[&str]) {
        let error = settled(file, environment, "").expect_err("a fault");
        for part in expected {
            assert!(error.contains(part), "{error}");
        }
    }
    check(
        "lisen = \"x\"\nlog = 3",
        &[("HOOKLOOM_NONE", "1")],
        &["\"lisen\" names no setting", "FILE: log: invalid type", "HOOKLOOM_NONE names no setting"],
    );
    check(
        "",
        &[("HOOKLOOM_STOP_GRACE_S", "soon")],
        &["HOOKLOOM_STOP_GRACE_S: stop_grace_s: invalid type: string \"soon\""],
    );
    check("listen = \"0.0.0.0:80\"", &[], &["name its ranges in behind_proxy"]);
    check("egress_allow = [\"0.0.0.0/0\"]", &[], &["switches the address guard off"]);
    check("listen = ", &[], &["FILE is no TOML"]);
    check("public_url = \"hooks.example.com\"", &[], &["FILE: public_url: \"hooks.example.com\" is no URL of a host"]);
    check("public_url = \"http://0.0.0.0:80\"", &[], &["no client can open"]);
    check("public_url = \"https://example.com/t/x\"", &[], &["/t is a path of the host itself"]);
}

#[test]
fn the_example_file_holds_the_defaults() {
    let example = include_str!("../../hookloom.example.toml");
    let uncommented: String =
        example.lines().map(|line| line.strip_prefix("#: ").unwrap_or(line)).map(|line| format!("{line}\n")).collect();
    let table: Table = uncommented.parse().expect("TOML");
    assert_eq!(table.clone().try_into::<Config>().expect("settings"), Config::default());
    assert_eq!(
        table.len(),
        Table::try_from(Config::default()).expect("plain").len(),
        "a setting is missing in the example"
    );
}
