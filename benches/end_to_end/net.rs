//! Sockets in batches: datagrams by recvmmsg and sendmmsg with a source address of choice, an epoll, pinning.
//!
//! All `unsafe` of the bench stands here. Each call builds the headers that the kernel wants on the spot, from
//! buffers that outlive it, so nothing points anywhere between two calls.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

/// Datagrams of one system call.
pub(crate) const BATCH: usize = 64;
/// Longest datagram.
pub(crate) const DATAGRAM_MAX: usize = 8192;

/// What epoll says: there is something to read.
pub(crate) const READABLE: u32 = libc::EPOLLIN as u32;
/// There is room to write.
pub(crate) const WRITABLE: u32 = libc::EPOLLOUT as u32;
/// It is over.
pub(crate) const OVER: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

/// Room for one `in_pktinfo`.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Control([u8; 64]);

/// A UDP socket with a queue of datagrams to send.
pub(crate) struct Port {
    socket: UdpSocket,
    local: SocketAddrV4,
    queue: Vec<Outgoing>,
    queued: usize,
    /// Datagrams that the kernel did not take.
    pub(crate) unsent: u64,
}

struct Outgoing {
    octets: Vec<u8>,
    to: SocketAddrV4,
    from: Option<Ipv4Addr>,
}

/// Datagrams received by one call.
pub(crate) struct Inbox {
    octets: Vec<u8>,
    heads: Vec<Head>,
}

/// Of one datagram.
#[derive(Clone, Copy)]
struct Head {
    length: usize,
    from: SocketAddrV4,
    at: Ipv4Addr,
}

const NOWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

impl Port {
    /// Binds `address`; on the unspecified one, datagrams leave from any address of this machine.
    pub(crate) fn bind(address: SocketAddrV4) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        for (force, plain) in
            [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
        {
            if !set_option(&socket, libc::SOL_SOCKET, force, 16 << 20) {
                set_option(&socket, libc::SOL_SOCKET, plain, 16 << 20);
            }
        }
        set_option(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1);
        let std::net::SocketAddr::V4(local) = socket.local_addr()? else {
            return Err(io::Error::other("an IPv4 socket has an IPv4 address"));
        };
        let empty =
            || Outgoing { octets: Vec::with_capacity(DATAGRAM_MAX), to: NOWHERE, from: None };
        let queue = (0..BATCH).map(|_| empty()).collect();
        Ok(Self { socket, local, queue, queued: 0, unsent: 0 })
    }

    /// The address it is bound to.
    pub(crate) fn local(&self) -> SocketAddrV4 {
        self.local
    }

    /// Answers to this socket are dropped by the kernel, since nobody reads them.
    pub(crate) fn deaf(&self) {
        set_option(&self.socket, libc::SOL_SOCKET, libc::SO_RCVBUF, 1);
    }

    /// The empty buffer of the next datagram, which goes out with the next [`Port::flush`].
    pub(crate) fn next(&mut self, to: SocketAddrV4, from: Option<Ipv4Addr>) -> &mut Vec<u8> {
        if self.queued == BATCH {
            self.flush();
        }
        let slot = &mut self.queue[self.queued];
        self.queued += 1;
        (slot.to, slot.from) = (to, from);
        slot.octets.clear();
        &mut slot.octets
    }

    /// Sends what is queued.
    pub(crate) fn flush(&mut self) {
        let queued = std::mem::take(&mut self.queued);
        if queued == 0 {
            return;
        }
        // SAFETY: these are C structures for which all octets zero is a value.
        let (mut heads, mut names, mut parts) = unsafe {
            (
                zeroed::<[libc::mmsghdr; BATCH]>(),
                zeroed::<[libc::sockaddr_in; BATCH]>(),
                zeroed::<[libc::iovec; BATCH]>(),
            )
        };
        let mut controls = [Control([0; 64]); BATCH];
        for (at, slot) in self.queue.iter_mut().take(queued).enumerate() {
            names[at] = to_c(slot.to);
            parts[at] = libc::iovec {
                iov_base: slot.octets.as_mut_ptr().cast(),
                iov_len: slot.octets.len(),
            };
            let head = &mut heads[at].msg_hdr;
            head.msg_name = (&raw mut names[at]).cast();
            head.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            head.msg_iov = &raw mut parts[at];
            head.msg_iovlen = 1;
            if let Some(from) = slot.from {
                let length = put_source(&mut controls[at], from);
                head.msg_control = controls[at].0.as_mut_ptr().cast();
                head.msg_controllen = length;
            }
        }
        let (fd, mut done) = (self.socket.as_raw_fd(), 0);
        while done < queued {
            let rest = &mut heads[done..queued];
            // SAFETY: `rest` holds that many headers; all that they point to lives until the end of this function.
            let sent = unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), rest.len() as u32, 0) };
            if sent <= 0 {
                // The first of the rest is the one that could not be sent.
                self.unsent += 1;
                done += 1;
            } else {
                done += sent as usize;
            }
        }
    }
}

impl AsRawFd for Port {
    fn as_raw_fd(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let head = Head { length: 0, from: NOWHERE, at: Ipv4Addr::UNSPECIFIED };
        Self { octets: vec![0; BATCH * DATAGRAM_MAX], heads: vec![head; BATCH] }
    }

    /// One without room, to stand in for another while that is read.
    pub(crate) fn empty() -> Self {
        Self { octets: Vec::new(), heads: Vec::new() }
    }

    /// Receives what is there, at most [`BATCH`] datagrams; how many.
    pub(crate) fn fill(&mut self, port: &Port) -> usize {
        // SAFETY: these are C structures for which all octets zero is a value.
        let (mut heads, mut names, mut parts) = unsafe {
            (
                zeroed::<[libc::mmsghdr; BATCH]>(),
                zeroed::<[libc::sockaddr_in; BATCH]>(),
                zeroed::<[libc::iovec; BATCH]>(),
            )
        };
        let mut controls = [Control([0; 64]); BATCH];
        for (at, room) in self.octets.chunks_exact_mut(DATAGRAM_MAX).enumerate() {
            parts[at] = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            let head = &mut heads[at].msg_hdr;
            head.msg_name = (&raw mut names[at]).cast();
            head.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            head.msg_iov = &raw mut parts[at];
            head.msg_iovlen = 1;
            head.msg_control = controls[at].0.as_mut_ptr().cast();
            head.msg_controllen = controls[at].0.len();
        }
        // SAFETY: that many headers, and all that they point to lives until the end of this function.
        let received = unsafe {
            libc::recvmmsg(
                port.socket.as_raw_fd(),
                heads.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).unwrap_or(0);
        for at in 0..received {
            self.heads[at] = Head {
                length: heads[at].msg_len as usize,
                from: from_c(&names[at]),
                at: arrived_at(&heads[at].msg_hdr).unwrap_or(*port.local.ip()),
            };
        }
        received
    }

    /// One of the datagrams: octets, where it came from, and the address it came to.
    pub(crate) fn get(&self, index: usize) -> (&[u8], SocketAddrV4, Ipv4Addr) {
        let head = self.heads[index];
        let start = index * DATAGRAM_MAX;
        (&self.octets[start..start + head.length], head.from, head.at)
    }
}

/// Writes the wish to send from `address`; the length of it.
fn put_source(control: &mut Control, address: Ipv4Addr) -> usize {
    let length = size_of::<libc::in_pktinfo>() as u32;
    // SAFETY: a control message with one in_pktinfo takes 28 of the 64 octets, which are aligned for its header.
    unsafe {
        let head = control.0.as_mut_ptr().cast::<libc::cmsghdr>();
        (*head).cmsg_level = libc::IPPROTO_IP;
        (*head).cmsg_type = libc::IP_PKTINFO;
        (*head).cmsg_len = libc::CMSG_LEN(length) as usize;
        let mut info: libc::in_pktinfo = zeroed();
        info.ipi_spec_dst.s_addr = u32::from_ne_bytes(address.octets());
        libc::CMSG_DATA(head).cast::<libc::in_pktinfo>().write_unaligned(info);
        libc::CMSG_SPACE(length) as usize
    }
}

/// The address that a datagram came to.
fn arrived_at(head: &libc::msghdr) -> Option<Ipv4Addr> {
    // SAFETY: the kernel has written this header and the control messages that it points to.
    unsafe {
        let first = libc::CMSG_FIRSTHDR(head).as_ref()?;
        if first.cmsg_level != libc::IPPROTO_IP || first.cmsg_type != libc::IP_PKTINFO {
            return None;
        }
        let info = libc::CMSG_DATA(first).cast::<libc::in_pktinfo>().read_unaligned();
        Some(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes()))
    }
}

fn to_c(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

fn from_c(address: &libc::sockaddr_in) -> SocketAddrV4 {
    let ip = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
    SocketAddrV4::new(ip, u16::from_be(address.sin_port))
}

fn set_option(socket: &impl AsRawFd, level: i32, name: i32, value: i32) -> bool {
    let length = size_of::<i32>() as u32;
    // SAFETY: the option's value is an int, read during the call.
    unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), length) == 0
    }
}

/// Waits for many sockets at once, to the microsecond.
pub(crate) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the descriptor is ours alone.
        let fd = unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 256] })
    }

    /// Watches a socket; `tag` comes back with its events.
    pub(crate) fn add(&self, socket: &impl AsRawFd, what: u32, tag: u64) {
        self.control(libc::EPOLL_CTL_ADD, socket.as_raw_fd(), what, tag);
    }

    /// Watches it for something else.
    pub(crate) fn change(&self, socket: &impl AsRawFd, what: u32, tag: u64) {
        self.control(libc::EPOLL_CTL_MOD, socket.as_raw_fd(), what, tag);
    }

    fn control(&self, operation: i32, fd: i32, events: u32, tag: u64) {
        let mut event = libc::epoll_event { events, u64: tag };
        // SAFETY: the event is read during the call.
        unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, fd, &raw mut event) };
    }

    /// Waits at most so long; how many events there are.
    pub(crate) fn wait(&mut self, limit: Duration) -> usize {
        let limit = libc::timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        // SAFETY: room for that many events, and a time that lives until the call is over.
        let count = unsafe {
            libc::epoll_pwait2(
                self.fd.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len() as i32,
                &raw const limit,
                std::ptr::null(),
            )
        };
        usize::try_from(count).unwrap_or(0)
    }

    /// Tag and kind of one event.
    pub(crate) fn event(&self, index: usize) -> (u64, u32) {
        let event = self.events[index];
        (event.u64, event.events)
    }
}

/// Pins this thread, and what it starts from now on, to these cores; a machine that has none of them says no.
pub(crate) fn pin(cores: &[usize]) -> bool {
    // SAFETY: a set of cores is plain memory, filled here and read during the call.
    unsafe {
        let mut set: libc::cpu_set_t = zeroed();
        cores.iter().for_each(|core| libc::CPU_SET(*core, &mut set));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
    }
}

/// Asks for timers to the microsecond, for more open files, and for the processor before other work of the machine.
pub(crate) fn make_ready() {
    // SAFETY: no pointers but to a limit that lives here.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0);
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max.min(65_536);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        // Refused to all but root; then it goes on as it is.
        libc::setpriority(libc::PRIO_PROCESS, 0, -10);
    }
}

/// What `command` starts ends when this process does, and keeps time as other programs do.
pub(crate) fn tie(command: &mut Command) {
    // SAFETY: prctl may be called between fork and exec, and nothing is allocated there.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            libc::prctl(libc::PR_SET_TIMERSLACK, 50_000, 0, 0, 0);
            Ok(())
        });
    }
}

/// Sends a signal to a process that we have started.
pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: no pointers.
    unsafe { libc::kill(pid as i32, signal) };
}

/// Processor time of this process.
pub(crate) fn own_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is written during the call.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
