//! Durations (`"1m30s"`) and byte counts (`"256MiB"`) as operators write them. Pure text to number, every
//! arithmetic step checked.

use std::time::Duration;

/// What a duration may look like, for messages.
pub(super) const DURATION_FORM: &str = "a duration such as `\"2s\"`, `\"500ms\"`, `\"1h\"` or `\"1m30s\"`";

/// What is most likely meant by a duration in weeks or years.
pub(super) fn duration_meant(text: &str) -> Option<String> {
    let (number, days) = match text.split_at_checked(text.len().checked_sub(1)?)? {
        (number, "y") => (number, 365),
        (number, "w") => (number, 7),
        _ => return None,
    };
    let days = number.parse::<u32>().ok()?.checked_mul(days)?;
    Some(format!("write `\"{days}d\"`"))
}

/// What a byte count may look like, for messages.
pub(super) const BYTES_FORM: &str = "a number of bytes, or a string such as `\"256MiB\"` or `\"1GiB\"`";

/// Units from the largest to the smallest, in milliseconds. `ms` stands before `m` and `s` in the look-up.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

const BYTE_UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Reads a duration: whole numbers with the units `d`, `h`, `m`, `s`, `ms`, each at most once, the largest first.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Err("a duration must not be empty".to_owned());
    }
    let mut rest = text;
    let mut total_ms = 0u64;
    let mut units = DURATION_UNITS.as_slice();
    while !rest.is_empty() {
        let (number, tail) = split_at(rest, |byte| byte.is_ascii_digit());
        let (unit, tail) = split_at(tail, |byte| !byte.is_ascii_digit());
        if number.is_empty() {
            return Err("a duration is made of whole numbers, each with its unit".to_owned());
        }
        if unit.is_empty() {
            return Err(format!("`{number}` has no unit"));
        }
        let Some(index) = units.iter().position(|(name, _)| *name == unit) else {
            let known = DURATION_UNITS.iter().any(|(name, _)| *name == unit);
            return Err(if known {
                "units stand from the largest to the smallest, each once".to_owned()
            } else {
                format!("`{}` is not a unit of time", unit.escape_debug())
            });
        };
        let factor = units.get(index).map_or(1, |(_, factor)| *factor);
        units = units.get(index + 1..).unwrap_or_default();
        total_ms = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .and_then(|part| part.checked_add(total_ms))
            .ok_or_else(|| "the duration is too long".to_owned())?;
        rest = tail;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Writes a duration the way [`duration`] reads it.
pub(super) fn show_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in DURATION_UNITS {
        if rest >= factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Reads a byte count: a whole number and a unit of [`BYTES_FORM`], with or without a space between.
///
/// # Errors
/// A sentence that says what is wrong.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split_at(text.trim(), |byte| byte.is_ascii_digit());
    let unit = unit.trim_start();
    if number.is_empty() {
        return Err("a byte count begins with a whole number".to_owned());
    }
    let Some((_, factor)) = BYTE_UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("`{}` is not a unit of bytes", unit.escape_debug()));
    };
    let number = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    number.ok_or_else(|| "the byte count is too large".to_owned())
}

/// What a byte count with another's unit (`1G`, `512mb`) most likely means, as a hint.
pub(super) fn bytes_meant(text: &str) -> Option<String> {
    let (number, unit) = split_at(text.trim(), |byte| byte.is_ascii_digit());
    let unit = unit.trim_start().to_ascii_lowercase();
    let known = BYTE_UNITS.iter().map(|(name, _)| *name).filter(|name| name.ends_with("iB"));
    let mut forms = known.map(|name| (name, name.to_ascii_lowercase()));
    let (name, _) = forms.find(|(_, form)| {
        let letter = form.get(..1).unwrap_or_default();
        unit == *form || unit == letter || unit == format!("{letter}b") || unit == format!("{letter}i")
    })?;
    (!number.is_empty()).then(|| format!("write `\"{number}{name}\"`"))
}

/// Writes a byte count with the largest binary unit that divides it.
pub(super) fn show_bytes(bytes: u64) -> String {
    for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Writes a time, in seconds since 1970, as RFC 3339 has it.
pub(crate) fn show_time(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years begin in March here, so that a leap day is the last: then months have a rhythm of 153 days in five.
    let from_march = days + 719_468;
    let (era, day) = (from_march.div_euclid(146_097), from_march.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + month / 10, (month + 2) % 12 + 1);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Splits where the first byte that `take` refuses stands; a character of several bytes is never cut.
fn split_at(text: &str, take: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !take(byte)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use super::*;

    /// Good durations, and that showing them gives the same text back.
    #[test]
    fn reads_durations() {
        for (text, ms) in [
            ("2s", 2000),
            ("500ms", 500),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
            ("1h1m1s1ms", 3_661_001),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
            assert_eq!(show_duration(Duration::from_millis(ms)), text);
        }
    }

    /// Times agree with `date -u -d @SECONDS`.
    #[test]
    fn shows_times() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (1_795_618_367, "2026-11-25T14:52:47Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(show_time(seconds), text);
        }
    }

    /// Every malformed duration is refused with its own reason.
    #[test]
    fn refuses_bad_durations() {
        for (text, reason) in [
            ("", "empty"),
            ("10", "no unit"),
            ("s", "whole numbers"),
            ("1.5s", "`.` is not a unit"),
            ("-1s", "whole numbers"),
            ("1w", "`w` is not a unit"),
            ("1 s", "` s` is not a unit"),
            ("1s1m", "largest"),
            ("1s1s", "largest"),
            ("99999999999999999999s", "too long"),
            ("18446744073709551615h", "too long"),
            ("1\u{b5}s", "not a unit"),
            ("\u{661}s", "whole numbers"),
        ] {
            let message = duration(text).unwrap_err();
            assert!(message.contains(reason), "{text:?}: {message}");
        }
    }

    /// Byte counts with and without units, and back.
    #[test]
    fn reads_bytes() {
        assert_eq!(bytes("256MiB"), Ok(256 << 20));
        assert_eq!(bytes("1 GiB"), Ok(1 << 30));
        assert_eq!(bytes("10kB"), Ok(10_000));
        assert_eq!(bytes("77"), Ok(77));
        assert_eq!(show_bytes(256 << 20), "256MiB");
        assert_eq!(show_bytes(1000), "1000");
        for text in ["", "MiB", "1mib", "1 XB", "-1", "99999999999TiB", "1\u{e9}"] {
            assert!(bytes(text).is_err(), "{text:?}");
        }
        let meant = |text, meant: &str| {
            assert_eq!(bytes_meant(text), Some(format!("write `\"{meant}\"`")), "{text}");
        };
        meant("1G", "1GiB");
        meant("512 mb", "512MiB");
        meant("64k", "64KiB");
        meant("2gib", "2GiB");
        for text in ["G", "1 XB", "1", "", "1\u{e9}"] {
            assert_eq!(bytes_meant(text), None, "{text:?}");
        }
    }
}
