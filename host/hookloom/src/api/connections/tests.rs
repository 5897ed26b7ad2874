//! Tests of the phases of connections, and of the choice of the connection to close.

use super::*;
use crate::clock;
use futures_util::FutureExt as _;

const TIMEOUTS: ConnectionTimeouts =
    ConnectionTimeouts { head: Duration::from_secs(10), idle: Duration::from_secs(75), stall: Duration::from_secs(20) };

fn open(connections: &Arc<Connections>, last: u8) -> OpenConnection {
    connections.admit(IpAddr::from([127, 0, 0, last])).expect("room")
}

fn is_closed(connection: &OpenConnection) -> bool {
    connection.activity.closed().now_or_never().is_some()
}

/// Moves the beginning of a connection's phase into the past.
fn age(connection: &OpenConnection, seconds: u64) {
    connection.activity.lock().since -= Duration::from_secs(seconds);
}

fn finish_a_request(connection: &OpenConnection) {
    connection.activity.handling();
    connection.activity.answered();
    connection.activity.sent_all();
}

#[test]
fn the_one_that_used_up_most_of_its_time_gives_way() {
    let connections = Connections::new(4, TIMEOUTS);
    let [idle, silent, fresh, busy] = [1; 4].map(|last| open(&connections, last));
    finish_a_request(&idle);
    age(&idle, 30);
    age(&silent, 9);
    busy.activity.handling();
    age(&busy, 1_000);
    let new = open(&connections, 1);
    assert!(is_closed(&silent) && !is_closed(&idle), "9 of 10 s are more than 30 of 75 s");
    let newer = open(&connections, 1);
    assert!(is_closed(&idle) && ![&fresh, &busy, &new, &newer].into_iter().any(is_closed));
}

#[test]
fn one_that_holds_a_share_never_gives_way() {
    let connections = Connections::new(2, TIMEOUTS);
    let [first, second] = [1; 2].map(|last| open(&connections, last));
    for connection in [&first, &second] {
        connection.activity.handling();
        connection.activity.secure();
        age(connection, 1_000);
    }
    assert!(connections.admit(IpAddr::from([127, 0, 0, 2])).is_none());
    first.activity.answered();
    let new = open(&connections, 2);
    assert!(is_closed(&first) && !is_closed(&second) && !is_closed(&new));
}

#[test]
fn the_client_with_the_most_connections_loses_one_first() {
    let connections = Connections::new(5, TIMEOUTS);
    let honest = [1; 2].map(|last| open(&connections, last));
    honest.iter().for_each(|connection| age(connection, 9));
    let greedy = [2; 3].map(|last| open(&connections, last));
    let new = open(&connections, 3);
    assert!(is_closed(&greedy[0]) && !honest.iter().chain([&new]).any(is_closed));
}

#[test]
fn clients_with_a_few_connections_count_alike() {
    let max = 3 * FEW_DIVISOR;
    let connections = Connections::new(max, TIMEOUTS);
    let strangers: Vec<OpenConnection> = (1..=max).map(|number| open(&connections, number as u8)).collect();
    strangers.iter().for_each(|connection| age(connection, 1));
    let honest = [0; 4].map(|last| open(&connections, last));
    assert_eq!(strangers.iter().filter(|connection| is_closed(connection)).count(), 4);
    assert!(!honest.iter().any(is_closed), "three of {max}, and one more, are not too many");
    open(&connections, 0);
    assert_eq!(honest.iter().filter(|connection| is_closed(connection)).count(), 1, "four are more than a few");
}

#[test]
fn each_phase_has_its_own_time() {
    let connections = Connections::new(8, TIMEOUTS);
    let [silent, idle, reads_nothing, slow, honest, busy] = [1; 6].map(|last| open(&connections, last));
    finish_a_request(&idle);
    for connection in [&reads_nothing, &slow, &honest] {
        finish_a_request(connection);
        connection.activity.cannot_send();
    }
    slow.activity.sent(20 * 1_024 - 1);
    honest.activity.sent(20 * 1_024);
    busy.activity.handling();
    let begun = clock::instant();
    connections.close_overdue(begun + Duration::from_secs(9));
    assert!(![&silent, &idle, &reads_nothing, &slow, &honest, &busy].into_iter().any(is_closed));
    connections.close_overdue(begun + Duration::from_secs(11));
    assert!(is_closed(&silent) && !is_closed(&reads_nothing));
    connections.close_overdue(begun + Duration::from_secs(21));
    assert!(is_closed(&reads_nothing) && is_closed(&slow) && !is_closed(&honest) && !is_closed(&idle));
    connections.close_overdue(begun + Duration::from_secs(42));
    assert!(is_closed(&honest), "what it took in the span before does not count again");
    connections.close_overdue(begun + Duration::from_secs(76));
    assert!(is_ending(&idle) && !is_closed(&idle) && !is_closed(&busy) && !is_ending(&busy));
    assert_eq!(connections.lock().len(), 2);
}

fn is_ending(connection: &OpenConnection) -> bool {
    connection.activity.idle_time_over().now_or_never().is_some()
}

#[test]
fn an_idle_connection_ends_in_two_steps() {
    let connections = Connections::new(8, TIMEOUTS);
    let [silent, crossed, back] = [1; 3].map(|last| open(&connections, last));
    for connection in [&silent, &crossed, &back] {
        finish_a_request(connection);
    }
    let begun = clock::instant();
    connections.close_overdue(begun + Duration::from_secs(74));
    assert!(![&silent, &crossed, &back].into_iter().any(is_ending));
    connections.close_overdue(begun + Duration::from_secs(76));
    assert!([&silent, &crossed, &back].into_iter().all(is_ending));
    // A request that came just before is answered, and the connection stays open.
    back.activity.received(10);
    assert!(!back.activity.begin_end());
    finish_a_request(&back);
    // A request that came just after is handled as well, and the connection ends after it.
    assert!(silent.activity.begin_end() && crossed.activity.begin_end());
    crossed.activity.received(10);
    connections.close_overdue(begun + Duration::from_secs(7));
    assert!(is_closed(&silent) && !is_closed(&crossed) && !is_closed(&back));
    finish_a_request(&crossed);
    assert!(!crossed.activity.begin_end());
    connections.close_overdue(begun + Duration::from_secs(8));
    assert!(is_closed(&crossed) && !is_closed(&back));
}

#[test]
fn an_ipv6_client_is_its_network() {
    fn client(text: &str) -> IpAddr {
        client_of(text.parse().expect(text))
    }
    assert_eq!(client("2001:db8:1:2:3:4:5:6"), client("2001:db8:1:2::1"));
    assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
    assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
    assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
}
