//! Instructions per operation, counted by valgrind: the same on a busy host as on an idle one.
//!
//! Each case runs in two processes of its own, one of which does more operations; what the additional ones took is
//! left when set-up cancels out. The counts depend on the compiler and the architecture, which are recorded with
//! them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::cases::{CASES, Case};

/// A count that grew by more than this share is a regression.
pub(super) const GROWTH_MAX: f64 = 0.05;

/// Counts and what they hold for.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
pub(super) struct Record {
    /// Compiler.
    pub(super) rustc: String,
    /// Architecture, and the vector instructions that valgrind lets programs see.
    pub(super) target: String,
    /// Instructions per operation, by case.
    pub(super) instructions: BTreeMap<String, u64>,
}

impl Record {
    /// One without counts for this build and host.
    pub(super) fn here() -> Self {
        Self { rustc: env!("RINGGATE_BENCH_RUSTC").to_owned(), target: target(), ..Self::default() }
    }

    /// Reads a recorded file.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Writes it for the next comparison.
    pub(super) fn write(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|error| error.to_string())?;
        fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Whether counts of the two can be compared.
    pub(super) fn is_comparable(&self, other: &Self) -> bool {
        self.rustc == other.rustc && self.target == other.target
    }
}

/// What became of a case since the record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    /// Not in the record.
    New,
    /// By this share more (or less, where negative), within bounds.
    Within(f64),
    /// More than [`GROWTH_MAX`].
    Regression(f64),
}

/// Compares a count with the recorded one.
pub(super) fn change(now: u64, recorded: Option<u64>) -> Change {
    match recorded {
        None | Some(0) => Change::New,
        Some(recorded) => {
            let growth = now as f64 / recorded as f64 - 1.0;
            if growth > GROWTH_MAX { Change::Regression(growth) } else { Change::Within(growth) }
        }
    }
}

fn target() -> String {
    #[cfg(target_arch = "x86_64")]
    let vectors = if std::arch::is_x86_feature_detected!("avx2") { " avx2" } else { " sse2" };
    #[cfg(not(target_arch = "x86_64"))]
    let vectors = "";
    format!("{}{vectors}", std::env::consts::ARCH)
}

/// Instructions of one operation of `case`.
pub(super) fn count(case: &Case) -> Result<u64, String> {
    let few = run(case, case.counted)?;
    let many = run(case, case.counted * 3)?;
    Ok(many.saturating_sub(few) / u64::from(case.counted * 2))
}

fn run(case: &Case, operations: u32) -> Result<u64, String> {
    let binary = std::env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(binary)
        .args(["micro", "--run", case.name, "--operations", &operations.to_string()])
        .output()
        .map_err(|error| format!("valgrind can not be started: {error}; install the package valgrind"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("valgrind failed at {}: {told}", case.name));
    }
    instructions(&told).ok_or_else(|| format!("valgrind told no instruction count: {told}"))
}

/// The number behind `I refs:`.
fn instructions(told: &str) -> Option<u64> {
    let line = told.lines().find(|line| line.contains("I ") && line.contains("refs:"))?;
    let digits: String = line.split("refs:").nth(1)?.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// The case of that name.
pub(super) fn case(name: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_valgrind_tells() {
        assert_eq!(instructions("==12== \n==12== I   refs:      1,234,567\n"), Some(1_234_567));
        assert_eq!(instructions("==12== I refs:        98\n"), Some(98));
        assert_eq!(instructions("==12== Command: x\n"), None);
    }

    #[test]
    fn tells_regressions() {
        assert!(matches!(change(104, Some(100)), Change::Within(growth) if growth > 0.03));
        assert!(matches!(change(106, Some(100)), Change::Regression(growth) if growth > 0.05));
        assert!(matches!(change(50, Some(100)), Change::Within(growth) if growth < -0.4));
        assert_eq!(change(50, None), Change::New);
    }

    /// Every case runs: an operation that fails its own assertion ends the test.
    #[test]
    fn all_cases_run() {
        for case in CASES {
            let mut operation = (case.prepare)();
            for _ in 0..2 {
                operation();
            }
        }
    }
}
