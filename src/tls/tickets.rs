//! Session tickets (RFC 8446 section 4.6.1, RFC 5077) that any shard can open, and only for the policy they were made for.
//!
//! One set of master keys for the process rotates every [`ROTATION`]; the one before is still good. The key of a ticket is
//! derived (HKDF, RFC 5869) from a master key and the fingerprint of the TLS terms: with another CA, CRL or certificate the
//! derived key is another, and old tickets lead to a full handshake. Nothing about sessions is kept on the server.
//!
//! A ticket ends with the client certificate that it stands for: who has a new one by then shows it in a full handshake.

use std::fmt;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::digest::Sha256;
use crate::config::model::TlsMode;

/// How long a master key makes tickets.
pub const ROTATION: Duration = Duration::from_secs(6 * 3600);

/// What clients are told: a ticket is good as long as its key is, at least.
const LIFETIME_SECONDS: u32 = 6 * 3600;

/// Tells the purpose of derived keys from any other.
const PURPOSE: &[u8] = b"ringgate session tickets";

const EPOCH_BYTES: usize = 8;

/// Longer ones are not ours: what rustls puts in is a few kilobytes with a client's certificate chain.
const TICKET_BYTES_MAX: usize = 64 * 1024;

/// A master key and its number.
#[derive(Clone, Copy)]
struct Master {
    epoch: u64,
    key: [u8; 32],
}

struct MasterKeys {
    current: Master,
    previous: Option<Master>,
    since: Instant,
}

static MASTER_KEYS: LazyLock<Mutex<MasterKeys>> = LazyLock::new(|| {
    // Without randomness there is no TLS at all: rustls would fail likewise.
    let current =
        Master { epoch: 0, key: random().unwrap_or_else(|| unreachable!("the kernel's randomness")) };
    Mutex::new(MasterKeys { current, previous: None, since: Instant::now() })
});

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).ok()?;
    Some(bytes)
}

impl MasterKeys {
    /// Puts a new key in place where the time of the current one is over.
    fn rotate(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < ROTATION {
            return;
        }
        if let Some(key) = random() {
            let next = Master { epoch: self.current.epoch + 1, key };
            // After a long rest the current key is too old to be the previous one.
            self.previous = (age < 2 * ROTATION).then_some(self.current);
            self.current = next;
            self.since = now;
        }
    }
}

/// The current master key and the previous one.
fn masters() -> [Option<Master>; 2] {
    let mut keys = MASTER_KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    keys.rotate(Instant::now());
    [Some(keys.current), keys.previous]
}

/// Makes and opens the tickets of one policy.
pub struct Tickets {
    fingerprint: Sha256,
    mode: TlsMode,
}

impl Tickets {
    /// For the terms with this fingerprint.
    #[must_use]
    pub const fn new(fingerprint: Sha256, mode: TlsMode) -> Self {
        Self { fingerprint, mode }
    }

    /// Until when what rustls wants to keep is good, in seconds since 1970; `None`: not at all.
    fn end_of(&self, session: &[u8]) -> Option<i64> {
        let earliest = (self.mode != TlsMode::Simple).then(|| earliest_end(session));
        match earliest.flatten() {
            Some(end) => Some(end),
            // Who knows what rustls writes by now: no certificate, no ticket.
            None if self.mode == TlsMode::Mutual => None,
            None => Some(i64::MAX),
        }
    }

    /// Epoch, nonce, ciphertext and tag; the epoch is authenticated. The plain text begins with its end.
    fn seal(&self, session: &[u8], now: i64) -> Option<Vec<u8>> {
        let end = self.end_of(session).filter(|end| *end > now)?;
        let [Some(master), _] = masters() else { return None };
        let epoch = master.epoch.to_be_bytes();
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut sealed = [&end.to_be_bytes()[..], session].concat();
        self.key(&master)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(epoch), &mut sealed)
            .ok()?;
        Some([&epoch[..], &nonce, &sealed].concat())
    }

    fn open(&self, ticket: &[u8], now: i64) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (epoch, rest) = ticket.split_first_chunk::<EPOCH_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let number = u64::from_be_bytes(*epoch);
        let master = masters().into_iter().flatten().find(|master| master.epoch == number)?;
        let mut bytes = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.key(&master)?.open_in_place(nonce, Aad::from(*epoch), &mut bytes).ok()?;
        let (end, session) = plain.split_first_chunk::<8>()?;
        (i64::from_be_bytes(*end) > now).then(|| session.to_vec())
    }

    fn key(&self, master: &Master) -> Option<LessSafeKey> {
        let prk = Salt::new(HKDF_SHA256, PURPOSE).extract(&master.key);
        let info = [&self.fingerprint[..]];
        let okm = prk.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(ticket, now())
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    UnixTime::now().as_secs().cast_signed()
}

/// When the first of the certificates in a session ends. They stand there in DER, somewhere: how rustls writes a session is
/// its own affair.
fn earliest_end(session: &[u8]) -> Option<i64> {
    let mut earliest: Option<i64> = None;
    let mut rest = session;
    // A sequence whose length takes one or two bytes.
    while let Some(at) = rest.windows(2).position(|head| matches!(head, [0x30, 0x81 | 0x82])) {
        let (_, from) = rest.split_at(at);
        rest = match X509Certificate::from_der(from) {
            Ok((behind, certificate)) => {
                let end = certificate.validity().not_after.timestamp();
                earliest = Some(earliest.map_or(end, |earliest| earliest.min(end)));
                behind
            }
            Err(_) => from.get(1..).unwrap_or_default(),
        };
    }
    earliest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::tls::testing::Ca;

    #[test]
    fn only_the_same_policy_opens_a_ticket() {
        let ticket = Tickets::new([1; 32], TlsMode::Simple).encrypt(b"session").unwrap();
        assert_eq!(Tickets::new([1; 32], TlsMode::Simple).decrypt(&ticket).unwrap(), b"session");
        assert_eq!(Tickets::new([2; 32], TlsMode::Simple).decrypt(&ticket), None);
        for at in 0..ticket.len() {
            let mut broken = ticket.clone();
            broken[at] ^= 1;
            assert_eq!(Tickets::new([1; 32], TlsMode::Simple).decrypt(&broken), None, "{at}");
            assert_eq!(Tickets::new([1; 32], TlsMode::Simple).decrypt(&ticket[..at]), None, "{at}");
        }
    }

    #[test]
    fn keys_rotate_and_the_previous_one_is_kept() {
        let start = Instant::now();
        let first = Master { epoch: 4, key: [7; 32] };
        let mut keys = MasterKeys { current: first, previous: None, since: start };
        keys.rotate(start + ROTATION / 2);
        assert_eq!((keys.current.epoch, keys.previous.is_none()), (4, true));
        keys.rotate(start + ROTATION);
        assert_eq!((keys.current.epoch, keys.previous.unwrap().epoch), (5, 4));
        assert_ne!(keys.current.key, first.key);
        keys.rotate(start + 4 * ROTATION);
        assert_eq!((keys.current.epoch, keys.previous.is_none()), (6, true));
    }

    /// The earliest end of a chain counts, wherever it stands; where clients must show a certificate, a session without
    /// one gets no ticket.
    #[test]
    fn tickets_end_with_the_client_certificate() {
        let ca = Ca::new("clients");
        let ends_with = |year| {
            let change =
                |params: &mut rcgen::CertificateParams| params.not_after = rcgen::date_time_ymd(year, 1, 1);
            ca.client(change).certificate.der().to_vec()
        };
        // 2900-01-01.
        let end = 29_348_006_400;
        let session = [b"0\x82\x01", &ends_with(3000)[..], b"\x30\x81", &ends_with(2900), b"rest"].concat();
        for mode in [TlsMode::Mutual, TlsMode::OptionalMutual] {
            let tickets = Tickets::new([1; 32], mode);
            let ticket = tickets.seal(&session, 0).unwrap();
            assert_eq!(tickets.open(&ticket, end - 1).unwrap(), session);
            assert_eq!(tickets.open(&ticket, end), None);
            assert_eq!(tickets.seal(&session, end), None);
        }
        let without = b"a session without a certificate";
        assert!(Tickets::new([1; 32], TlsMode::OptionalMutual).seal(without, end).is_some());
        assert_eq!(Tickets::new([1; 32], TlsMode::Mutual).seal(without, 0), None);
    }
}
