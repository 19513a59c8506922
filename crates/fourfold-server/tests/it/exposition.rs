//! The text that Prometheus scrapes, read strictly: whatever its format or its conventions do not allow is a panic.

use std::collections::{BTreeMap, BTreeSet};

/// A family by its name as it stands behind `# TYPE`.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    /// Name, labels, value.
    pub(crate) samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Family {
    /// The names of its labels, without `le`.
    pub(crate) fn labels(&self) -> BTreeSet<&str> {
        let names = self.samples.iter().flat_map(|(_, labels, _)| labels.keys());
        names.map(String::as_str).filter(|name| *name != "le").collect()
    }
}

/// All families, or a panic that says what is wrong with the text.
pub(crate) fn read(text: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::<String, Family>::new();
    let mut present = String::new();
    assert!(text.ends_with('\n'), "the last line ends");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help has words");
            let family = families.entry(name.to_owned()).or_default();
            assert!(family.help.is_empty(), "{name} is described twice");
            family.help = help.to_owned();
            present = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type has a name");
            assert_eq!(name, present, "the type follows its help");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            families.get_mut(name).expect("it has a help").kind = kind.to_owned();
        } else {
            let (name, labels, value) = sample(line);
            let family = families.get_mut(&present).unwrap_or_else(|| panic!("of no family: {line}"));
            let suffix = name.strip_prefix(&present).unwrap_or_else(|| panic!("of another family: {line}"));
            let allowed = if family.kind == "histogram" { &["_bucket", "_sum", "_count"][..] } else { &[""] };
            assert!(allowed.contains(&suffix), "{line}");
            assert_eq!(labels.contains_key("le"), suffix == "_bucket", "{line}");
            let twice = family.samples.iter().any(|(other, others, _)| *other == name && *others == labels);
            assert!(!twice, "twice: {line}");
            family.samples.push((name, labels, value));
        }
    }
    families.iter().for_each(|(name, family)| check(name, family));
    families
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let value = value.parse::<f64>().unwrap_or_else(|_| panic!("no number: {line}"));
    let mut labels = BTreeMap::new();
    let name = match series.split_once('{') {
        None => series,
        Some((name, rest)) => {
            let mut rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("labels do not end: {line}"));
            while !rest.is_empty() {
                let (label, more) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
                let (text, more) = more.split_once('"').unwrap_or_else(|| panic!("a value does not end: {line}"));
                assert!(is_name(label) && !text.contains('\\'), "{line}");
                assert!(labels.insert(label.to_owned(), text.to_owned()).is_none(), "a label twice: {line}");
                rest = more.strip_prefix(',').unwrap_or(more);
            }
            name
        }
    };
    assert!(is_name(name), "{line}");
    (name.to_owned(), labels, value)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// What Prometheus' own linter asks for.
fn check(name: &str, family: &Family) {
    assert!(!family.kind.is_empty() && !family.help.is_empty(), "{name} has a type and a help");
    assert!(family.help.ends_with('.'), "{name}: a help is a sentence");
    assert!(!family.samples.is_empty(), "{name} has samples");
    assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}: counters, and only they, end in _total");
    for unit in ["milli", "micro", "nano", "kilo", "mega", "kib", "mib", "minutes", "hours"] {
        assert!(!name.contains(unit), "{name}: base units only");
    }
    assert!(name.starts_with("fourfold_") || name.starts_with("process_"), "{name}");
    for (sample, labels, value) in &family.samples {
        assert!(family.kind == "gauge" || *value >= 0.0, "{sample} {labels:?}");
    }
    if family.kind == "histogram" {
        assert!(name.ends_with("_seconds") || name.ends_with("_records"), "{name} has a unit");
        let buckets: Vec<(f64, f64)> = family
            .samples
            .iter()
            .filter_map(|(_, labels, value)| Some((labels.get("le")?.parse().expect("a bound"), *value)))
            .collect();
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name}: buckets add up");
        let (last, all) = buckets.last().expect("it has buckets");
        let count = family.samples.iter().find(|(sample, ..)| sample.ends_with("_count")).expect("it has a count");
        assert!(last.is_infinite() && *all == count.2, "{name}: the last bucket holds all");
    }
}

#[test]
fn what_the_format_does_not_allow_is_found() {
    let read = |text: &str| std::panic::catch_unwind(|| super::exposition::read(text)).is_ok();
    let head = "# HELP fourfold_x_total X.\n# TYPE fourfold_x_total counter\n";
    assert!(read(&format!("{head}fourfold_x_total{{a=\"b\",c=\"d\"}} 1\n")));
    for bad in [
        format!("{head}fourfold_x_total 1"),
        format!("{head}fourfold_x 1\n"),
        format!("{head}fourfold_x_total one\n"),
        format!("{head}fourfold_x_total 1\nfourfold_x_total 2\n"),
        format!("{head}fourfold_x_total{{a=b}} 1\n"),
        format!("{head}fourfold_x_total{{a=\"b\"}} -1\n"),
        head.to_owned(),
        "# HELP fourfold_x X.\n# TYPE fourfold_x counter\nfourfold_x 1\n".to_owned(),
        "# HELP fourfold_x X\n# TYPE fourfold_x gauge\nfourfold_x 1\n".to_owned(),
    ] {
        assert!(!read(&bad), "{bad}");
    }
}
