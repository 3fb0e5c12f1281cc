//! `--cores`: how many shards there are, and what is said about a wish that cannot be met.

use std::fs;
use std::process::{Command, Output};

use crate::support::gateway::binary;
use crate::support::tempdir::TempDir;
use crate::support::{Backend, Gateway, config};

/// The cores that this process, and so its children, may run on.
pub(crate) fn allowed() -> Vec<u32> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first.parse::<u32>().unwrap()..=last.parse().unwrap()
    };
    list.split(',').flat_map(range).collect()
}

/// Starts with these cores, serves requests over several connections, and returns the number of shards.
fn shards(cores: &str) -> usize {
    let backend = Backend::fixed("ok");
    let gateway = Gateway::start_with(
        &config::single(backend.address(), "", ""),
        &["--cores", cores, "--driver", "epoll"],
    );
    for _ in 0..20 {
        assert_eq!(gateway.connect().get("a.test", "/").text(), "ok");
    }
    let ready = gateway.stdout().pop().unwrap();
    let shards = ready.split(' ').find_map(|word| word.strip_prefix("shards=")).map(str::to_owned);
    gateway.stop();
    shards.unwrap_or_else(|| panic!("{ready:?}")).parse().unwrap()
}

/// Runs with these cores, which must fail.
fn refused(cores: &str) -> Output {
    let directory = TempDir::new();
    let path = directory.write("c.toml", config::single("127.0.0.1:9".parse().unwrap(), "", ""));
    let output = Command::new(binary()).arg("run").arg(path).args(["--cores", cores]).output().unwrap();
    assert!(!output.status.success(), "--cores {cores} was taken");
    assert!(output.stdout.is_empty(), "--cores {cores}: {output:?}");
    output
}

#[test]
fn each_form() {
    let allowed = allowed();
    assert_eq!(shards("all"), allowed.len());
    assert_eq!(shards("1"), 1);
    assert_eq!(shards(&allowed.len().to_string()), allowed.len());
    assert!((1..=allowed.len()).contains(&shards("auto")));
    let first = allowed[0];
    assert_eq!(shards(&format!("{first}-{first}")), 1);
    let list = allowed.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    assert_eq!(shards(&list), allowed.len());
}

/// What cannot be met names what there is; what cannot be read names what is wrong with it.
#[test]
fn errors() {
    let allowed = allowed();
    let beyond = allowed.last().unwrap() + 1;
    for cores in [(allowed.len() + 1).to_string(), format!("{beyond}-{beyond}")] {
        let output = refused(&cores);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        let (_, list) = text.split_once("this process may use").unwrap_or_else(|| panic!("{cores}: {text}"));
        for end in [allowed[0], beyond - 1] {
            assert!(list.contains(&end.to_string()), "--cores {cores} does not say what there is: {text}");
        }
    }
    for (cores, part) in [
        ("some", "some"),
        ("1-", "has no end"),
        ("3-1", "backwards"),
        ("0-1,1", "twice"),
        ("", ""),
        ("numa:", "NUMA node"),
    ] {
        let output = refused(cores);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("--cores") && text.contains(part), "--cores {cores:?}: {text}");
    }
}

/// Not pinned: any number of shards works anywhere, within what the host has.
#[test]
fn no_pin() {
    let backend = Backend::fixed("ok");
    let gateway = Gateway::start_with(
        &config::single(backend.address(), "", ""),
        &["--cores", "1", "--no-pin", "--driver", "epoll"],
    );
    assert_eq!(gateway.connect().get("a.test", "/").text(), "ok");
    gateway.stop();
}

/// Not pinned, a number of shards may be larger than the host's cores.
#[test]
fn more_shards_than_cores() {
    let backend = Backend::fixed("ok");
    let shards = allowed().len() + 2;
    let gateway = Gateway::start_with(
        &config::single(backend.address(), "", ""),
        &["--cores", &shards.to_string(), "--no-pin", "--driver", "epoll"],
    );
    assert!(gateway.stdout().iter().any(|line| line.contains(&format!(" shards={shards} "))));
    for _ in 0..20 {
        assert_eq!(gateway.connect().get("a.test", "/").text(), "ok");
    }
    gateway.stop();
}
