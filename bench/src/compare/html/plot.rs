//! Plots as inline SVG: bars with their range, and latency by percentile on an axis of nines.

use std::fmt::Write as _;

use crate::compare::peers::PeerKind;
use crate::compare::stats::Summary;
use crate::compare::table::number;

const WIDTH: f64 = 600.0;

/// Height of a bar's row, and of the bar.
const ROW: f64 = 30.0;
const BAR: f64 = 16.0;

/// Where bars begin and end; names stand to the left, figures to the right.
const BARS: (f64, f64) = (80.0, 480.0);

/// Of the latency plot.
const HEIGHT: f64 = 300.0;
const AREA: Area = Area { left: 60.0, right: 515.0, top: 12.0, bottom: 262.0 };

/// The last quantile that is drawn: beyond it, runs of seconds hold too few requests.
const QUANTILE_MAX: f64 = 0.9999;

struct Area {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// A row of the bars.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bar {
    /// Whose.
    pub(super) peer: PeerKind,
    /// Its length and range.
    pub(super) summary: Summary,
}

/// A curve of the latency plot: quantiles (0 to 1) and microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Curve<'a> {
    /// Whose.
    pub(super) peer: PeerKind,
    /// Its points.
    pub(super) points: &'a [(f64, f64)],
}

/// Medians as bars from 0, least and greatest as whiskers.
pub(super) fn bars(rows: &[Bar]) -> String {
    let most = rows.iter().map(|row| row.summary.max).fold(0.0, f64::max);
    let scale = if most > 0.0 { (BARS.1 - BARS.0) / most } else { 0.0 };
    let height = ROW * rows.len() as f64;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n");
    for (index, row) in rows.iter().enumerate() {
        let middle = ROW * (index as f64 + 0.5);
        let Summary { median, min, max } = row.summary;
        let [end, from, to] = [median, min, max].map(|value| BARS.0 + value * scale);
        let _ = writeln!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"bar {}\" x=\"{:.0}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>",
            BARS.0 - 8.0,
            middle + 4.0,
            row.peer,
            row.peer,
            BARS.0,
            middle - BAR / 2.0,
            end - BARS.0,
        );
        if max > min {
            let _ = writeln!(
                svg,
                "<path class=\"whisker\" fill=\"none\" d=\"M{from:.1} {y:.1}H{to:.1}M{from:.1} {top:.1}v8M{to:.1} \
                 {top:.1}v8\"/>",
                y = middle,
                top = middle - 4.0,
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            to.max(end) + 8.0,
            middle + 4.0,
            number(median)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Latency by percentile, both axes logarithmic: each step to the right is ten times rarer.
pub(super) fn latency(curves: &[Curve<'_>]) -> String {
    let all = || curves.iter().flat_map(|curve| curve.points.iter().filter(|point| point.1 > 0.0));
    let least = all().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let drawn = all().filter(|point| point.0 <= QUANTILE_MAX);
    let most = drawn.map(|point| point.1).fold(0.0, f64::max);
    if !least.is_finite() || most <= 0.0 {
        return String::new();
    }
    // Whole steps of 1-2-5, so that the axis begins and ends with a label.
    let (low, high) = (step_below(least), step_above(most.max(least * 1.01)));
    let x = |quantile: f64| {
        let span = nines(QUANTILE_MAX);
        AREA.left + nines(quantile) / span * (AREA.right - AREA.left)
    };
    let y = |us: f64| {
        let share = (us / low).ln() / (high / low).ln();
        AREA.bottom - share.clamp(0.0, 1.0) * (AREA.bottom - AREA.top)
    };
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
    grid(&mut svg, (low, high), &x, &y);
    let mut ends = Vec::new();
    for curve in curves {
        let points: Vec<_> =
            curve.points.iter().filter(|(quantile, us)| *quantile <= QUANTILE_MAX && *us > 0.0).collect();
        let path: Vec<_> =
            points.iter().map(|(quantile, us)| format!("{:.1} {:.1}", x(*quantile), y(*us))).collect();
        let _ = writeln!(svg, "<path class=\"curve {}\" d=\"M{}\"/>", curve.peer, path.join("L"));
        for (quantile, us) in &points {
            let _ = writeln!(
                svg,
                "<circle class=\"{peer}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"><title>{peer} p{}: {}</title></circle>",
                x(*quantile),
                y(*us),
                percent(*quantile),
                time(*us),
                peer = curve.peer,
            );
        }
        if let Some((quantile, us)) = points.last() {
            ends.push((y(*us), x(*quantile), curve.peer));
        }
    }
    label(&mut svg, ends);
    svg.push_str("</svg>\n");
    svg
}

/// The curves' names at their ends, kept apart.
fn label(svg: &mut String, mut ends: Vec<(f64, f64, PeerKind)>) {
    const APART: f64 = 14.0;
    ends.sort_unstable_by(|left, right| left.0.total_cmp(&right.0));
    let lowest = HEIGHT - APART * ends.len() as f64;
    let mut next = 0.0_f64;
    for (index, (y, x, peer)) in ends.into_iter().enumerate() {
        let at = y.clamp(next, lowest + APART * index as f64);
        next = at + APART;
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{peer}</text>", x + 8.0, at + 4.0);
    }
}

fn grid(svg: &mut String, (low, high): (f64, f64), x: &impl Fn(f64) -> f64, y: &impl Fn(f64) -> f64) {
    let mut us = low;
    while us <= high * 1.001 {
        let at = y(us);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{:.0} {at:.1}H{:.0}\"/>\
             <text class=\"quiet\" x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            AREA.left,
            AREA.right,
            AREA.left - 6.0,
            at + 4.0,
            time(us)
        );
        us = step_above(us * 1.01);
    }
    for quantile in [0.0, 0.5, 0.9, 0.99, 0.999, QUANTILE_MAX] {
        let at = x(quantile);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} {:.0}V{:.0}\"/>\
             <text class=\"quiet\" x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{} %</text>",
            AREA.top,
            AREA.bottom,
            AREA.bottom + 18.0,
            percent(quantile)
        );
    }
}

/// 0.9 is one, 0.99 two.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

fn percent(quantile: f64) -> String {
    let digits = format!("{:.3}", quantile * 100.0);
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Microseconds in the unit that reads best.
fn time(us: f64) -> String {
    let (value, unit) = match us {
        us if us < 1e3 => (us, "us"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us => (us / 1e6, "s"),
    };
    let digits = format!("{value:.1}");
    format!("{} {unit}", digits.trim_end_matches(".0"))
}

/// The greatest of 1, 2, 5, 10, 20, .. (and smaller) that is at most `value`.
fn step_below(value: f64) -> f64 {
    let decade = 10.0_f64.powf(value.log10().floor());
    // Powers are not exact: a value on a step must find it.
    [10.0, 5.0, 2.0]
        .into_iter()
        .map(|step| step * decade)
        .find(|&step| step <= value * 1.000_001)
        .unwrap_or(decade)
}

/// The least of them that is at least `value`.
fn step_above(value: f64) -> f64 {
    let decade = 10.0_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0].into_iter().map(|step| step * decade);
    steps.into_iter().find(|&step| step >= value * 0.999_999).unwrap_or(decade * 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps() {
        for (value, below, above) in
            [(1.0, 1.0, 1.0), (3.0, 2.0, 5.0), (990.0, 500.0, 1000.0), (0.7, 0.5, 1.0)]
        {
            assert!((step_below(value) - below).abs() < 1e-9, "{value}: {}", step_below(value));
            assert!((step_above(value) - above).abs() < 1e-9, "{value}: {}", step_above(value));
        }
    }

    #[test]
    fn labels() {
        assert_eq!([0.0, 0.5, 0.99, 0.9995].map(percent).join(" "), "0 50 99 99.95");
        assert_eq!([5.0, 250.0, 1500.0, 2e6].map(time).join(", "), "5 us, 250 us, 1.5 ms, 2 s");
    }

    #[test]
    fn bars_end_with_their_figures() {
        let summary = Summary { median: 10.0, min: 9.0, max: 20.0 };
        let svg = bars(&[Bar { peer: PeerKind::Nginx, summary }, Bar { peer: PeerKind::Envoy, summary }]);
        assert_eq!(svg.matches("<rect").count(), 2);
        assert_eq!(svg.matches("whisker").count(), 2);
        // Half of the width is the median, all of it the greatest.
        assert!(svg.contains("width=\"200.0\"") && svg.contains(">10.0<"), "{svg}");
        assert!(
            bars(&[Bar { peer: PeerKind::Nginx, summary: Summary { median: 0.0, min: 0.0, max: 0.0 } }])
                .contains(">0<")
        );
    }

    #[test]
    fn curves_stay_inside() {
        let points: Vec<_> = crate::compare::stats::NINES.iter().map(|&of| (of, 30.0 + 1e4 * of)).collect();
        let peers = [PeerKind::Ringgate, PeerKind::Nginx, PeerKind::Haproxy];
        let curves = peers.map(|peer| Curve { peer, points: &points });
        let svg = latency(&curves);
        assert_eq!(svg.matches("class=\"curve").count(), 3);
        for peer in peers {
            assert!(svg.contains(&format!(">{peer}</text>")));
        }
        assert!(svg.contains("99.99 %") && svg.contains("20 us") && svg.contains("20 ms"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(latency(&[Curve { peer: PeerKind::Nginx, points: &[] }]), "");
    }
}
