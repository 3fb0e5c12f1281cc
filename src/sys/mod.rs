//! The only folder with `unsafe`: what the safe libraries do not offer, each call behind a safe type.
//!
//! * [`buffer`]: owned buffers that the kernel fills and drains while an operation is in flight;
//! * [`cpu`]: the CPU time of a thread;
//! * [`errno`]: what errors of the system say;
//! * [`process`]: signals to another process, children that end with their parent, and what this one may use;
//! * [`ring`]: a shard's runtime, down the ladder of ring flags to epoll, and why it stopped where it did;
//! * [`socket`]: one TCP socket that is read and written at the same time;
//! * [`splice`]: bytes from socket to socket through a pipe;
//! * [`steering`]: which shard the kernel gives a new connection to.
#![allow(unsafe_code, reason = "this folder is where it is fenced in")]

pub mod buffer;
pub mod cpu;
pub mod errno;
pub mod process;
pub mod ring;
pub mod socket;
pub mod splice;
pub mod steering;
