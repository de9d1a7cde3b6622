//! Pages of Prometheus metrics: the text format 0.0.4, and OpenMetrics, as far as samples go
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

/// One line of a page: `loss{split="val"} 0.25`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample<'a> {
    /// The metric's name.
    pub name: &'a str,
    /// What stands between the braces, but for a name in quotes; empty where there are none.
    pub labels: &'a str,
    /// Finite or not.
    pub value: f64,
}

/// The samples of a page that are to be kept, in their order, and the first line that is none.
pub(super) fn samples<'a>(
    page: &'a str,
    mut is_kept: impl FnMut(&Sample) -> bool,
) -> (Vec<Sample<'a>>, Option<&'a str>) {
    let (mut samples, mut wrong) = (Vec::new(), None);
    for line in page.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match sample(line) {
            Some(sample) if is_kept(&sample) => samples.push(sample),
            Some(_) => {}
            None => wrong = wrong.or(Some(line)),
        }
    }
    (samples, wrong)
}

/// Behind the value there may be a time, and an exemplar.
fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(|c: char| c == '{' || c.is_whitespace())?;
    let (mut name, behind) = line.split_at(end);
    let (mut labels, mut rest) = ("", behind.trim_start());
    if let Some(inside) = rest.strip_prefix('{') {
        let end = closing(inside, '}')?;
        labels = inside[..end].trim().trim_end_matches(',').trim_end();
        rest = &inside[end + 1..];
        // A name of other letters stands in quotes, before the labels.
        if name.is_empty() {
            let quoted = labels.strip_prefix('"')?;
            let end = closing_quote(quoted)?;
            name = &quoted[..end];
            labels = quoted[end + 1..].trim_start();
            labels = if labels.is_empty() { labels } else { labels.strip_prefix(',')?.trim_start() };
        }
    }
    let value = rest.split_whitespace().next()?;
    let is_number =
        value.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'N' | 'I' | 'n' | 'i'));
    (!name.is_empty() && is_number).then_some(())?;
    Some(Sample { name, labels, value: value.parse().ok()? })
}

/// Where `end` stands outside of quotes.
fn closing(text: &str, end: char) -> Option<usize> {
    let mut at = 0;
    loop {
        let next = at + text.get(at..)?.find(['"', end])?;
        if text[next..].starts_with(end) {
            return Some(next);
        }
        at = next + 1;
        at += closing_quote(&text[at..])? + 1;
    }
}

/// Where the quotes end that `text` stands in.
fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(line: &str) -> Option<(&str, &str, f64)> {
        sample(line).map(|sample| (sample.name, sample.labels, sample.value))
    }

    #[test]
    fn a_line_is_a_name_labels_and_a_value() {
        let cases = [
            ("loss 0.25", ("loss", "", 0.25)),
            ("loss\t0.25 1700000000000", ("loss", "", 0.25)),
            ("train:loss_total 1e-3", ("train:loss_total", "", 1e-3)),
            ("loss{} 1", ("loss", "", 1.0)),
            ("loss{split=\"val\",} +Inf", ("loss", "split=\"val\"", f64::INFINITY)),
            (
                "loss {a=\"}\\\" {\", b=\"\\\\\"} -Inf # {id=\"x\"} 1",
                ("loss", "a=\"}\\\" {\", b=\"\\\\\"", f64::NEG_INFINITY),
            ),
            ("{\"val/loss\"} 0.5", ("val/loss", "", 0.5)),
            ("{\"val/loss\", a=\"b\"} 0.5", ("val/loss", "a=\"b\"", 0.5)),
        ];
        for (line, expected) in cases {
            assert_eq!(read(line), Some(expected), "{line}");
        }
        assert!(read("loss NaN").unwrap().2.is_nan());
    }

    #[test]
    fn a_line_that_is_no_sample_is_told_and_the_others_are_read() {
        for line in ["loss", "loss{", "loss{a=\"b\" 1", "loss one", "{} 1", "{\"loss 1", "<html>", "loss{a=\"b\\\"} 1"]
        {
            assert_eq!(read(line), None, "{line}");
        }
        let page = "# HELP loss Of it.\n# TYPE loss gauge\nloss 1\n<p>\nacc 2\r\n# EOF\n";
        let (samples, wrong) = samples(page, |_| true);
        assert_eq!(samples.iter().map(|sample| sample.name).collect::<Vec<_>>(), ["loss", "acc"]);
        assert_eq!(wrong, Some("<p>"));
    }

    proptest! {
        #[test]
        fn any_page_is_read_without_a_panic(page in "([a{}\"\\\\,= 1\n#é]|\\PC){0,60}") {
            samples(&page, |_| true);
        }
    }
}
