//! A TOML file as sections and items that know where they stand.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;

/// The text and its name.
pub(super) struct Source<'a> {
    file: &'a str,
    text: &'a str,
    /// Where lines begin, but for the first.
    lines: Vec<usize>,
}

/// One table whose keys are all known.
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    /// As errors call it; empty for the whole file.
    path: String,
    /// Of its first key or header.
    line: usize,
    table: &'a DeTable<'a>,
}

/// One value and its key.
#[derive(Clone)]
pub(super) struct Item<'a> {
    source: &'a Source<'a>,
    key: String,
    line: usize,
    value: &'a DeValue<'a>,
    /// The value as written.
    raw: &'a str,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        let lines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset + 1).collect();
        Self { file, text, lines }
    }

    /// The tables and values of the text.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'a>>, ConfigError> {
        DeTable::parse(self.text).map_err(|error| {
            let line = error.span().map(|span| self.line_of(span.start));
            let quoted = error.span().and_then(|span| self.text.get(span)).map(str::trim).unwrap_or_default();
            let message = error.message().replace('\n', ", ");
            if quoted.is_empty() || quoted.contains('\n') {
                ConfigError::of_file(self.file, message).at(line)
            } else {
                ConfigError::of_file(self.file, message).at(line).key_is(format!("at `{quoted}`"))
            }
        })
    }

    /// The whole file as one section.
    pub(super) fn root(&'a self, table: &'a DeTable<'a>, keys: &[&str]) -> Result<Section<'a>, ConfigError> {
        Section::open(self, String::new(), 1, table, keys)
    }

    /// A fault at `line` that concerns `key`.
    pub(super) fn refuse(
        &self,
        line: Option<usize>,
        key: impl Into<String>,
        problem: impl Into<String>,
    ) -> ConfigError {
        let key = key.into();
        let error = ConfigError::of_file(self.file, problem).at(line);
        if key.is_empty() { error } else { error.key_is(key) }
    }

    fn line_of(&self, offset: usize) -> usize {
        1 + self.lines.partition_point(|start| *start <= offset)
    }
}

impl<'a> Section<'a> {
    fn open(
        source: &'a Source<'a>,
        path: String,
        line: usize,
        table: &'a DeTable<'a>,
        keys: &[&str],
    ) -> Result<Self, ConfigError> {
        let unknown = table.iter().filter(|(key, _)| !keys.contains(&key.get_ref().as_ref()));
        if let Some((key, _)) = unknown.min_by_key(|(key, _)| key.span().start) {
            let name = key.get_ref();
            let suggestion = nearest(name, keys).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
            let problem = format!("unknown key; {suggestion}accepted here: {}", keys.join(", "));
            return Err(source.refuse(Some(source.line_of(key.span().start)), join(&path, name), problem));
        }
        Ok(Self { source, path, line, table })
    }

    /// Calls the section by another name in errors from here on.
    pub(super) fn called(mut self, path: String) -> Self {
        self.path = path;
        self
    }

    /// The value of `key`, if it is there.
    pub(super) fn find(&self, key: &str) -> Option<Item<'a>> {
        let (name, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(Item {
            source: self.source,
            key: join(&self.path, key),
            line: self.source.line_of(name.span().start),
            value: value.get_ref(),
            raw: self.source.text.get(value.span()).unwrap_or_default(),
        })
    }

    /// The value of `key`, which must be there.
    pub(super) fn require(&self, key: &str, accepted: &str) -> Result<Item<'a>, ConfigError> {
        self.find(key).ok_or_else(|| self.refuse(format!("needs the key `{key}`: {accepted}")))
    }

    /// The section `[key]`, if it is there.
    pub(super) fn section(&self, key: &str, keys: &[&str]) -> Result<Option<Self>, ConfigError> {
        let Some(item) = self.find(key) else { return Ok(None) };
        match item.value {
            DeValue::Table(table) => Self::open(self.source, item.key, item.line, table, keys).map(Some),
            DeValue::Array(array) if array.iter().all(|entry| entry.get_ref().is_table()) => {
                Err(item.refuse_whole(format!("may stand only once; write [{key}], not [[{key}]]")))
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => Err(item.refuse(format!("is not a section; accepted: {}", keys.join(", ")))),
        }
    }

    /// The sections `[[key]]`, in the order of the file.
    pub(super) fn sections(&self, key: &str, keys: &[&str]) -> Result<Vec<Self>, ConfigError> {
        let Some(item) = self.find(key) else { return Ok(Vec::new()) };
        let wrong = || item.refuse_whole(format!("there may be several of these: write [[{key}]], not [{key}]"));
        let DeValue::Array(array) = item.value else { return Err(wrong()) };
        let entries = array.iter().enumerate().map(|(number, entry)| {
            let DeValue::Table(table) = entry.get_ref() else { return Err(wrong()) };
            let line = self.source.line_of(entry.span().start);
            Self::open(self.source, format!("{key} {}", number + 1), line, table, keys)
        });
        entries.collect()
    }

    /// A fault of the section as a whole.
    pub(super) fn refuse(&self, problem: impl Into<String>) -> ConfigError {
        self.source.refuse(Some(self.line), self.path.clone(), problem)
    }
}

impl<'a> Item<'a> {
    /// A string.
    pub(super) fn text(&self, accepted: &str) -> Result<&'a str, ConfigError> {
        match self.value {
            DeValue::String(text) => Ok(text),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => Err(self.refuse(format!("accepted: {accepted}"))),
        }
    }

    /// True or false.
    pub(super) fn flag(&self) -> Result<bool, ConfigError> {
        self.value.as_bool().ok_or_else(|| self.refuse("accepted: true or false, without quotes"))
    }

    /// A whole number in `range`.
    pub(super) fn number(&self, range: RangeInclusive<u32>) -> Result<u32, ConfigError> {
        self.integer()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| self.refuse(format!("accepted: a whole number from {} to {}", range.start(), range.end())))
    }

    /// An integer that fits 64 bits; `None` for anything else.
    pub(super) fn integer(&self) -> Option<i64> {
        self.value.as_integer().and_then(|integer| i64::from_str_radix(integer.as_str(), integer.radix()).ok())
    }

    /// The entries of a list of strings.
    pub(super) fn list(&self, accepted: &str) -> Result<Vec<(Self, &'a str)>, ConfigError> {
        let Some(array) = self.value.as_array() else {
            return Err(self.refuse(format!("accepted: a list of {accepted}")));
        };
        let entries = array.iter().map(|entry| {
            let item = Item {
                line: self.source.line_of(entry.span().start),
                value: entry.get_ref(),
                raw: self.source.text.get(entry.span()).unwrap_or_default(),
                ..self.clone()
            };
            let text = item.text(accepted)?;
            Ok((item, text))
        });
        entries.collect()
    }

    /// An absolute path.
    pub(super) fn path(&self) -> Result<PathBuf, ConfigError> {
        let path = PathBuf::from(self.text("an absolute path")?);
        if !path.is_absolute() || path.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(self.refuse("accepted: an absolute path"));
        }
        Ok(path)
    }

    /// The line of the key, or of the entry of a list.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// A fault of this value.
    pub(super) fn refuse(&self, problem: impl Into<String>) -> ConfigError {
        self.refuse_whole(problem).value_is(self.raw)
    }

    fn refuse_whole(&self, problem: impl Into<String>) -> ConfigError {
        self.source.refuse(Some(self.line), self.key.clone(), problem)
    }
}

/// `interface.mtu`, but `peer "b": prefixes`.
fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        entry if entry.contains(' ') => format!("{entry}: {key}"),
        section => format!("{section}.{key}"),
    }
}

/// The word of `words` that someone who wrote `word` most likely meant, if any is near.
pub(super) fn nearest<'w>(word: &str, words: &[&'w str]) -> Option<&'w str> {
    // A word of any length may stand in the file, and the work grows with it.
    let word: String = word.chars().take(64).collect();
    let (edits, near) = words.iter().map(|candidate| (distance(&word, candidate), *candidate)).min()?;
    (edits <= 1 + near.len() / 3).then_some(near)
}

/// Edits from one word to the other (Levenshtein), whatever the case.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(b.chars()) {
            let substituted = diagonal + usize::from(!from.eq_ignore_ascii_case(&to));
            diagonal = *cell;
            left = substituted.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
