//! The end of the host whose store is moved.

use super::StandIn;
use crate::cli::terminal::errln;
use crate::clock;
use rustix::process::{Pid, Signal, kill_process};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Asks for the end of a host, and measures how long no host was there.
pub(super) struct HostEnd {
    /// True: this program ends the host; false: the operator does.
    pub(super) is_ended_here: bool,
    /// Address of the host.
    pub(super) address: SocketAddr,
    stand_in: Option<StandIn>,
    asked_at: Option<Instant>,
    ended_at: Option<Instant>,
}

/// Times of a move beside a host.
pub(super) struct HostTimes {
    /// Time from the request to end until the folder was locked.
    pub(super) ending: Duration,
    /// Time from then until the commit.
    pub(super) cut_over: Duration,
}

impl HostEnd {
    pub(super) fn new(is_ended_here: bool, address: SocketAddr) -> HostEnd {
        HostEnd { is_ended_here, address, stand_in: None, asked_at: None, ended_at: None }
    }

    /// Ends a host by SIGTERM, or asks the operator to end it.
    pub(super) fn ask(&mut self, process: &str) {
        self.asked_at = Some(clock::instant());
        // With port 0, the address of the host is unknown.
        if self.stand_in.is_none() && self.address.port() != 0 {
            self.stand_in = Some(StandIn::start(self.address));
        }
        let is_signalled = self.is_ended_here && is_this_program(process) && terminate(process);
        if is_signalled {
            errln!("stopping the host (process {}), as by SIGTERM", process);
        } else {
            errln!(
                "ready: stop the host now (process {}), so that it does not start again; the rest takes seconds",
                process
            );
        }
    }

    /// Notes that the host has ended.
    pub(super) fn note_ended(&mut self) {
        self.ended_at = Some(clock::instant());
        errln!("the host has ended; copying its last changes");
    }

    /// Returns the times, at the end of the move. None: there was no host.
    pub(super) fn times(&self) -> Option<HostTimes> {
        let ended_at = self.ended_at?;
        // A host that ended before it was asked to.
        let asked_at = self.asked_at.unwrap_or(ended_at);
        Some(HostTimes { ending: ended_at.duration_since(asked_at), cut_over: clock::since(ended_at) })
    }
}

/// Returns true if a process runs a program of the same name as this one. In another container, the number is of another process.
fn is_this_program(process: &str) -> bool {
    fn name(path: &str) -> Option<String> {
        std::fs::read_to_string(path).ok().filter(|name| !name.is_empty())
    }
    let is_number = process.bytes().all(|byte| byte.is_ascii_digit());
    let other = if is_number { name(&format!("/proc/{process}/comm")) } else { None };
    other.is_some() && other == name("/proc/self/comm")
}

fn terminate(process: &str) -> bool {
    let pid = process.parse().ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok())
}
