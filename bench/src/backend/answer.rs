//! What a request gets.

use ringgate::sys::buffer::{Buffer, Class};

/// Most bytes of an answer's content: 1 GiB.
pub(crate) const BYTES_MAX: u64 = 1 << 30;

/// The content is this text over and over, so that a wrong cut shows in a diff.
const PATTERN: &[u8; 64] = b"ringgate-bench 0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJ\n";

/// An answer, as a head asks for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// What it is.
    pub(crate) kind: Kind,
    /// Whether its content is left out (HEAD).
    pub(crate) head_only: bool,
    /// Whether the connection carries another request afterwards.
    pub(crate) keeps_alive: bool,
}

/// Kinds of answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// 200 with the default content.
    Default,
    /// 200 with so many bytes.
    Bytes(u64),
    /// An error's status line without its version, and no content.
    Error(&'static str),
}

impl Kind {
    /// What a path asks for.
    pub(crate) fn of_path(path: &str) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        match path.strip_prefix("/bytes/") {
            None => Self::Default,
            Some(count) => match count.parse() {
                Ok(count) if count <= BYTES_MAX => Self::Bytes(count),
                _ => Self::Error("404 Not Found"),
            },
        }
    }
}

/// Renders answers; one per thread.
#[derive(Debug)]
pub(crate) struct Renderer {
    default: Vec<u8>,
    default_bytes: u64,
    /// Content of a buffer's size.
    piece: Vec<u8>,
}

impl Renderer {
    pub(crate) fn new(default_bytes: u64) -> Self {
        let piece = PATTERN.repeat(Class::Large.bytes() / PATTERN.len());
        let mut default = head("200 OK", default_bytes, true);
        default.extend_from_slice(&piece[..(default_bytes as usize).min(piece.len())]);
        Self { default, default_bytes, piece }
    }

    /// Appends head and the beginning of the content; returns how many bytes of it are left for [`Self::append`].
    pub(crate) fn begin(&self, answer: &Answer, out: &mut Buffer) -> u64 {
        let (status, bytes) = match answer.kind {
            Kind::Default if answer.keeps_alive && !answer.head_only => {
                out.extend(&self.default);
                return self.default_bytes.saturating_sub(self.piece.len() as u64);
            }
            Kind::Default => ("200 OK", self.default_bytes),
            Kind::Bytes(count) => ("200 OK", count),
            Kind::Error(status) => (status, 0),
        };
        out.extend(&head(status, bytes, answer.keeps_alive));
        if answer.head_only { 0 } else { self.append(bytes, out) }
    }

    /// Appends a piece of the content; returns how many bytes are left.
    pub(crate) fn append(&self, left: u64, out: &mut Buffer) -> u64 {
        let count = (self.piece.len() as u64).min(left);
        out.extend(self.piece.get(..count as usize).unwrap_or_default());
        left - count
    }
}

fn head(status: &str, bytes: u64, keeps_alive: bool) -> Vec<u8> {
    let connection = if keeps_alive { "" } else { "Connection: close\r\n" };
    format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {bytes}\r\n{connection}\r\n")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_paths() {
        assert_eq!(Kind::of_path("/"), Kind::Default);
        assert_eq!(Kind::of_path("/bytes/0?x"), Kind::Bytes(0));
        assert_eq!(Kind::of_path("/bytes/1073741824"), Kind::Bytes(BYTES_MAX));
        for wrong in ["/bytes/", "/bytes/x", "/bytes/-1", "/bytes/1073741825"] {
            assert_eq!(Kind::of_path(wrong), Kind::Error("404 Not Found"), "{wrong}");
        }
    }

    #[test]
    fn renders_whole_answers() {
        let renderer = Renderer::new(3);
        let render = |answer: Answer| {
            let mut out = Buffer::new(Class::Small);
            let mut left = renderer.begin(&answer, &mut out);
            while left > 0 {
                left = renderer.append(left, &mut out);
            }
            String::from_utf8_lossy(out.filled()).into_owned()
        };
        let answer = Answer { kind: Kind::Default, head_only: false, keeps_alive: true };
        assert_eq!(
            render(answer),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nrin"
        );
        let closing = render(Answer { head_only: true, keeps_alive: false, ..answer });
        assert!(closing.ends_with("Content-Length: 3\r\nConnection: close\r\n\r\n"), "{closing}");
        let large = render(Answer { kind: Kind::Bytes(200_000), ..answer });
        assert_eq!(large.split_once("\r\n\r\n").map(|(_, content)| content.len()), Some(200_000));
    }
}
