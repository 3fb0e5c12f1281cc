//! `ringgate-bench backend`: an HTTP/1.1 origin that is fast, or as slow and unreliable as asked.
//!
//! One thread per core with a reuseport listener each; `serve` answers a connection's requests, `request` finds
//! them in its bytes, `answer` renders what they get, `peer` moves the bytes, over TLS where a certificate was given.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use monoio::io::Canceller;
use monoio::net::TcpListener;
use ringgate::config::model::{Driver, RING_ENTRIES_DEFAULT};
use ringgate::sys::ring::{self, Rung};
use ringgate::sys::socket::Socket;
use ringgate::{errln, outln};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket2::{Domain, Protocol, Type};

use crate::cores::{self, CoreList};
use crate::units;

mod answer;
mod behaviour;
mod peer;
mod request;
mod serve;

use behaviour::Behaviour;

const BACKLOG: i32 = 4096;

/// How long accepting rests when descriptors or memory are used up.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a port may be in use at the start.
const BIND_TIMEOUT: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Paths:
  /bytes/N    N bytes, at most 1073741824 (1 GiB)
  other       --body-bytes bytes

Output: `listening ADDRESS`, then `ready`. SIGTERM or SIGINT ends it.

Examples:
  ringgate-bench backend --listen 127.0.0.1:9000 --cores 1
  ringgate-bench backend --latency 5ms --failure-rate 0.01 --failure reset
  ringgate-bench backend --stall-after 2s --stall 1s
  ringgate-bench backend --tls-certificate server.pem --tls-key server.key

Exit codes:
  0  ended by a signal
  1  the address, a core, a ring or the certificate could not be had
  2  the command line is wrong";

/// What an answer that fails looks like.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Failure {
    /// 503 without content
    Status,
    /// The connection is reset
    Reset,
}

/// Arguments of `ringgate-bench backend`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(crate) struct BackendArgs {
    /// Address to listen on; port 0 lets the kernel choose
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Content of an answer in bytes
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u64).range(..=answer::BYTES_MAX))]
    pub(crate) body_bytes: u64,
    /// Wait before each answer, to 1 ms
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = units::duration)]
    pub(crate) latency: Duration,
    /// Share of answers that fail, 0 to 1, at random
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = units::share)]
    pub(crate) failure_rate: f64,
    /// How they fail
    #[arg(long, value_enum, default_value = "status")]
    pub(crate) failure: Failure,
    /// Stop answering for the time of --stall, this long after the first request arrived
    #[arg(long, value_name = "TIME", requires = "stall", value_parser = units::duration)]
    pub(crate) stall_after: Option<Duration>,
    /// How long that stall lasts; what is asked meanwhile is answered at its end
    #[arg(long, value_name = "TIME", requires = "stall_after", value_parser = units::duration)]
    pub(crate) stall: Option<Duration>,
    /// Threads, each with a listener and a ring
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: u16,
    /// Cores to pin the threads to, in turn: `1` or `0-3,6`
    #[arg(long, value_name = "LIST", value_parser = CoreList::parse)]
    pub(crate) cores: Option<CoreList>,
    /// Speak TLS with this certificate and its chain, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
}

/// Runs the command until a signal ends it.
pub(crate) fn run(args: &BackendArgs) -> ExitCode {
    match start(args) {
        Ok(mut signals) => {
            let _ = signals.forever().next();
            ExitCode::SUCCESS
        }
        Err(error) => {
            errln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &BackendArgs) -> Result<Signals, String> {
    // Before anything listens, so that an early signal is not lost.
    let signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| format!("no signal handlers: {error}"))?;
    let (address, sockets) = bind_soon(args.listen, args.threads)
        .map_err(|error| format!("can not listen on {}: {error}", args.listen))?;
    let tls = match (&args.tls_certificate, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(peer::server_config(certificate, key)?),
        _ => None,
    };
    let behaviour = Arc::new(Behaviour::new(args));
    let (ready, started) = mpsc::channel();
    for (index, socket) in sockets.into_iter().enumerate() {
        let (ready, cores) = (ready.clone(), args.cores.clone());
        let server = serve::Server::new(Arc::clone(&behaviour), args.body_bytes, index as u64, tls.clone());
        let body = move || {
            if let Err(error) = serve_thread(index, socket, cores.as_ref(), server, &ready) {
                let _ = ready.send(Err(error));
            }
        };
        let spawned = thread::Builder::new().name(format!("backend-{index}")).spawn(body);
        spawned.map_err(|error| format!("no thread: {error}"))?;
    }
    let mut rungs = Vec::new();
    for _ in 0..args.threads {
        rungs.push(started.recv().map_err(|_| "a thread ended by itself")??);
    }
    let driver = rungs.first().map_or("", |rung: &Rung| rung.name());
    outln!("listening {address}\nready threads={} driver={driver}", args.threads);
    Ok(signals)
}

/// A backend that has just ended on this port may still have it: the kernel takes its ring down, and the listener with
/// it, after the process is gone.
fn bind_soon(address: SocketAddr, threads: u16) -> io::Result<(SocketAddr, Vec<socket2::Socket>)> {
    let end = Instant::now() + BIND_TIMEOUT;
    loop {
        match bind(address, threads) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                thread::sleep(PAUSE);
            }
            bound => return bound,
        }
    }
}

/// One socket per thread. All are bound before any listens: the kernel spreads connections over those that listen.
fn bind(mut address: SocketAddr, threads: u16) -> io::Result<(SocketAddr, Vec<socket2::Socket>)> {
    let mut sockets = Vec::new();
    for _ in 0..threads {
        let socket =
            socket2::Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(threads > 1)?;
        // Accepted sockets inherit it.
        socket.set_nodelay(true)?;
        socket.bind(&address.into())?;
        if let Some(bound) = socket.local_addr()?.as_socket() {
            address = bound;
        }
        sockets.push(socket);
    }
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok((address, sockets))
}

fn serve_thread(
    index: usize,
    socket: socket2::Socket,
    cores: Option<&CoreList>,
    server: serve::Server,
    ready: &Sender<Result<Rung, String>>,
) -> Result<(), String> {
    cores::pin(cores, index)?;
    let mut built = ring::build(Driver::Auto, RING_ENTRIES_DEFAULT)?;
    let rung = built.rung;
    built.runtime.block_on(async {
        // epoll needs a non-blocking socket, io_uring of older kernels a blocking one.
        let listener = socket
            .set_nonblocking(rung == Rung::Epoll)
            .and_then(|()| TcpListener::from_std(socket.into()))
            .map_err(|error| format!("the listener: {error}"))?;
        let server = Rc::new(server);
        // Nobody waits for the word any more when another thread has failed: the process ends.
        let _ = ready.send(Ok(rung));
        loop {
            // Never cancelled; this form does not lose a connection when it is dropped.
            match listener.cancelable_accept(Canceller::new().handle()).await {
                Ok((stream, _)) => {
                    let server = Rc::clone(&server);
                    monoio::spawn(async move { server.serve(&Socket::new(stream)).await });
                }
                Err(_) => monoio::time::sleep(PAUSE).await,
            }
        }
    })
}
