//! Stage 1, refused datagrams: what comes back when nobody listens where one was sent (ICMP port unreachable).
//!
//! Takes:   a socket of datagrams.
//! Gives:   where a datagram could not be delivered, and as much of it as the host there sent back.
//! Keeps:   nothing.
//! Refuses: to believe it. Anybody can send ICMP: who is told has to find what only he and the one he sent it to knew in
//!          the octets that came back. Other errors of the way are not told; they may pass.
//! Sources: RFC 1122 sections 3.2.2.1 and 4.1.3.3; RFC 4443 sections 3.1 and 5.2; RFC 3261 section 18.4; RFC 5927 section 4.1.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::cmsg_space;
use nix::libc::{sock_extended_err, sockaddr_in6};
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};

use super::batch::address;

/// Refusals that are read at once.
pub(super) const AT_ONCE: usize = 64;
/// As much as is looked at of what came back: what fits into the least packet that IPv6 delivers.
const QUOTED_MAX: usize = 1280;

/// Asks the system to tell.
///
/// # Errors
///
/// If it does not.
pub(super) fn ask(socket: &UdpSocket) -> io::Result<()> {
    let six = socket.local_addr()?.is_ipv6();
    if six {
        setsockopt(socket, Ipv6RecvErr, &true)
    } else {
        setsockopt(socket, Ipv4RecvErr, &true)
    }
    .map_err(io::Error::from)
}

/// Reads what there is, [`AT_ONCE`] at most, and hands each refusal to `each`; how many errors there were.
pub(super) fn read(socket: &UdpSocket, mut each: impl FnMut(SocketAddr, &[u8])) -> usize {
    let mut octets = [0; QUOTED_MAX];
    let mut control = cmsg_space!(sock_extended_err, sockaddr_in6);
    for count in 0..AT_ONCE {
        let mut parts = [IoSliceMut::new(&mut octets)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let told =
            recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags);
        let Ok(told) = told else { return count };
        let refused = told.cmsgs().is_ok_and(|mut told| told.any(|one| is_refusal(&one)));
        let to = told.address.and_then(address).filter(|_| refused);
        if let (Some(to), Some(quoted)) = (to, told.iovs().next()) {
            each(to, quoted);
        }
    }
    AT_ONCE
}

fn is_refusal(told: &ControlMessageOwned) -> bool {
    match told {
        ControlMessageOwned::Ipv4RecvErr(error, _) => {
            (error.ee_origin, error.ee_type, error.ee_code) == (ORIGIN_ICMP, 3, 3)
        }
        ControlMessageOwned::Ipv6RecvErr(error, _) => {
            (error.ee_origin, error.ee_type, error.ee_code) == (ORIGIN_ICMP6, 1, 4)
        }
        _ => false,
    }
}

/// Of errors that came from the network, as the system marks them.
const ORIGIN_ICMP: u8 = 2;
const ORIGIN_ICMP6: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// `dialog-association` section 4: a host that answers with ICMP is heard, and quotes what was sent.
    #[test]
    fn who_sends_to_a_port_that_nobody_holds_is_told() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = UdpSocket::bind(host) else { continue };
            socket.set_nonblocking(true).unwrap();
            ask(&socket).unwrap();
            let gone = UdpSocket::bind(host).unwrap().local_addr().unwrap();
            socket.send_to(b"INFO sip:a@b SIP/2.0", gone).unwrap();
            let mut heard = Vec::new();
            // On loopback the answer is there before the call returns.
            let count = read(&socket, |to, quoted| heard.push((to, quoted.to_vec())));
            assert_eq!(
                (count, heard.as_slice()),
                (1, &[(gone, b"INFO sip:a@b SIP/2.0".to_vec())][..])
            );
            assert_eq!(read(&socket, |_, _| panic!("there is no more")), 0);
        }
    }
}
