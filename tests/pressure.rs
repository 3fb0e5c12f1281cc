//! What the tests of reloads, drains, timers and bounds share: the gateway's counters, its process as the kernel sees
//! it, and a backend that keeps nothing of what it serves.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Client, DEADLINE, Driver, Gateway};

/// How late a timer may act on a busy host: two sweeps of the deadline list, and scheduling.
const LATE_MAX: Duration = Duration::from_millis(400);

/// Whether the long forms of the tests run.
pub(crate) fn full() -> bool {
    std::env::var_os("RINGGATE_FULL").is_some_and(|value| value == "1")
}

/// The gateway's counters at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Dump(Value);

impl Dump {
    /// Asks for the counters and waits for them.
    pub(crate) fn of(gateway: &Gateway) -> Self {
        let dumps = |lines: &[String]| lines.iter().filter(|line| line.starts_with("dump ")).count();
        let before = dumps(&gateway.stdout());
        gateway.signal("USR1");
        gateway.wait_stdout("a dump", |lines| dumps(lines) > before);
        let lines = gateway.stdout();
        let line = lines.iter().filter_map(|line| line.strip_prefix("dump ")).nth(before).unwrap();
        Self(serde_json::from_str(line).unwrap())
    }

    /// Asks again and again until `wanted` holds; panics with `what` at the deadline.
    #[track_caller]
    pub(crate) fn wait(gateway: &Gateway, what: &str, wanted: impl Fn(&Self) -> bool) -> Self {
        let started = Instant::now();
        loop {
            let dump = Self::of(gateway);
            if wanted(&dump) {
                return dump;
            }
            assert!(started.elapsed() < DEADLINE, "{what}: {dump:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A figure of the whole process.
    #[track_caller]
    pub(crate) fn top(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("no {name} in {}", self.0))
    }

    /// A counter or gauge, summed over the shards.
    #[track_caller]
    pub(crate) fn sum(&self, name: &str) -> u64 {
        self.each(name).iter().sum()
    }

    /// A counter or gauge of each shard.
    #[track_caller]
    pub(crate) fn each(&self, name: &str) -> Vec<u64> {
        let shards = self.0["shards"].as_array().unwrap();
        let value = |shard: &Value| shard["stats"][name].as_u64().or_else(|| shard[name].as_u64());
        shards.iter().map(|shard| value(shard).unwrap_or_else(|| panic!("no {name} in {shard}"))).collect()
    }
}

/// What a gateway holds when nothing happens.
#[derive(Debug)]
pub(crate) struct Baseline {
    fds: usize,
    timers: u64,
}

impl Baseline {
    /// Of a gateway without connections on either side.
    pub(crate) fn of(gateway: &Gateway) -> Self {
        let dump = Dump::wait(gateway, "no connections", |dump| {
            dump.sum("sessions_open") == 0
                && dump.sum("upstream_open") == 0
                && dump.sum("buffers_in_use") == 0
        });
        Self { fds: fds(gateway.pid()), timers: dump.sum("timers") }
    }

    /// Waits until the gateway holds no more than at first.
    #[track_caller]
    pub(crate) fn assert_back(&self, gateway: &Gateway) {
        Dump::wait(gateway, "everything given back", |dump| {
            let gauges =
                ["sessions_open", "upstream_open", "upstream_idle", "tunnels_open", "buffers_in_use"];
            gauges.iter().all(|name| dump.sum(name) == 0) && dump.sum("timers") == self.timers
        });
        // On io_uring a socket is closed by an operation of its own, a moment after its session.
        let started = Instant::now();
        while fds(gateway.pid()) != self.fds {
            assert!(started.elapsed() < DEADLINE, "descriptors: {} of {}", fds(gateway.pid()), self.fds);
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Descriptors that a process holds.
pub(crate) fn fds(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Memory of a process that is resident, in KiB.
pub(crate) fn rss_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Processor time that a process has used.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    // USER_HZ is 100 on every Linux that this runs on.
    Duration::from_millis(ticks * 10)
}

/// Runs `attempt` until it took `timeout` to `timeout` + [`LATE_MAX`]; three times at most. It may never take less:
/// that is no matter of how busy the host is.
#[track_caller]
pub(crate) fn assert_takes(timeout: Duration, mut attempt: impl FnMut() -> Duration) {
    let mut took = Vec::new();
    for _ in 0..3 {
        let time = attempt();
        assert!(time >= timeout, "{time:?} is earlier than {timeout:?}");
        if time <= timeout + LATE_MAX {
            return;
        }
        took.push(time);
    }
    panic!("{took:?} instead of {timeout:?}");
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts the gateway with two shards: what happens between shards needs more than one.
pub(crate) fn two_shards(driver: Driver, config: &str) -> Gateway {
    Gateway::start_with(config, &["--driver", driver.name(), "--cores", "2", "--no-pin"])
}

/// A place for a status file that goes away with the test's process; unique per call.
pub(crate) fn status_path() -> PathBuf {
    use std::sync::atomic::AtomicU32;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("ringgate-status-{}-{number}.json", std::process::id()))
}

/// A client connected to `address` on which requests may fail without a panic.
pub(crate) fn try_get(client: &mut Client, path: &str) -> Result<u16, String> {
    client
        .try_send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n").as_bytes())
        .map_err(|kind| format!("send: {kind}"))?;
    client.try_response("GET").map(|response| response.status).map_err(|broken| format!("{broken:?}"))
}

/// A backend for many requests: a thread per connection, nothing recorded, errors of the peer ignored.
pub(crate) struct Plain {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    /// To be shut when it ends. A connection closes with its thread: nothing here keeps it.
    open: Arc<Mutex<Vec<Weak<TcpStream>>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Plain {
    /// Answers each request with what `answer` writes; a connection ends when that returns an error.
    pub(crate) fn start(
        answer: impl Fn(&PlainRequest, &mut &TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let open = Arc::<Mutex<Vec<Weak<TcpStream>>>>::default();
        let answer = Arc::new(answer);
        let acceptor = thread::spawn({
            let (stopping, open) = (Arc::clone(&stopping), Arc::clone(&open));
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if stopping.load(Ordering::SeqCst) {
                        return;
                    }
                    let (stream, answer) = (Arc::new(stream), Arc::clone(&answer));
                    let mut open = open.lock().unwrap();
                    open.retain(|stream| stream.strong_count() > 0);
                    open.push(Arc::downgrade(&stream));
                    thread::spawn(move || {
                        let _ = serve(&stream, &*answer);
                    });
                }
            }
        });
        Self { address, stopping, open, acceptor: Some(acceptor) }
    }

    /// Answers everything with a small 200.
    pub(crate) fn small() -> Self {
        Self::start(|_, stream| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        for stream in self.open.lock().unwrap().iter().filter_map(Weak::upgrade) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A request as a [`Plain`] backend reads it.
pub(crate) struct PlainRequest {
    /// The target.
    pub(crate) target: String,
    /// Bytes of its body, which was read and dropped.
    pub(crate) body_bytes: usize,
}

fn serve(
    stream: &TcpStream,
    answer: &(impl Fn(&PlainRequest, &mut &TcpStream) -> io::Result<()> + ?Sized),
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Nothing in a test takes that long; a hung thread would outlive it.
    stream.set_read_timeout(Some(4 * DEADLINE))?;
    stream.set_write_timeout(Some(4 * DEADLINE))?;
    let mut out = stream;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        let mut chunked = false;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            chunked |= lower.starts_with("transfer-encoding:");
            if line == "\r\n" || line.is_empty() {
                break;
            }
        }
        let body_bytes = if chunked { skip_chunks(&mut reader)? } else { skip(&mut reader, length)? };
        answer(&PlainRequest { target, body_bytes }, &mut out)?;
    }
}

fn skip(reader: &mut impl BufRead, length: usize) -> io::Result<usize> {
    io::copy(&mut reader.take(length as u64), &mut io::sink()).map(|count| count as usize)
}

fn skip_chunks(reader: &mut impl BufRead) -> io::Result<usize> {
    let mut total = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
        total += skip(reader, size)?;
        line.clear();
        reader.read_line(&mut line)?;
        while size == 0 && !line.trim().is_empty() {
            line.clear();
            reader.read_line(&mut line)?;
        }
        if size == 0 {
            return Ok(total);
        }
    }
}
