//! What `--help` prints, as people see it.

use crate::support::gateway::binary;
use crate::support::help_text::check;

#[test]
fn no_line_is_broken_twice() {
    for command in ["", "certs", "check", "cores", "demo", "reload", "run", "tune"] {
        check(&binary(), command);
    }
}
