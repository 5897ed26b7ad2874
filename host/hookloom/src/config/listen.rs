//! Setting `listen`: an address or host name with a port. A host name is resolved when the settings are read.

use serde::de::{Deserialize, Deserializer, Error};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Port of the default, which messages suggest if the port is missing.
const PORT: u16 = 8420;

fn parse(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.trim_end_matches('/');
        return Err(format!("{text:?} is a URL: write {rest:?}, without {scheme}://"));
    }
    if text.parse::<u16>().is_ok() {
        return Err(format!("{text:?} is only a port: write \"127.0.0.1:{text}\""));
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Err(format!("{text:?} has no port: write {:?}", SocketAddr::new(address, PORT).to_string()));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("{text:?} has no port: write \"{text}:{PORT}\""))?;
    let port: u16 = port.parse().map_err(|_| format!("{port:?} is not a port: a port is between 0 and 65535"))?;
    if host.is_empty() {
        return Err(format!("{text:?} names no address: write \"127.0.0.1:{port}\" for this machine only"));
    }
    let addresses =
        (host, port).to_socket_addrs().map_err(|error| format!("the name {host:?} cannot be looked up: {error}"))?;
    // IPv4 first, because every client of `localhost` finds it.
    let mut addresses: Vec<SocketAddr> = addresses.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| format!("the name {host:?} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_accepted_and_missing_parts_reported() {
        #[track_caller]
        fn check(text: &str, expected: Result<&str, &str>) {
            let parsed = parse(text).map(|address| address.to_string());
            match expected {
                Ok(expected) => assert_eq!(parsed.as_deref(), Ok(expected), "{text}"),
                Err(part) => assert!(parsed.as_ref().is_err_and(|error| error.contains(part)), "{text}: {parsed:?}"),
            }
        }
        check("127.0.0.1:8420", Ok("127.0.0.1:8420"));
        check("[::1]:0", Ok("[::1]:0"));
        check("localhost:8420", Ok("127.0.0.1:8420"));
        check("LOCALHOST:1", Ok("127.0.0.1:1"));
        check("8420", Err("write \"127.0.0.1:8420\""));
        check(":8420", Err("write \"127.0.0.1:8420\""));
        check("127.0.0.1", Err("write \"127.0.0.1:8420\""));
        check("::1", Err("write \"[::1]:8420\""));
        check("[::1]", Err("write \"[::1]:8420\""));
        check("localhost", Err("write \"localhost:8420\""));
        check("localhost:http", Err("is not a port"));
        check("localhost:65536", Err("is not a port"));
        check("http://127.0.0.1:8420/", Err("write \"127.0.0.1:8420\", without http://"));
        check("no-such-host.invalid:80", Err("cannot be looked up"));
        check("", Err("has no port"));
    }
}
