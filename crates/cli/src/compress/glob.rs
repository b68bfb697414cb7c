//! Patterns of names: `*` stands for any characters, or none; all else for itself.

/// Whether a name is one of a pattern.
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    // What stands between two stars is taken as early as it comes.
    for part in parts {
        match name.find(part) {
            Some(at) => name = &name[at + part.len()..],
            None => return false,
        }
    }
    name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*.weight", "a.weight", true),
            ("*.weight", "a.weights", false),
            ("model.*.up.*", "model.3.up.weight", true),
            ("model.*.up.*", "model.3.down.weight", false),
            ("a*a", "a", false),
            ("a**b", "ab", true),
            ("*ab*b", "abab", true),
            ("*ab*abb", "ababb", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} and {name}");
        }
    }
}
