//! Pairs in a poll loop of their own, against real sockets.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as Blocking;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::{Events, Poll};

use super::*;

/// Joins pairs, and runs until all have ended. Answers the two outer ends of each, and a flag that all
/// ended.
fn joined(count: usize) -> (Vec<(Blocking, Blocking)>, Arc<AtomicBool>) {
    let mut outer = Vec::new();
    let mut inner = Vec::new();
    for _ in 0..count {
        let (client, client_inner) = Blocking::pair().unwrap();
        let (server, server_inner) = Blocking::pair().unwrap();
        for socket in [&client_inner, &server_inner] {
            socket.set_nonblocking(true).unwrap();
        }
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        }
        outer.push((client, server));
        inner.push((UnixStream::from_std(client_inner), UnixStream::from_std(server_inner)));
    }
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    std::thread::spawn(move || {
        let mut poll = Poll::new().unwrap();
        let mut relay = Relay::new(poll.registry().try_clone().unwrap(), 0);
        for (client, server) in inner {
            relay.join(client, server).unwrap();
        }
        let mut events = Events::with_capacity(16);
        while relay.len() > 0 {
            let pause = if relay.has_more() { Some(Duration::ZERO) } else { None };
            poll.poll(&mut events, pause).unwrap();
            for event in &events {
                relay.event(event);
            }
            relay.go_on();
        }
        ended.store(true, Ordering::SeqCst);
    });
    (outer, over)
}

#[track_caller]
fn until(what: &str, done: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Bytes that show where one is lost or doubled.
fn stuff(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 7 + at / 251) % 256).unwrap()).collect()
}

#[test]
fn many_bytes_go_both_ways_at_once_unchanged() {
    let (outer, over) = joined(4);
    let wanted = stuff(3_000_000);
    let mut threads = Vec::new();
    for (client, server) in outer {
        for (from, to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
            let (mut from, mut to, bytes, wanted) = (from, to, wanted.clone(), wanted.clone());
            threads.push(std::thread::spawn(move || {
                from.write_all(&bytes).unwrap();
                from.shutdown(Shutdown::Write).unwrap();
            }));
            threads.push(std::thread::spawn(move || {
                let mut came = Vec::new();
                to.read_to_end(&mut came).unwrap();
                assert!(came == wanted, "{} bytes came, or others", came.len());
            }));
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    until("the pairs to end", || over.load(Ordering::SeqCst));
}

#[test]
fn a_half_close_is_passed_on_and_the_other_way_stays_open() {
    let (mut outer, over) = joined(1);
    let (mut client, mut server) = outer.pop().unwrap();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut came = String::new();
    server.read_to_string(&mut came).unwrap();
    assert_eq!(came, "question");
    assert!(!over.load(Ordering::SeqCst));
    server.write_all(b"answer").unwrap();
    drop(server);
    came.clear();
    client.read_to_string(&mut came).unwrap();
    assert_eq!(came, "answer");
    until("the pair to end", || over.load(Ordering::SeqCst));
}

#[test]
fn a_client_that_goes_away_ends_a_server_that_only_listens() {
    let (mut outer, over) = joined(1);
    let (mut client, mut server) = outer.pop().unwrap();
    client.write_all(b"subscribe").unwrap();
    drop(client);
    let mut came = String::new();
    server.read_to_string(&mut came).unwrap();
    assert_eq!(came, "subscribe");
    // The server never closes: the pair ends all the same, and it finds out when it writes.
    until("the pair to end", || over.load(Ordering::SeqCst));
    assert!(server.write_all(b"x").is_err());
}

#[test]
fn an_answer_that_comes_before_the_question_was_read_arrives() {
    let (mut outer, over) = joined(1);
    let (mut client, mut server) = outer.pop().unwrap();
    let writer = client.try_clone().unwrap();
    // More than all buffers between take.
    let asking = std::thread::spawn(move || {
        let mut writer = writer;
        writer.write_all(&stuff(20_000_000)).is_err()
    });
    server.read_exact(&mut [0; 10]).unwrap();
    server.write_all(b"too long").unwrap();
    drop(server);
    let mut came = Vec::new();
    let _ = client.read_to_end(&mut came);
    assert_eq!(came, b"too long");
    assert!(asking.join().unwrap(), "who writes what nobody reads is told so");
    until("the pair to end", || over.load(Ordering::SeqCst));
}
