//! The conditions of a `match` block beyond an exact or prefix path: method, headers, path regex.
//!
//! Checked per candidate, after the path index has named it. Allocates only where several fields of one name have to
//! be joined.

use std::borrow::Cow;
use std::sync::Arc;

use regex::bytes::Regex;

use super::RouteFacts;
use crate::config::model::{ClientMatch, StringMatch};
use crate::tls::identity::ClientIdentity;

/// Conditions that must all hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    /// A regex over the path.
    pub(super) path: Option<RegexId>,
    pub(super) method: Option<TextMatch>,
    /// Names in lower case.
    pub(super) headers: Box<[(Arc<str>, TextMatch)]>,
    pub(super) client: Option<Box<ClientCondition>>,
}

/// [`ClientMatch`] as it is checked.
#[derive(Clone, Debug)]
pub(super) struct ClientCondition {
    present: bool,
    subject: Option<TextMatch>,
    uri: Option<TextMatch>,
    dns: Option<TextMatch>,
    email: Option<TextMatch>,
}

impl ClientCondition {
    pub(super) fn new(wanted: &ClientMatch, mut regex_id: impl FnMut(&Arc<Regex>) -> RegexId) -> Self {
        let mut text =
            |text: &Option<StringMatch>| text.as_ref().map(|text| TextMatch::new(text, &mut regex_id));
        Self {
            present: wanted.present,
            subject: text(&wanted.subject),
            uri: text(&wanted.uri),
            dns: text(&wanted.dns),
            email: text(&wanted.email),
        }
    }

    fn holds(&self, client: Option<&ClientIdentity>, regexes: &[Regex]) -> bool {
        let Some(client) = client else { return !self.present };
        let any = |wanted: &Option<TextMatch>, names: &[Box<str>]| {
            wanted.as_ref().is_none_or(|text| names.iter().any(|name| text.holds(name.as_bytes(), regexes)))
        };
        self.present
            && self.subject.as_ref().is_none_or(|text| text.holds(client.subject.as_bytes(), regexes))
            && any(&self.uri, &client.uris)
            && any(&self.dns, &client.dns_names)
            && any(&self.email, &client.emails)
    }
}

/// Index into the shard's regexes. Each shard has clones of its own, since a regex keeps scratch memory that only
/// one thread gets at without a lock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RegexId(pub(super) u32);

/// [`StringMatch`] with its regex by index.
#[derive(Clone, Debug)]
pub(super) enum TextMatch {
    Exact(Arc<str>),
    Prefix(Arc<str>),
    Regex(RegexId),
}

impl TextMatch {
    pub(super) fn new(text: &StringMatch, mut regex_id: impl FnMut(&Arc<Regex>) -> RegexId) -> Self {
        match text {
            StringMatch::Exact(text) => Self::Exact(Arc::clone(text)),
            StringMatch::Prefix(text) => Self::Prefix(Arc::clone(text)),
            StringMatch::Regex(regex) => Self::Regex(regex_id(regex)),
        }
    }

    fn holds(&self, value: &[u8], regexes: &[Regex]) -> bool {
        match self {
            Self::Exact(text) => value == text.as_bytes(),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Regex(id) => id.holds(value, regexes),
        }
    }
}

impl RegexId {
    /// Regexes were anchored when compiled, so a match is a match of the whole value.
    fn holds(self, value: &[u8], regexes: &[Regex]) -> bool {
        regexes.get(self.0 as usize).is_some_and(|regex| regex.is_match(value))
    }
}

impl Conditions {
    /// Checks cheap conditions first; the outcome does not depend on the order.
    pub(super) fn hold(&self, request: &RouteFacts<'_>, regexes: &[Regex]) -> bool {
        self.method.as_ref().is_none_or(|method| method.holds(request.method, regexes))
            && self.client.as_ref().is_none_or(|client| client.holds(request.client, regexes))
            && self.headers.iter().all(|(name, text)| {
                header_value(request, name.as_bytes()).is_some_and(|value| text.holds(&value, regexes))
            })
            && self.path.is_none_or(|path| path.holds(request.path, regexes))
    }
}

/// The value of a header; several fields of the name are joined with `,` (RFC 9110 section 5.2), `None` if absent.
fn header_value<'a>(request: &RouteFacts<'a>, name: &[u8]) -> Option<Cow<'a, [u8]>> {
    let mut fields = request
        .headers
        .iter()
        .filter(|header| header.name.of(request.buffer).eq_ignore_ascii_case(name))
        .map(|header| header.value.of(request.buffer));
    let first = fields.next()?;
    let Some(second) = fields.next() else { return Some(Cow::Borrowed(first)) };
    let mut joined = first.to_vec();
    for value in std::iter::once(second).chain(fields) {
        joined.push(b',');
        joined.extend_from_slice(value);
    }
    Some(Cow::Owned(joined))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "literals")]
    use super::*;
    use crate::table::testing::Request;

    fn header(name: &str, text: TextMatch) -> Conditions {
        Conditions { headers: Box::new([(Arc::from(name), text)]), ..Conditions::default() }
    }

    #[test]
    fn header_names_ignore_case_and_values_do_not() {
        let request = Request::get("/").header("X-Canary", "Yes");
        let holds =
            |value: &str| header("x-canary", TextMatch::Exact(value.into())).hold(&request.facts(), &[]);
        assert!(holds("Yes"));
        assert!(!holds("yes"));
        assert!(!holds("Yes "));
        assert!(!header("x-other", TextMatch::Prefix("".into())).hold(&request.facts(), &[]));
        assert!(header("x-canary", TextMatch::Prefix("".into())).hold(&request.facts(), &[]));
    }

    #[test]
    fn fields_of_one_name_are_joined() {
        let request = Request::get("/").header("a", "1").header("b", "x").header("A", "2").header("a", "");
        let regexes = [Regex::new("^(?:1,2,)$").unwrap()];
        assert!(header("a", TextMatch::Exact("1,2,".into())).hold(&request.facts(), &regexes));
        assert!(header("a", TextMatch::Prefix("1,2".into())).hold(&request.facts(), &regexes));
        assert!(header("a", TextMatch::Regex(RegexId(0))).hold(&request.facts(), &regexes));
        assert!(!header("a", TextMatch::Exact("1".into())).hold(&request.facts(), &regexes));
        assert!(!header("a", TextMatch::Exact("2".into())).hold(&request.facts(), &regexes));
    }

    #[test]
    fn all_conditions_must_hold() {
        let regexes = [Regex::new("^(?:/v[0-9]+)$").unwrap()];
        let conditions = Conditions {
            path: Some(RegexId(0)),
            method: Some(TextMatch::Exact("POST".into())),
            headers: Box::new([
                ("a".into(), TextMatch::Exact("1".into())),
                ("b".into(), TextMatch::Exact("2".into())),
            ]),
            client: None,
        };
        let full = Request::new("POST", "/v12").header("a", "1").header("b", "2");
        assert!(conditions.hold(&full.facts(), &regexes));
        assert!(!conditions.hold(&full.facts(), &[]), "an unknown regex matches nothing");
        for partial in [
            Request::new("post", "/v12").header("a", "1").header("b", "2"),
            Request::new("POST", "/v12/x").header("a", "1").header("b", "2"),
            Request::new("POST", "/v12").header("a", "1"),
            Request::new("POST", "/v12").header("a", "1").header("b", "3"),
        ] {
            assert!(!conditions.hold(&partial.facts(), &regexes));
        }
        assert!(Conditions::default().hold(&full.facts(), &[]));
    }
}
