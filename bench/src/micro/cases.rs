//! The pieces of the data path that are measured alone.

use super::{client_hello, http, table};

/// One operation, ready to run; what it needs was set up before.
pub(super) type Operation = Box<dyn FnMut()>;

/// A named piece.
pub(super) struct Case {
    /// What the command line and the recorded counts call it.
    pub(super) name: &'static str,
    /// One line about it.
    pub(super) what: &'static str,
    /// Prepares its operation.
    pub(super) prepare: fn() -> Operation,
    /// Operations per run under valgrind, few where one of them is long.
    pub(super) counted: u32,
}

/// All of them, in the order a request meets them.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "client_hello/one_record",
        what: "ClientHello of a browser, 16 extensions, 1.8 KB",
        prepare: client_hello::one_record,
        counted: 2000,
    },
    Case {
        name: "client_hello/two_records",
        what: "the same in two records",
        prepare: client_hello::two_records,
        counted: 2000,
    },
    Case {
        name: "parse-request-small",
        what: "request head of a load generator, 3 fields",
        prepare: http::parse_request_small,
        counted: 2000,
    },
    Case {
        name: "parse-request-browser",
        what: "request head of a browser, 16 fields, 1.2 KB",
        prepare: http::parse_request_browser,
        counted: 2000,
    },
    Case {
        name: "normalize-plain",
        what: "path that is in normal form",
        prepare: http::normalize_plain,
        counted: 5000,
    },
    Case {
        name: "normalize-escaped",
        what: "path with escapes and dot segments",
        prepare: http::normalize_escaped,
        counted: 5000,
    },
    Case { name: "host-10", what: "virtual host among 10", prepare: table::host_10, counted: 5000 },
    Case {
        name: "host-10000",
        what: "virtual host among 10 000, uniform",
        prepare: table::host_10_000,
        counted: 5000,
    },
    Case {
        name: "route-10-of-10",
        what: "host among 10, then its last of 10 rules",
        prepare: table::route_10_of_10,
        counted: 5000,
    },
    Case {
        name: "route-1000",
        what: "rule of a host with 1 000 prefixes, uniform",
        prepare: table::route_1_000,
        counted: 5000,
    },
    Case {
        name: "write-request",
        what: "upstream head of the browser's request",
        prepare: http::write_request_browser,
        counted: 2000,
    },
    Case {
        name: "parse-response",
        what: "response head, 10 fields",
        prepare: http::parse_response_typical,
        counted: 2000,
    },
    Case {
        name: "write-response",
        what: "downstream head of that response",
        prepare: http::write_response_typical,
        counted: 2000,
    },
    Case {
        name: "chunked-64k",
        what: "64 KiB of content in chunks of 4 KiB",
        prepare: http::chunked_64k,
        counted: 500,
    },
    Case {
        name: "table-build-1000",
        what: "table of 1 000 hosts with 10 rules each",
        prepare: table::build_1_000,
        counted: 2,
    },
];

/// Cases that only make sense by the clock: their tables are too large to build under valgrind, and what costs there is
/// the cache, which instruction counts do not show.
pub(super) const TIMED_ONLY: &[Case] = &[
    Case {
        name: "select-100000-zipf",
        what: "host among 100 000 (Zipf), then a rule of 10",
        prepare: table::select_100_000_zipf,
        counted: 0,
    },
    Case {
        name: "select-100000-uniform",
        what: "host among 100 000 (uniform), then a rule of 10",
        prepare: table::select_100_000_uniform,
        counted: 0,
    },
    Case {
        name: "table-build-10000",
        what: "table of 10 000 hosts with 10 rules each",
        prepare: table::build_10_000,
        counted: 0,
    },
];
