//! Percentiles in the text form of HdrHistogram's plotters.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

/// Lines per halving of the distance to 100 %, as other tools have it.
const TICKS_PER_HALF: u32 = 5;

/// The distribution of `latency` (nanoseconds) in microseconds.
pub(super) fn render(latency: &Histogram<u64>) -> String {
    let us = |nanoseconds: f64| nanoseconds / 1000.0;
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut total = 0;
    for point in latency.iter_quantiles(TICKS_PER_HALF) {
        total += point.count_since_last_iteration();
        let (value, quantile) = (us(point.value_iterated_to() as f64), point.quantile_iterated_to());
        // Writing to a string does not fail.
        let _ = write!(text, "{value:12.3} {quantile:2.12} {total:10}");
        let _ = if quantile < 1.0 {
            writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile))
        } else {
            writeln!(text, " {:>14}", "inf")
        };
    }
    let _ = writeln!(
        text,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]",
        us(latency.mean()),
        us(latency.stdev())
    );
    let _ = writeln!(
        text,
        "#[Max     = {:12.3}, Total count    = {:12}]",
        us(latency.max() as f64),
        latency.len()
    );
    let _ = writeln!(
        text,
        "#[Buckets = {:12}, SubBuckets     = {:12}]",
        latency.buckets(),
        2 * 10_u32.pow(u32::from(latency.sigfig())).next_power_of_two()
    );
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn has_the_form_that_plotters_read() {
        let mut latency = Histogram::<u64>::new_with_bounds(1, 3_600_000_000_000, 3).unwrap();
        for value in 1..=1000_u64 {
            latency.record(value * 1000).unwrap();
        }
        let text = render(&latency);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].split_whitespace().count(), 4);
        assert_eq!(lines[1], "");
        let rows: Vec<Vec<&str>> = lines[2..]
            .iter()
            .take_while(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert!(rows.len() > 20 && rows.iter().all(|row| row.len() == 4));
        let median = rows.iter().find(|row| row[1].starts_with("0.5000")).unwrap();
        assert!((median[0].parse::<f64>().unwrap() - 500.0).abs() < 2.0, "{median:?}");
        let last = rows.last().unwrap();
        assert_eq!(
            (&last[1..], &lines[lines.len() - 3][..9]),
            (&["1.000000000000", "1000", "inf"][..], "#[Mean   ")
        );
        assert!(lines[lines.len() - 2].contains("Total count    =         1000]"));
    }
}
