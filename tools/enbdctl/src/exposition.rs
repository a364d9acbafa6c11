// SPDX-License-Identifier: GPL-2.0

//! Prometheus' text format, 0.0.4.

use std::fmt::Write;

/// The name of a label and its value.
pub type Label<'a> = (&'a str, &'a str);

/// The text: all samples of a family stand behind its name.
#[derive(Default)]
pub struct Exposition {
    /// All of it so far.
    pub text: String,
    name: &'static str,
}

impl Exposition {
    /// What comes next.
    pub fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A sample of it.
    pub fn sample(&mut self, labels: &[Label<'_>], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let labels = match labels.as_slice() {
            [] => String::new(),
            labels => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text
}

/// A reader of the format, for tests.
#[cfg(test)]
pub mod reader {
    use std::collections::{BTreeMap, BTreeSet};

    pub type Labels = BTreeMap<String, String>;
    pub type Samples = Vec<(String, Labels, f64)>;

    /// The labels and what stands behind them, as Prometheus reads them.
    fn labels(text: &str) -> (Labels, &str) {
        let mut found = Labels::new();
        let Some(mut rest) = text.strip_prefix('{') else {
            return (found, text);
        };
        while !rest.starts_with('}') {
            let (name, value) = rest.split_once("=\"").expect("a label");
            let (mut word, mut escape, mut end) = (String::new(), false, None);
            for (at, letter) in value.char_indices() {
                match (escape, letter) {
                    (true, 'n') => word.push('\n'),
                    (true, '\\' | '"') => word.push(letter),
                    (true, _) => panic!("no such escape: {value}"),
                    (false, '\\') => {}
                    (false, '"') => {
                        end = Some(at + 1);
                        break;
                    }
                    (false, _) => word.push(letter),
                }
                escape = !escape && letter == '\\';
            }
            assert_eq!(found.insert(name.to_owned(), word), None, "{name} twice");
            rest = &value[end.expect("an end")..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        (found, &rest[1..])
    }

    /// All samples. Each family has its lines once, before its samples, which are together.
    pub fn parse(text: &str) -> Samples {
        assert!(text.ends_with('\n'));
        let (mut samples, mut seen) = (Samples::new(), BTreeSet::new());
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().expect("a name").to_owned();
                assert!(seen.insert(family.clone()), "{family} twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert_eq!(name, family);
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            } else {
                let end = line.find(['{', ' ']).expect("a name");
                assert_eq!(&line[..end], family);
                let (labels, value) = labels(&line[end..]);
                let value = value.trim_start().parse().expect("a number");
                samples.push((family.clone(), labels, value));
            }
        }
        let series: BTreeSet<_> = samples.iter().map(|one| (&one.0, &one.1)).collect();
        assert_eq!(series.len(), samples.len(), "a series twice");
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::{reader::parse, Exposition};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_label_comes_back(value in any::<String>(), other in ".*") {
            // The lines of this text end with a newline alone.
            let value = value.replace('\r', "");
            let other = other.replace('\r', "");
            let mut out = Exposition::default();
            out.family("x", "gauge", "x");
            out.sample(&[("a", &value), ("b", &other)], 7);
            let (_, labels, number) = parse(&out.text).remove(0);
            prop_assert_eq!((&labels["a"], &labels["b"], number), (&value, &other, 7.0));
        }
    }
}
