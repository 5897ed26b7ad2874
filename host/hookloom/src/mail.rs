//! E-mails of alerts: takes due ones from the store, and gives them to the mail server.
//!
//! # Guarantees
//! - An e-mail is tried for a day, with growing pauses, and then given up with a log line and an error that the incident shows.
//! - Each try has the same `Message-ID`, so that a recipient's server can recognise a repetition.
//! - The password is read from a file, and stands in no setting and no log.
//!
//! # Limits
//! E-mails are plain text. The mail server is the operator's own setting, so that its address is not vetted.

use crate::config::Config;
use crate::secret::Secret;
use crate::store::{AlertEmail, LiveUpdate, Store, StoreError};
use crate::subscription::TenantId;
use hookloom_model::clock::now_ms;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Interval at which due e-mails are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Maximum duration of a command of the mail server.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(10);

/// Maximum duration of a try. Three of them are shorter than the lease of an e-mail.
const TRY_TIME_MAX: Duration = Duration::from_secs(30);

/// Number of e-mails that are taken at once.
const TAKEN_MAX: usize = 3;

/// Pause after the first failed try, which doubles up to [`PAUSE_MAX_MS`], in milliseconds.
const PAUSE_MS: i64 = 30_000;

/// Maximum pause between two tries, in milliseconds.
const PAUSE_MAX_MS: i64 = 3_600_000;

/// Time after which an e-mail is given up, in milliseconds.
const GIVEN_UP_AFTER_MS: i64 = 86_400_000;

/// Reason why the mail server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    /// The URL is not that of a mail server.
    #[error(
        "smtp_url is not the URL of a mail server, such as smtps://user@mail.example.com or smtp://mail.example.com:587?tls=required"
    )]
    Url(#[source] lettre::transport::smtp::Error),
    /// The sender is not an address.
    #[error("mail_from is {from:?}, which is not an e-mail address such as alerts@example.com")]
    From {
        /// The setting.
        from: String,
        /// Position and reason of the fault.
        source: lettre::address::AddressError,
    },
    /// The file of the password cannot be read.
    #[error("smtp_password_file {} cannot be read", path.display())]
    Password {
        /// Path of the file.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
}

/// Error of a try.
#[derive(Debug, thiserror::Error)]
enum TryError {
    #[error("the e-mail cannot be written")]
    Message(#[from] lettre::error::Error),
    #[error("the recipient is not an e-mail address")]
    Recipient(#[from] lettre::address::AddressError),
    #[error("the mail server did not accept it")]
    Server(#[from] lettre::transport::smtp::Error),
    #[error("the mail server did not answer within {} s", TRY_TIME_MAX.as_secs())]
    Late,
}

impl TryError {
    /// Returns true if another try would fail as well.
    fn is_final(&self) -> bool {
        match self {
            TryError::Message(_) | TryError::Recipient(_) => true,
            TryError::Server(error) => error.is_permanent(),
            TryError::Late => false,
        }
    }
}

/// Connection to the mail server, and the sender.
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Mailer {
    /// Prepares the mail server of the settings. None: there is none.
    pub fn new(config: &Config) -> Result<Option<Self>, MailError> {
        if !config.has_mail_server() {
            return Ok(None);
        }
        let from = config.mail_from.parse();
        let from: Mailbox = from.map_err(|source| MailError::From { from: config.mail_from.clone(), source })?;
        let hello = ClientId::Domain(from.email.domain().to_owned());
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(&config.smtp_url).map_err(MailError::Url)?;
        let mut builder = builder.hello_name(hello).timeout(Some(COMMAND_TIME_MAX));
        if let Some(password) = password(config)? {
            let user = Url::parse(&config.smtp_url).ok().map(|url| decoded(url.username())).unwrap_or_default();
            builder =
                builder.credentials(Credentials::new(user, String::from_utf8_lossy(password.expose()).into_owned()));
        }
        Ok(Some(Mailer { transport: builder.build(), from }))
    }

    /// Sends due e-mails until the store stops.
    pub async fn run(self, store: Arc<Store>) {
        loop {
            match self.send_due(&store).await {
                Ok(0) => tokio::time::sleep(LOOK_EVERY).await,
                Ok(_) => {}
                Err(StoreError::Stopped) => return,
                Err(error) => {
                    if !error.is_outage() {
                        tracing::error!(error = %crate::describe(&error), "e-mails could not be read or recorded; trying again");
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    /// Tries some e-mails, and returns their number.
    async fn send_due(&self, store: &Store) -> Result<usize, StoreError> {
        let taken = store.take_alert_emails(TAKEN_MAX).await?;
        let count = taken.len();
        for (tenant, mut email) in taken {
            email.attempts += 1;
            let tried = tokio::time::timeout(TRY_TIME_MAX, self.send(&tenant, &email)).await;
            let due_at_ms = match tried.unwrap_or(Err(TryError::Late)) {
                Ok(()) => {
                    email.sent_at_ms = Some(now_ms());
                    email.error = None;
                    None
                }
                Err(error) => after_failure(&tenant, &mut email, &error),
            };
            store.record_alert_email(tenant.clone(), email, due_at_ms).await?;
            store.publish_live_update(|| LiveUpdate::Incident(tenant));
        }
        Ok(count)
    }

    async fn send(&self, tenant: &TenantId, email: &AlertEmail) -> Result<(), TryError> {
        let to = Mailbox::new(None, email.recipient.as_str().parse()?);
        let id = format!("<{}@{}>", email.id, self.from.email.domain());
        let text =
            format!("{}\n\n{}\n\n{}\n\n-- \nHookloom, tenant {tenant}\n", email.title, email.next_step, email.link);
        let message = Message::builder().from(self.from.clone()).to(to).message_id(Some(id));
        let mut message = message.subject(format!("[Hookloom] {}", email.title)).body(text)?;
        // Out-of-office replies are not wanted (RFC 3834, section 5).
        let name = HeaderName::new_from_ascii_str("Auto-Submitted");
        message.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
        self.transport.send(message).await?;
        Ok(())
    }
}

/// Notes a failed try, and returns the time of the next one. None: it is given up.
fn after_failure(tenant: &TenantId, email: &mut AlertEmail, error: &TryError) -> Option<i64> {
    let text = crate::describe(error);
    email.error = Some(text.clone());
    let now_ms = now_ms();
    let pause_ms = PAUSE_MS.saturating_mul(1_i64 << email.attempts.saturating_sub(1).min(16)).min(PAUSE_MAX_MS);
    if error.is_final() || now_ms + pause_ms - email.created_at_ms > GIVEN_UP_AFTER_MS {
        email.given_up = true;
        tracing::error!(%tenant, email = %email.id, attempts = email.attempts, error = text, "an e-mail about an incident is given up");
        return None;
    }
    tracing::warn!(%tenant, email = %email.id, attempts = email.attempts, error = text, "an e-mail about an incident could not be sent; trying again");
    Some(now_ms + pause_ms)
}

fn password(config: &Config) -> Result<Option<Secret>, MailError> {
    let path = &config.smtp_password_file;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(|source| MailError::Password { path: path.clone(), source })?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned().into()))
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}
