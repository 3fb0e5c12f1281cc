//! Durations and shares on the command line.

use std::time::Duration;

/// Reads `10s`, `500ms`, `250us` or `1m`; fractions such as `0.5s` too.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let form = || format!("`{text}` is not a duration such as `10s`, `500ms`, `250us` or `1m`");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(form)?;
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(form()),
    };
    let number: f64 = number.parse().map_err(|_| form())?;
    let seconds = number * factor;
    if seconds > 86_400.0 {
        return Err(format!("`{text}` is more than a day"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| form())
}

/// Reads a share such as `0.01`.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let form = || format!("`{text}` is not a share between 0 and 1, such as 0.01");
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        for (text, expected) in [
            ("10s", Duration::from_secs(10)),
            ("0.5s", Duration::from_millis(500)),
            ("250us", Duration::from_micros(250)),
            ("0ms", Duration::ZERO),
            ("1m", Duration::from_secs(60)),
        ] {
            assert_eq!(duration(text), Ok(expected));
        }
        for wrong in ["", "10", "s", "-1s", "1.2.3s", "10 s", "99h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
