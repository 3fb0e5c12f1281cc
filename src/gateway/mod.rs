//! From a request to its response, whatever protocol the client speaks.
//!
//! [`plan`] decides where a request goes and writes its upstream head, [`exchange`] carries it out: [`attempt`] by
//! attempt over connections of [`crate::upstream`], moving bodies both ways through [`stream`], large ones by [`bulk`]. [`tunnel`] takes over
//! an upgraded connection.

pub mod attempt;
pub mod bulk;
pub mod exchange;
mod incoming;
pub mod plan;
mod race;
pub mod stream;
pub mod tunnel;
