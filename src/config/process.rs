//! `[process]`: from its table to [`Process`].

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::diagnostic::{Problem, visible};
use crate::config::gateway::TIMER_RANGE;
use crate::config::model::{AcceptBalance, AcceptSteering, Cores, Driver, Process, RING_ENTRIES};
use crate::config::tree::{Reader, Table};
use toml::de::DeValue;

/// Shards of one process: as many CPUs as Linux counts on common builds.
const CORES_MAX: u32 = 1024;

/// Looks at certificates that come more often are work for nothing, or too rare to be expected.
const CERTIFICATE_CHECK_MIN: Duration = Duration::from_millis(100);
const CERTIFICATE_CHECK_MAX: Duration = Duration::from_secs(3600);

const CORES_FORM: &str = "`\"auto\"`, `\"all\"`, a number of cores (`4`), a list of cores (`\"0-3,6\"`), or NUMA nodes (`\"numa:0\"`)";

/// Lowers the table.
pub(super) fn lower(reader: &mut Reader<'_>, table: &Table<'_>) -> Process {
    let mut process = Process::default();
    if let Some(cores) = cores(reader, table) {
        process.cores = cores;
    }
    let drivers = [("auto", Driver::Auto), ("io_uring", Driver::IoUring), ("epoll", Driver::Epoll)];
    if let Some(driver) = reader.word(table, "driver", &drivers, &[]) {
        process.driver = driver;
    }
    if let Some(entries) = ring_entries(reader, table) {
        process.ring_entries = entries;
    }
    let balances = [("auto", AcceptBalance::Auto), ("off", AcceptBalance::Off)];
    if let Some(balance) = reader.word(table, "accept_balance", &balances, &[]) {
        process.accept_balance = balance;
    }
    let steerings = [("hash", AcceptSteering::Hash), ("cpu", AcceptSteering::Cpu)];
    if let Some(steering) = reader.word(table, "accept_steering", &steerings, &[]) {
        process.accept_steering = steering;
    }
    if let Some(connections) = reader.number(table, "connections_max", 1..=10_000_000) {
        process.connections_max = connections;
    }
    if let Some(bytes) = reader.bytes(table, "buffer_bytes_max", 16 << 20..=1 << 40) {
        process.buffer_bytes_max = bytes;
    }
    if let Some(timeout) = reader.duration(table, "drain_timeout", TIMER_RANGE) {
        process.drain_timeout = timeout;
    }
    process.status_file = status_file(reader, table);
    if let Some(interval) = certificate_check(reader, table) {
        process.certificate_check = (!interval.is_zero()).then_some(interval);
    }
    process
}

/// Zero for off.
fn certificate_check(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Duration> {
    let value = reader.any(table, "certificate_check")?;
    if value.value.as_str() == Some("off") {
        return Some(Duration::ZERO);
    }
    let interval = reader.duration(table, "certificate_check", Duration::ZERO..=CERTIFICATE_CHECK_MAX)?;
    if interval.is_zero() || interval >= CERTIFICATE_CHECK_MIN {
        return Some(interval);
    }
    let problem = Problem::error("out-of-range", value.place, "`certificate_check` is too short");
    reader.push(problem.expected("`\"off\"`, or from 100ms up"));
    None
}

fn ring_entries(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<u32> {
    let range = u64::from(*RING_ENTRIES.start())..=u64::from(*RING_ENTRIES.end());
    let number = reader.integer(table, "ring_entries", range)?;
    if number.value.is_power_of_two() {
        return u32::try_from(number.value).ok();
    }
    let message = format!("`ring_entries = {}` is no power of two", number.value);
    reader.push(Problem::error("bad-value", number.place, message).expected(nearest_rings(number.value)));
    None
}

/// The two that the number lies between.
fn nearest_rings(number: u64) -> String {
    let above = number.next_power_of_two();
    format!("a power of two such as {} or {above}", above / 2)
}

/// Reads `ring_entries` for the command line's `--ring-entries`.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_ring_entries(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| RING_ENTRIES.contains(number) && number.is_power_of_two());
    number.ok_or_else(|| {
        format!("expected a power of two from {} to {}", RING_ENTRIES.start(), RING_ENTRIES.end())
    })
}

/// Absolute, so that it means the same to the process and to `ringgate reload`, wherever each was started.
fn status_file(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<PathBuf> {
    let text = reader.string(table, "status_file")?;
    let path = PathBuf::from(text.value);
    if path.is_absolute() && path.file_name().is_some() && !text.value.contains('\0') {
        return Some(path);
    }
    let message = format!("`status_file = \"{}\"` is not an absolute path of a file", visible(text.value));
    let problem = Problem::error("bad-value", text.place, message);
    reader.push(problem.expected("a path such as `/run/ringgate/status.json`"));
    None
}

fn cores(reader: &mut Reader<'_>, table: &Table<'_>) -> Option<Cores> {
    let value = reader.any(table, "cores")?;
    let text = match value.value {
        DeValue::String(text) => text,
        DeValue::Integer(_) => return reader.number(table, "cores", 1..=CORES_MAX).map(Cores::Count),
        _ => {
            let problem =
                Problem::error("wrong-type", value.place, "`cores` is neither a string nor an integer");
            reader.push(problem.expected(CORES_FORM));
            return None;
        }
    };
    match parse_cores(text) {
        Ok(cores) => Some(cores),
        Err(reason) => {
            let message = format!("`cores = \"{}\"`: {reason}", visible(text));
            reader.push(Problem::error("bad-value", value.place, message).expected(CORES_FORM));
            None
        }
    }
}

/// Reads `cores`, also for the command line's `--cores`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn parse_cores(text: &str) -> Result<Cores, String> {
    match text {
        "auto" => return Ok(Cores::Auto),
        "all" => return Ok(Cores::All),
        _ => {}
    }
    if let Some(nodes) = text.strip_prefix("numa:") {
        return parse_list(nodes, "NUMA node").map(Cores::Numa);
    }
    if text.contains(['-', ',']) {
        return parse_list(text, "core").map(Cores::List);
    }
    match parse_number(text, "a number of cores")? {
        // No shards is no wish anybody has; the core of that number is.
        0 => Ok(Cores::List(vec![0])),
        count @ 1..=CORES_MAX => Ok(Cores::Count(count)),
        _ => Err(format!("a process has 1 to {CORES_MAX} shards")),
    }
}

fn parse_number(text: &str, what: &str) -> Result<u32, String> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u32>().ok().filter(|_| plain);
    number.ok_or_else(|| format!("`{}` is not {what}", visible(text)))
}

/// `0-3,6`: numbers of `what`, each once, in the order written.
fn parse_list(text: &str, what: &str) -> Result<Vec<u32>, String> {
    let mut list = Vec::new();
    let mut seen = HashSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first, last) {
            ("", "") if part.is_empty() => return Err(format!("the number of a {what} is missing")),
            ("", _) => return Err(format!("`{}` has no beginning", visible(part))),
            (_, "") => return Err(format!("`{}` has no end", visible(part))),
            _ => {}
        }
        let number = |text| parse_number(text, &format!("a {what}"));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("the range {first}-{last} runs backwards"));
        }
        if last >= CORES_MAX {
            return Err(format!("{what}s are counted from 0 to {}", CORES_MAX - 1));
        }
        for number in first..=last {
            if !seen.insert(number) {
                return Err(format!("{what} {number} is named twice"));
            }
            list.push(number);
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The five forms of `cores`.
    #[test]
    fn reads_cores() {
        assert_eq!(parse_cores("auto"), Ok(Cores::Auto));
        assert_eq!(parse_cores("all"), Ok(Cores::All));
        assert_eq!(parse_cores("0"), Ok(Cores::List(vec![0])));
        assert_eq!(parse_cores("4"), Ok(Cores::Count(4)));
        assert_eq!(parse_cores("0-3,6"), Ok(Cores::List(vec![0, 1, 2, 3, 6])));
        assert_eq!(parse_cores("6-6"), Ok(Cores::List(vec![6])));
        assert_eq!(parse_cores("numa:0"), Ok(Cores::Numa(vec![0])));
        assert_eq!(parse_cores("numa:1,0"), Ok(Cores::Numa(vec![1, 0])));
        assert_eq!(parse_cores("numa:0-2"), Ok(Cores::Numa(vec![0, 1, 2])));
    }

    /// Malformed lists, and lists that would make a shard twice or too many.
    #[test]
    fn refuses_bad_cores() {
        for text in ["", "1025", "x", "-", "1-", "3-1", "1,1", "0-2,2", "0-4294967295", "+4", "1,,2", "9999"]
        {
            assert!(parse_cores(text).is_err(), "{text:?}");
        }
        for (text, part) in [
            ("numa:", "number of a NUMA node is missing"),
            ("numa:x", "`x` is not a NUMA node"),
            ("numa:0,0", "NUMA node 0 is named twice"),
            ("numa:2-1", "backwards"),
            ("numa:1024", "NUMA nodes are counted from 0 to 1023"),
            ("numa:all", "`all` is not a NUMA node"),
            ("numa:0,", "number of a NUMA node is missing"),
            ("numa:1-", "`1-` has no end"),
            ("1-", "`1-` has no end"),
            ("-3", "`-3` has no beginning"),
            ("numa", "`numa` is not a number of cores"),
            ("NUMA:0", "is not a number of cores"),
        ] {
            let error = parse_cores(text).err().unwrap_or_default();
            assert!(error.contains(part), "{text:?}: {error:?}");
        }
    }

    #[test]
    fn reads_ring_entries() {
        assert_eq!(parse_ring_entries("256"), Ok(256));
        assert_eq!(parse_ring_entries("32768"), Ok(32_768));
        for text in ["", "0", "128", "65536", "1000", "-1024", "4k"] {
            assert!(parse_ring_entries(text).is_err_and(|error| error.contains("256 to 32768")), "{text:?}");
        }
        assert_eq!(nearest_rings(1000), "a power of two such as 512 or 1024");
    }
}
