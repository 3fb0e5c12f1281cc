//! Session tickets (RFC 8446 section 4.6.1, RFC 5077) that any shard can open, and only for the policy they were made for.
//!
//! One set of master keys for the process rotates every [`ROTATION`]; the one before is still good. The key of a ticket is
//! derived (HKDF, RFC 5869) from a master key and the fingerprint of the TLS terms: with another CA, CRL or certificate the
//! derived key is another, and old tickets lead to a full handshake. Nothing about sessions is kept on the server.

use std::fmt;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

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
    fingerprint: [u8; 32],
}

impl Tickets {
    /// For the policy with this fingerprint.
    #[must_use]
    pub const fn new(fingerprint: [u8; 32]) -> Self {
        Self { fingerprint }
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

    /// Epoch, nonce, ciphertext and tag; the epoch is authenticated.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let [Some(master), _] = masters() else { return None };
        let epoch = master.epoch.to_be_bytes();
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut sealed = plain.to_vec();
        self.key(&master)?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(epoch), &mut sealed)
            .ok()?;
        Some([&epoch[..], &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
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
        let length = plain.len();
        bytes.truncate(length);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn only_the_same_policy_opens_a_ticket() {
        let ticket = Tickets::new([1; 32]).encrypt(b"session").unwrap();
        assert_eq!(Tickets::new([1; 32]).decrypt(&ticket).unwrap(), b"session");
        assert_eq!(Tickets::new([2; 32]).decrypt(&ticket), None);
        for at in 0..ticket.len() {
            let mut broken = ticket.clone();
            broken[at] ^= 1;
            assert_eq!(Tickets::new([1; 32]).decrypt(&broken), None, "{at}");
            assert_eq!(Tickets::new([1; 32]).decrypt(&ticket[..at]), None, "{at}");
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
}
