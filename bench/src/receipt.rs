//! Where, when and with what a result was measured.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// What somebody needs to know to measure the same again.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Receipt {
    /// Version of the harness.
    pub(crate) version: String,
    /// Commit that it was built from; empty where it was built outside of a checkout.
    pub(crate) commit: String,
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// CPU model.
    pub(crate) cpu: String,
    /// Cores that the harness may use.
    pub(crate) cores_available: Vec<usize>,
    /// Cores that its threads are pinned to; empty without pinning.
    pub(crate) cores_pinned: Vec<usize>,
    /// I/O driver and flags.
    pub(crate) driver: String,
    /// The command line.
    pub(crate) command: Vec<String>,
    /// When it was written, UTC.
    pub(crate) date: String,
}

impl Receipt {
    /// Looks at this host and process.
    pub(crate) fn new(driver: &str, cores_pinned: &[usize]) -> Self {
        let uname = rustix::system::uname();
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("RINGGATE_BENCH_COMMIT").to_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
            cpu: cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            cores_available: crate::cores::available(),
            cores_pinned: cores_pinned.to_vec(),
            driver: driver.to_owned(),
            command: std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect(),
            date: date(seconds),
        }
    }
}

/// The first processor's name; its architecture where there is none (aarch64).
fn cpu_model(cpuinfo: &str) -> String {
    let model = cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim().to_owned())
    });
    model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// RFC 3339, from seconds since 1970.
fn date(seconds: u64) -> String {
    // Days from the first of March of year 0, so that the leap day comes last: years of an era of 400 follow by
    // division.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + month / 10, if month < 10 { month + 3 } else { month - 9 });
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }

    #[test]
    fn reads_the_model() {
        assert_eq!(cpu_model("processor : 0\nmodel name\t: Fast One\nmodel name\t: b\n"), "Fast One");
        assert_eq!(cpu_model(""), std::env::consts::ARCH);
        assert!(!Receipt::new("epoll", &[]).kernel.is_empty());
    }
}
