//! Name server with chosen answers (RFC 1035 §4.1: header, question, answers), which counts questions.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::UdpSocket;

/// Running name server.
pub(crate) struct NameServer {
    /// Address at which the name server listens.
    pub(crate) address: SocketAddr,
    answers: Arc<Mutex<Vec<Ipv4Addr>>>,
    questions: Arc<AtomicUsize>,
    /// True while questions for IPv6 addresses are not answered.
    ipv4_only: Arc<AtomicBool>,
}

impl NameServer {
    /// Starts a server that gives every name these addresses. None: no question is answered.
    pub(crate) async fn answering(addresses: &[&str]) -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = NameServer {
            address: socket.local_addr().unwrap(),
            answers: Arc::default(),
            questions: Arc::default(),
            ipv4_only: Arc::default(),
        };
        server.answer(addresses);
        let answers = server.answers.clone();
        let questions = server.questions.clone();
        let ipv4_only = server.ipv4_only.clone();
        tokio::spawn(async move {
            let mut packet = [0; 1_500];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let addresses = answers.lock().unwrap().clone();
                if is_for_ipv4(&packet[..length]) {
                    questions.fetch_add(1, Ordering::SeqCst);
                }
                let silent = ipv4_only.load(Ordering::SeqCst) && !is_for_ipv4(&packet[..length]);
                if !addresses.is_empty() && !silent {
                    let _ = socket.send_to(&answer(&packet[..length], &addresses), from).await;
                }
            }
        });
        server
    }

    /// Stops answering questions for IPv6 addresses.
    pub(crate) fn answer_ipv4_only(&self) {
        self.ipv4_only.store(true, Ordering::SeqCst);
    }

    /// Sets the addresses of further answers.
    pub(crate) fn answer(&self, addresses: &[&str]) {
        *self.answers.lock().unwrap() = addresses.iter().map(|address| address.parse().unwrap()).collect();
    }

    /// Returns the number of questions for IPv4 addresses.
    pub(crate) fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }
}

/// Returns the question without what follows (EDNS): labels up to the empty one, type, class.
fn question(packet: &[u8]) -> &[u8] {
    let mut end = 12;
    while packet[end] != 0 {
        end += usize::from(packet[end]) + 1;
    }
    &packet[12..end + 5]
}

fn is_for_ipv4(packet: &[u8]) -> bool {
    let question = question(packet);
    question[question.len() - 4..question.len() - 2] == [0, 1]
}

fn answer(packet: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let count = if is_for_ipv4(packet) { u8::try_from(addresses.len()).unwrap() } else { 0 };
    // The question's id; a recursive answer without error; one question, the number of answers, nothing else.
    let mut reply = [&packet[..2], &[0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0], question(packet)].concat();
    for address in &addresses[..usize::from(count)] {
        // The name as a pointer to the question, type A, class IN, kept for 0 s, 4 bytes.
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend_from_slice(&address.octets());
    }
    reply
}
