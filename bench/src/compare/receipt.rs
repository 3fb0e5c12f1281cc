//! With what a comparison was made: the harness's own receipt, the proxies, the generator, and who ran where.

use serde::Serialize;

use super::cores::Layout;
use super::generator::Generator;
use super::peers::Installed;

/// What somebody needs to compare the same again.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Receipt {
    /// Host, commit and command line.
    #[serde(flatten)]
    pub(crate) host: crate::receipt::Receipt,
    /// The proxies.
    pub(crate) peers: Vec<Installed>,
    /// What made the load.
    pub(crate) generator: Generator,
    /// Who ran where.
    pub(crate) layout: Layout,
    /// Rounds of each case.
    pub(crate) rounds: usize,
    /// Seconds of each round.
    pub(crate) seconds: u64,
    /// How CPU time was measured.
    pub(crate) method: &'static str,
    /// What makes the figures doubtful as a whole.
    pub(crate) warnings: Vec<String>,
}

/// How figures come about; the reader of a report needs it as much as they do.
pub(crate) const METHOD: &str = "Each round starts each proxy anew, in a rotating order, alone on its cores; its \
    answers are compared with the backend's, then it is warmed up by a run that does not count. CPU time is the \
    scheduler's sum over all threads and processes of the proxy, in nanoseconds, from just before the generator starts \
    until it has ended, divided by all requests of that run. Memory is resident memory at the end of the run. Figures \
    are medians over the rounds; differences below 10 % are a tie, and so are figures whose rounds overlap.";
