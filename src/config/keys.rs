//! Keys that a table's schema does not have: what to say of each, and which key was meant.

use crate::config::diagnostic::{Problem, Problems, visible};
use crate::config::schema::Schema;
use crate::config::source::Place;

/// What to say of a key that the schema does not have, and the key of the schema that it stands for, if any.
pub(super) fn strange_key(
    name: &str,
    place: Place,
    schema: &Schema,
    problems: &mut Problems,
) -> (Problem, Option<&'static str>) {
    let shown = visible(name);
    let title = schema.title;
    if let Some(parent) = schema.parent
        && parent.keys.contains(&name)
    {
        let owner = parent.title;
        let message = format!("`{shown}` belongs to {owner}, not to {title}");
        let problem = Problem::error("misplaced-key", place, message)
            .expected(format!("the own keys of {owner} before the first header of a table inside it"))
            .hint(format!("TOML gives a key to the last header above it: move `{shown}` up, above {title}"));
        return (problem, None);
    }
    let parent_later = schema.parent.map_or([].as_slice(), |parent| parent.later);
    let instead = schema.instead(name);
    if schema.later.contains(&name) || parent_later.contains(&name) {
        let message = format!("`{shown}` in {title} is not yet supported");
        let hint = instead.unwrap_or("remove the key: ringgate does not ignore what it cannot do");
        return (Problem::error("not-supported", place, message).hint(hint), None);
    }
    let problem = Problem::error("unknown-key", place, format!("unknown key `{shown}` in {title}"))
        .expected(one_of(schema.keys));
    if let Some(instead) = instead {
        return (problem.hint(instead), None);
    }
    let snake = snake_case(name);
    if let Some(key) = schema.keys.iter().chain(schema.later).find(|key| **key == snake) {
        let instead = schema.instead(key).filter(|_| schema.later.contains(key)).map(str::to_owned);
        let hint = instead.unwrap_or_else(|| format!("Istio's names are written in snake_case: `{key}`"));
        return (problem.hint(hint), Some(*key));
    }
    match problems.nearest(&snake, schema.keys.iter().copied()) {
        Some(key) => (problem.hint(format!("did you mean `{key}`?")), Some(key)),
        None => (problem, None),
    }
}

/// "one of `a`, `b`", or only the name when there is one.
pub(super) fn one_of(names: &[&str]) -> String {
    let list: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let list = list.join(", ");
    if names.len() > 1 { format!("one of {list}") } else { list }
}

/// `connectTimeout` and `connect-timeout` as `connect_timeout`.
fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars().take(64) {
        if c.is_ascii_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.push(if c == '-' { '_' } else { c.to_ascii_lowercase() });
    }
    snake
}
