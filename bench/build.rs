//! Leaves the commit that is built in `RINGGATE_BENCH_COMMIT`, empty outside of a checkout or without git, and the
//! compiler's version in `RINGGATE_BENCH_RUSTC`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=RINGGATE_BENCH_COMMIT={}", commit().unwrap_or_default());
    println!("cargo::rustc-env=RINGGATE_BENCH_RUSTC={}", compiler().unwrap_or_default());
}

fn compiler() -> Option<String> {
    let output = Command::new(std::env::var_os("RUSTC")?).arg("--version").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

fn commit() -> Option<String> {
    let commit = git(&["rev-parse", "HEAD"])?;
    // HEAD changes with the branch, its log with every commit.
    for name in ["HEAD", "logs/HEAD"] {
        println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", name])?);
    }
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    Some(if changed { format!("{commit} and changes") } else { commit })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
