//! `docs/limits.md` is made of the limits' own words, here and in the crates below: to add a limit is to run this and take over what it says.

/// Which tables are made of which files: of what can be set, if there is such, and of the rest.
const TABLES: [(Option<&str>, &str, &str); 4] = [
    (Some("settings"), "limits", include_str!("../limits.rs")),
    (None, "call limits", include_str!("../../../fourfold-calls/src/limits.rs")),
    (None, "subscription limits", include_str!("../../../fourfold-subscriptions/src/limits.rs")),
    (None, "access limits", include_str!("../../../fourfold-access/src/limits.rs")),
];

#[test]
fn the_limits_table_is_true() {
    let page = include_str!("../../../../docs/limits.md");
    for (settings, limits, source) in TABLES {
        let (set, fixed) = rows(source);
        let set_head = "| setting | unless set | is, and why |\n|---|---|---|\n";
        match settings {
            Some(mark) => check(page, mark, &format!("{set_head}{set}")),
            None => assert_eq!(set, "", "the limits of the table of {limits} are set elsewhere"),
        }
        check(page, limits, &format!("| limit | is | why |\n|---|---|---|\n{fixed}"));
    }
}

fn check(page: &str, mark: &str, table: &str) {
    let begin = format!("<!-- {mark}: generated, see the test `the_limits_table_is_true` -->\n");
    let (_, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("the page has no mark for {mark}"));
    let (found, _) = rest.split_once(&format!("<!-- /{mark} -->")).expect("the page has the end mark");
    assert_eq!(found, table, "docs/limits.md: replace the table of {mark} by\n{table}");
}

/// A row for each constant, from its own words: those that can be set, and those that cannot.
fn rows(source: &str) -> (String, String) {
    let (mut set, mut fixed, mut words) = (String::new(), String::new(), Vec::new());
    for line in source.lines() {
        if let Some(text) = line.strip_prefix("/// ") {
            words.push(text.trim());
        } else if let Some((name, value)) = line.strip_prefix("pub const ").and_then(|c| c.split_once(": ")) {
            let (_, value) = value.split_once(" = ").expect("a constant has a value");
            let (value, text) = (shown(value.trim_end_matches(';')), words.join(" "));
            match text.strip_prefix("Setting `").and_then(|text| text.split_once("`. ")) {
                Some((setting, text)) => set += &format!("| `{setting}` | {value} | {text} |\n"),
                None => fixed += &format!("| `{name}` | {value} | {text} |\n"),
            }
            words.clear();
        }
    }
    (set, fixed)
}

/// A value as people write it.
fn shown(value: &str) -> String {
    match value.strip_suffix(')').and_then(|value| value.split_once('(')) {
        Some(("Duration::from_secs", count)) => format!("{count} s"),
        Some(("Duration::from_millis", count)) => format!("{count} ms"),
        Some(("Rate::per_second", rate)) => rate.replace(", ", "/s burst "),
        Some(_) => panic!("say here how {value} is written"),
        None if value == "None" => "none".to_owned(),
        None => value.to_owned(),
    }
}
