//! The one normal form of a path, which routes are matched against (RFC 3986 sections 6.2.2 and 5.2.4).
//!
//! `gateway/select` calls [`normalize`] on each request's path. Escapes of unreserved characters are decoded, all
//! others get upper-case digits, dot segments are removed, and the gateway's policy decides about `%2F`, backslashes
//! and repeated slashes. `%00` is always refused, as are malformed escapes. The result is normal itself: bringing it
//! to its normal form again changes nothing, so that whoever does the same behind us sees the same path.

use super::refusal::Refusal;
use crate::config::model::{Backslashes, EscapedSlashes, PathPolicy};

/// Brings an absolute path, without its query, to its normal form; an empty one is `/`.
///
/// Returns the input itself where it is normal already, else the new form in `scratch`.
///
/// # Errors
/// [`Refusal::BadPath`] for a path that is not absolute, holds a byte that no target can, or has a malformed escape;
/// [`Refusal::EscapedNul`]; and what the policy refuses.
pub fn normalize<'a>(
    path: &'a [u8],
    policy: &PathPolicy,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], Refusal> {
    match path.first() {
        None => return Ok(b"/"),
        Some(b'/') => {}
        Some(_) => return Err(Refusal::BadPath),
    }
    if is_plain(path, policy) {
        return Ok(path);
    }
    scratch.clear();
    unescape(path, policy, scratch)?;
    remove_dots(scratch, policy.merge_slashes);
    Ok(scratch)
}

/// Whether servers differ about where `path`, as received, leads: it climbs by a dot segment and also holds what some
/// take for a separator or drop (an empty segment, a backslash, `%2F`, `%5C`, parameters behind a dot segment: `..;a`).
///
/// Such a path must not be forwarded as it is: it could leave the route that its normal form was matched by.
#[must_use]
pub fn is_ambiguous(path: &[u8]) -> bool {
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    let mut doubtful = path.windows(2).any(|pair| pair == b"//");
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let escaped = tail
            .first_chunk::<2>()
            .filter(|_| byte == b'%')
            .map(|digits| digits.map(|d| d.to_ascii_uppercase()));
        let byte = match escaped {
            Some([b'2', b'E']) => b'.',
            Some([b'2', b'F'] | [b'5', b'C']) => b'\\',
            Some([b'3', b'B']) => b';',
            _ => byte,
        };
        if escaped.is_some() && matches!(byte, b'.' | b'\\' | b';') {
            rest = rest.get(2..).unwrap_or_default();
        }
        doubtful |= byte == b'\\';
        plain.push(byte);
    }
    let mut segments = plain.split(|byte| matches!(byte, b'/' | b'\\'));
    segments.any(|segment| {
        let parameters = segment.iter().position(|byte| *byte == b';');
        let name = segment.get(..parameters.unwrap_or(segment.len())).unwrap_or_default();
        matches!(name, b"." | b"..") && (doubtful || parameters.is_some())
    })
}

/// Whether nothing in `path` needs a closer look.
#[inline]
fn is_plain(path: &[u8], policy: &PathPolicy) -> bool {
    let mut after_slash = false;
    for &byte in path {
        let special = match byte {
            b'.' => after_slash,
            b'/' => after_slash && policy.merge_slashes,
            b'%' | b'\\' | b'?' | b'#' => true,
            _ => !byte.is_ascii_graphic(),
        };
        if special {
            return false;
        }
        after_slash = byte == b'/';
    }
    true
}

/// Appends `path` to `out` with its escapes and backslashes settled.
fn unescape(path: &[u8], policy: &PathPolicy, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (*first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let byte = hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low);
                push_unescaped(byte.ok_or(Refusal::BadPath)?, policy, out)?;
                rest = tail;
            }
            (b'\\', _) => push_backslash(policy, out)?,
            (b'%' | b'?' | b'#', _) => return Err(Refusal::BadPath),
            (byte, _) if byte.is_ascii_graphic() => out.push(byte),
            _ => return Err(Refusal::BadPath),
        }
    }
    Ok(())
}

/// Appends what the escape of `byte` stands for.
fn push_unescaped(byte: u8, policy: &PathPolicy, out: &mut Vec<u8>) -> Result<(), Refusal> {
    match byte {
        0 => return Err(Refusal::EscapedNul),
        b'/' => match policy.escaped_slashes {
            EscapedSlashes::KeepUnchanged => push_escape(byte, out),
            EscapedSlashes::RejectRequest => return Err(Refusal::EscapedSlash),
            EscapedSlashes::UnescapeAndForward => out.push(b'/'),
        },
        b'\\' => push_backslash(policy, out)?,
        b'-' | b'.' | b'_' | b'~' => out.push(byte),
        _ if byte.is_ascii_alphanumeric() => out.push(byte),
        _ => push_escape(byte, out),
    }
    Ok(())
}

fn push_backslash(policy: &PathPolicy, out: &mut Vec<u8>) -> Result<(), Refusal> {
    match policy.backslashes {
        Backslashes::ConvertToSlash => out.push(b'/'),
        Backslashes::KeepUnchanged => push_escape(b'\\', out),
        Backslashes::RejectRequest => return Err(Refusal::Backslash),
    }
    Ok(())
}

fn push_escape(byte: u8, out: &mut Vec<u8>) {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' - 10 + nibble };
    out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Removes dot segments, and empty ones where `merge_slashes`, in place; `..` at the root stays at the root.
///
/// The part already written never overtakes the part still to read, so one pass over one buffer does.
fn remove_dots(path: &mut Vec<u8>, merge_slashes: bool) {
    debug_assert_eq!(path.first(), Some(&b'/'));
    let mut read = 1;
    // `path[..write]` is done and ends with a slash at the start of each turn.
    let mut write = 1;
    loop {
        let tail = path.get(read..).unwrap_or_default();
        let segment_len = memchr::memchr(b'/', tail).unwrap_or(tail.len());
        let is_last = segment_len == tail.len();
        match tail.get(..segment_len).unwrap_or_default() {
            b"." => {}
            b".." => {
                let parent = path.get(..write - 1).unwrap_or_default();
                write = memchr::memrchr(b'/', parent).map_or(1, |slash| slash + 1);
            }
            b"" if merge_slashes => {}
            _ => {
                let copied = segment_len + usize::from(!is_last);
                path.copy_within(read..read + copied, write);
                write += copied;
            }
        }
        if is_last {
            break;
        }
        read += segment_len + 1;
    }
    path.truncate(write);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn with(policy: PathPolicy, path: &str) -> Result<String, Refusal> {
        let mut scratch = Vec::new();
        normalize(path.as_bytes(), &policy, &mut scratch)
            .map(|path| String::from_utf8(path.to_vec()).unwrap())
    }

    fn normal(path: &str) -> Result<String, Refusal> {
        with(PathPolicy::default(), path)
    }

    /// The default policy, row by row.
    #[test]
    fn brings_paths_to_their_normal_form() {
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("/a//b", "/a//b"),
            ("//a", "//a"),
            ("/a/./b", "/a/b"),
            ("/a/.", "/a/"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/..", "/"),
            ("/../../etc", "/etc"),
            ("/a/../../b", "/b"),
            ("/a//../b", "/a/b"),
            ("/a/.../b", "/a/.../b"),
            ("/a/.b/..c/d..", "/a/.b/..c/d.."),
            ("/.well-known/x", "/.well-known/x"),
            ("/%61%2d%5F%7e%41", "/a-_~A"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/%c3%a9", "/%C3%A9"),
            ("/%252e%252e/", "/%252e%252e/"),
            ("/%20%3f%23%25", "/%20%3F%23%25"),
            ("/a;b=c,d@e:f!$&'()*+", "/a;b=c,d@e:f!$&'()*+"),
        ] {
            assert_eq!(normal(path).as_deref(), Ok(expected), "{path}");
            assert_eq!(normal(expected).as_deref(), Ok(expected), "{expected} is normal");
        }
    }

    /// A normal path is returned as it is, without a copy.
    #[test]
    fn returns_a_normal_path_itself() {
        let path = b"/index.html;v=1/.a";
        let mut scratch = Vec::new();
        let plain = b"/api/v1.2/users";
        assert_eq!(normalize(plain, &PathPolicy::default(), &mut scratch).unwrap().as_ptr(), plain.as_ptr());
        assert_eq!(normalize(path, &PathPolicy::default(), &mut scratch).unwrap(), path);
    }

    /// What no policy lets through.
    #[test]
    fn refuses_malformed_paths() {
        for path in [
            "a", "a/b", "*", "/%", "/%4", "/%4g", "/%g4", "/a b", "/a\u{e9}", "/a?b", "/a#b", "/\u{7f}",
            "/%%41",
        ] {
            assert_eq!(normal(path), Err(Refusal::BadPath), "{path}");
        }
        assert_eq!(normal("/a%00"), Err(Refusal::EscapedNul));
        assert_eq!(normal("/a%0A").as_deref(), Ok("/a%0A"));
    }

    /// Each value of each policy.
    #[test]
    fn follows_the_policy() {
        let slashes = |escaped_slashes| PathPolicy { escaped_slashes, ..PathPolicy::default() };
        assert_eq!(with(slashes(EscapedSlashes::RejectRequest), "/a%2fb"), Err(Refusal::EscapedSlash));
        assert_eq!(with(slashes(EscapedSlashes::KeepUnchanged), "/a%2fb").as_deref(), Ok("/a%2Fb"));
        assert_eq!(with(slashes(EscapedSlashes::KeepUnchanged), "/a/..%2fb").as_deref(), Ok("/a/..%2Fb"));
        assert_eq!(with(slashes(EscapedSlashes::UnescapeAndForward), "/a%2fb").as_deref(), Ok("/a/b"));
        assert_eq!(with(slashes(EscapedSlashes::UnescapeAndForward), "/a/..%2Fb").as_deref(), Ok("/b"));
        let backslashes = |backslashes| PathPolicy { backslashes, ..PathPolicy::default() };
        for path in ["/a\\b", "/a%5cb", "/a%5Cb"] {
            assert_eq!(with(backslashes(Backslashes::RejectRequest), path), Err(Refusal::Backslash));
            assert_eq!(with(backslashes(Backslashes::KeepUnchanged), path).as_deref(), Ok("/a%5Cb"));
            assert_eq!(with(backslashes(Backslashes::ConvertToSlash), path).as_deref(), Ok("/a/b"));
        }
        assert_eq!(with(backslashes(Backslashes::ConvertToSlash), "/a\\..\\b").as_deref(), Ok("/b"));
        let merged = PathPolicy { merge_slashes: true, ..PathPolicy::default() };
        for (path, expected) in [
            ("//", "/"),
            ("/a//b///", "/a/b/"),
            ("//a/.//b", "/a/b"),
            ("/a//../b", "/b"),
            ("/a/b//..//", "/a/"),
            ("/a/b", "/a/b"),
        ] {
            assert_eq!(with(merged, path).as_deref(), Ok(expected), "{path}");
        }
    }

    /// Only the climb together with a doubtful separator is ambiguous, in any spelling of either.
    #[test]
    fn tells_ambiguous_paths() {
        for path in [
            "/pub/x//../adm",
            "/a//%2e%2E/b",
            "/a/..%2fb",
            "/a/..\\..\\b",
            "/a%5c../b",
            "//./a",
            "/a/..;/b",
            "/.%3b/a",
        ] {
            assert!(is_ambiguous(path.as_bytes()), "{path}");
        }
        for path in [
            "/",
            "/a/../b",
            "/a//b",
            "/a%2Fb",
            "/a\\b",
            "/a/..b//c",
            "/%2",
            "/a/%2e./b",
            "/a;b/../c",
            "/..a;b",
        ] {
            assert!(!is_ambiguous(path.as_bytes()), "{path}");
        }
    }
}
