//! Arguments of `ringgate-bench load`, and their checks.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ringgate::config::model::Driver;

use super::plan::Plan;
use super::requests::{Distribution, Requests, Shape};
use super::response::Expected;
use super::target::Target;
use super::trust::{self, TlsArgs};
use crate::cores::CoreList;
use crate::units;

const MORE: &str = "\
Closed loop (default): each connection sends its next request as soon as the last one is answered. Latency runs from \
the send (with --close: from the connect) to the end of the response.

Constant rate (--rate): request k is due at a fixed time, whatever became of the ones before it, and goes to the \
connection that has been idle longest. When all are busy it waits, and the wait counts: latency runs from the time \
that the request was due. What was due in the measured time and is not answered --timeout after it counts as a \
timeout.

What took too long is no result, but not left out either: a request that timed out counts in the latency with the time \
that it waited. In the closed loop, requests that are still open at the end, for more than 100 ms and 1 % of the \
measured time (or for --timeout), count as unanswered, and in the latency with their age.

Hosts: with --hosts N, request heads are rendered before the run, one for each of the numbers 0 to N-1 in \
--host-pattern, and each request draws one (zipf: number r as often as 1/(r+1)). A body is copied behind the head then.

TLS (https:// URLs): kept connections do their handshakes before the run. With --close each request has one, which \
counts into its latency: a full one, or with --tls-resume one that resumes a session. For that each thread first \
collects a ticket per connection, with connections that do nothing else. How many handshakes were full and how many \
resumed is in the report. Errors of the handshake and of TLS later on count as `tls`.

A run in which the generator itself may have been the bottleneck is INVALID and exits with 1:
  closed loop    its threads were busy more than 97 % of the time
  constant rate  they would be, at the CPU time per request that was measured,
                 could they start as many as asked for; requests started later
                 than --max-lag at the 99th percentile although a connection
                 was idle; or requests were due and connections idle at the end
  both           connections could not be opened before the run, or nothing was
                 answered as expected
  --tls-resume   fewer than half of the handshakes resumed a session

So is one that says little about the target's latency:
  closed loop    a request was unanswered for more than 10 % of the measured
                 time, and longer than any that was answered
  both           more of the requests failed than --max-errors allows

--json prints one object: valid, invalid_reasons, notes, requests, seconds, requests_per_second, errors, error_share, \
unanswered, content_bytes, latency_us, quantiles, generator, tls, url, connections, threads, rate, receipt.

Examples:
  ringgate-bench load http://127.0.0.1:8080/
  ringgate-bench load http://127.0.0.1:8080/ --connections 128 --threads 2
  ringgate-bench load http://127.0.0.1:8080/ --rate 5000 --hgrm latency.hgrm
  ringgate-bench load http://127.0.0.1:8080/ --cores 2-3 --duration 30s --json
  ringgate-bench load http://127.0.0.1:8080/in --method POST --body-bytes 16384
  ringgate-bench load http://127.0.0.1:8080/ --hosts 1000 --host-pattern 'h{}.a'
  ringgate-bench load https://127.0.0.1:8443/ --ca root.pem --sni example.com
  ringgate-bench load https://127.0.0.1:8443/ --insecure --close --tls-resume

Exit codes:
  0  measured
  1  invalid, or not measured
  2  the command line is wrong
  Ctrl-C ends it by the signal: 130 in a shell";

/// Most requests heads that are rendered.
const HOSTS_MAX: u64 = 1_000_000;

/// Most bytes of a request's content.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// I/O drivers by name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum DriverName {
    /// io_uring with the best flags the kernel takes, else epoll
    Auto,
    /// epoll
    Epoll,
    /// io_uring or nothing
    #[value(name = "io_uring")]
    IoUring,
}

impl From<DriverName> for Driver {
    fn from(name: DriverName) -> Self {
        match name {
            DriverName::Auto => Self::Auto,
            DriverName::Epoll => Self::Epoll,
            DriverName::IoUring => Self::IoUring,
        }
    }
}

/// Arguments of `ringgate-bench load`.
#[derive(Args, Clone, Debug)]
#[command(after_help = MORE, args_override_self = true)]
pub(crate) struct LoadArgs {
    /// What to ask for: `http://HOST[:PORT][/PATH]` or `https://..`
    #[arg(value_name = "URL", value_parser = Target::parse)]
    pub(crate) url: Target,
    /// Requests per second over all connections, instead of the closed loop
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// Connections over all threads
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) connections: u32,
    /// Threads, each with a ring
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: u16,
    /// Cores to pin the threads to, in turn: `1` or `0-3,6`
    #[arg(long, value_name = "LIST", value_parser = CoreList::parse)]
    pub(crate) cores: Option<CoreList>,
    /// I/O driver
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) driver: DriverName,
    /// Measured time
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    pub(crate) duration: Duration,
    /// Time before that in which nothing is counted
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::duration)]
    pub(crate) warmup: Duration,
    /// End after so many measured requests, if that is before --duration
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,
    /// A new connection for each request
    #[arg(long)]
    pub(crate) close: bool,
    /// Method
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub(crate) method: String,
    /// Content of each request in bytes [default: none]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=BODY_BYTES_MAX))]
    pub(crate) body_bytes: Option<u64>,
    /// A further header field; may be repeated
    #[arg(long = "header", value_name = "'NAME: VALUE'")]
    pub(crate) headers: Vec<String>,
    /// Host field [default: that of the URL]
    #[arg(long, value_name = "HOST", conflicts_with = "hosts")]
    pub(crate) host: Option<String>,
    /// Number of different Host fields
    #[arg(long, value_name = "N", requires = "host_pattern", value_parser = clap::value_parser!(u64).range(1..=HOSTS_MAX))]
    pub(crate) hosts: Option<u64>,
    /// What they look like: `{}` is the number
    #[arg(long, value_name = "PATTERN", requires = "hosts")]
    pub(crate) host_pattern: Option<String>,
    /// How often each of them is asked for
    #[arg(long, value_enum, default_value = "uniform", requires = "hosts")]
    pub(crate) host_distribution: Distribution,
    /// Status of a response; another one is an error
    #[arg(long, value_name = "STATUS", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub(crate) expect_status: u16,
    /// Content of a response in bytes; another length is an error [default: any]
    #[arg(long, value_name = "N")]
    pub(crate) expect_bytes: Option<u64>,
    /// Longest time for a request; checked every 50 ms
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    pub(crate) timeout: Duration,
    /// How late requests may start at the 99th percentile, with --rate
    #[arg(long, value_name = "TIME", default_value = "10ms", requires = "rate", value_parser = units::duration)]
    pub(crate) max_lag: Duration,
    /// Share of requests that may fail, 0 to 1, before the run is invalid
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, value_parser = units::share)]
    pub(crate) max_errors: f64,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the latency distribution for HdrHistogram's plotters, in microseconds
    #[arg(long, value_name = "FILE")]
    pub(crate) hgrm: Option<PathBuf>,
    /// Options of TLS
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

fn rate(text: &str) -> Result<f64, String> {
    let form =
        || format!("`{text}` is not a number of requests per second from 0.001 to 1000000000, such as 5000");
    text.parse().ok().filter(|rate| (1e-3..=1e9).contains(rate)).ok_or_else(form)
}

/// Whether a text may stand in a head as it is.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Why there is no plan, and the exit code for that.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// In a sentence.
    pub(crate) reason: String,
    /// 2 where the command line is wrong.
    pub(crate) code: u8,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self { reason, code: 2 }
    }
}

impl LoadArgs {
    /// Checks what the parser can not, and looks the host up.
    pub(crate) fn plan(&self) -> Result<Plan, Refusal> {
        self.check()?;
        let shape = Shape {
            method: &self.method,
            path: &self.url.path,
            headers: &self.headers,
            body_bytes: self.body_bytes.map(|bytes| bytes as usize),
            close: self.close,
        };
        let requests = match (&self.host_pattern, self.hosts) {
            (Some(pattern), Some(count)) => {
                let hosts = (0..count).map(|number| pattern.replace("{}", &number.to_string()));
                Requests::new(&shape, hosts, self.host_distribution)
            }
            _ => {
                let host = self.host.as_ref().unwrap_or(&self.url.authority);
                Requests::new(&shape, std::iter::once(host.clone()), self.host_distribution)
            }
        };
        let tls = if self.url.secure {
            let host = self.host.as_ref().unwrap_or(&self.url.authority);
            Some(self.tls.tls(trust::name_of(host))?)
        } else {
            self.tls.check_unused()?;
            None
        };
        let nanoseconds = |duration: Duration| duration.as_nanos() as u64;
        Ok(Plan {
            address: self.url.resolve().map_err(|reason| Refusal { reason, code: 1 })?,
            tls,
            requests,
            expected: Expected {
                status: self.expect_status,
                bytes: self.expect_bytes,
                head_only: self.method == "HEAD",
            },
            connections: self.connections as usize,
            threads: usize::from(self.threads),
            cores: self.cores.clone(),
            driver: self.driver.into(),
            rate: self.rate,
            warmup: nanoseconds(self.warmup),
            duration: nanoseconds(self.duration),
            requests_max: self.requests,
            close: self.close,
            timeout: nanoseconds(self.timeout),
            lag_max: nanoseconds(self.max_lag),
            errors_max: self.max_errors,
        })
    }

    fn check(&self) -> Result<(), String> {
        if self.connections < u32::from(self.threads) {
            return Err(format!(
                "--connections {} is less than --threads {}: each thread needs a connection",
                self.connections, self.threads
            ));
        }
        if self.duration.is_zero() || self.timeout.is_zero() {
            return Err("--duration and --timeout must be longer than 0".to_owned());
        }
        if !is_token(&self.method) || self.method == "CONNECT" {
            return Err(format!("`{}` is not a method that can be measured, such as GET", self.method));
        }
        if self.method == "HEAD" && self.expect_bytes.is_some() {
            return Err("a response to HEAD has no content: leave --expect-bytes out".to_owned());
        }
        for header in &self.headers {
            let name = header.split_once(':').map(|(name, _)| name).filter(|name| is_token(name));
            let name = name.filter(|_| is_plain(header));
            let name =
                name.ok_or_else(|| format!("`{header}` is not a header field such as 'Accept: text/html'"))?;
            let own = ["host", "content-length", "transfer-encoding", "connection"];
            if own.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                return Err(format!("`{name}` is set by --host, --body-bytes and --close, not by --header"));
            }
        }
        if self.host_pattern.as_ref().is_some_and(|pattern| !pattern.contains("{}")) {
            return Err("--host-pattern needs a `{}` for the number, as in 'h{}.example.test'".to_owned());
        }
        match self.host.as_ref().or(self.host_pattern.as_ref()) {
            Some(host) if !is_plain(host) || host.contains([' ', '\t']) || host.is_empty() => {
                Err(format!("`{host}` is not a host"))
            }
            _ => Ok(()),
        }
    }
}
