//! `$(name)` in commands, arguments and values, as Kubernetes expands it.

/// Expands references in `text`: `$(name)` becomes the variable's value, `$$` becomes `$`, and a reference to a
/// variable that is not set stays as it is.
///
/// These are the rules of Kubernetes' `third_party/forked/golang/expansion`. What a variable's value holds is not
/// expanded again.
pub fn expand<'a>(text: &str, variable: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        rest = if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            after
        } else if let Some((name, after)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match variable(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.extend(["$(", name, ")"]),
            }
            after
        } else {
            // Kubernetes takes the next character along: `$(` without an end, and the `(` is not looked at again.
            expanded.push('$');
            let mut characters = after.chars();
            expanded.extend(characters.next());
            characters.as_str()
        };
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<&'static str> {
        match name {
            "VAR_A" => Some("A"),
            "VAR_B" => Some("B"),
            "VAR_C" => Some("C"),
            "VAR_REF" => Some("$(VAR_A)"),
            "VAR_EMPTY" => Some(""),
            "learning.rate-1" => Some("0.1"),
            _ => None,
        }
    }

    /// The cases of Kubernetes' expand_test.go, and a few of ours.
    #[test]
    fn references_are_expanded_as_kubernetes_expands_them() {
        let cases = [
            ("$(VAR_A)", "A"),
            ("___$(VAR_B)___", "___B___"),
            ("$(VAR_A)-$(VAR_B)", "A-B"),
            ("$(VAR_A)$(VAR_B)", "AB"),
            ("$(VAR_REF)", "$(VAR_A)"),
            ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
            ("foo$(VAR_EMPTY)bar", "foobar"),
            ("foo$(VAR_Awhoops!", "foo$(VAR_Awhoops!"),
            ("f00__(VAR_A)__", "f00__(VAR_A)__"),
            ("$?_boo_$!", "$?_boo_$!"),
            ("$VAR_A", "$VAR_A"),
            ("$(VAR_DNE)", "$(VAR_DNE)"),
            ("foo $(VAR_DNE) bar", "foo $(VAR_DNE) bar"),
            ("$$(VAR_A)", "$(VAR_A)"),
            ("$$$(VAR_A)", "$A"),
            ("$$$$(VAR_A)", "$$(VAR_A)"),
            ("$$$$$(VAR_A)", "$$A"),
            ("foo$$$$$(VAR_A)bar", "foo$$Abar"),
            ("foo$$$$(VAR_A)bar", "foo$$(VAR_A)bar"),
            ("$VAR_A)", "$VAR_A)"),
            ("${VAR_A}", "${VAR_A}"),
            ("$(VAR_B)_______$(A", "B_______$(A"),
            ("$(VAR_C)_______$(", "C_______$("),
            ("$(VAR_A)foobarzab$", "Afoobarzab$"),
            ("foo-\\$(VAR_A", "foo-\\$(VAR_A"),
            ("--$($($($($--", "--$($($($($--"),
            ("$($($($($--foo$(", "$($($($($--foo$("),
            ("foo0--$($($($(", "foo0--$($($($("),
            ("$(foo$$var)", "$(foo$$var)"),
            ("$", "$"),
            ("$$", "$"),
            ("$()", "$()"),
            ("", ""),
            ("$é$(VAR_A)", "$éA"),
            ("--lr=$(learning.rate-1)", "--lr=0.1"),
            ("f000-$$VAR_A", "f000-$VAR_A"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, variable), expected, "{text}");
        }
    }
}
