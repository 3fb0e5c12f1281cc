//! The files of `configs/`, and loading from disk.

use std::fs;
use std::path::PathBuf;

use rcgen::{CertificateParams, KeyPair};

use super::tls::pem;
use super::{codes, load, repository_files};
use crate::config::render::{self, Colour};
use crate::config::{FILE_BYTES_MAX, load as load_path, load_text, load_text_with};
use crate::tls::testing::{Ca, Holder};

/// Every sample is valid and raises no warning.
#[test]
fn samples_are_valid() {
    let files = repository_files("configs");
    assert!(files.len() >= 2);
    let certificates = certificates_of_samples();
    for file in files {
        let loaded = load_text_with(std::slice::from_ref(&file), &certificates);
        assert_eq!(codes(&loaded), Vec::<String>::new(), "{:?}", file.0);
        assert!(loaded.config.is_some());
    }
}

/// The files that samples name, which an operator brings.
fn certificates_of_samples() -> Vec<(PathBuf, Vec<u8>)> {
    let ca = Ca::new("CA");
    let root = pem("CERTIFICATE", &ca.root).into_bytes();
    let mut files = vec![(PathBuf::from("configs/certs/clients-ca.crt"), root)];
    for host in ["webapp.istioinaction.io", "catalog.istioinaction.io"] {
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let Holder { certificate, key } = ca.sign(&params, &rcgen::PKCS_ECDSA_P256_SHA256);
        files.push((format!("configs/certs/{host}.crt").into(), certificate.pem().into_bytes()));
        files.push((format!("configs/certs/{host}.key").into(), key.serialize_pem().into_bytes()));
    }
    files
}

/// Each typical mistake is refused with the recorded messages, one snapshot for each file.
#[test]
fn mistakes_are_explained() {
    let files = repository_files("configs/bad");
    assert!(files.len() >= 15);
    for file in files {
        let loaded = load_text(std::slice::from_ref(&file));
        assert!(loaded.config.is_none(), "{:?} must be refused", file.0);
        let mut text = String::new();
        for diagnostic in &loaded.diagnostics {
            text.push_str(&render::text(diagnostic, Colour::Plain));
            text.push('\n');
        }
        text.push_str(&render::summary_line(None, &loaded.diagnostics));
        assert!(!text.contains("hunter2"), "a secret is printed");
        let name = file.0.file_stem().unwrap().to_string_lossy().into_owned();
        insta::assert_snapshot!(name, text);
    }
}

/// JSON carries every field: places, excerpts, related places, and no secret.
#[test]
fn json_carries_all_fields() {
    let files = repository_files("configs/bad");
    let pick = |name: &str| files.iter().find(|file| file.0.ends_with(name)).unwrap().clone();
    let loaded = load_text(&[pick("duplicate_host.toml"), pick("secret.toml")]);
    let json = render::json(None, &loaded.diagnostics);
    assert!(!json.contains("hunter2"), "a secret is printed");
    insta::assert_snapshot!("json", json);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["errors"], loaded.diagnostics.len());
    assert_eq!(value["summary"], serde_json::Value::Null);
}

/// Colours appear exactly when asked for; operators' control characters never reach the terminal.
#[test]
fn colours_only_when_asked() {
    let loaded = load(&["\"a\\u001b[31m\" = 1\nb = \"\u{9b}\"\n"]);
    assert_eq!(codes(&loaded), ["~0:no-gateway", "1:unknown-key", "2:unknown-key"]);
    for diagnostic in &loaded.diagnostics {
        let plain = render::text(diagnostic, Colour::Plain);
        assert!(!plain.contains(|c: char| c.is_control() && c != '\n'), "{plain:?}");
        assert!(render::text(diagnostic, Colour::Ansi).contains("\u{1b}["));
    }
}

/// Of a directory, the visible *.toml files count, in the order of their names; the rest is left alone.
#[test]
fn loads_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let service = |name: &str| format!("[[service]]\nname = \"{name}\"\nendpoints = []\n");
    write("20-b.toml", &service("b"));
    write("10-a.toml", &service("a"));
    write("notes.txt", "= not TOML");
    write(".30-c.toml", "= a backup");
    fs::create_dir(directory.path().join("40-d.toml")).unwrap();
    let loaded = load_path(directory.path());
    let places: Vec<_> = loaded
        .diagnostics
        .iter()
        .map(|diagnostic| (diagnostic.code, diagnostic.location.file.file_name().unwrap().to_owned()))
        .collect();
    let expected = [
        ("no-gateway", "10-a.toml"),
        ("empty-list", "10-a.toml"),
        ("empty-list", "20-b.toml"),
        ("unused-service", "10-a.toml"),
        ("unused-service", "20-b.toml"),
    ];
    let mut expected: Vec<_> = expected.map(|(code, name)| (code, name.into())).to_vec();
    expected.sort();
    let mut places = places;
    places.sort();
    assert_eq!(places, expected);
}

/// What cannot be read is said, with the file's name and without an excerpt.
#[test]
fn says_what_it_cannot_read() {
    let directory = tempfile::tempdir().unwrap();
    let empty = load_path(directory.path());
    assert_eq!(codes(&empty), ["0:no-files"]);
    assert!(empty.config.is_none());
    let check = |name: &str, part: &str| {
        let loaded = load_path(&directory.path().join(name));
        assert_eq!(codes(&loaded), ["0:unreadable"], "{name}");
        let text = render::text(&loaded.diagnostics[0], Colour::Plain);
        assert!(text.contains(part) && text.contains(name), "{text}");
    };
    check("absent.toml", "cannot read");
    fs::write(directory.path().join("latin1.toml"), b"a = \"\xe9\"").unwrap();
    check("latin1.toml", "UTF-8");
    fs::File::create(directory.path().join("large.toml"))
        .unwrap()
        .set_len(FILE_BYTES_MAX as u64 + 1)
        .unwrap();
    check("large.toml", "16 MiB");
    std::os::unix::net::UnixListener::bind(directory.path().join("socket.toml")).unwrap();
    check("socket.toml", "regular file");
}

/// The text of a key in place of its path, or a key in place of a configuration: one error, and nothing of it is shown.
#[test]
fn pasted_keys_are_not_shown() {
    let key = KeyPair::generate().unwrap().serialize_pem();
    let body: Vec<&str> = key.lines().filter(|line| !line.starts_with("-----")).collect();
    let tail = "\nport = 80\nprotocol = \"HTTP\"\nhosts = [\"*\"]\n";
    let head = "[[gateway]]\nname = \"edge\"\n[[gateway.server]]\n";
    let chain = format!("-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n{key}");
    for text in [
        key.clone(),
        format!("\u{feff}\n{key}"),
        chain.clone(),
        format!("{head}private_key = \"{key}\"{tail}"),
        format!("{head}private_key = {key}{tail}"),
        format!("{head}private_key = '{}'{tail}", key.trim_end()),
        format!("{head}tls.private_key = \"\n{key}\"{tail}"),
        format!("{head}tls = {{ server_certificate = \"{chain}\" }}{tail}"),
        format!("{head}tls = {{ private_key = \"{key}\" }}{tail}{}", super::SERVICE),
        format!("{head}{}{tail}", body.join("\n")),
        format!("{head}private_key = \"{}{tail}", key.replace("-----END PRIVATE KEY-----", "")),
        format!("{head}private_key = \"{}{tail}", key.replace('\n', "\r\n")),
        format!("{head}private_key = \"{}\"{tail}", body.join("\n")),
        format!("{head}name = \"\"\"{key}\"\"\"{tail}"),
        format!("{head}hosts = [\"{}\"]\n", key.replace('\n', "\\n")),
        format!("{head}{}\n\n{}{tail}", body.join("\n"), body.join("\n")),
    ] {
        let loaded = load(&[&text]);
        assert!(loaded.config.is_none());
        let mut said = render::json(None, &loaded.diagnostics);
        for diagnostic in &loaded.diagnostics {
            said += &render::text(diagnostic, Colour::Plain);
        }
        for line in &body {
            assert!(!said.contains(&line[..12.min(line.len())]), "{text}\n{said}");
        }
        if text.contains("name = \"\"\"") || text.contains("hosts = [\"---") {
            continue;
        }
        let errors: Vec<_> = codes(&loaded).into_iter().filter(|code| code.ends_with("syntax")).collect();
        assert_eq!(errors.len(), 1, "{text}\n{said}");
    }
}
