//! Lines to stdout or stderr that never hold the process up: they go through a bounded queue to a thread of their own.
//!
//! A reader that stops reading costs lines, not requests and no signal; one that is gone costs nothing. Dropped lines
//! are counted and said on stderr as soon as there is room again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// How long the end of the process waits for a reader.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

enum Message {
    Flush(SyncSender<()>),
    Line(Vec<u8>),
}

/// A queue of lines to one stream.
#[derive(Clone)]
pub struct Lines {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

/// Waits for queued lines when dropped, for at most a second.
pub struct Flush(Lines);

impl Drop for Flush {
    fn drop(&mut self) {
        let (done, wait) = sync_channel(1);
        if self.0.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

impl Lines {
    /// A queue to `stream`, called `name` in threads and messages, for at most `lines_max` lines.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn new(
        name: &'static str,
        stream: impl Write + Send + 'static,
        lines_max: usize,
    ) -> io::Result<(Self, Flush)> {
        let (queue, lines) = sync_channel(lines_max);
        let dropped = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&dropped);
        thread::Builder::new().name(name.into()).spawn(move || write(name, stream, &lines, &counter))?;
        let lines = Self { queue, dropped };
        Ok((lines.clone(), Flush(lines)))
    }

    /// Queues a line, its end included; counts it as dropped where there is no room.
    pub fn send(&self, line: Vec<u8>) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write(name: &str, mut stream: impl Write, lines: &Receiver<Message>, dropped: &AtomicU64) {
    for message in lines {
        match message {
            Message::Flush(done) => {
                let _ = done.try_send(());
            }
            Message::Line(line) => {
                // Nobody may be reading any more.
                let _ = stream.write_all(&line).and_then(|()| stream.flush());
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(io::stderr(), "{lost} lines to {name} were dropped: it is read too slowly");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    use super::*;

    /// A stream whose reader takes nothing until it is told to.
    struct Gated(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A reader that does not read costs lines beyond the bound and nothing else; the others come in order.
    #[test]
    fn never_waits() {
        let (open, gate) = channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let (lines, flush) = Lines::new("test", Gated(gate, Arc::clone(&written)), 4).unwrap();
        for number in 0..100 {
            lines.send(format!("{number}\n").into_bytes());
        }
        // At most one is in the stream's hands and four wait.
        let dropped = lines.dropped.load(Ordering::Relaxed);
        assert!((95..=96).contains(&dropped), "{dropped}");
        drop(open);
        while lines.dropped.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
        drop(flush);
        assert!(written.lock().unwrap().starts_with(b"0\n1\n2\n3\n"));
    }
}
