//! Which member of a reuseport group the kernel gives a new connection to: a classic BPF program that looks at the CPU.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// What no member has as its number: the kernel falls back to its hash.
const NO_MEMBER: u32 = u32::MAX;

/// Gives connections received on CPU `cpus[i]` to the group's `i`-th member, in the order in which they began to
/// listen; those of other CPUs go by hash. One member speaks for the group.
///
/// # Errors
/// The system's: ENOMEM beyond `net.core.optmem_max`, or a filter of system calls.
pub fn steer_by_cpu(member: &impl AsFd, cpus: &[u32]) -> io::Result<()> {
    let mut instructions = program(cpus);
    let len = u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: instructions.as_mut_ptr() };
    set(member, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

/// Back to the hash.
///
/// # Errors
/// The system's; that there was no program is none.
pub fn steer_by_hash(member: &impl AsFd) -> io::Result<()> {
    match set(member, libc::SO_DETACH_REUSEPORT_BPF, &0_i32) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

fn program(cpus: &[u32]) -> Vec<libc::sock_filter> {
    let code = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let cpu = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;
    let mut program = vec![code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, cpu, 0)];
    for (member, cpu) in cpus.iter().enumerate() {
        // Another CPU skips the return.
        program.push(code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, *cpu, 1));
        program.push(code(libc::BPF_RET | libc::BPF_K, member as u32, 0));
    }
    program.push(code(libc::BPF_RET | libc::BPF_K, NO_MEMBER, 0));
    program
}

fn set<T>(member: &impl AsFd, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed, and `value` is valid for its size during the call; the kernel copies the
    // instructions a program points to, which the caller keeps.
    let result = unsafe {
        libc::setsockopt(
            member.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two instructions for each CPU between the load and the fallback.
    #[test]
    fn a_return_for_each_cpu() {
        let program = program(&[4, 0]);
        let returns: Vec<u32> = program.iter().filter(|one| one.code == 6).map(|one| one.k).collect();
        assert_eq!(returns, [0, 1, NO_MEMBER]);
        assert_eq!((program[1].k, program[1].jt, program[1].jf), (4, 0, 1));
        assert_eq!(program.len(), 6);
    }
}
