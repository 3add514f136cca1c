//! Descriptors that go over a socket of this machine beside what is said: input, output, errors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// The most descriptors that go beside what is said.
pub const MOST: usize = 3;

/// Sends as many of the bytes as the socket takes, with all descriptors, and answers how many those were. Who has gone
/// away is an error here (`EPIPE`), not our end.
pub fn send(socket: impl AsFd, bytes: &[u8], beside: &[BorrowedFd<'_>]) -> Result<usize> {
    rustix::io::retry_on_intr(|| {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !beside.is_empty() && !control.push(SendAncillaryMessage::ScmRights(beside)) {
            return Err(Errno::TOOBIG);
        }
        rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
    })
}

/// What one read brought.
#[derive(Debug)]
pub struct Received {
    /// So many bytes; none at the end.
    pub bytes: usize,
    /// What came beside them, closed when it is dropped and for every program that is started.
    pub beside: Vec<OwnedFd>,
    /// Whether there was more than there was room for.
    pub cut: bool,
}

/// Waits for what comes next.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut beside = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            beside.extend(rights);
        }
    }
    let cut = read.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) || beside.len() > MOST;
    Ok(Received { bytes: read.bytes, beside, cut })
}
