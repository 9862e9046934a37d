"""Calls to the kernel that a sandboxed program cannot make, as a BPF filter for seccomp(2).

Namespaces hide files, processes and the network; these are the ways around them that are left, and
the ways to take memory or disk that no limit counts.
"""

import platform
import struct

from kickwheel.core.errors import UsageError

_EPERM, _ENOSYS, _EOPNOTSUPP = 1, 38, 95

# Name: number on x86_64, number on aarch64, the error it gives.
_REFUSED: dict[str, tuple[int, int, int]] = {
    # Looking into other processes, and the kernel's log.
    "ptrace": (101, 117, _EPERM),
    "process_vm_readv": (310, 270, _EPERM),
    "process_vm_writev": (311, 271, _EPERM),
    "kcmp": (312, 272, _EPERM),
    "syslog": (103, 116, _EPERM),
    "perf_event_open": (298, 241, _EPERM),
    # Kernel rings that belong to a user, not to a namespace.
    "add_key": (248, 217, _EPERM),
    "request_key": (249, 218, _EPERM),
    "keyctl": (250, 219, _EPERM),
    # Memory and disk that neither limits of a process nor sizes of its files count.
    "memfd_create": (319, 279, _ENOSYS),
    "memfd_secret": (447, 447, _ENOSYS),
    "shmget": (29, 194, _ENOSYS),
    "msgget": (68, 186, _ENOSYS),
    "fallocate": (285, 47, _EOPNOTSUPP),
    # New namespaces and mounts, in which a program would be root again.
    "unshare": (272, 97, _EPERM),
    "setns": (308, 268, _EPERM),
    "clone3": (435, 435, _ENOSYS),  # Its flags lie in memory, where no filter can look.
    "mount": (165, 40, _EPERM),
    "umount2": (166, 39, _EPERM),
    "pivot_root": (155, 41, _EPERM),
    "open_tree": (428, 428, _EPERM),
    "move_mount": (429, 429, _EPERM),
    "fsopen": (430, 430, _EPERM),
    "fsconfig": (431, 431, _EPERM),
    "fsmount": (432, 432, _EPERM),
    "fspick": (433, 433, _EPERM),
    "mount_setattr": (442, 442, _EPERM),
    "open_by_handle_at": (304, 265, _EPERM),
    # Large and young parts of the kernel, in which most ways out of a sandbox were found.
    "bpf": (321, 280, _EPERM),
    "userfaultfd": (323, 282, _EPERM),
    "io_uring_setup": (425, 425, _ENOSYS),
    "io_uring_enter": (426, 426, _ENOSYS),
    "io_uring_register": (427, 427, _ENOSYS),
    "fanotify_init": (300, 262, _EPERM),
    # The machine itself.
    "kexec_load": (246, 104, _EPERM),
    "kexec_file_load": (320, 294, _EPERM),
    "init_module": (175, 105, _EPERM),
    "finit_module": (313, 273, _EPERM),
    "delete_module": (176, 106, _EPERM),
    "reboot": (169, 142, _EPERM),
    "swapon": (167, 224, _EPERM),
    "swapoff": (168, 225, _EPERM),
}
_CLONE, _SOCKET = (56, 220), (41, 198)
_NEW_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
_FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK. Not AF_VSOCK, say: it leads from a virtual machine to its
host, whatever the network namespace."""

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of the tables, and AUDIT_ARCH of <linux/audit.h>."""

_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENT_AT = 0, 4, 16
"""Offsets in `struct seccomp_data`; the argument is the lower half of the first."""
_KILL, _ALLOW, _ERROR = 0x80000000, 0x7FFF0000, 0x00050000


def program(machine: str | None = None) -> bytes:
    """The filter, an array of `struct sock_filter`, as bwrap's `--seccomp` reads it.

    Args:
        machine: as `uname -m` names it; by default this one.
    Raises:
        UsageError: the numbers of the machine's system calls are not known here.
    """
    machine = machine or platform.machine()
    if machine not in _MACHINES:
        known = " and ".join(_MACHINES)
        raise UsageError(f"programs are sandboxed on {known} only, and this machine is {machine}")
    column, arch = _MACHINES[machine]
    steps = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_IF_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _KILL),  # A call in the ways of another machine has other numbers.
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if machine == "x86_64":
        steps += [(_IF_AT_LEAST, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL)]  # The x32 numbers.
    for numbers in _REFUSED.values():
        steps += [(_IF_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ERROR | numbers[2])]
    steps += [
        (_IF_EQUAL, 0, 4, _CLONE[column]),
        (_LOAD, 0, 0, _ARGUMENT_AT),
        (_IF_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        (_RETURN, 0, 0, _ERROR | _EPERM),
        (_RETURN, 0, 0, _ALLOW),
        (_IF_EQUAL, 1, 0, _SOCKET[column]),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _ARGUMENT_AT),
    ]
    for family in _FAMILIES:
        steps += [(_IF_EQUAL, 0, 1, family), (_RETURN, 0, 0, _ALLOW)]
    steps.append((_RETURN, 0, 0, _ERROR | _EPERM))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
