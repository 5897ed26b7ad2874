//! Mail server on a socket: takes e-mails, or misbehaves as a test says. With a certificate, it insists on STARTTLS and a login.

use super::{Authority, until};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Behaviour in one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MailReply {
    /// Takes the e-mail.
    Accept,
    /// Answers 451 to the recipient.
    Later,
    /// Answers 550 to the recipient.
    Never,
    /// Closes the connection in the middle of the text.
    DropInData,
    /// Sends no greeting.
    Silent,
}

/// E-mail that was taken.
#[derive(Clone, Debug)]
pub(crate) struct TakenMail {
    pub(crate) to: String,
    /// Headers and text.
    pub(crate) data: String,
}

impl TakenMail {
    /// Returns the value of a header, unfolded.
    pub(crate) fn header(&self, name: &str) -> String {
        let unfolded = self.data.replace("\r\n ", " ");
        let prefix = format!("{name}: ");
        unfolded.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
    }
}

/// State that the connections of a server share.
#[derive(Default)]
struct MailLog {
    taken: Mutex<Vec<TakenMail>>,
    replies: Mutex<VecDeque<MailReply>>,
    /// User and password of each login.
    logins: Mutex<Vec<[String; 2]>>,
    connections: Mutex<usize>,
}

/// Running mail server.
pub(crate) struct MailServer {
    port: u16,
    log: Arc<MailLog>,
}

impl MailServer {
    /// Starts a server that behaves so in its first connections, and then accepts.
    pub(crate) async fn start(replies: &[MailReply]) -> MailServer {
        MailServer::with(replies, None).await
    }

    /// Starts a server that accepts e-mails only after STARTTLS, with a certificate for `localhost`, and a login.
    pub(crate) async fn with_tls(authority: &Authority) -> MailServer {
        MailServer::with(&[], Some(authority.acceptor("localhost", "smtp"))).await
    }

    async fn with(replies: &[MailReply], tls: Option<TlsAcceptor>) -> MailServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let log = Arc::new(MailLog { replies: Mutex::new(replies.iter().copied().collect()), ..MailLog::default() });
        let server = MailServer { port, log: log.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let reply = log.replies.lock().unwrap().pop_front().unwrap_or(MailReply::Accept);
                *log.connections.lock().unwrap() += 1;
                tokio::spawn(serve(stream, reply, tls.clone(), log.clone()));
            }
        });
        server
    }

    /// Returns the port of 127.0.0.1 on which the server listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the e-mails so far.
    pub(crate) fn taken(&self) -> Vec<TakenMail> {
        self.log.taken.lock().unwrap().clone()
    }

    /// Returns the user and the password of each login so far.
    pub(crate) fn logins(&self) -> Vec<[String; 2]> {
        self.log.logins.lock().unwrap().clone()
    }

    /// Returns the number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        *self.log.connections.lock().unwrap()
    }

    /// Waits for this number of e-mails, and returns them.
    pub(crate) async fn expect(&self, count: usize) -> Vec<TakenMail> {
        until(&format!("{count} e-mails"), async || Some(self.taken()).filter(|taken| taken.len() >= count)).await
    }
}

/// Conversation with one client.
struct Session {
    reply: MailReply,
    /// Lines of the answer to EHLO.
    extensions: &'static str,
    needs_login: bool,
    to: String,
    log: Arc<MailLog>,
}

/// End of a conversation.
#[derive(PartialEq, Eq)]
enum ConversationEnd {
    /// The client quits.
    Quit,
    /// The client begins TLS.
    StartTls,
}

/// Serves one connection. Errors are those of a client that has gone.
async fn serve(stream: TcpStream, reply: MailReply, tls: Option<TlsAcceptor>, log: Arc<MailLog>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    if reply == MailReply::Silent {
        stream.read_line(&mut String::new()).await.ok()?;
        return None;
    }
    stream.write_all(b"220 mail.test\r\n").await.ok()?;
    let extensions = if tls.is_some() { "250 STARTTLS" } else { "250 8BITMIME" };
    let mut session = Session { reply, extensions, needs_login: tls.is_some(), to: String::new(), log };
    if converse(&mut stream, &mut session).await? == ConversationEnd::StartTls {
        let mut encrypted = BufReader::new(tls?.accept(stream.into_inner()).await.ok()?);
        session.extensions = "250 AUTH PLAIN";
        converse(&mut encrypted, &mut session).await?;
    }
    Some(())
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    session: &mut Session,
) -> Option<ConversationEnd> {
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let command = line.trim_end().to_owned();
        let answer = match command.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "EHLO" => format!("250-mail.test\r\n{}\r\n", session.extensions),
            "STARTTLS" => {
                stream.write_all(b"220 go on\r\n").await.ok()?;
                return Some(ConversationEnd::StartTls);
            }
            "AUTH" => session.log_in(&command)?,
            "MAIL" if session.needs_login => "530 log in first\r\n".to_owned(),
            "RCPT" => session.recipient(&command),
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await.ok()?;
                let data = read_data(stream, session.reply).await?;
                session.log.taken.lock().unwrap().push(TakenMail { to: session.to.clone(), data });
                "250 taken\r\n".to_owned()
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await.ok()?;
                return Some(ConversationEnd::Quit);
            }
            "MAIL" | "RSET" | "NOOP" => "250 ok\r\n".to_owned(),
            _ => "502 unknown\r\n".to_owned(),
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

impl Session {
    /// Notes the user and the password of `AUTH PLAIN` (RFC 4616).
    fn log_in(&mut self, command: &str) -> Option<String> {
        let text = STANDARD.decode(command.strip_prefix("AUTH PLAIN ")?).ok()?;
        let text = String::from_utf8(text).ok()?;
        let mut parts = text.split('\0').skip(1).map(str::to_owned);
        self.log.logins.lock().unwrap().push([parts.next()?, parts.next()?]);
        self.needs_login = false;
        Some("235 welcome\r\n".to_owned())
    }

    fn recipient(&mut self, command: &str) -> String {
        match self.reply {
            MailReply::Later => "451 later\r\n".to_owned(),
            MailReply::Never => "550 no such mailbox\r\n".to_owned(),
            MailReply::Accept | MailReply::DropInData | MailReply::Silent => {
                self.to = command.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                "250 ok\r\n".to_owned()
            }
        }
    }
}

/// Reads the text of an e-mail up to the line with a dot.
async fn read_data<S: AsyncRead + Unpin>(stream: &mut BufReader<S>, reply: MailReply) -> Option<String> {
    let mut data = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 || reply == MailReply::DropInData {
            return None;
        }
        if line == ".\r\n" {
            return Some(data);
        }
        data.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
