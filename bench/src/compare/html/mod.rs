//! The results as one HTML file that needs nothing else: tables, plots, and how everything was done.

mod plot;

use std::borrow::Cow;
use std::fmt::Write as _;

use super::peers::PeerKind;
use super::process::quoted;
use super::result::{CaseResult, Comparison, Figure, Metric, PeerResult};
use super::stats::{Better, Verdict};
use super::table::{LEGEND, notes, number, ratio};
use plot::{Bar, Curve};

const STYLE: &str = include_str!("style.css");

/// The whole comparison.
pub(crate) fn page(comparison: &Comparison) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>ringgate beside its peers</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>ringgate beside its peers</h1>\n"
    );
    if comparison.interrupted {
        out.push_str("<p class=\"warning\">interrupted: only finished rounds are in the figures</p>\n");
    }
    receipt(&mut out, comparison);
    overview(&mut out, &comparison.cases);
    for case in &comparison.cases {
        one_case(&mut out, case);
    }
    out.push_str("</body>\n</html>\n");
    out
}

fn receipt(out: &mut String, comparison: &Comparison) {
    let receipt = &comparison.receipt;
    let (host, layout) = (&receipt.host, &receipt.layout);
    for warning in &receipt.warnings {
        let _ = writeln!(out, "<p class=\"warning\">{}</p>", escaped(warning));
    }
    let command: Vec<_> = host.command.iter().map(|word| quoted(word)).collect();
    let commit = if host.commit.is_empty() { "unknown" } else { &host.commit };
    let mut rows = vec![
        ("host", format!("{} cores, {}, Linux {}", host.cores_available.len(), host.cpu, host.kernel)),
        ("cores", format!("proxy {}, load {}, backend {}", layout.proxy, layout.load, layout.backend)),
        ("rounds", format!("{} of {} s", receipt.rounds, receipt.seconds)),
        ("load", format!("{} ({})", receipt.generator.version, receipt.generator.path.display())),
        ("harness", format!("{}, commit {commit}", host.version)),
        ("date", host.date.clone()),
        ("command", command.join(" ")),
    ];
    for installed in &receipt.peers {
        rows.push((installed.peer.name(), format!("{} ({})", installed.version, installed.path.display())));
    }
    for missing in &comparison.missing {
        rows.push((missing.peer.name(), format!("not measured: {}", missing.reason)));
    }
    out.push_str("<dl>\n");
    for (name, value) in rows {
        let _ = writeln!(out, "<dt>{name}</dt><dd>{}</dd>", escaped(&value));
    }
    let _ = writeln!(out, "</dl>\n<p class=\"quiet\">{}</p>", escaped(receipt.method));
    let _ = writeln!(out, "<pre class=\"quiet\">{}</pre>", escaped(LEGEND));
}

/// ringgate's ratio for each case.
fn overview(out: &mut String, cases: &[CaseResult]) {
    out.push_str(
        "<div class=\"scroll\"><table>\n<tr><th>case</th><th>figure</th><th>ringgate</th><th>best other</th>\
         <th>x best</th></tr>\n",
    );
    for case in cases {
        let link = format!("<a href=\"#{}\">{}</a>", escaped(&case.name), escaped(&case.name));
        let figure = |peer: &PeerResult| Some((peer.peer, peer.figure(case.primary)?.clone()));
        let figures: Vec<_> = case.peers.iter().filter_map(figure).collect();
        let own = figures.iter().find(|(peer, _)| *peer == PeerKind::Ringgate);
        let others = figures.iter().filter(|(peer, _)| *peer != PeerKind::Ringgate);
        let best = others.reduce(|left, right| {
            let less = right.1.summary.median < left.1.summary.median;
            if less == (case.primary.better() == Some(Better::Lower)) { right } else { left }
        });
        let dash = || "-".to_owned();
        let _ = writeln!(
            out,
            "<tr><td>{link}</td><td>{}</td><td>{}</td><td>{}</td>{}</tr>",
            case.primary.label(),
            own.map_or_else(dash, |(_, figure)| number(figure.summary.median)),
            best.map_or_else(dash, |(peer, figure)| format!("{peer} {}", number(figure.summary.median))),
            own.map_or_else(
                || format!(
                    "<td class=\"quiet\">{}</td>",
                    if case.skipped.is_some() { "skipped" } else { "-" }
                ),
                |(_, figure)| ratio_cell(figure)
            ),
        );
    }
    out.push_str("</table></div>\n");
}

fn one_case(out: &mut String, case: &CaseResult) {
    let name = escaped(&case.name);
    let _ = writeln!(out, "<h2 id=\"{name}\">{name}</h2>\n<p class=\"quiet\">{}</p>", escaped(&case.about));
    if let Some(reason) = &case.skipped {
        let _ = writeln!(out, "<p>Skipped: {}</p>", escaped(reason));
        return;
    }
    if let Some(layout) = &case.cores {
        let _ = writeln!(
            out,
            "<p class=\"quiet\">proxy on cores {}, load on {}, backend on {}</p>",
            layout.proxy, layout.load, layout.backend
        );
    }
    figures(out, case);
    plots(out, case);
    for peer in &case.peers {
        if let Some(failure) = &peer.failure {
            let _ =
                writeln!(out, "<p class=\"warning\">{}: not measured: {}</p>", peer.peer, escaped(failure));
        }
        if let Some(reason) = &peer.left_out {
            let _ = writeln!(out, "<p>{}: left out: {}</p>", peer.peer, escaped(reason));
        }
    }
    for (note, peers) in notes(case) {
        let _ = writeln!(out, "<p>{}: {}</p>", peers.join(", "), escaped(note));
    }
    for peer in &case.peers {
        how(out, peer);
    }
}

fn figures(out: &mut String, case: &CaseResult) {
    let mut metrics = case.metrics();
    if metrics.is_empty() {
        return;
    }
    metrics.sort_by_key(|metric| *metric != case.primary);
    out.push_str("<div class=\"scroll\"><table>\n<tr><th></th>");
    for metric in &metrics {
        let ratio = if *metric == case.primary { "<th>x best</th>" } else { "" };
        let _ = write!(out, "<th>{}</th>{ratio}", metric.label());
    }
    out.push_str("</tr>\n");
    for peer in case.peers.iter().filter(|peer| !peer.figures.is_empty()) {
        let _ = write!(out, "<tr class=\"{0}\"><td><span class=\"swatch\"></span>{0}</td>", peer.peer);
        for &metric in &metrics {
            out.push_str(&cells(peer, metric, metric == case.primary));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

fn cells(peer: &PeerResult, metric: Metric, is_primary: bool) -> String {
    let Some(figure) = peer.figure(metric) else {
        return if is_primary { "<td>-</td><td>-</td>".into() } else { "<td>-</td>".into() };
    };
    let summary = &figure.summary;
    let range = if figure.values.len() > 1 {
        format!("<small>{} to {}</small>", number(summary.min), number(summary.max))
    } else {
        String::new()
    };
    let cell = format!("<td>{}{range}</td>", number(summary.median));
    if is_primary { cell + &ratio_cell(figure) } else { cell }
}

fn ratio_cell(figure: &Figure) -> String {
    let class = match figure.ratio.and_then(|ratio| ratio.verdict) {
        Some(Verdict::Better) => "good",
        Some(Verdict::Worse) => "bad",
        Some(Verdict::Tie) | None => "quiet",
    };
    format!("<td class=\"{class}\">{}</td>", ratio(figure))
}

fn plots(out: &mut String, case: &CaseResult) {
    out.push_str("<div class=\"plots\">\n");
    let bar = |peer: &PeerResult| Some(Bar { peer: peer.peer, summary: peer.figure(case.primary)?.summary });
    let bars: Vec<_> = case.peers.iter().filter_map(bar).collect();
    if !bars.is_empty() {
        let less = if case.primary.better() == Some(Better::Lower) { "less" } else { "more" };
        let _ = writeln!(
            out,
            "<figure><figcaption>{} ({less} is better)</figcaption>\n{}</figure>",
            case.primary.label(),
            plot::bars(&bars)
        );
    }
    let curves: Vec<_> = case
        .peers
        .iter()
        .filter(|peer| !peer.quantiles.is_empty())
        .map(|peer| Curve { peer: peer.peer, points: &peer.quantiles })
        .collect();
    if !curves.is_empty() {
        let _ = writeln!(
            out,
            "<figure><figcaption>latency by percentile</figcaption>\n{}</figure>",
            plot::latency(&curves)
        );
    }
    out.push_str("</div>\n");
}

/// Command lines and files, for those who doubt.
fn how(out: &mut String, peer: &PeerResult) {
    if peer.proxy_command.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "<details><summary>{}: how it was run</summary>\n<pre>{}</pre>",
        peer.peer,
        escaped(
            &[&peer.proxy_command, &peer.proxy_said, &peer.generator_command].map(String::as_str).join("\n")
        )
    );
    for file in &peer.files {
        let _ = writeln!(out, "<p>{}</p><pre>{}</pre>", escaped(&file.name), escaped(&file.text));
    }
    out.push_str("</details>\n");
}

/// Text that is safe between tags and in double quotes.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"']) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        c => c.to_string(),
    };
    Cow::Owned(text.chars().map(escape).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::table::tests::sample;

    #[test]
    fn pages_hold_everything_and_need_nothing() {
        let page = page(&sample());
        for text in [
            "ringgate &lt;1.0&gt;",
            "<dt>haproxy</dt><dd>not measured: not found</dd>",
            "<p class=\"warning\">noise</p>",
            "<a href=\"#first\">first</a></td><td>CPU us/request</td><td>8.00</td><td>nginx 16.0</td>",
            "<td>8.00<small>7.75 to 8.50</small></td><td class=\"good\">0.50 better</td>",
            "<td class=\"bad\">2.00 worse</td>",
            "nginx: not measured: it broke",
            "Skipped: no cores",
            "6.1-test",
            "latency by percentile",
            "waited %  share of that time",
        ] {
            assert!(page.contains(text), "{text}: {page}");
        }
        // Bars for two cases, curves for two.
        assert_eq!(page.matches("<svg").count(), 4);
        for outside in ["<script", "<link", "<img", "url(", "http:", "https:"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
