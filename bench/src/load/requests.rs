//! Requests, rendered before the run: sending one costs a copy at most.

use ringgate::sys::buffer::{Buffer, Class};

use crate::random::Random;

/// Which of the hosts a request names.
#[derive(Clone, Debug)]
enum Pick {
    /// There is one.
    One,
    /// Each equally often.
    Uniform,
    /// The host of rank r as often as 1/r.
    Zipf(Alias),
}

/// All requests of a run.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    /// Heads, one behind the other.
    heads: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
    body: Vec<u8>,
    pick: Pick,
}

/// How hosts are chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Distribution {
    /// Each equally often
    Uniform,
    /// The host of rank r as often as 1/r
    Zipf,
}

/// What every request has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'s> {
    /// Method.
    pub(crate) method: &'s str,
    /// Path and query.
    pub(crate) path: &'s str,
    /// Further fields, `Name: value` each.
    pub(crate) headers: &'s [String],
    /// Bytes of content; `None` for no content and no Content-Length.
    pub(crate) body_bytes: Option<usize>,
    /// Whether it is the connection's last.
    pub(crate) close: bool,
}

impl Requests {
    /// Renders one request per host, the most popular host first.
    pub(crate) fn new(shape: &Shape<'_>, hosts: impl Iterator<Item = String>, choice: Distribution) -> Self {
        let mut tail = String::new();
        for header in shape.headers {
            tail.push_str(header);
            tail.push_str("\r\n");
        }
        if let Some(bytes) = shape.body_bytes {
            tail.push_str(&format!("Content-Length: {bytes}\r\n"));
        }
        if shape.close {
            tail.push_str("Connection: close\r\n");
        }
        let (mut heads, mut ends) = (Vec::new(), Vec::new());
        for host in hosts {
            let head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n{tail}\r\n", shape.method, shape.path);
            heads.extend_from_slice(head.as_bytes());
            ends.push(heads.len());
        }
        let pick = match choice {
            _ if ends.len() <= 1 => Pick::One,
            Distribution::Uniform => Pick::Uniform,
            Distribution::Zipf => Pick::Zipf(Alias::zipf(ends.len())),
        };
        Self { heads, ends, body: vec![b'x'; shape.body_bytes.unwrap_or(0)], pick }
    }

    /// Puts the next request into `out`, which holds the last one, sent, or is a placeholder.
    #[inline]
    pub(crate) fn render(&self, random: &mut Random, out: &mut Buffer) {
        let fresh = out.is_placeholder();
        let index = match &self.pick {
            Pick::One if !fresh => return out.rewind(),
            Pick::One => 0,
            Pick::Uniform => random.below(self.ends.len() as u32) as usize,
            Pick::Zipf(alias) => alias.draw(random),
        };
        if fresh {
            *out = Buffer::new(Class::Small);
        }
        out.clear();
        out.extend(self.head(index));
        out.extend(&self.body);
    }

    fn head(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(index).copied().unwrap_or(start);
        self.heads.get(start..end).unwrap_or_default()
    }
}

/// Draws from a fixed distribution in constant time (Walker's alias method).
#[derive(Clone, Debug)]
struct Alias {
    /// For each place: the share of it that is its own, in 1/2^32, and who has the rest.
    places: Vec<(u32, u32)>,
}

impl Alias {
    /// The Zipf distribution with exponent 1 over `count` ranks.
    fn zipf(count: usize) -> Self {
        let total: f64 = (1..=count).map(|rank| 1.0 / rank as f64).sum();
        let mut shares: Vec<f64> = (1..=count).map(|rank| count as f64 / (rank as f64 * total)).collect();
        let mut places = vec![(u32::MAX, 0); count];
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..count).partition(|&index| shares.get(index).is_some_and(|share| *share < 1.0));
        while let (Some(&poor), Some(&rich)) = (small.last(), large.last()) {
            small.pop();
            let own = shares.get(poor).copied().unwrap_or(1.0);
            if let Some(place) = places.get_mut(poor) {
                *place = ((own * f64::from(u32::MAX)) as u32, rich as u32);
            }
            if let Some(share) = shares.get_mut(rich) {
                *share -= 1.0 - own;
                if *share < 1.0 {
                    large.pop();
                    small.push(rich);
                }
            }
        }
        // What is left over by rounding keeps its place to itself.
        for index in small.into_iter().chain(large) {
            if let Some(place) = places.get_mut(index) {
                *place = (u32::MAX, index as u32);
            }
        }
        Self { places }
    }

    #[inline]
    fn draw(&self, random: &mut Random) -> usize {
        let index = random.below(self.places.len() as u32) as usize;
        match self.places.get(index) {
            Some(&(own, other)) if random.bits() as u32 > own => other as usize,
            _ => index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(headers: &[String]) -> Shape<'_> {
        Shape { method: "POST", path: "/p", headers, body_bytes: Some(3), close: true }
    }

    #[test]
    fn renders_and_repeats() {
        let headers = ["A: b".to_owned()];
        let hosts = ["one".to_owned(), "two".to_owned()];
        let text = |host| {
            format!(
                "POST /p HTTP/1.1\r\nHost: {host}\r\nA: b\r\nContent-Length: 3\r\nConnection: close\r\n\r\nxxx"
            )
        };
        let (mut random, mut out) = (Random::new(1), Buffer::default());
        let single = Requests::new(&shape(&headers), hosts.iter().take(1).cloned(), Distribution::Zipf);
        for _ in 0..3 {
            single.render(&mut random, &mut out);
            assert_eq!(out.filled(), text("one").as_bytes());
            out.consume(out.len());
        }
        let both = Requests::new(&shape(&headers), hosts.into_iter(), Distribution::Uniform);
        let mut seen = [0; 2];
        for _ in 0..1000 {
            both.render(&mut random, &mut out);
            let second = out.filled() == text("two").as_bytes();
            assert!(second || out.filled() == text("one").as_bytes());
            seen[usize::from(second)] += 1;
        }
        assert!(seen.iter().all(|&count| count > 400), "{seen:?}");
    }

    /// Ranks 1, 2 and 10 of 1000 within 5 % of their shares.
    #[test]
    fn zipf_has_its_shape() {
        let alias = Alias::zipf(1000);
        let (mut counts, mut random) = (vec![0_u32; 1000], Random::new(7));
        for _ in 0..2_000_000 {
            counts[alias.draw(&mut random)] += 1;
        }
        let total: f64 = (1..=1000).map(|rank| 1.0 / f64::from(rank)).sum();
        for rank in [1, 2, 10] {
            let expected = 2_000_000.0 / (total * f64::from(rank));
            let got = f64::from(counts[rank as usize - 1]);
            assert!((got / expected - 1.0).abs() < 0.05, "rank {rank}: {got} instead of {expected}");
        }
    }
}
