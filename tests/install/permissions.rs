//! The table of docs/permissions.md.

use std::collections::BTreeSet;

/// A verb on a resource of an API group, `""` for the core.
pub type Right = (String, String, String);

/// Every right of the table.
pub fn documented() -> BTreeSet<Right> {
    let text = include_str!("../../docs/permissions.md");
    let rows = text.lines().filter(|line| line.starts_with('|')).skip(2);
    let rights = rows.flat_map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let group = if cells[0] == "(core)" { "" } else { cells[0] };
        let list = |cell: &str| cell.split(", ").map(str::to_owned).collect::<Vec<_>>();
        let (resources, verbs) = (list(cells[1]), list(cells[2]));
        resources.into_iter().flat_map(move |resource| {
            let right = move |verb: String| (verb, group.to_owned(), resource.clone());
            verbs.clone().into_iter().map(right).collect::<Vec<_>>()
        })
    });
    rights.collect()
}
