//! Owned byte buffers, pooled per shard.
//!
//! A [`Buffer`] goes into an I/O operation by value and comes back with its result. Reading appends behind what it
//! holds, writing sends what it holds. Dropped anywhere, also by the driver after a cancelled operation, it returns
//! to the free list of its thread. Free lists are bounded; what is taken from the allocator is counted over the
//! process ([`allocated_bytes`]), at the list's edge and not per use.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use monoio::buf::{IoBuf, IoBufMut};

/// Size class of a buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Class {
    /// 4 KiB: a request head, a small response.
    Small,
    /// 20 KiB: a first response read; holds the largest TLS record (18 437 bytes in TLS 1.2).
    Medium,
    /// 64 KiB: bodies under way.
    Large,
}

impl Class {
    const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// Capacity in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Small => 4 * 1024,
            Self::Medium => 20 * 1024,
            Self::Large => 64 * 1024,
        }
    }

    /// Buffers a thread keeps: about 4 MiB of each class.
    const fn kept_max(self) -> usize {
        4 * 1024 * 1024 / self.bytes()
    }

    fn of_capacity(capacity: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.bytes() == capacity)
    }
}

/// Bytes of all buffers taken from the allocator and not returned to it, in use or in a free list.
static ALLOCATED: AtomicU64 = AtomicU64::new(0);

/// Buffer bytes that the process holds, in use and in free lists.
#[must_use]
pub fn allocated_bytes() -> u64 {
    ALLOCATED.load(Ordering::Relaxed)
}

#[derive(Default)]
struct FreeLists {
    lists: [Vec<Vec<u8>>; 3],
    /// Buffers out of the lists, in sessions or operations.
    in_use: usize,
}

thread_local! {
    static FREE: RefCell<FreeLists> = RefCell::default();
}

/// Buffers of this thread that are in use, for leak checks.
#[must_use]
pub fn in_use() -> usize {
    FREE.with_borrow(|free| free.in_use)
}

/// Gives the thread's free lists back to the allocator: at the process's bound, bytes kept for reuse must not count
/// against connections.
pub fn trim() {
    let freed: usize = FREE.with_borrow_mut(|free| {
        free.lists.iter_mut().flat_map(std::mem::take).map(|bytes| bytes.capacity()).sum()
    });
    ALLOCATED.fetch_sub(freed as u64, Ordering::Relaxed);
}

/// An owned buffer: bytes `start..len` are its content, the capacity behind is free.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    /// What was added to [`ALLOCATED`] for it.
    accounted: usize,
}

impl Buffer {
    /// An empty buffer of a class, from the thread's free list where it has one.
    #[must_use]
    pub fn new(class: Class) -> Self {
        let reused = FREE.with_borrow_mut(|free| {
            free.in_use += 1;
            free.lists[class as usize].pop()
        });
        let bytes = reused.unwrap_or_else(|| {
            ALLOCATED.fetch_add(class.bytes() as u64, Ordering::Relaxed);
            Vec::with_capacity(class.bytes())
        });
        debug_assert!(bytes.is_empty());
        Self { bytes, start: 0, accounted: class.bytes() }
    }

    /// The content.
    #[inline]
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// The content, to be changed in place.
    #[inline]
    #[must_use]
    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    /// Length of the content in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether there is no content.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Bytes that a read can still append.
    #[inline]
    #[must_use]
    pub fn spare(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Drops the first `count` bytes of the content, at most all of it. [`Self::rewind`] can bring them back.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        self.start = self.bytes.len().min(self.start + count);
    }

    /// Makes everything that was ever appended since the last `clear` or `compact` the content again.
    pub fn rewind(&mut self) {
        self.start = 0;
    }

    /// Whether part of the content was consumed and could be rewound to.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        self.start > 0
    }

    /// Whether this is what `mem::take` leaves behind, without memory of its own.
    #[must_use]
    pub const fn is_placeholder(&self) -> bool {
        self.accounted == 0
    }

    /// Content and consumed bytes together.
    #[must_use]
    pub fn total(&self) -> usize {
        self.bytes.len()
    }

    /// Shortens the content to `len` bytes; does nothing where it is shorter.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start + len);
    }

    /// Drops the content.
    #[inline]
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    /// Appends, growing beyond the class where needed: callers bound what they append.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.recount();
    }

    /// Lets `write` append to the content.
    #[inline]
    pub fn append_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.recount();
    }

    /// Moves the content to the front, so that all spare room is behind it.
    pub fn compact(&mut self) {
        if self.is_empty() {
            self.clear();
        } else if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Makes room for a read that appends: compacts, then moves to a larger class while one exists below `limit`.
    /// Returns whether there is room afterwards.
    pub fn make_room(&mut self, limit: usize) -> bool {
        self.compact();
        if self.spare() == 0 {
            let next = Class::ALL.into_iter().find(|class| class.bytes() > self.bytes.capacity());
            let Some(next) = next.filter(|_| self.bytes.capacity() < limit) else { return false };
            let mut larger = Self::new(next);
            larger.extend(self.filled());
            *self = larger;
        }
        true
    }

    /// A growth by `extend` is rare and still counts against the process's bound.
    #[inline]
    fn recount(&mut self) {
        let capacity = self.bytes.capacity();
        if capacity != self.accounted {
            if self.accounted == 0 {
                FREE.with_borrow_mut(|free| free.in_use += 1);
            }
            ALLOCATED.fetch_add((capacity - self.accounted) as u64, Ordering::Relaxed);
            self.accounted = capacity;
        }
    }
}

/// A buffer without capacity: what `mem::take` leaves behind while the real one is in an operation.
impl Default for Buffer {
    fn default() -> Self {
        Self { bytes: Vec::new(), start: 0, accounted: 0 }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.accounted == 0 {
            return;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        let accounted = self.accounted;
        let kept = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            free.in_use = free.in_use.saturating_sub(1);
            match Class::of_capacity(bytes.capacity()) {
                Some(class) if free.lists[class as usize].len() < class.kept_max() => {
                    bytes.clear();
                    free.lists[class as usize].push(std::mem::take(&mut bytes));
                    true
                }
                _ => false,
            }
        });
        if kept != Ok(true) {
            ALLOCATED.fetch_sub(accounted as u64, Ordering::Relaxed);
        }
    }
}

// SAFETY: `bytes` is heap memory that does not move when the buffer does, and the driver owns the buffer while an
// operation uses it, so nothing can grow or free it meanwhile. `start..len` is initialised.
unsafe impl IoBuf for Buffer {
    fn read_ptr(&self) -> *const u8 {
        self.filled().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.len()
    }
}

// SAFETY: as above; the write region is the capacity behind the content, and `set_init` is told how many bytes of
// it the kernel filled, never more than `bytes_total`.
unsafe impl IoBufMut for Buffer {
    fn write_ptr(&mut self) -> *mut u8 {
        self.bytes.spare_capacity_mut().as_mut_ptr().cast()
    }

    fn bytes_total(&mut self) -> usize {
        self.spare()
    }

    unsafe fn set_init(&mut self, count: usize) {
        debug_assert!(count <= self.spare());
        let len = self.bytes.len() + count;
        // SAFETY: the caller says that `count` bytes behind the content are initialised.
        unsafe { self.bytes.set_len(len) };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn returns_to_the_free_list_and_is_reused() {
        let before = in_use();
        let mut first = Buffer::new(Class::Small);
        first.extend(b"abc");
        let address = first.filled().as_ptr();
        assert_eq!(in_use(), before + 1);
        drop(first);
        assert_eq!(in_use(), before);
        let mut second = Buffer::new(Class::Small);
        assert!(second.is_empty());
        second.extend(b"x");
        assert_eq!(second.filled().as_ptr(), address);
    }

    #[test]
    fn consumes_compacts_and_grows_by_class() {
        let mut buffer = Buffer::new(Class::Small);
        buffer.extend(&[7; 4096]);
        assert_eq!(buffer.spare(), 0);
        buffer.consume(4000);
        assert_eq!(buffer.len(), 96);
        assert!(buffer.make_room(65536));
        assert_eq!(buffer.spare(), 4000);
        buffer.extend(&[8; 4000]);
        assert!(!buffer.make_room(4096));
        assert!(buffer.make_room(65536));
        assert_eq!(buffer.len(), 4096);
        assert_eq!(buffer.spare(), 16 * 1024);
        assert_eq!(&buffer.filled()[..2], &[7, 7]);
    }

    #[test]
    fn counts_growth_beyond_a_class_and_gives_it_back() {
        let mut buffer = Buffer::new(Class::Large);
        buffer.extend(&vec![1; 200 * 1024]);
        assert!(buffer.accounted >= 200 * 1024);
        drop(buffer);
    }
}
