//! From a request to its response, whatever protocol the client speaks.
//!
//! [`plan`] decides where a request goes and writes its upstream head, [`exchange`] carries it out: [`attempt`] by
//! attempt over connections of [`crate::upstream`], moving bodies both ways through [`stream`], large ones by [`bulk`]. An upgraded
//! connection is a [`tunnel`]; a connection that no request is read from is a [`passthrough`]. Both are relays.

/// Target of the log's lines on connections that are refused, one each.
pub(crate) const REFUSED: &str = "ringgate::refused";

pub mod attempt;
pub mod bulk;
pub mod exchange;
mod incoming;
pub mod passthrough;
pub mod plan;
mod race;
mod relay;
pub mod stream;
pub mod tunnel;
