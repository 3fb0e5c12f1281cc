//! Arguments of `ringgate tune`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::check::Format;
use crate::cli::run::{cores, driver};
use crate::config::model::{Cores, Driver};
use crate::config::{parse_cores, parse_ring_entries};

const MORE: &str = "\
Each layout serves the load of ringgate-bench in front of its backend, once in each round; the order rotates. A fresh \
gateway, backend and generator on free ports of 127.0.0.1 make each measurement. What does best then meets the default \
(what `ringgate run` does without a setting) again in rounds of their own, at least six, so that luck in the first \
ones does not count. It is better only if it gains at least 3 % and the 95 % interval of the paired gains (sign test) \
lies above 1; else the difference is called what it is: noise.

Without --cores, --drivers and --ring-entries, up to 8 layouts that suit the host are tried. With any of them, every \
combination of what is named is; what is not named keeps its default.

Generator and backend run on cores that no layout uses, where there are any; a gain is one of requests per second. \
Where they have to share cores with the shards, that is said, and a gain is one of requests in the same CPU time of \
the gateway. Layouts with another place for the load than the default has, or, on shared cores, with another number of \
shards, are shown but not compared with it.

--format json prints one object: decided_by, layouts (each with its rounds), confirmation, verdict, toml, options, \
notes, receipt.

Examples:
  ringgate tune
  ringgate tune --cores 1 2 auto --load-cores 4-7
  ringgate tune --drivers auto,epoll --ring-entries 1024,4096 --rounds 10
  ringgate tune --scenario close --seconds 1 --format json

Exit codes:
  0    measured, whether something is better than the default or not
  1    the default could not be measured, cores or descriptors can not be had,
       or ringgate-bench is missing
  2    the command line is wrong
  130  ended by SIGINT or SIGTERM; nothing is left running";

/// What a client does.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Scenario {
    /// A new connection for each request
    Close,
    /// Connections that stay
    KeepAlive,
}

/// Arguments of `ringgate tune`.
#[derive(Args, Clone, Debug)]
#[command(after_help = MORE)]
pub struct TuneArgs {
    /// Cores to try, in the forms of `ringgate run --cores`
    #[arg(long, value_name = "CORES", num_args = 1.., value_parser = cores)]
    pub cores: Vec<Cores>,
    /// Try all cores also with shards that are not pinned
    #[arg(long)]
    pub no_pin: bool,
    /// Drivers to try: auto, io_uring, epoll
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = driver)]
    pub drivers: Vec<Driver>,
    /// Ring sizes to try: powers of two from 256 to 32768
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_ring_entries)]
    pub ring_entries: Vec<u32>,
    /// Rounds over all layouts
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Measured time of each layout in each round; fractions such as 0.5 too
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub seconds: Duration,
    /// Connections of the generator
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// Cores of generator and backend, such as 2-3 [default: those that no layout uses]
    #[arg(long, value_name = "LIST", value_parser = core_list)]
    pub load_cores: Option<CoreList>,
    /// What clients do
    #[arg(long, value_enum, default_value_t = Scenario::KeepAlive)]
    pub scenario: Scenario,
    /// How to print the result
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The program ringgate-bench [default: the one beside ringgate]
    #[arg(long, value_name = "PATH")]
    pub bench: Option<PathBuf>,
}

impl TuneArgs {
    /// Whether the command line says what to try.
    pub(super) fn names_layouts(&self) -> bool {
        self.no_pin || !(self.cores.is_empty() && self.drivers.is_empty() && self.ring_entries.is_empty())
    }
}

/// Cores by number; a type of its own, since clap takes a `Vec` for repeated values.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CoreList(pub Vec<u32>);

/// A lone number is that core here.
fn core_list(text: &str) -> Result<CoreList, String> {
    let lone = text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = if lone { parse_cores(&format!("{text}-{text}")) } else { parse_cores(text) };
    match parsed? {
        Cores::List(list) => Ok(CoreList(list)),
        _ => Err("expected core numbers such as `2` or `0-3,6`".into()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds from 0.1 to 600".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: TuneArgs,
    }

    fn parse(text: &str) -> Result<TuneArgs, String> {
        let words = std::iter::once("tune").chain(text.split_whitespace());
        Line::try_parse_from(words).map(|line| line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_the_command_line() {
        let args =
            parse("--cores 1 0-1 auto --drivers auto,epoll --ring-entries 256,4096 --seconds 0.5").unwrap();
        assert_eq!(args.cores, [Cores::Count(1), Cores::List(vec![0, 1]), Cores::Auto]);
        assert_eq!((args.drivers, args.ring_entries), (vec![Driver::Auto, Driver::Epoll], vec![256, 4096]));
        assert_eq!(args.seconds, Duration::from_millis(500));
        let args = parse("--load-cores 1").unwrap();
        assert_eq!(args.load_cores, Some(CoreList(vec![1])));
        assert!(!args.names_layouts() && parse("--no-pin").unwrap().names_layouts());
        for (line, part) in [
            ("--load-cores all", "core numbers"),
            ("--load-cores 3-1", "backwards"),
            ("--ring-entries 1000", "power of two"),
            ("--drivers uring", "auto, io_uring or epoll"),
            ("--seconds 0", "0.1 to 600"),
            ("--rounds 0", "1..=100"),
            ("--cores x", "not a number"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
