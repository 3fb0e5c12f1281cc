//! `tls` of a server.

use crate::config::diagnostic::Problem;
use crate::config::drafts::HostAt;
use crate::config::model::{Protocol, ServerTls};
use crate::config::schema;
use crate::config::tree::{Reader, Table};

/// Lowers the `tls` table of a server of `protocol` (`None`: it could not be read).
pub(super) fn lower(
    reader: &mut Reader<'_>,
    table: &Table<'_>,
    protocol: Option<Protocol>,
    _hosts: &[HostAt],
) -> Option<ServerTls> {
    let protocol = protocol?;
    let needed = matches!(protocol, Protocol::Https | Protocol::Tls);
    if needed {
        reader.missing(table, "tls", "`tls = { mode = \"PASSTHROUGH\" }`");
    }
    let tls = reader.child(table, "tls", &schema::SERVER_TLS)?;
    if !needed {
        let problem =
            Problem::error("misplaced-key", reader.place(&tls.span), "`tls` of a server without TLS");
        reader.push(problem.expected("`protocol = \"HTTPS\"` or `protocol = \"TLS\"`"));
        return None;
    }
    reader.missing(&tls, "mode", "`mode = \"PASSTHROUGH\"`");
    let later = ["SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL"];
    reader.word(&tls, "mode", &[("PASSTHROUGH", ())], &later).map(|()| ServerTls::Passthrough)
}
