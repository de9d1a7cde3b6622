//! An object of which exactly one field is given, such as `sampler` and `pruner`: its rule in the schema, and its words.

use schemars::Schema;
use serde_json::json;

/// The names for a person: `a, b and c`.
pub fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [name] => (*name).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// Puts the rule onto the schema of the object, which is `what`, in the API server's language for rules (CEL).
pub fn exactly_one(schema: &mut Schema, what: &str, names: &[&str]) {
    let given: Vec<String> = names.iter().map(|name| format!("has(self.{name})")).collect();
    let rule = format!("[{}].filter(x, x).size() == 1", given.join(", "));
    let message = format!("{what} is exactly one of {}", listed(names));
    schema.insert("x-kubernetes-validations".to_owned(), json!([{"message": message, "rule": rule}]));
}
