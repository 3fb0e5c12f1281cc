//! Inputs made by programs: mutated samples that must never panic, and a configuration of the size of a large
//! site.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use super::{codes, repository_files};
use crate::config::{DIAGNOSTICS_MAX, fuzz_text, load_text};

/// xorshift64*: the tests need repeatable variety, not quality.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound.max(1)
    }
}

/// Pieces that turn a valid file into an interesting one.
const PIECES: [&[u8]; 24] = [
    b"=",
    b"\"",
    b"[[",
    b"]]",
    b"{",
    b"}",
    b"\n",
    b"\"\"\"",
    b"\0",
    b"[gateway]\n",
    b"[[gateway.server]]\n",
    b"private_key = ",
    b"-1",
    b"99999999999999999999",
    b"1e999",
    b"*.",
    b"\xff",
    b"\xe2\x82\xac",
    b"(((",
    b"%2f",
    b"\\u0000",
    b"1979-05-27",
    b"nan",
    b"0x",
];

/// Mutated samples neither panic nor break the rule that a configuration exists exactly when there is no
/// error. `RINGGATE_SEED` repeats a run; the seed is printed when the test fails.
#[test]
fn survives_mutated_samples() {
    let seed = std::env::var("RINGGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed_u64);
    println!("RINGGATE_SEED={seed}");
    let mut random = Random(seed | 1);
    let mut samples = repository_files("configs");
    samples.extend(repository_files("configs/bad"));
    for _ in 0..4000 {
        let mut data = samples[random.below(samples.len())].1.clone().into_bytes();
        for _ in 0..=random.below(6) {
            let (from, to) = (random.below(data.len() + 1), random.below(data.len() + 1));
            let (from, to) = (from.min(to), from.max(to));
            match random.below(5) {
                0 => drop(data.drain(from..to.min(from + 40))),
                1 => {
                    let piece = data[from..to.min(from + 200)].to_vec();
                    let at = random.below(data.len() + 1);
                    data.splice(at..at, piece);
                }
                2 if from < data.len() => data[from] ^= 1 << random.below(8),
                3 => data.truncate(to),
                _ => drop(data.splice(from..from, PIECES[random.below(PIECES.len())].iter().copied())),
            }
        }
        fuzz_text(&data);
    }
}

/// Rubbish of megabytes costs neither a flood of messages nor quadratic time.
#[test]
fn bounds_the_work_on_rubbish() {
    let started = Instant::now();
    let names: String = (0..20_000).fold(String::new(), |mut text, index| {
        let _ = writeln!(text, "nmae_{index} = 1");
        text
    });
    let one_line = format!("gateway = [{}]", "{ nam = \"x\", server = [] },".repeat(20_000));
    let unclosed = "[[[\"\n".repeat(50_000);
    let missing = "[[service]]\n".repeat(50_000);
    let secrets = "token = \"\"\"\n".repeat(50_001);
    for text in [names, one_line, unclosed, missing, secrets] {
        let loaded = load_text(&[(PathBuf::from("x.toml"), text)]);
        assert!(loaded.config.is_none());
        assert!(loaded.diagnostics.len() <= 2 * DIAGNOSTICS_MAX + 1);
    }
    // Some ten times what it takes; quadratic time would be minutes.
    assert!(started.elapsed().as_secs() < 60, "took {:?}", started.elapsed());
}

/// 10 000 hosts with three rules each in 100 files load completely, in time that grows with the size only.
#[test]
fn loads_a_large_site() {
    let gateway = "[[gateway]]\nname = \"edge\"\n[[gateway.server]]\nport = 80\nprotocol = \"HTTP\"\n\
        hosts = [\"*.example.com\"]\n";
    let mut files = vec![(PathBuf::from("000.toml"), gateway.to_owned())];
    for file in 0..100 {
        let mut text = String::new();
        for host in 0..100 {
            let id = file * 100 + host;
            let _ = write!(
                text,
                "[[virtual_service]]\nname = \"vs-{id}\"\nhosts = [\"host-{id}.example.com\"]\n\
                 gateways = [\"edge\"]\n\
                 [[virtual_service.http]]\nmatch = [{{ uri = {{ prefix = \"/api/\" }} }}]\n\
                 route = [{{ destination = {{ host = \"service-{id}\", subset = \"v1\" }} }}]\n\
                 [[virtual_service.http]]\nmatch = [{{ uri = {{ exact = \"/health\" }}, \
                 headers = {{ x-probe = {{ exact = \"{id}\" }} }} }}]\n\
                 route = [{{ destination = {{ host = \"service-{id}\" }} }}]\n\
                 [[virtual_service.http]]\n\
                 route = [{{ destination = {{ host = \"service-{id}\", subset = \"v1\" }}, weight = 90 }}, \
                 {{ destination = {{ host = \"service-{id}\", subset = \"v2\" }}, weight = 10 }}]\n\
                 [[service]]\nname = \"service-{id}\"\n\
                 endpoints = [{{ address = \"10.0.{file}.{host}:80\", labels = {{ v = \"1\" }} }}, \
                 {{ address = \"10.1.{file}.{host}:80\", labels = {{ v = \"2\" }} }}]\n\
                 subsets = [{{ name = \"v1\", labels = {{ v = \"1\" }} }}, \
                 {{ name = \"v2\", labels = {{ v = \"2\" }} }}]\n"
            );
        }
        files.push((PathBuf::from(format!("{:03}.toml", file + 1)), text));
    }
    let started = Instant::now();
    let loaded = load_text(&files);
    assert_eq!(codes(&loaded), Vec::<String>::new());
    let config = loaded.config.unwrap();
    assert_eq!((config.virtual_services.len(), config.clusters.len()), (10_000, 30_000));
    assert_eq!(config.virtual_services.iter().map(|service| service.http.len()).sum::<usize>(), 30_000);
    assert!(started.elapsed().as_secs() < 30, "took {:?}", started.elapsed());
    println!("{} bytes in {:?}", files.iter().map(|file| file.1.len()).sum::<usize>(), started.elapsed());
}
