//! Suggestion of a setting for a misspelt name.

/// Minimum similarity of two names, between 0 and 1, for a suggestion.
const LIKENESS_MIN: f64 = 0.6;

/// Minimum similarity by the measure that favours a common beginning.
const BEGINNING_MIN: f64 = 0.8;

/// Returns the known name that is most similar to a name. None: none is similar.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.map(|known| (likeness(name, known), known));
    let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(likeness, _)| *likeness >= LIKENESS_MIN).map(|(_, known)| known)
}

/// Returns the similarity of two names. Missing, changed or swapped letters count little, and so does the order of words, as in
/// `max_connections`.
fn likeness(name: &str, known: &str) -> f64 {
    let [name, known] = [name, known].map(|name| name.to_lowercase().replace('-', "_"));
    let plain = alike(&name, &known);
    // The same words in another order are nearly equal.
    plain.max(0.99 * alike(&in_order(&name), &in_order(&known)))
}

fn alike(one: &str, other: &str) -> f64 {
    // The first measure is good for short names, the other for names with a common beginning, which finds something in common with
    // all.
    let beginning = strsim::jaro_winkler(one, other);
    let beginning = if beginning < BEGINNING_MIN { 0.0 } else { 0.98 * beginning };
    strsim::normalized_damerau_levenshtein(one, other).max(beginning)
}

/// Returns the words of a name in alphabetical order.
fn in_order(name: &str) -> String {
    let mut words: Vec<&str> = name.split('_').collect();
    words.sort_unstable();
    words.join("_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use toml::Table;

    fn settings() -> Vec<String> {
        Table::try_from(Config::default()).expect("plain values").keys().cloned().collect()
    }

    #[track_caller]
    fn check(name: &str, expected: Option<&str>) {
        let settings = settings();
        assert_eq!(nearest(name, settings.iter().map(String::as_str)), expected, "{name}");
    }

    #[test]
    fn a_misspelt_setting_is_recognised() {
        check("retention", Some("retention_s"));
        check("retention_days", Some("retention_s"));
        check("max_connections", Some("connections_max"));
        check("event-bytes-max", Some("event_bytes_max"));
        check("events_bytes_max", Some("event_bytes_max"));
        check("DATA_DIR", Some("data_dir"));
        check("datadir", Some("data_dir"));
        check("data_directory", Some("data_dir"));
        check("listen_address", Some("listen"));
        check("loglevel", Some("log"));
        check("name_server", Some("name_servers"));
        check("stop_grace", Some("stop_grace_s"));
        check("allow_egress", Some("egress_allow"));
        check("xyzzy", None);
        check("", None);
    }

    #[test]
    fn one_wrong_letter_is_never_too_much() {
        let settings = settings();
        for setting in &settings {
            let letters: Vec<char> = setting.chars().collect();
            for at in 0..letters.len() {
                let mut left_out = letters.clone();
                left_out.remove(at);
                let mut doubled = letters.clone();
                doubled.insert(at, letters[at]);
                let mut changed = letters.clone();
                changed[at] = 'q';
                for wrong in [left_out, doubled, changed] {
                    let wrong: String = wrong.into_iter().collect();
                    let found = nearest(&wrong, settings.iter().map(String::as_str));
                    assert_eq!(found, Some(setting.as_str()), "{wrong}");
                }
            }
        }
    }
}
