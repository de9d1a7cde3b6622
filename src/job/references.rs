//! What `$(name)` in a container's command, args and env values will come to: Kubernetes leaves one that it does not
//! know as it stands, and the trainer gets the text.

use serde_json::Value;

use crate::api::ParameterSpec;
use crate::validate::Problems;

/// What is set in every container, beside the parameters.
const OURS: [&str; 4] = ["SWEEP_STUDY", "SWEEP_TRIAL", "SWEEP_TRIAL_INDEX", "SWEEP_PARAMETERS"];

/// Programs that read the argument after `-c` as a script.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh"];

/// Commands that scripts put into `$(…)`, and of which one is not far from a parameter such as `rate` or `nprocs`.
const COMMANDS: [&str; 16] = [
    "arch", "cat", "date", "env", "hostname", "id", "ls", "mktemp", "nproc", "pwd", "seq", "time", "tty", "uname",
    "wc", "whoami",
];

/// Names shorter than this are too near to each other for one to be the other's typo: `x` and `y`, `lr` and `ls`.
const SHORTEST_TYPO: usize = 3;

/// What a container's references may mean.
pub(super) struct Scope<'a> {
    /// The parameters of the study.
    pub parameters: &'a [ParameterSpec],
    /// The container.
    pub container: &'a Value,
    /// The variable that says where metrics go: in the trainer, where its source has one.
    pub metrics: Option<&'static str>,
    /// Whether the Job controller adds `JOB_COMPLETION_INDEX`.
    pub is_indexed: bool,
}

/// Who reads a text once Kubernetes has expanded it.
#[derive(Clone, Copy, PartialEq)]
enum Reader {
    /// The container, as a word of its command line.
    Program,
    /// A shell, as a script.
    Shell,
    /// The container, as the value of the env entry at this position.
    Variable(usize),
}

/// What a text may hold that somebody means to be replaced.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    /// `$(name)`: Kubernetes replaces it where it knows the name.
    Reference(&'a str),
    /// `$name` or `${name}`: a shell replaces it. With the text as it stands.
    Shell { name: &'a str, text: &'a str },
}

impl Scope<'_> {
    /// Checks the container's env values, command and args, which stand below `path`.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        for (i, variable) in list(self.container, "env").enumerate() {
            let value = variable["value"].as_str().unwrap_or_default();
            self.check_text(value, Reader::Variable(i), &format!("{path}.env[{i}].value"), problems);
        }
        let words = ["command", "args"].into_iter().flat_map(|field| {
            let at = move |(i, word): (usize, _)| (format!("{path}.{field}[{i}]"), word);
            list(self.container, field).map(|word| word.as_str().unwrap_or_default()).enumerate().map(at)
        });
        self.check_words(&words.collect::<Vec<_>>(), problems);
    }

    /// Checks the words of a command line, each with its path.
    pub fn check_words(&self, words: &[(String, &str)], problems: &mut Problems) {
        let script = script(&words.iter().map(|(_, word)| *word).collect::<Vec<_>>());
        for (i, (path, word)) in words.iter().enumerate() {
            let reader = if script == Some(i) { Reader::Shell } else { Reader::Program };
            self.check_text(word, reader, path, problems);
        }
    }

    fn check_text(&self, text: &str, reader: Reader, path: &str, problems: &mut Problems) {
        let mut tokens: Vec<Token> = Vec::new();
        for token in self::tokens(text) {
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        for token in tokens {
            match token {
                Token::Reference(name) => self.check_reference(name, reader, path, problems),
                Token::Shell { name, text } => self.check_shell_variable(name, text, reader, path, problems),
            }
        }
    }

    fn check_reference(&self, name: &str, reader: Reader, path: &str, problems: &mut Problems) {
        if let Some(parameter) = self.parameters.iter().find(|parameter| parameter.name == name) {
            if !parameter.when.is_empty() && parameter.inactive_value.is_none() {
                problems.add(
                    path,
                    format!(
                        "refers to $({name}), which is unset where {name} is inactive: give {name} an inactiveValue"
                    ),
                );
            }
            return;
        }
        if self.is_set(name, reader) {
            return;
        }
        let may_be_set = self.may_come_from_elsewhere(name);
        let near = near(name, self.parameters);
        match (near, reader) {
            (Some(near), Reader::Shell) if normalised(name) == normalised(near) || !COMMANDS.contains(&name) => {
                problems.warn(
                    path,
                    format!("$({name}) is no parameter: the shell would run a command {name}; did you mean $({near})?"),
                );
            }
            // `$(nproc)` is the shell's own.
            (_, Reader::Shell) => {}
            (Some(near), _) if may_be_set => problems.warn(
                path,
                format!("$({name}) is no parameter: it stays as it is unless envFrom sets it; did you mean $({near})?"),
            ),
            (Some(near), _) => problems
                .add(path, format!("$({name}) is no parameter, and would stay as it is: did you mean $({near})?")),
            (None, _) if may_be_set => {}
            (None, _) => problems.warn(path, self.unknown(name, reader)),
        }
    }

    /// Why `$(name)` will stay as it is.
    fn unknown(&self, name: &str, reader: Reader) -> String {
        let stays = format!("$({name}) stays as it is");
        if !is_name(name) {
            let short: String = name.chars().take(40).map(|c| if c.is_control() { ' ' } else { c }).collect();
            let stays = format!("$({short}{}) stays as it is", if short.len() < name.len() { "…" } else { "" });
            return format!("{stays}: no shell reads it, and Kubernetes replaces names of variables only");
        }
        if name == "SWEEP_METRICS" {
            return format!(
                "{stays}: SWEEP_METRICS is set for the trainer alone, and with `metrics: {{file: {{}}}}` or tensorBoard"
            );
        }
        if name == "SWEEP_METRICS_PORT" {
            return format!(
                "{stays}: SWEEP_METRICS_PORT is set for the trainer alone, and with `metrics: {{prometheus: …}}`"
            );
        }
        let in_env = list(self.container, "env").any(|variable| variable["name"] == name);
        match reader {
            Reader::Variable(_) if in_env => {
                format!("{stays}: Kubernetes knows here what stands in env before, and {name} does not")
            }
            _ if matches!(name, "PATH" | "HOME" | "HOSTNAME" | "PWD" | "USER") => {
                format!("{stays}: Kubernetes knows no variables of the image or of the machine, only those of env")
            }
            _ => format!(
                "{stays}: it is no parameter, and not in env; unless the cluster sets it (a service link, a webhook)"
            ),
        }
    }

    /// Whether Kubernetes knows the name, for all that can be seen.
    fn is_set(&self, name: &str, reader: Reader) -> bool {
        let before = if let Reader::Variable(position) = reader { position } else { usize::MAX };
        OURS.contains(&name)
            || name.starts_with("KUBERNETES_")
            || self.metrics == Some(name)
            // The Job controller adds it behind the others.
            || name == "JOB_COMPLETION_INDEX" && self.is_indexed && before == usize::MAX
            || list(self.container, "env").take(before).any(|variable| variable["name"] == name)
    }

    /// Whether a ConfigMap or Secret may set it.
    fn may_come_from_elsewhere(&self, name: &str) -> bool {
        list(self.container, "envFrom").any(|from| name.starts_with(from["prefix"].as_str().unwrap_or_default()))
    }

    fn check_shell_variable(&self, name: &str, text: &str, reader: Reader, path: &str, problems: &mut Problems) {
        if reader == Reader::Shell {
            return;
        }
        // Katib's own form.
        let wanted = normalised(name.strip_prefix("trialParameters.").unwrap_or(name));
        let parameter = self.parameters.iter().find(|parameter| normalised(&parameter.name) == wanted);
        if let Some(parameter) = parameter.filter(|_| !wanted.is_empty()) {
            problems.warn(path, format!("{text} stays as it is, since no shell reads it: write $({})", parameter.name));
        }
    }
}

fn list<'a>(container: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    container[field].as_array().into_iter().flatten()
}

/// The parameter that `name` was meant to be: the same but for case, `-`, `_` and `.`, or one edit away.
fn near<'a>(name: &str, parameters: &'a [ParameterSpec]) -> Option<&'a str> {
    let wanted = normalised(name);
    if wanted.is_empty() || name.chars().any(|c| !is_name_character(c) && c != ' ') {
        return None;
    }
    let names = || parameters.iter().map(|parameter| parameter.name.as_str());
    let is_typo = |parameter: &&str| {
        let parameter = normalised(parameter);
        wanted.len().min(parameter.len()) >= SHORTEST_TYPO && strsim::osa_distance(&wanted, &parameter) == 1
    };
    names().find(|parameter| normalised(parameter) == wanted).or_else(|| names().find(is_typo))
}

fn normalised(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_' | '.' | ' ')).map(|c| c.to_ascii_lowercase()).collect()
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_name_character)
}

/// Which of `words` a shell reads as its script, if one does: what follows `sh -c`, `bash -lc`, `/bin/sh -euo pipefail -c`.
fn script(words: &[&str]) -> Option<usize> {
    let is_shell = |word: &&str| SHELLS.contains(&word.rsplit('/').next().unwrap_or(word));
    let shells = words.iter().enumerate().filter(|(_, word)| is_shell(word));
    shells.map(|(i, _)| i).find_map(|shell| {
        let (mut at, mut reads_script) = (shell + 1, false);
        while let Some(option) = words.get(at).filter(|word| word.starts_with(['-', '+']) && word.len() > 1) {
            at += 1;
            if *option == "--" {
                break;
            }
            let has_value = match option.strip_prefix("--") {
                Some(long) => matches!(long, "rcfile" | "init-file"),
                None => option.contains(['o', 'O']),
            };
            reads_script |= !option.starts_with("--") && option.starts_with('-') && option.contains('c');
            at += usize::from(has_value);
        }
        (reads_script && at < words.len()).then_some(at)
    })
}

/// What in `text` looks as if it were to be replaced. `$$(name)` is a literal.
fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let at = &rest[rest.find('$')?..];
            let after = &at[1..];
            rest = after;
            if let Some(escaped) = after.strip_prefix('$') {
                rest = escaped;
            } else if let Some((name, behind)) = after.strip_prefix('(').and_then(|open| open.split_once(')')) {
                rest = behind;
                return Some(Token::Reference(name));
            } else if let Some((inner, behind)) = after.strip_prefix('{').and_then(|open| open.split_once('}')) {
                rest = behind;
                // `${name:-default}`, too.
                let name = &inner[..inner.find(|c| !is_name_character(c)).unwrap_or(inner.len())];
                return Some(Token::Shell { name, text: &at[..inner.len() + 3] });
            } else {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let end = after.find(|c| !is_part(c)).unwrap_or(after.len());
                if end > 0 {
                    rest = &after[end..];
                    return Some(Token::Shell { name: &after[..end], text: &at[..=end] });
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_script_is_what_follows_a_shells_c() {
        let cases: [(&[&str], Option<usize>); 16] = [
            (&["sh", "-c", "script"], Some(2)),
            (&["/bin/bash", "-lc", "script", "zero", "one"], Some(2)),
            (&["/bin/sh", "-ec", "script"], Some(2)),
            (&["bash", "-e", "-c", "script"], Some(3)),
            (&["bash", "-c", "-e", "script"], Some(3)),
            (&["bash", "-euo", "pipefail", "-c", "script"], Some(4)),
            (&["bash", "-euo", "pipefail", "script.sh", "-c", "word"], None),
            (&["bash", "--norc", "-c", "--", "script"], Some(4)),
            (&["bash", "--rcfile", "file", "-c", "script"], Some(4)),
            (&["busybox", "sh", "-c", "script"], Some(3)),
            (&["nice", "-n", "5", "/usr/bin/env", "bash", "-c", "script"], Some(6)),
            (&["sh", "run.sh", "-c", "word"], None),
            (&["bash", "+x", "-c", "script"], Some(3)),
            (&["python", "-c", "program"], None),
            (&["sh", "-c"], None),
            (&["bash"], None),
        ];
        for (words, expected) in cases {
            assert_eq!(script(words), expected, "{words:?}");
        }
    }

    #[test]
    fn a_near_name_differs_in_case_and_signs_or_by_one_edit() {
        let parameter = |name: &str| serde_json::from_value(serde_json::json!({"name": name})).unwrap();
        let parameters: Vec<ParameterSpec> = ["x", "lr", "learning_rate", "drop.out", "l2"].map(parameter).into();
        let cases = [
            ("learning-rate", Some("learning_rate")),
            ("LEARNING_RATE", Some("learning_rate")),
            ("learningRate", Some("learning_rate")),
            ("learning.rate", Some("learning_rate")),
            ("learning rate", Some("learning_rate")),
            ("learningrat", Some("learning_rate")),
            ("learnign_rate", Some("learning_rate")),
            ("learning_ratee", Some("learning_rate")),
            ("Learning-Rtae", Some("learning_rate")),
            ("larning_rat", None),
            ("dropout", Some("drop.out")),
            ("dropput", Some("drop.out")),
            ("X", Some("x")),
            ("y", None),
            ("xx", None),
            ("LR", Some("lr")),
            ("l_r", Some("lr")),
            ("ls", None),
            ("l3", None),
            ("_", None),
            ("", None),
            ("learning_rate + 1", None),
            ("(x", None),
        ];
        for (name, expected) in cases {
            assert_eq!(near(name, &parameters), expected, "{name}");
        }
    }

    #[test]
    fn tokens_are_what_kubernetes_or_a_shell_would_replace() {
        let shell = |name, text| Token::Shell { name, text };
        let cases: [(&str, &[Token]); 10] = [
            ("a$(x)b$(y-z)", &[Token::Reference("x"), Token::Reference("y-z")]),
            ("$$(x)", &[]),
            ("$$$(x)", &[Token::Reference("x")]),
            ("$x-$y_1.", &[shell("x", "$x"), shell("y_1", "$y_1")]),
            ("${x} ${y:-3}", &[shell("x", "${x}"), shell("y", "${y:-3}")]),
            ("${trialParameters.lr}", &[shell("trialParameters.lr", "${trialParameters.lr}")]),
            ("$$x $$${x}", &[shell("x", "${x}")]),
            ("$(x ${x $ä $", &[]),
            ("$(date +%s)", &[Token::Reference("date +%s")]),
            ("$((x+1))", &[Token::Reference("(x+1")]),
        ];
        for (text, expected) in cases {
            assert_eq!(tokens(text).collect::<Vec<_>>(), expected, "{text}");
        }
    }
}
