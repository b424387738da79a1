// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The metrics page in the text format that kube-proxy serves, from the OpenMetrics one.
//!
//! Prometheus asks for OpenMetrics and gets it. Whoever asks for nothing gets the older
//! format, where a counter's `_total` is part of its name and bounds have no `.0`: the page
//! that scripts written for kube-proxy expect.

use std::{borrow::Cow, fmt::Write as _};

/// The older format's content type.
pub const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// OpenMetrics' content type.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Rewrites a page line by line.
pub fn classic(page: &str) -> String {
    let mut text = String::with_capacity(page.len());
    let mut help = None;
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take().filter(|(of, _)| *of == name) {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "# HELP {name}{suffix} {}", help.trim_end_matches('.'));
            }
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(&bound(line));
            text.push('\n');
        }
    }
    text
}

/// A sample with its bound as Go writes it: `le="1"`.
fn bound(line: &str) -> Cow<'_, str> {
    if line.contains("le=\"") { line.replace(".0\"", "\"").into() } else { line.into() }
}

#[cfg(test)]
mod tests {
    use super::classic;

    #[test]
    fn counters_bounds_and_ends_are_those_of_the_older_format() {
        let page = "# HELP a_syncs Syncs.\n# TYPE a_syncs counter\na_syncs_total 1\n\
            # HELP a_time_seconds Time.\n# TYPE a_time_seconds histogram\n\
            # UNIT a_time_seconds seconds\n\
            a_time_seconds_bucket{le=\"0.5\"} 1\na_time_seconds_bucket{le=\"1.0\"} 2\n# EOF\n";
        let expected = "# HELP a_syncs_total Syncs\n# TYPE a_syncs_total counter\n\
            a_syncs_total 1\n# HELP a_time_seconds Time\n# TYPE a_time_seconds histogram\n\
            a_time_seconds_bucket{le=\"0.5\"} 1\na_time_seconds_bucket{le=\"1\"} 2\n";
        assert_eq!(classic(page), expected);
    }
}
