//! Address guard for any URL: it never panics, and a URL that it accepts is http or https, without credentials, leads to no
//! refused address, and is read by the client in the same way.
#![no_main]

use hookloom_model::address::{AddressPolicy, check_address, check_url};
use libfuzzer_sys::fuzz_target;
use std::net::IpAddr;

fuzz_target!(|text: &str| {
    let policy = AddressPolicy::default();
    for text in [text.to_owned(), format!("http://{text}/"), format!("https://{text}:8080/x")] {
        let Ok(url) = check_url(&text, &policy) else { continue };
        assert!(matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none());
        let host = url.host_str().expect("a host").trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = host.parse::<IpAddr>() {
            assert!(check_address(address, &policy).is_ok(), "{text}");
        }
        // What is dialled is what was judged, however often it is read.
        assert_eq!(check_url(url.as_str(), &policy).as_ref(), Ok(&url));
    }
});
