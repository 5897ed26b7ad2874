//! Mail server on a socket: takes e-mails, or misbehaves as a test says.

use super::until;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

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

/// Running mail server.
pub(crate) struct MailServer {
    port: u16,
    taken: Arc<Mutex<Vec<TakenMail>>>,
    replies: Arc<Mutex<VecDeque<MailReply>>>,
}

impl MailServer {
    /// Starts a server that behaves so in its first connections, and then accepts.
    pub(crate) async fn start(replies: &[MailReply]) -> MailServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = MailServer {
            port: listener.local_addr().unwrap().port(),
            taken: Arc::default(),
            replies: Arc::new(Mutex::new(replies.iter().copied().collect())),
        };
        let taken = server.taken.clone();
        let replies = server.replies.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let reply = replies.lock().unwrap().pop_front().unwrap_or(MailReply::Accept);
                tokio::spawn(serve(stream, reply, taken.clone()));
            }
        });
        server
    }

    /// Settings of a host that uses the server.
    pub(crate) fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// Returns the e-mails so far.
    pub(crate) fn taken(&self) -> Vec<TakenMail> {
        self.taken.lock().unwrap().clone()
    }

    /// Waits for this number of e-mails, and returns them.
    pub(crate) async fn expect(&self, count: usize) -> Vec<TakenMail> {
        until(&format!("{count} e-mails"), async || Some(self.taken()).filter(|taken| taken.len() >= count)).await
    }
}

/// Serves one connection. Errors are those of a client that has gone.
async fn serve(stream: TcpStream, reply: MailReply, taken: Arc<Mutex<Vec<TakenMail>>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if reply == MailReply::Silent {
        stream.read_line(&mut line).await.ok()?;
        return None;
    }
    stream.write_all(b"220 mail.test\r\n").await.ok()?;
    let mut to = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let command = line.trim_end().to_owned();
        let answer = match command.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "EHLO" => "250-mail.test\r\n250 8BITMIME\r\n",
            "RCPT" if reply == MailReply::Later => "451 later\r\n",
            "RCPT" if reply == MailReply::Never => "550 no such mailbox\r\n",
            "RCPT" => {
                to = command.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                "250 ok\r\n"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await.ok()?;
                let data = read_data(&mut stream, reply).await?;
                taken.lock().unwrap().push(TakenMail { to: to.clone(), data });
                "250 taken\r\n"
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await.ok()?;
                return Some(());
            }
            "MAIL" | "RSET" | "NOOP" => "250 ok\r\n",
            _ => "502 unknown\r\n",
        };
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

/// Reads the text of an e-mail up to the line with a dot.
async fn read_data(stream: &mut BufReader<TcpStream>, reply: MailReply) -> Option<String> {
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
