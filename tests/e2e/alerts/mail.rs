//! E-mails of alerts: retries, encryption and login.

use super::{RECIPIENT, mailing, set};
use crate::harness::{Authority, Host, HostBuilder, MailReply, MailServer, text, until};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

#[tokio::test]
async fn an_email_is_tried_again_until_the_server_accepts_or_refuses_it() {
    let replies = [MailReply::Later, MailReply::DropInData, MailReply::Silent];
    let server = MailServer::start(&replies).await;
    let host = mailing(&server).start().await;
    set(&host, json!({"recipients": [RECIPIENT]})).await;
    let written = host.post("./alerts/test", &json!({})).await;
    for tries in 1..=replies.len() {
        until("a failed try", async || {
            (host.log().matches("could not be sent; trying again").count() == tries).then_some(())
        })
        .await;
        // Longer than the pause after the third one.
        host.pass(Duration::from_secs(130)).await;
    }
    let mail = server.expect(1).await.remove(0);
    assert!(mail.header("Subject").contains("Test of the alerts") && mail.data.contains("/t/default"), "{}", mail.data);
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert_eq!(mail.header("Message-ID"), format!("<{}@hooks.test>", text(&written["emails"][0], "id")));

    let refusing = MailServer::start(&[MailReply::Never]).await;
    let host = mailing(&refusing).start().await;
    set(&host, json!({"recipients": [RECIPIENT]})).await;
    host.post("./alerts/test", &json!({})).await;
    until("the end", async || host.log().contains("is given up").then_some(())).await;
    assert!(host.log().contains("no such mailbox"), "{}", host.log());
    assert_eq!(refusing.taken().len(), 0);
}

/// Returns the options of a host that logs in to a mail server by STARTTLS. It trusts the authorities of a file.
fn with_login(server: &MailServer, folder: &Path, trusted: &Authority) -> HostBuilder {
    let password = folder.join("password");
    std::fs::write(&password, "p4ss wörd\n").unwrap();
    let authorities = folder.join("authorities.pem");
    std::fs::write(&authorities, trusted.pem()).unwrap();
    Host::with()
        .env("SSL_CERT_FILE", authorities.to_str().unwrap())
        .set(&format!("smtp_url=smtp://alerts%40hooks.test@localhost:{}?tls=required", server.port()))
        .set(&format!("smtp_password_file={}", password.display()))
        .set("mail_from=alerts@hooks.test")
}

#[tokio::test]
async fn the_password_is_sent_by_starttls_to_a_server_with_a_trusted_certificate_only() {
    let folder = TempDir::new().unwrap();
    let authority = Authority::new();
    let server = MailServer::with_tls(&authority).await;
    let host = with_login(&server, folder.path(), &authority).start().await;
    set(&host, json!({"recipients": [RECIPIENT]})).await;
    host.post("./alerts/test", &json!({})).await;
    let mail = server.expect(1).await.remove(0);
    assert_eq!(mail.to, RECIPIENT);
    assert_eq!(server.logins(), [["alerts@hooks.test".to_owned(), "p4ss wörd".to_owned()]]);
    assert!(!host.log().contains("p4ss"), "{}", host.log());

    let server = MailServer::with_tls(&Authority::new()).await;
    let host = with_login(&server, folder.path(), &authority).start().await;
    set(&host, json!({"recipients": [RECIPIENT]})).await;
    host.post("./alerts/test", &json!({})).await;
    until("a failed try", async || host.log().contains("could not be sent; trying again").then_some(())).await;
    assert!(host.log().contains("certificate"), "{}", host.log());
    assert_eq!((server.taken().len(), server.logins().len()), (0, 0));
}
