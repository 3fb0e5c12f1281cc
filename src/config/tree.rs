//! Typed access to the recoverable TOML tree: each accessor gives the value or records what is wrong with it.
//!
//! All lowering steps (`process`, `gateway`, `virtual_service`, `service`) read through a [`Reader`]. An
//! accessor never stops the walk: a step that got `None` goes on with a stand-in, because one error anywhere
//! already means that there is no configuration. What a syntax error may have taken away is not reported as
//! missing.

use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::config::diagnostic::{Problem, Problems, visible};
use crate::config::keys::{one_of, strange_key};
use crate::config::matching::Patterns;
use crate::config::model::Origin;
use crate::config::pem::Store;
use crate::config::schema::Schema;
use crate::config::source::{FileId, Place, Source};
use crate::config::units;

/// A value and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// A table whose keys were held against its schema.
#[derive(Clone, Debug)]
pub(super) struct Table<'t> {
    pub(super) entries: &'t DeTable<'t>,
    pub(super) schema: &'static Schema,
    pub(super) span: Range<usize>,
    /// Keys that misspelt ones stand for: they are not missing too.
    meant: Vec<&'static str>,
}

impl<'t> Table<'t> {
    fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.entries.get(key)
    }

    /// Whether the key was written at all.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether a misspelt key, which was reported, stands for this one.
    pub(super) fn means(&self, key: &str) -> bool {
        self.meant.contains(&key)
    }
}

/// Reads one file's tree and records problems.
pub(super) struct Reader<'r> {
    file: FileId,
    source: &'r Source<'r>,
    /// The file has syntax errors: parts of the tree may be absent, and values may be stand-ins with empty
    /// spans.
    damaged: bool,
    pub(super) problems: &'r mut Problems,
    pub(super) patterns: &'r mut Patterns,
    pub(super) files: &'r mut Store,
}

impl<'r> Reader<'r> {
    /// A reader of one file.
    pub(super) fn new(
        file: FileId,
        source: &'r Source<'r>,
        damaged: bool,
        problems: &'r mut Problems,
        patterns: &'r mut Patterns,
        files: &'r mut Store,
    ) -> Self {
        Self { file, source, damaged, problems, patterns, files }
    }

    /// The place of a span in this file.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        Place::new(self.file, span)
    }

    /// Where relative paths in this file start.
    pub(super) fn directory(&self) -> &'r Path {
        self.source.path.parent().unwrap_or_else(|| Path::new(""))
    }

    /// The origin of an entry of this file.
    pub(super) fn origin(&self, span: &Range<usize>) -> Origin {
        self.source.origin(span.start)
    }

    /// Records a problem.
    pub(super) fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// A table after a check of all of its keys.
    pub(super) fn table<'t>(
        &mut self,
        entries: &'t DeTable<'t>,
        span: Range<usize>,
        schema: &'static Schema,
    ) -> Table<'t> {
        let mut meant = Vec::new();
        for key in entries.keys() {
            let name: &str = key.get_ref();
            if !schema.keys.contains(&name) {
                let place = self.place(&key.span());
                let (problem, key) = strange_key(name, place, schema, self.problems);
                self.push(problem);
                meant.extend(key);
            }
        }
        Table { entries, schema, span, meant }
    }

    /// The table under a key, when it is there and a table.
    pub(super) fn child<'t>(
        &mut self,
        table: &Table<'t>,
        key: &str,
        schema: &'static Schema,
    ) -> Option<Table<'t>> {
        let value = table.get(key)?;
        match value.get_ref() {
            DeValue::Table(entries) => Some(self.table(entries, value.span(), schema)),
            _ => self.wrong_type(
                key,
                value,
                "a table",
                schema.example.map(|example| format!("write {example}")),
            ),
        }
    }

    /// The tables of an array of tables (`[[key]]`) or of an array of inline tables; a lone table is an error
    /// but is read all the same, so that its own problems show too.
    pub(super) fn tables<'t>(
        &mut self,
        table: &Table<'t>,
        key: &str,
        schema: &'static Schema,
        count_max: usize,
    ) -> Vec<Table<'t>> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let array = match value.get_ref() {
            DeValue::Array(array) => array,
            DeValue::Table(entries) => {
                let list =
                    match table.schema.title.strip_prefix("[[").and_then(|title| title.strip_suffix("]]")) {
                        Some(above) => Some(format!("{above}.{key}")),
                        None => table.schema.title.starts_with("the file").then(|| key.to_owned()),
                    };
                let hint = list.map_or_else(
                    || "write `[{ .. }]`".to_owned(),
                    |list| format!("write `[[{list}]]` above a table, or `[{{ .. }}]` around an inline one"),
                );
                self.wrong_type::<()>(key, value, "an array of tables", Some(hint));
                return vec![self.table(entries, value.span(), schema)];
            }
            _ => {
                self.wrong_type::<()>(key, value, "an array of tables", None);
                return Vec::new();
            }
        };
        let mut tables = Vec::with_capacity(array.len().min(count_max));
        for item in self.bounded(key, array, &value.span(), count_max) {
            match item.get_ref() {
                DeValue::Table(entries) => tables.push(self.table(entries, item.span(), schema)),
                _ => {
                    let hint = schema.example.map(|example| format!("write {example}"));
                    self.wrong_type::<()>(key, item, "a table", hint);
                }
            }
        }
        tables
    }

    /// The strings of an array of strings.
    pub(super) fn strings<'t>(&mut self, table: &Table<'t>, key: &str, count_max: usize) -> Vec<At<&'t str>> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let DeValue::Array(array) = value.get_ref() else {
            let hint = value.get_ref().is_str().then(|| "put it in brackets".to_owned());
            self.wrong_type::<()>(key, value, "an array of strings", hint);
            return Vec::new();
        };
        let mut strings = Vec::with_capacity(array.len().min(count_max));
        for item in self.bounded(key, array, &value.span(), count_max) {
            match item.get_ref() {
                DeValue::String(text) => {
                    strings.push(At { value: text.as_ref(), place: self.place(&item.span()) });
                }
                _ => {
                    self.wrong_type::<()>(key, item, "a string", None);
                }
            }
        }
        strings
    }

    fn bounded<'t>(
        &mut self,
        key: &str,
        array: &'t DeArray<'t>,
        span: &Range<usize>,
        count_max: usize,
    ) -> impl Iterator<Item = &'t Spanned<DeValue<'t>>> + use<'t> {
        if array.len() > count_max {
            let message = format!("`{key}` has {} entries", array.len());
            let problem = Problem::error("out-of-range", self.place(span), message);
            self.push(problem.expected(format!("at most {count_max}")));
        }
        array.iter().take(count_max)
    }

    /// The pairs of a table with free keys, in the order of the file.
    pub(super) fn pairs<'t>(
        &mut self,
        table: &Table<'t>,
        key: &str,
    ) -> Vec<(At<&'t str>, &'t Spanned<DeValue<'t>>)> {
        let Some(value) = table.get(key) else { return Vec::new() };
        let DeValue::Table(entries) = value.get_ref() else {
            self.wrong_type::<()>(key, value, "a table", None);
            return Vec::new();
        };
        let pairs = entries.iter().map(|(name, value)| {
            (At { value: name.get_ref().as_ref(), place: self.place(&name.span()) }, value)
        });
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_by_key(|(name, _)| name.place);
        pairs
    }

    /// A string.
    pub(super) fn string<'t>(&mut self, table: &Table<'t>, key: &str) -> Option<At<&'t str>> {
        let value = table.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At { value: text.as_ref(), place: self.place(&value.span()) }),
            _ => self.wrong_type(key, value, "a string", None),
        }
    }

    /// The value under a key, of any type, with its place.
    pub(super) fn any<'t>(&self, table: &Table<'t>, key: &str) -> Option<At<&'t DeValue<'t>>> {
        let value = table.get(key)?;
        (!self.is_stand_in(value)).then(|| At { value: value.get_ref(), place: self.place(&value.span()) })
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, table: &Table<'_>, key: &str) -> Option<bool> {
        let value = table.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(boolean) => Some(*boolean),
            _ => self.wrong_type(key, value, "`true` or `false`", None),
        }
    }

    /// A whole number within a range.
    pub(super) fn integer(
        &mut self,
        table: &Table<'_>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<At<u64>> {
        let value = table.get(key)?;
        let place = self.place(&value.span());
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        match value.get_ref() {
            DeValue::Integer(_) if self.is_stand_in(value) => None,
            DeValue::Integer(integer) => match u64::from_str_radix(integer.as_str(), integer.radix()) {
                Ok(number) if range.contains(&number) => Some(At { value: number, place }),
                _ => {
                    let message = format!("`{key}` is out of range");
                    self.push(Problem::error("out-of-range", place, message).expected(expected));
                    None
                }
            },
            other => {
                let quoted = other.as_str().is_some_and(|text| text.parse::<u64>().is_ok());
                let hint = quoted.then(|| "write the number without quotes".to_owned());
                self.wrong_type(key, value, &expected, hint)
            }
        }
    }

    /// [`Self::integer`] for a range that fits `u32`.
    pub(super) fn number(&mut self, table: &Table<'_>, key: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let range = u64::from(*range.start())..=u64::from(*range.end());
        self.integer(table, key, range).and_then(|number| u32::try_from(number.value).ok())
    }

    /// A duration within a range.
    pub(super) fn duration(
        &mut self,
        table: &Table<'_>,
        key: &str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let value = table.get(key)?;
        let place = self.place(&value.span());
        let DeValue::String(text) = value.get_ref() else {
            let number = value.get_ref().as_integer().map(|integer| integer.as_str());
            let hint = number.map(|number| format!("a duration has a unit: `\"{number}s\"`"));
            return self.wrong_type(key, value, units::DURATION_FORM, hint);
        };
        let problem = match units::duration(text) {
            Ok(duration) if range.contains(&duration) => return Some(duration),
            Ok(duration) => {
                let message = format!("`{key}` of {} is out of range", units::show_duration(duration));
                let (from, to) = (units::show_duration(*range.start()), units::show_duration(*range.end()));
                Problem::error("out-of-range", place, message).expected(format!("{from} to {to}"))
            }
            Err(reason) => Problem::error("bad-duration", place, format!("`{key}` is no duration: {reason}"))
                .expected(units::DURATION_FORM)
                .hint_if(units::duration_meant(text)),
        };
        self.push(problem);
        None
    }

    /// A byte count, as a number or as text, within a range.
    pub(super) fn bytes(&mut self, table: &Table<'_>, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let value = table.get(key)?;
        let place = self.place(&value.span());
        let bytes = match value.get_ref() {
            DeValue::Integer(_) if self.is_stand_in(value) => return None,
            DeValue::Integer(integer) => u64::from_str_radix(integer.as_str(), integer.radix()).ok(),
            DeValue::String(text) => match units::bytes(text) {
                Ok(bytes) => Some(bytes),
                Err(reason) => {
                    let message = format!("`{key}` is no byte count: {reason}");
                    let problem = Problem::error("bad-bytes", place, message).expected(units::BYTES_FORM);
                    self.push(problem.hint_if(units::bytes_meant(text)));
                    return None;
                }
            },
            _ => return self.wrong_type(key, value, units::BYTES_FORM, None),
        };
        let bytes = bytes.filter(|bytes| range.contains(bytes));
        if bytes.is_none() {
            let (from, to) = (units::show_bytes(*range.start()), units::show_bytes(*range.end()));
            let message = format!("`{key}` is out of range");
            self.push(Problem::error("out-of-range", place, message).expected(format!("{from} to {to}")));
        }
        bytes
    }

    /// One of several words. `later` are words that are known but not built yet.
    pub(super) fn word<T: Copy>(
        &mut self,
        table: &Table<'_>,
        key: &str,
        words: &[(&str, T)],
        later: &[&str],
    ) -> Option<T> {
        let text = self.string(table, key)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let expected = one_of(&names);
        let shown = visible(text.value);
        let problem = if later.contains(&text.value) {
            let message = format!("`{key} = \"{shown}\"` is not yet supported");
            let hint = table.schema.instead(text.value).map(str::to_owned);
            Problem::error("not-supported", text.place, message).expected(expected).hint_if(hint)
        } else {
            let message = format!("`{shown}` is not a value of `{key}`");
            let instead = table.schema.instead(text.value).map(str::to_owned);
            let hint = instead.or_else(|| self.problems.did_you_mean(text.value, names.iter().copied()));
            Problem::error("bad-value", text.place, message).expected(expected).hint_if(hint)
        };
        self.push(problem);
        None
    }

    /// Reports a key that must be there, unless a syntax error may have taken it away, or it is there but
    /// wrong or misspelt.
    pub(super) fn missing(&mut self, table: &Table<'_>, key: &str, example: &str) {
        if self.damaged || table.has(key) || table.means(key) {
            return;
        }
        let message = format!("{} has no `{key}`", table.schema.title);
        let problem = Problem::error("missing-key", self.place(&table.span), message);
        self.push(problem.expected(example));
    }

    /// Reports a key whose list must not be empty: missing, or `[]`.
    pub(super) fn missing_or_empty(&mut self, table: &Table<'_>, key: &str, example: &str) {
        match table.get(key) {
            Some(value)
                if value.get_ref().as_array().is_some_and(|array| array.is_empty()) && !self.damaged =>
            {
                let problem =
                    Problem::error("empty-list", self.place(&value.span()), format!("`{key}` is empty"));
                self.push(problem.expected(example));
            }
            _ => self.missing(table, key, example),
        }
    }

    /// Records a value of a wrong type.
    pub(super) fn wrong_type<T>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        expected: &str,
        hint: Option<String>,
    ) -> Option<T> {
        if !self.is_stand_in(value) {
            let message = format!("`{}` is {}", visible(key), kind_of(value.get_ref()));
            let problem = Problem::error("wrong-type", self.place(&value.span()), message);
            self.push(problem.expected(expected).hint_if(hint));
        }
        None
    }

    /// The parser puts a stand-in where a syntax error took the value; the error itself is already recorded.
    fn is_stand_in(&self, value: &Spanned<DeValue<'_>>) -> bool {
        self.damaged && value.span().is_empty()
    }
}

/// A type of TOML, with its article.
fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
